"""What we need from the world: the few rules that the protocols' values keep themselves."""

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.ports import (
    Account,
    Challenge,
    Change,
    Credential,
    Key,
    Listed,
    Put,
    Reply,
    Request,
    Right,
    Wrong,
)

SECRET = "S3CRET"


def test_a_key_is_never_empty():
    """One empty key would be one ledger for everybody who has no name."""
    with pytest.raises(ValueError, match="a key of kind ledger must not be empty"):
        Key("ledger", "")
    assert Key("ledger", "a") == Key("ledger", "a") != Key("call", "a")


def test_an_account_has_one_credential_of_a_kind_or_none():
    pin, code = (
        Credential(Kind.PIN, secret="h", key_id="p1"),
        Credential(Kind.SMS_CODE, number="+15551230001"),
    )
    account = Account("1", credentials=(pin, code))
    assert [account.credential(kind) for kind in (Kind.PIN, Kind.SMS_CODE, Kind.TOTP)] == [pin, code, None]


def test_a_change_that_only_answers_changes_nothing():
    assert (Change("told").puts, Change("told").entries) == ((), ())


@pytest.mark.parametrize(
    "value",
    [
        Credential(Kind.PIN, secret=SECRET, number=SECRET),
        Account("1", credentials=(Credential(Kind.PIN, secret=SECRET),)),
        Challenge(SECRET, "1", "CA1", "wire", 6, 0, 600),
        Request("POST", "https://ivr.example/", (("Digits", SECRET),), f"Digits={SECRET}".encode()),
        Reply(200, "https://ivr.example/", "text/xml", SECRET.encode(), cookies=SECRET),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_secret_is_in_a_repr(value):
    """Promise 5: what is printed by accident gives nothing away."""
    assert SECRET not in repr(value)


@pytest.mark.parametrize(
    "value",
    [Key("call", "1"), Put(Key("call", "1"), None), Listed("1", None, None), Right(3), Wrong(), Account("1")],
    ids=lambda value: type(value).__name__,
)
def test_values_do_not_change(value):
    """They are handed to other threads, and kept."""
    with pytest.raises((AttributeError, TypeError)):
        value.id = "other"
