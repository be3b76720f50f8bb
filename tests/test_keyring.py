"""The guard's keys: what is sealed stays shut, what is named keeps its name, what is signed can be checked."""

import base64
import hmac
import itertools
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey
from joserfc.jws import JWSRegistry

from ivrguard.keyring import (
    OTHERS_KEYS_MAX,
    Keyring,
    OthersKeys,
    PublicKeys,
    UnknownKeyError,
    certificate_ends_ms,
    key_of,
    new_material,
    public_halves,
    with_new,
    written,
)
from ivrguard.settings import written as written_settings

NOW_MS = 1_790_000_000_000
NOW_S = NOW_MS // 1000


def key(letter: str) -> bytes:
    return letter.encode() * 32


def ring(**other: Any) -> Keyring:
    given_keys: dict[str, Any] = {
        "sealing": {"k1": key("a")},
        "peppers": {"p1": key("b")},
        "naming": {"n1": key("c")},
        "signing": {"s1": key("d")},
    }
    return Keyring(**(given_keys | other))


def read(text: str) -> dict[str, bytes]:
    """Keys as the settings read them."""
    return dict(written_settings.keys(text))


def claims(**other: object) -> dict[str, object]:
    return {"iss": "ivrguard", "aud": "ivr", "exp": NOW_S + 60, "iat": NOW_S} | other


def verify(token: str, by: Keyring | None = None) -> dict[str, object]:
    return (by or ring()).verify(token, typ="assertion+jwt", iss="ivrguard", aud="ivr", now_ms=NOW_MS)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _header(token: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))


def _forge(header: dict[str, object], signature: bytes) -> str:
    return ".".join(_b64(part) for part in (orjson.dumps(header), orjson.dumps(claims()), signature))


def _hmac_with_public_key() -> str:
    """The classic confusion: the public key, known to all, taken for an HMAC secret."""
    public = base64.urlsafe_b64decode(json.loads(ring().jwks())["keys"][0]["x"] + "==")
    header = {"alg": "HS256", "kid": "s1", "typ": "assertion+jwt"}
    return jwt.encode(header, claims(), OctKey.import_key(public), algorithms=["HS256"])


def _own_key() -> str:
    """A token that brings the key to check it with (`jwk` in the header)."""
    mine = OKPKey.generate_key("Ed25519")
    header = {"alg": "EdDSA", "kid": "s1", "typ": "assertion+jwt", "jwk": mine.as_dict(private=False)}
    return jwt.encode(header, claims(), mine, registry=_lenient())


def _lenient() -> JWSRegistry:
    """A registry of joserfc that knows EdDSA, without the warning about the algorithm's new name (RFC 9864)."""
    registry = JWSRegistry()
    registry.get_alg = lambda name: JWSRegistry.algorithms[name]
    return registry


# -- sealing -----------------------------------------------------------------------------------------------


@given(plain=st.binary(max_size=300), purpose=st.text(max_size=20))
def test_what_is_sealed_opens_again(plain: bytes, purpose: str) -> None:
    """Sealing loses nothing, whatever the bytes and the purpose."""
    assert ring().unseal(ring().seal(plain, purpose), purpose) == plain


def test_two_seals_of_one_text_differ() -> None:
    """The nonce is new each time: equal texts do not show as equal."""
    assert ring().seal(b"same", "held") != ring().seal(b"same", "held")


def test_a_seal_is_for_one_purpose() -> None:
    """What was sealed for one purpose does not open for another."""
    sealed = ring().seal(b"secret", "totp")
    with pytest.raises(ValueError, match="not sealed with key k1 for held"):
        ring().unseal(sealed, "held")


def test_the_first_key_seals_and_all_of_them_open() -> None:
    """Rotation: put the new key first; old texts still open, new ones carry the new id."""
    before = ring().seal(b"old", "held")
    after = ring(sealing={"k2": key("e"), "k1": key("a")})
    assert after.unseal(before, "held") == b"old"
    assert after.seal(b"new", "held").startswith("k2.")


def test_what_an_old_key_sealed_is_sealed_anew() -> None:
    """It opens with the new key alone; what is under the new key stays; what cannot be opened is not touched."""
    both = ring(sealing={"k2": key("e"), "k1": key("a")})
    moved = both.resealed(ring().seal(b"secret", "totp"), "totp")
    assert moved is not None
    assert ring(sealing={"k2": key("e")}).unseal(moved, "totp") == b"secret"
    assert both.resealed(moved, "totp") is None
    for sealed, purpose in ((ring().seal(b"secret", "totp"), "held"), ("k0.AAAA", "totp")):
        with pytest.raises(ValueError, match="sealed with"):
            both.resealed(sealed, purpose)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not among the sealing keys"),
        ("k1", "for held"),
        ("k1.", "for held"),
        ("k9.AAAA", "not among the sealing keys"),
        ("k1.AAAA", "for held"),
        ("k1.not base64!", "for held"),
        ("k1.ÄÖÜ", "for held"),
        ("k1." + "A" * 60, "for held"),
    ],
)
def test_what_is_not_a_seal_of_ours_is_refused_without_being_shown(text: str, why: str) -> None:
    """Each kind of nonsense is a ValueError that does not repeat it."""
    with pytest.raises(ValueError, match=why) as fault:
        ring().unseal(text, "held")
    assert fault.value.__cause__ is None


@given(st.data())
def test_any_change_is_seen(data: st.DataObject) -> None:
    """A flipped bit anywhere in nonce, text or tag keeps the box shut."""
    key_id, _, text = ring().seal(b"attack at dawn", "held").partition(".")
    box = bytearray(base64.urlsafe_b64decode(text + "=="))
    box[data.draw(st.integers(0, len(box) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ValueError, match="changed since"):
        ring().unseal(f"{key_id}.{base64.urlsafe_b64encode(bytes(box)).decode()}", "held")


# -- naming ------------------------------------------------------------------------------------------------


PINNED_NAME = "acc_xaogkumqeqw6zuow"
PINNED_BYTES = "e4cfcc4274d81bf1659b4718aa69c388908737fe65ac3032bf60c52a3686be77"


def test_names_and_derived_bytes_do_not_change_between_versions() -> None:
    """Pinned: a pseudonym in last year's record must be found this year; a code must outlive a deployment."""
    assert ring().pseudonym("account", "4711") == PINNED_NAME
    assert ring().derive("sms_code", "x").hex() == PINNED_BYTES


@pytest.mark.parametrize(
    "rotated",
    [
        ring(sealing={"k2": key("z"), "k1": key("a")}),
        ring(peppers={"p2": key("y"), "p1": key("b")}),
        ring(signing={"s2": key("x")}),
    ],
)
def test_no_rotation_changes_a_name(rotated: Keyring) -> None:
    """Only the naming key makes names: sealing, peppers and signing may rotate at any minute."""
    assert ring().pseudonym("account", "4711") == rotated.pseudonym("account", "4711")
    assert ring().derive("sms_code", "x") == rotated.derive("sms_code", "x")


def test_another_naming_key_gives_other_names() -> None:
    """Without the key nobody can work out whose record it is."""
    other = ring(naming={"n1": key("z")})
    assert ring().pseudonym("account", "4711") != other.pseudonym("account", "4711")
    assert ring().derive("sms_code", "x") != other.derive("sms_code", "x")


ROTATED = {"n2": key("z"), "n1": key("c")}


def test_the_first_naming_key_names_and_the_others_go_on_for_whom_they_named() -> None:
    """Rotation: what began under a key keeps its names and its bytes; nobody else gets any of them."""
    after = ring(naming=ROTATED)
    new, old = after.with_naming("n2"), after.with_naming("n1")
    assert after.named == ("n2", "n1")
    for of_key, alone in ((new, ring(naming={"n9": key("z")})), (old, ring())):
        assert of_key.pseudonym("account", "4711") == alone.pseudonym("account", "4711")
        assert of_key.derive("sms_code", "x") == alone.derive("sms_code", "x")
    assert after.pseudonym("account", "4711") == new.pseudonym("account", "4711") != PINNED_NAME


@pytest.mark.parametrize("key_id", ["", "n0"])
def test_a_naming_key_that_is_gone_is_the_current_one(key_id: str) -> None:
    """From whichever view: what it made is good no longer, and nothing fails for it."""
    after = ring(naming=ROTATED)
    for view in (after, after.with_naming("n1")):
        assert view.with_naming(key_id).derive("token", "x") == after.derive("token", "x")


def test_a_view_seals_and_signs_like_the_whole() -> None:
    """Only names differ."""
    view = ring(naming=ROTATED).with_naming("n1")
    assert ring().unseal(view.seal(b"x", "held"), "held") == b"x"
    assert verify(view.sign(claims(), typ="assertion+jwt")) == claims()


def test_each_use_has_names_of_its_own() -> None:
    """The same value under another use is another name, and a pseudonym is no part of derived bytes."""
    assert ring().pseudonym("number", "4711").startswith("num_")
    assert ring().pseudonym("number", "4711")[4:] != ring().pseudonym("account", "4711")[4:]
    assert ring().derive("token", "x") != ring().derive("sms_code", "x")
    head = base64.b32encode(ring().derive("account", "4711")[:10]).decode().lower()
    assert ring().pseudonym("account", "4711") != f"acc_{head}"


# -- tokens ------------------------------------------------------------------------------------------------


def test_a_signed_token_verifies_and_says_what_was_claimed() -> None:
    """What sign puts in, verify gives back; the caller's mapping is left as it was."""
    given_claims = claims(sub="acc_x", acr="two_factor")
    token = ring().sign(given_claims, typ="assertion+jwt")
    assert verify(token) == claims(sub="acc_x", acr="two_factor")
    assert given_claims == claims(sub="acc_x", acr="two_factor")
    assert _header(token) == {"alg": "EdDSA", "kid": "s1", "typ": "assertion+jwt"}


def test_an_ivr_needs_only_the_published_keys() -> None:
    """`jwks` is all that an IVR with a JWT library of its own needs; no private part stands in it."""
    published = json.loads(ring(signing={"s2": key("e"), "s1": key("d")}).jwks())
    assert [(k["kid"], k["kty"], k["crv"], k["use"], k["alg"]) for k in published["keys"]] == [
        ("s2", "OKP", "Ed25519", "sig", "EdDSA"),
        ("s1", "OKP", "Ed25519", "sig", "EdDSA"),
    ]
    assert [sorted(k) for k in published["keys"]] == [["alg", "crv", "kid", "kty", "use", "x"]] * 2
    found = jwt.decode(ring().sign(claims(), typ="x"), KeySet.import_key_set(published), registry=_lenient())
    assert found.claims == claims()


def test_a_token_from_before_the_rotation_still_verifies() -> None:
    """The first key signs, all of them verify."""
    rotated = ring(signing={"s2": key("e"), "s1": key("d")})
    assert verify(ring().sign(claims(), typ="assertion+jwt"), rotated) == claims()
    assert _header(rotated.sign(claims(), typ="x"))["kid"] == "s2"


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("expired", lambda: ring().sign(claims(exp=NOW_S - 3), typ="assertion+jwt")),
        ("not yet", lambda: ring().sign(claims(nbf=NOW_S + 3), typ="assertion+jwt")),
        ("from the future", lambda: ring().sign(claims(iat=NOW_S + 3), typ="assertion+jwt")),
        ("without an end", lambda: ring().sign({"iss": "ivrguard", "aud": "ivr"}, typ="assertion+jwt")),
        ("another issuer", lambda: ring().sign(claims(iss="other"), typ="assertion+jwt")),
        ("for another", lambda: ring().sign(claims(aud="other"), typ="assertion+jwt")),
        ("another type", lambda: ring().sign(claims(), typ="receipt+jwt")),
        (
            "another's key, our kid",
            lambda: ring(signing={"s1": key("x")}).sign(claims(), typ="assertion+jwt"),
        ),
        ("another's kid", lambda: ring(signing={"s7": key("d")}).sign(claims(), typ="assertion+jwt")),
        ("alg none", lambda: _forge({"alg": "none", "kid": "s1", "typ": "assertion+jwt"}, b"")),
        ("HMAC with the public key", _hmac_with_public_key),
        ("alg is a list", lambda: _forge({"alg": ["EdDSA"], "kid": "s1", "typ": "assertion+jwt"}, b"x")),
        ("kid is a number", lambda: _forge({"alg": "EdDSA", "kid": 1, "typ": "assertion+jwt"}, b"x")),
        ("no kid", lambda: _forge({"alg": "EdDSA", "typ": "assertion+jwt"}, b"x")),
        ("a key of its own", _own_key),
        ("nothing", lambda: ""),
        ("two dots", lambda: ".."),
        ("not ASCII", lambda: "ä.ö.ü"),
        ("not JSON", lambda: "e30.e30.e30"),
    ],
)
def test_a_token_that_does_not_hold_is_refused(name: str, token: Callable[[], str]) -> None:
    """Expired, for others, of another kind, forged in each of the known ways: one ValueError, without it."""
    with pytest.raises(ValueError, match="the token does not hold"):
        verify(token())


@given(st.text(max_size=200))
def test_nonsense_is_refused_and_nothing_else_happens(text: str) -> None:
    """Any text at all is either a token of ours or a ValueError."""
    with pytest.raises(ValueError, match="does not hold"):
        verify(text)


# -- public keys --------------------------------------------------------------------------------------------


def test_public_halves_check_what_was_signed_and_hold_no_secret() -> None:
    """Whenever it was signed: a checkpoint has no end. All keys that are given check."""
    both = PublicKeys(public_halves({"s2": key("e"), "s1": key("d")}))
    for signing in ({"s1": key("d")}, {"s2": key("e")}):
        token = ring(signing=signing).sign({"seq": 7}, typ="checkpoint+jwt")
        assert both.read(token, typ="checkpoint+jwt") == {"seq": 7}
    assert both.jwks == ring(signing={"s2": key("e"), "s1": key("d")}).jwks()
    assert not set(both.keys.values()) & {key("d"), key("e")}


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (lambda: ring(signing={"s7": key("d")}).sign(claims(), typ="x"), "it is signed with key s7, not known here"),
        (lambda: _forge({"alg": "EdDSA", "kid": "a b", "typ": "x"}, b"x"), "signed with a key of no name"),
        (lambda: ring(signing={"s1": key("x")}).sign(claims(), typ="x"), "BadSignatureError"),
        (lambda: ring().sign(claims(), typ="y"), "it is of another type"),
        (lambda: "nonsense", "DecodeError"),
    ],
)  # fmt: skip
def test_what_the_public_keys_here_did_not_sign_is_refused(token: Callable[[], str], why: str) -> None:
    """The operator reads which key is missing; nothing else of the token is told."""
    with pytest.raises(ValueError, match=why) as fault:
        PublicKeys(public_halves({"s1": key("d")})).read(token(), typ="x")
    assert fault.value.__cause__ is None


@pytest.mark.parametrize(
    ("token", "key_id"),
    [
        (lambda: ring().sign(claims(), typ="x"), "s1"),
        (lambda: _forge({"kid": "a b"}, b""), ""),
        (lambda: _forge({}, b""), ""),
        (lambda: "W10.x.y", ""),
        (lambda: "nonsense", ""),
        (lambda: "", ""),
    ],
    ids=["ours", "a name with blanks", "no name", "a list", "no JSON", "nothing"],
)
def test_which_key_a_token_says_it_was_signed_with(token: Callable[[], str], key_id: str) -> None:
    """Nothing is verified by it: it is for counting, and for words."""
    assert key_of(token()) == key_id


def test_without_a_public_key_nothing_is_believed() -> None:
    with pytest.raises(ValueError, match="key s1, not known here"):
        PublicKeys({}).read(ring().sign(claims(), typ="x"), typ="x")


# -- the keys themselves -------------------------------------------------------------------------------------


def test_new_material_makes_a_working_keyring() -> None:
    """What `ivrguard keys new` prints can be put into the environment and read back."""
    count = itertools.count(1)
    made = new_material(lambda n: bytes([next(count)]) * n)
    keyring = Keyring(
        sealing=read(made["IVRGUARD_SEALING_KEYS"]),
        peppers=read(made["IVRGUARD_PEPPERS"]),
        naming=read(made["IVRGUARD_NAMING_KEYS"]),
        signing=read(made["IVRGUARD_SIGNING_KEYS"]),
    )
    assert keyring.unseal(keyring.seal(b"x", "held"), "held") == b"x"
    assert list(keyring.peppers) == ["p1"]
    assert len(made) == 4


def test_keys_are_written_as_they_are_read() -> None:
    """In their order: the first is the current one."""
    keys = {"k2": key("b"), "k1": key("a")}
    assert list(read(written(keys)).items()) == list(keys.items())


@pytest.mark.parametrize(
    ("ids", "new"),
    [
        (["k1"], "k2"),
        (["k9", "k10", "k1"], "k11"),
        (["p"], "p2"),
        (["2026"], "2027"),
        (["main", "old"], "main2"),
        (["x" * 32], "x" * 24 + "2"),
        (["x" * 32, "x" * 24 + "2"], "x" * 24 + "3"),
    ],
)
def test_a_new_key_comes_in_front_under_an_id_of_its_own(ids: list[str], new: str) -> None:
    """The others stay behind it as they were."""
    keys = {each: bytes([place]) * 32 for place, each in enumerate(ids, 1)}
    after = with_new(keys, lambda n: b"*" * n)
    assert list(after.items()) == [(new, b"*" * 32), *keys.items()]
    assert ring(sealing=after).seal(b"x", "held").startswith(f"{new}.")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"sealing": {}}, "there is no sealing key"),
        ({"peppers": {}}, "there is no pepper key"),
        ({"signing": {}}, "there is no signing key"),
        ({"sealing": {"k.1": key("a")}}, "the id of a sealing key has other characters"),
        ({"peppers": {"p1": b"short"}}, "pepper key p1 has 5 bytes; it needs 32"),
        ({"naming": {}}, "there is no naming key"),
        ({"naming": {"n1": b""}}, "naming key n1 has 0 bytes; it needs 32"),
        ({"sealing": {"k2": key("a"), "k1": key("a")}}, "two of the keys are the same"),
        ({"naming": {"n1": key("a")}}, "two of the keys are the same"),
    ],
)
def test_a_keyring_with_a_hole_is_not_made(other: dict[str, Any], why: str) -> None:
    """Missing, short and doubled keys are found at the start, by use and id."""
    with pytest.raises(ValueError, match=why):
        ring(**other)


def test_no_key_shows_in_a_repr() -> None:
    """Printing, formatting or logging a keyring shows the ids of its keys and no key."""
    text = f"{ring()!r} {ring()!s}"
    assert text.count("Keyring(sealing=['k1'], peppers=['p1'], naming=['n1'], signing=['s1'])") == 2
    for letter in "abcd":
        assert letter * 8 not in text
        assert base64.b64encode(key(letter)).decode()[:8] not in text


# ── certificates ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_chain_of_certificates_ends_with_the_first_that_does(authority: Callable[[str], Any]) -> None:
    """Which is not always the guard's own. In milliseconds since the epoch, UTC."""
    made = authority("bank")
    soon, late = (made.issue(name, days=days)[0].read_bytes() for name, days in (("soon", 3), ("late", 30)))
    assert certificate_ends_ms(late + soon) == certificate_ends_ms(soon)
    assert certificate_ends_ms(late) - certificate_ends_ms(soon) == pytest.approx(27 * 86_400_000, abs=60_000)
    assert certificate_ends_ms(late) > 1_700_000_000_000


@pytest.mark.parametrize(
    "pem", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_what_is_no_certificate_is_a_fault(pem: bytes) -> None:
    with pytest.raises(ValueError):
        certificate_ends_ms(pem)


# ── others' keys ─────────────────────────────────────────────────────────────────────────────────────────

EC = ECKey.generate_key("P-256", {"kid": "ec"})


NO_SET = r"no set of public keys|no key in it checks signatures"


def others(*keys):
    """A set of these JWKs."""
    return OthersKeys(json.dumps({"keys": [*keys]}).encode())


def signed(claims=None, key=EC, alg="ES256", kid="ec", **header):
    """A token of somebody else's."""
    named = {"alg": alg, "kid": kid, **header}
    return jws.serialize_compact(
        {name: text for name, text in named.items() if text is not None},
        json.dumps({"sub": "x"} if claims is None else claims).encode(),
        key,
        registry=jws.JWSRegistry(algorithms=[alg], strict_check_header=False),
    )


PUBLIC = EC.as_dict(private=False)


def by_the_public_key():
    """HS256 with what everybody has: the trick of CVE-2015-9235."""
    start = ".".join(
        base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"HS256","kid":"ec"}', b"{}")
    )
    mac = hmac.digest(EC.as_pem(private=False), start.encode(), "sha256")
    return f"{start}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def test_anothers_token_is_read_with_his_keys():
    """Of the types that are asked for, in any spelling; a single key needs no name."""
    keys = others({"kty": "quantum"}, PUBLIC, 5)
    for typ, types in (
        (None, {""}),
        ("JWT", {"", "jwt"}),
        ("at+jwt", {"at+jwt"}),
        ("application/AT+JWT", {"at+jwt"}),
    ):
        assert keys.read(signed(typ=typ), types=frozenset(types)) == {"sub": "x"}
    assert keys.read(signed(kid=None), types=frozenset({""})) == {"sub": "x"}


@pytest.mark.parametrize(
    ("token", "unknown"),
    [
        (signed(kid="other"), True),
        (signed(typ="at+jwt"), False),
        (signed(key=ECKey.generate_key("P-256")), False),
        (signed()[:-4] + "AAAA", False),
        (signed([1]), False),
        ("", False),
        ("a.b", False),
        ("ä.b.c", False),
        ("e30.e30.e30", False),
        (by_the_public_key(), False),
        (signed(key=ECKey.generate_key("P-384"), alg="ES384"), False),
    ],
    ids=[
        *(
            "unknown key",
            "another type",
            "another's key",
            "another signature",
            "no claims",
            "nothing",
            "two parts",
        ),
        *("not ASCII", "no signature", "a MAC by the public key", "another algorithm"),
    ],
)
def test_a_token_that_is_not_his_does_not_hold(token, unknown):
    """And nothing of it is told; only that its key is not known (yet) is told apart."""
    with pytest.raises(ValueError, match="the token does not hold") as caught:
        others(PUBLIC).read(token, types=frozenset({"", "jwt"}))
    assert isinstance(caught.value, UnknownKeyError) is unknown
    assert len(token) < 10 or token not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "eA", "kid": "ec"},
        {**PUBLIC, "use": "enc"},
        {**EC.as_dict(private=True)},
        {"kty": "RSA", "n": "x" * 171, "e": "AQAB"},
        {"kty": "RSA", "n": "x" * 2000, "e": "AQAB"},
        ECKey.generate_key("P-384").as_dict(private=False),
        {"kty": "OKP", "crv": "X25519", "x": "A" * 43},
        {"kty": "EC", "crv": "P-256", "x": "A", "y": "A"},
    ],
)
def test_a_key_that_is_not_trusted_is_none(key):
    """Shared secrets, private halves, small and huge ones, other curves: what is left over must be a set."""
    with pytest.raises(ValueError, match=NO_SET):
        others(key)


@pytest.mark.parametrize("jwks", [b"", b"[]", b"{}", b'{"keys":5}', b'{"keys":[]}', b"\xff"])
def test_what_is_no_set_of_keys(jwks):
    with pytest.raises(ValueError, match=NO_SET):
        OthersKeys(jwks)


def test_only_so_many_keys_are_looked_at():
    """Whoever answers cannot have us import keys for ever."""
    with pytest.raises(ValueError, match="no key in it"):
        others(*[{"kty": "quantum"}] * OTHERS_KEYS_MAX, PUBLIC)
