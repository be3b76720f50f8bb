"""Twilio's signature: every published vector, the library's own judgement, and what must be refused."""

import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from ivrguard.telephony.delivery import parse_query
from ivrguard.telephony.signature import HMACS_MAX, SharedKey, Verifier, body_sha256, sign, signed_url

VECTORS = json.loads((Path(__file__).parent / "signature_vectors.json").read_text())
PUBLISHED, DERIVED = VECTORS["vectors"], VECTORS["derived"]["vectors"]
POSITIVE = [each for each in PUBLISHED + DERIVED if each["expected_valid"]]
NEGATIVE = [each for each in PUBLISHED if not each["expected_valid"]]

ACCOUNT = "AC" + "0" * 32
URL = "https://guard.example"
TOKEN = "12345"
PARAMS = (("CallSid", "CA1"), ("Digits", "1234"), ("From", "+14158675309"), ("ToCity", ""))


def named(vectors):
    return pytest.mark.parametrize("vector", vectors, ids=[each["id"] for each in vectors])


def pairs(params):
    """The fields of a vector as a form would give them: a list stands for a repeated name."""
    return tuple(
        (name, value)
        for name, values in (params or {}).items()
        for value in (values if isinstance(values, list) else [values])
    )


def accepts(vector, *, token=None, target_ends="", **changes):
    """Ask a Verifier for the origin of the vector's URL about the rest of it."""
    url = vector.get("request_url") or vector["request_url_seen_by_server"]
    url, _, websocket = url.partition(" ")
    origin, target = re.fullmatch(r"([A-Za-z]+://[^/]+)(/.*)", url).groups()
    has_text = vector["json_body"] is not None
    request = {
        "target": target + target_ends,
        "params": None if has_text else () if vector["method"] == "GET" else pairs(vector["params"]),
        "body": vector["json_body"].encode() if has_text else b"",
        "signature": vector["signature"],
        "account_sid": ACCOUNT,
        "websocket": bool(websocket),
    }
    verifier = Verifier(origin, {ACCOUNT: [token or vector["auth_token"]]})
    return verifier.verify(**(request | changes))


def test_all_the_vectors_are_here():
    """The file is whole: 40 published signatures to accept, 7 to refuse, and 10 derived ones."""
    assert (len(PUBLISHED) - len(NEGATIVE), len(NEGATIVE), len(DERIVED)) == (40, 7, 10)


@named(POSITIVE)
def test_every_good_vector_is_accepted(vector):
    """Forms, GET, JSON, handshakes, ports, user:pass, repeated and blank fields, awkward escapes."""
    assert accepts(vector)


@named(NEGATIVE)
def test_every_bad_vector_is_refused(vector):
    """A wrong order, another host's case, a missing hash, no signature, another's signature."""
    assert not accepts(vector)


@named(POSITIVE)
def test_a_good_vector_changed_anywhere_is_refused(vector):
    """Another token, target, field, body or a shortened signature is not what was signed."""
    changed = [
        {"token": "54321"},
        {"target_ends": "&more=1"},
        {"signature": vector["signature"][:-1]},
        {"signature": vector["signature"].lower()},
        {"account_sid": "AC" + "1" * 32},
    ]
    if vector["json_body"] is not None:
        changed += [{"body": b"{ }"}, {"body": b""}]
    elif vector["method"] == "POST":
        changed += [{"params": (*pairs(vector["params"]), ("More", ""))}, {"params": ()}]
    assert [False] * len(changed) == [accepts(vector, **change) for change in changed]


@named([each for each in POSITIVE if signed_url(each["signed_url"]) == each["signed_url"]])
def test_sign_makes_the_signature_of_every_vector_that_keeps_to_the_documented_rules(vector):
    """What we sign for the IVR is what Twilio would have signed."""
    params = pairs(vector["params"]) if vector["method"] == "POST" or vector["id"].startswith("wss") else ()
    assert vector["signature"] == sign(vector["auth_token"], vector["signed_url"], params)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h.example/a?b=c#rc=2&rp=all", "https://h.example/a?b=c"),
        ("https://h.example:8443/a", "https://h.example/a"),
        ("wss://h.example:8443/a", "wss://h.example/a"),
        ("http://h.example:8080/a", "http://h.example:8080/a"),
        ("https://user:p@ss@h.example:8443//A?x=%27", "https://h.example//A?x=%27"),
        ("https://[2001:db8::1]:8443/a", "https://[2001:db8::1]/a"),
        ("https://[2001:db8::1]/a", "https://[2001:db8::1]/a"),
        ("HTTPS://H.example:1?x=a@b", "HTTPS://H.example?x=a@b"),
        ("https://h.example", "https://h.example"),
    ],
)
def test_signed_url_drops_what_is_not_signed_and_nothing_else(url, expected):
    """No fragment, no user:pass, no port on TLS; case, slashes and escapes as they stand."""
    assert expected == signed_url(url)


@pytest.mark.parametrize(
    "url", ["", "/path", "h.example/a", "://h.example", "https://", "https:///a", "https://:1/"]
)
def test_signed_url_refuses_what_is_not_a_url(url):
    """A URL without a scheme or a host cannot be signed."""
    with pytest.raises(ValueError, match="not a URL"):
        signed_url(url)


def test_sign_refuses_an_algorithm_that_twilio_has_not():
    """Two algorithms exist; a third is a fault of configuration."""
    with pytest.raises(ValueError, match="HMAC_SHA256"):
        sign(TOKEN, URL, (), "HMAC_MD5")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TARGET = st.text("abAB09/._~-%2&=+é", max_size=20)


@given(
    token=st.text("0123456789abcdef", min_size=1, max_size=32),
    target=TARGET,
    params=st.lists(st.tuples(TEXT, TEXT), max_size=8),
    algorithm=st.sampled_from(["HMAC_SHA1", "HMAC_SHA256"]),
)
def test_our_signature_is_the_librarys(token, target, params, algorithm):
    """The twilio library judges: it computes the same signature for any URL and any fields."""
    url = f"https://guard.example/{target}"
    expected = RequestValidator(token).compute_signature(url, MultiDict(params), algorithm)
    assert expected == sign(token, url, params, algorithm) == sign(token.encode(), url, params, algorithm)


@given(
    target=TARGET,
    params=st.lists(st.tuples(TEXT, TEXT), max_size=8),
    public=st.sampled_from(
        ["https://guard.example", "https://guard.example:8443", "http://guard.example:81"]
    ),
)
def test_what_we_sign_we_accept_and_the_library_does_too(target, params, public):
    """A re-signed request passes at an IVR that checks with the twilio library, and passes here."""
    url = f"{public}/{target}"
    signed = sign(TOKEN, url, params)
    assert RequestValidator(TOKEN).validate(url, MultiDict(params), signed)
    assert Verifier(public, {ACCOUNT: [TOKEN]}).verify(
        target=f"/{target}", params=params, body=b"", signature=signed, account_sid=ACCOUNT
    )


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6), st.data())
def test_a_changed_field_is_refused(params, data):
    """Fields whose names and values join to another text never pass under the old signature."""
    other = data.draw(st.lists(st.tuples(TEXT, TEXT), max_size=6))
    joined = ["".join(name + value for name, value in sorted(set(each))) for each in (params, other)]
    assume(joined[0] != joined[1])
    assert not Verifier(URL, {ACCOUNT: [TOKEN]}).verify(
        target="/voice",
        params=other,
        body=b"",
        signature=sign(TOKEN, f"{URL}/voice", params),
        account_sid=ACCOUNT,
    )


def verify(verifier, url=f"{URL}/voice?a=1", *, token=TOKEN, account=ACCOUNT, **changes):
    """Post PARAMS to /voice?a=1, signed with `token` over `url`."""
    request = {
        "target": "/voice?a=1",
        "params": PARAMS,
        "body": b"",
        "signature": sign(token, url, PARAMS, changes.pop("algorithm", "HMAC_SHA1")),
        "account_sid": account,
    }
    return verifier.verify(**(request | changes))


def test_every_token_in_force_is_accepted_and_no_other():
    """During a rotation the old and the new token pass; a token that is not in force does not."""
    verifier = Verifier(URL, {ACCOUNT: ["old", "new"]})
    assert [verify(verifier, token=each) for each in ("old", "new", "older")] == [True, True, False]


def test_a_subaccount_signs_with_its_own_token():
    """A token passes for the account that it belongs to and for no other, and an unknown account for none."""
    other, unknown = "AC" + "2" * 32, "AC" + "3" * 32
    verifier = Verifier(URL, {ACCOUNT: ["parent"], other: ["child", "next"]})
    table = [
        (ACCOUNT, "parent"),
        (other, "child"),
        (ACCOUNT, "child"),
        (other, "parent"),
        (unknown, "parent"),
    ]
    passed = [verify(verifier, account=account, token=token) for account, token in table]
    assert passed == [True, True, False, False, False]


@pytest.mark.parametrize("account", [ACCOUNT, "AC" + "9" * 32])
def test_the_decoy_signs_for_nobody(account):
    """The key that a stranger's request is worked against is no secret, and opens nothing."""
    other = "AC" + "2" * 32
    verifier = Verifier(URL, {ACCOUNT: [TOKEN], other: ["x", "y", "z"]})
    assert not verify(verifier, account=account, token="decoy")


def test_without_an_account_every_token_is_tried():
    """A JSON body does not say in a field whose it is: any token of ours will do."""
    verifier = Verifier(URL, {ACCOUNT: ["a"], "AC" + "2" * 32: ["b"]})
    assert [verify(verifier, account=None, token=each) for each in "abc"] == [True, True, False]


def test_with_no_tokens_at_all_nothing_passes():
    """No token configured is nobody's signature, not everybody's."""
    assert not verify(Verifier(URL, {}), account=None)
    assert not verify(Verifier(URL, {ACCOUNT: []}), token="decoy")


KEYS = [SharedKey("key_1", b"first", "HMAC_SHA256"), SharedKey("key_2", b"second", "HMAC_SHA1")]


@pytest.mark.parametrize(
    ("header", "token", "algorithm", "expected"),
    [
        ("key=key_1,algorithm=HMAC_SHA256", "first", "HMAC_SHA256", True),
        ("algorithm=HMAC_SHA256, key=key_1", "first", "HMAC_SHA256", True),
        ("key=key_1,algorithm=HMAC_SHA256,new=1", "first", "HMAC_SHA256", True),
        ("key=key_2,algorithm=HMAC_SHA1", "second", "HMAC_SHA1", True),
        ("key=key_1,algorithm=HMAC_SHA1", "first", "HMAC_SHA1", False),  # a downgrade
        ("key=key_1,algorithm=HMAC_SHA1", "first", "HMAC_SHA256", False),
        ("key=key_1,algorithm=HMAC_SHA256", "first", "HMAC_SHA1", False),
        ("key=key_1", "first", "HMAC_SHA256", False),
        ("key=key_2,algorithm=HMAC_SHA256", "first", "HMAC_SHA256", False),
        ("key=key_1,key=key_1,algorithm=HMAC_SHA256", "first", "HMAC_SHA256", False),
        ("key=key_1,algorithm=HMAC_SHA256", TOKEN, "HMAC_SHA256", False),
        ("key=key_3,algorithm=HMAC_SHA1", TOKEN, "HMAC_SHA1", False),  # no way back to the token
        ("key=,algorithm=", TOKEN, "HMAC_SHA1", False),
        ("", TOKEN, "HMAC_SHA1", False),
        ("nonsense", TOKEN, "HMAC_SHA1", False),
        (None, TOKEN, "HMAC_SHA1", True),
        (None, "first", "HMAC_SHA256", False),
    ],
)
def test_the_settings_header_chooses_a_key_and_nothing_else(header, token, algorithm, expected):
    """The algorithm is the one pinned for the key; the header can neither lower it nor avoid the key."""
    verifier = Verifier(URL, {ACCOUNT: [TOKEN]}, KEYS)
    assert expected == verify(verifier, token=token, algorithm=algorithm, settings_header=header)


def test_a_shared_key_does_not_make_an_account_ours():
    """With a shared key, too, the AccountSid must be one of ours, and it need have no token."""
    verifier = Verifier(URL, {ACCOUNT: []}, KEYS)
    posted = {"token": "second", "settings_header": "key=key_2,algorithm=HMAC_SHA1"}
    accounts = (ACCOUNT, None, "AC" + "9" * 32)
    assert [verify(verifier, account=each, **posted) for each in accounts] == [True, True, False]


@pytest.mark.parametrize(
    ("public_url", "url", "expected"),
    [
        (f"{URL}/", f"{URL}/voice?a=1", True),
        (f"{URL}/ivr/", f"{URL}/ivr/voice?a=1", True),
        (f"{URL}/ivr", f"{URL}/voice?a=1", False),
        ("https://guard.example:8443", f"{URL}/voice?a=1", True),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]/voice?a=1", True),
        ("http://guard.example:8080", "http://guard.example:8080/voice?a=1", True),
        (URL, "http://guard.example/voice?a=1", False),
        (URL, "https://other.example/voice?a=1", False),
        (URL, f"{URL}/voice?a=2", False),
        (URL, f"{URL}/voice", False),
    ],
)
def test_the_url_is_the_configured_one_and_the_target_received(public_url, url, expected):
    """Origin and prefix come from our configuration; the target as it came; there is no Host to look at."""
    assert expected == verify(Verifier(public_url, {ACCOUNT: [TOKEN]}), url)


@pytest.mark.parametrize(
    ("sent", "signed"),
    [
        ("/?a=1", "?a=1"),
        ("/", ""),
        ("/v?a=%3a%40", "/v?a=:@"),
        ("/v?a=it's+b", "/v?a=it%27s+b"),
        ("/v?a=it%27s+b", "/v?a=it's%20b"),
        ("/v?b&a=%c3%a9", "/v?b=&a=%C3%A9"),
        ("/v?x=1&y=2&x=3", "/v?x=1&x=3&y=2"),
        ("/v?a=%FF%27", "/v?a=%FF'"),
        ("/v?ann\udcc3\udca9e=1", "/v?année=1"),
    ],
)
def test_spellings_of_one_target_are_accepted(sent, signed):
    """Twilio signs some characters bare and sends them escaped, and a bare origin without its slash."""
    verifier = Verifier(URL, {ACCOUNT: [TOKEN]})
    request = {"params": (), "body": b"", "account_sid": ACCOUNT}
    assert verifier.verify(target=sent, signature=sign(TOKEN, URL + signed), **request)


@pytest.mark.parametrize("sent", ["", "voice", "*", "https://guard.example/voice", "/v\ud800"])
def test_a_target_that_is_not_a_path_is_refused(sent):
    """Only a path of ours can have been signed for us; a lone surrogate cannot have come over a wire."""
    verifier = Verifier(URL, {ACCOUNT: [TOKEN]})
    signed = sign(TOKEN, URL + sent.replace("\ud800", ""))
    assert not verifier.verify(target=sent, params=(), body=b"", signature=signed, account_sid=ACCOUNT)


def test_a_signature_that_is_not_text_is_refused():
    """A header is bytes from a stranger; whatever it holds, the answer is no."""
    verifier = Verifier(URL, {ACCOUNT: [TOKEN]})
    passed = [verify(verifier, signature=each) for each in ("é" * 28, "\udcff", "=" * 9999, "\0")]
    assert passed == [False] * 4


BODY = b'{"a": 1}'
HASH = body_sha256(BODY)


@pytest.mark.parametrize(
    ("query", "body", "expected"),
    [
        (f"?bodySHA256={HASH}", BODY, True),
        (f"?a=1&bodySHA256={HASH}&b=2", BODY, True),
        (f"?bodySHA256={HASH}", BODY + b" ", False),
        (f"?bodySHA256={HASH}", b"", False),
        (f"?bodySHA256={HASH.upper()}", BODY, False),
        (f"?bodySHA256={HASH}&bodySHA256={HASH}", BODY, False),
        (f"?xbodySHA256={HASH}", BODY, False),
        (f"?bodySHA256={HASH[:-1]}é", BODY, False),
        ("?bodySHA256=", BODY, False),
        ("", BODY, False),
        ("", b"", True),
    ],
)
def test_a_body_that_is_not_a_form_is_named_by_its_hash(query, body, expected):
    """The signature covers the URL only, so the URL must say which body it means, once."""
    verifier = Verifier(URL, {ACCOUNT: [TOKEN]})
    signed = sign(TOKEN, f"{URL}/relay{query}")
    request = {"params": None, "signature": signed, "account_sid": None}
    assert expected == verifier.verify(target=f"/relay{query}", body=body, **request)


def test_the_hash_of_a_body_is_lower_case_hex():
    """As the documentation's own sample has it."""
    expected = "5ccde7145dfb8f56479710896586cb9d5911809d83afbe34627818790db0aec9"
    assert expected == body_sha256(b'{"CallSid":"CA1234567890ABCDE","Caller":"+12349013030"}')


@pytest.mark.parametrize(
    ("public_url", "target", "signed", "expected"),
    [
        (URL, "/relay?a=1", "wss://guard.example/relay?a=1", True),
        (URL, "/relay?a=1", "wss://guard.example:443/relay?a=1", True),
        (URL, "/relay?a=1", "wss://guard.example/relay/?a=1", True),
        (URL, "/relay", "wss://guard.example/relay/", True),
        ("http://guard.example:81", "/relay", "ws://guard.example:81/relay", True),
        (URL, "/relay", "https://guard.example/relay", False),
        (URL, "/relay", "wss://guard.example/relay?a=1", False),
    ],
)
def test_a_handshake_is_signed_under_the_socket_scheme(public_url, target, signed, expected):
    """A handshake is a GET over wss (ws beside http), with or without a slash at the end of its path."""
    verifier = Verifier(public_url, {ACCOUNT: [TOKEN]})
    request = {"params": None, "body": b"ignored", "account_sid": None, "websocket": True}
    assert expected == verifier.verify(target=target, signature=sign(TOKEN, signed), **request)


def test_a_handshake_may_sign_its_query_as_parameters():
    """One of Twilio's own libraries does, blank values included."""
    signed = sign(TOKEN, "wss://guard.example/relay", parse_query("session=a+b&a=1&empty="))
    assert Verifier(URL, {ACCOUNT: [TOKEN]}).verify(
        target="/relay?session=a+b&a=1&empty=",
        params=(),
        body=b"",
        signature=signed,
        account_sid=None,
        websocket=True,
    )


@pytest.fixture
def comparisons(monkeypatch):
    """Count what one verification compares, and with it that every comparison takes even time."""

    def count(verifier, **changes):
        seen = []
        with monkeypatch.context() as patch:
            real = hmac.compare_digest
            patch.setattr(hmac, "compare_digest", lambda a, b: seen.append(a) or real(a, b))
            verify(verifier, **changes)
        return len(seen)

    return count


def test_the_usual_request_costs_one_hmac(comparisons):
    """The URL without port, under the first token; the second token costs one more."""
    verifier = Verifier("https://guard.example:8443", {ACCOUNT: ["first", "second"]}, KEYS)
    assert [comparisons(verifier, token=each) for each in ("first", "second")] == [1, 2]


def test_a_refusal_costs_the_same_for_every_account(comparisons):
    """One token, three, none, or no account of ours: nobody learns from the time whose AccountSid is known."""
    accounts = [f"AC{each:032x}" for each in range(4)]
    verifier = Verifier(URL, dict(zip(accounts[:3], (["a"], ["b", "c", "d"], []), strict=True)), KEYS)
    forged = [comparisons(verifier, account=each, token="forged") for each in accounts]
    assert forged == [6] * 4  # two origins, three keys


def test_the_work_for_one_request_is_bounded(comparisons):
    """However many spellings and tokens there are; each token is tried on the usual spelling all the same."""
    awkward = {"target": "/?a=%27'%40&b=2&a=1", "account": None, "token": "forged"}
    few, many = (
        Verifier("https://u:p@guard.example:8443", {ACCOUNT: [f"token {each}" for each in range(size)]})
        for size in (1, 3000)
    )
    assert comparisons(few, **awkward) <= 40
    assert comparisons(many, **awkward) == 3000 > HMACS_MAX
    assert verify(many, account=None, token="token 2999")


def test_a_bad_public_url_is_refused_at_once():
    """An origin with an optional path, http or https, and nothing after it."""
    for url in ("", "guard.example", "ftp://guard.example", f"{URL}/?a", f"{URL}#x", "wss://guard.example"):
        with pytest.raises(ValueError, match="URL"):
            Verifier(url, {})


def test_empty_and_doubled_keys_are_refused_at_once():
    """An empty secret would let everybody sign; no message says what a secret was."""
    with pytest.raises(ValueError, match="must not be empty"):
        Verifier(URL, {ACCOUNT: ["a", ""]})
    with pytest.raises(ValueError, match="an id of its own"):
        Verifier(URL, {}, [KEYS[0], SharedKey("key_1", b"other", "HMAC_SHA1")])
    for key_id, secret, algorithm in (
        ("", b"s", "HMAC_SHA1"),
        ("k", b"", "HMAC_SHA1"),
        ("k", b"s", "HMAC_MD5"),
    ):
        with pytest.raises(ValueError, match="a shared key"):
            SharedKey(key_id, secret, algorithm)


def test_no_secret_is_in_a_repr():
    """Tokens and secrets are for computing only."""
    verifier = Verifier(URL, {ACCOUNT: ["s3cr3t"]}, [SharedKey("key_1", b"s3cr3t", "HMAC_SHA1")])
    shown = repr([verifier, vars(verifier), SharedKey("key_1", b"s3cr3t", "HMAC_SHA1")])
    assert "s3cr3t" not in shown
    assert hashlib.sha1(b"s3cr3t").hexdigest() not in shown
