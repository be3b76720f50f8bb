"""Lists of secrets as they are written; the settings that they are of: test_init.py."""

import base64

import pytest

from ivrguard.settings import written

KEY = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api-key=secret", {"api-key": "secret"}),
        ("Authorization=Basic%20dTpw, x-tenant = a=b ", {"Authorization": "Basic dTpw", "x-tenant": "a=b"}),
    ],
)
def test_headers_are_as_open_telemetry_writes_them(text, expected):
    """https://opentelemetry.io/docs/specs/otel/protocol/exporter/: `name=value`, commas between, values escaped."""
    assert written.headers(text) == expected


@pytest.mark.parametrize(
    "text", ["s3cret", "=s3cret", "a b=s3cret", "a=s3cret%0d%0aHost:x", "a=", "a=\u20ac"]
)
def test_what_is_no_header_is_not_sent(text):
    """And not shown: a value may be a password."""
    with pytest.raises(ValueError, match="entry 2 is not <name>=<value>") as fault:
        written.headers(f"ok=1,{text}")
    assert "s3cret" not in str(fault.value)


@pytest.mark.parametrize(
    "read",
    [
        *(written.tokens, written.shared_keys, written.side_door_keys),
        *(written.keys, written.headers, written.shared_secret),
    ],
)
def test_no_entry_is_a_fault(read):
    with pytest.raises(ValueError, match="there is no entry in it"):
        read(",," if read is written.headers else " ; ")


def test_the_current_key_comes_first():
    assert list(written.keys(f"k2={KEY};k1={KEY}")) == ["k2", "k1"]
    assert written.shared_secret(f"k1={KEY}") == ("k1", bytes(32))


ACCOUNT = "AC" + "0a" * 16


def test_keys_of_the_side_door_are_of_an_account():
    text = f"{ACCOUNT}/SK1=one-secret-of-the-ivr; {ACCOUNT}/SK2=another=secret-of-it"
    assert written.side_door_keys(text) == {
        (ACCOUNT, "SK1"): "one-secret-of-the-ivr",
        (ACCOUNT, "SK2"): "another=secret-of-it",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SK1=one-secret-of-the-ivr", "does not begin with"),
        (f"{ACCOUNT}/=one-secret-of-the-ivr", "does not begin with"),
        (f"{ACCOUNT}/S:1=one-secret-of-the-ivr", "does not begin with"),
        (f"{ACCOUNT}/SK0=one-secret-of-the-ivr", "there already"),
        (f"{ACCOUNT}/SK1=short", "too short"),
        (f"{ACCOUNT}/SK1=one-secret-of-the-\u20ac", "signs not in any"),
    ],
)
def test_what_is_no_key_of_the_side_door(text, said):
    """It says which entry, and nothing of it."""
    with pytest.raises(ValueError, match=f"entry 2 .*{said}") as fault:
        written.side_door_keys(f"{ACCOUNT}/SK0=one-secret-of-the-ivr;{text}")
    assert "secret-of" not in str(fault.value)
