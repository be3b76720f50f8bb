"""
The guard's own keys, and everything that is done with them. Implements `ports.Keys`.

1. **One key, one use.** Each use gets a key of its own by HKDF-SHA256 (RFC 5869), so that what is made for
   one cannot be passed off as another's. Of a purpose such as `answer/CA…` the use stands before the slash; what
   stands behind it is bound as associated data.
2. **Sealing rotates.** AES-256-GCM with the purpose as associated data; the first sealing key seals, all of
   them open, and the key's id stands in the text. Nonces are 96 bits of chance, so one key may seal at most
   2^32 texts (NIST SP 800-38D, 8.3): at a hundred a second, put a new key first once a year.
3. **Naming rotates by call.** Pseudonyms, codes, tokens and MACs are not stored, so nothing in them says which key
   made them. A call keeps the naming key that it began with (`with_naming`), as it keeps its flow: a code, a MAC or a
   token does not die in the minutes around a rotation, and none is ever good under two keys. The first key makes the
   names of new records; an old one stays for as long as the records are to be searched that it made names for.
4. **One algorithm for tokens**: EdDSA on Ed25519 (RFC 8037) and nothing else, whatever a token's header says
   (OWASP ASVS 5.0, 9.1.2). The first signing key signs; all of them are published, so that tokens signed
   before a rotation are still checked. What must be checked for years needs only the public half (`PublicKeys`).
5. **No key is ever shown**: no repr, no error and no message holds one. Only the ids of keys are names.

6. **Others' tokens** are read with others' keys (`OthersKeys`): asymmetric algorithms only, each with its own kind of key, so that
   neither "none" nor a public key taken for a shared secret signs anything (RFC 8725, 3.1 and 3.2).

Certificates for mutual TLS are no keys of ours; when one runs out is read here, where the library is.

Peppers (OWASP Password Storage Cheat Sheet) are kept here with the other keys, outside the store, and used by
factors/pin.py: the first one for new PINs, each of the others for as long as a PIN needs it.
"""

import base64
import hmac
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from functools import lru_cache
from itertools import count
from types import MappingProxyType

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError, UnsupportedAlgorithmError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import JWKRegistry, KeySet, OKPKey
from joserfc.jws import JWSRegistry

KEY_BYTES = 32
"""Every key is 256 bits: AES-256, an Ed25519 seed, a full-strength HMAC-SHA256 key."""
NONCE_BYTES = 12
PSEUDONYM_BYTES = 10
"""80 bits: that two of 10^9 names fall together has a chance below one in a million."""
CLOCK_SKEW_S = 2
"""How far a token's times may lie on the other side of now: two nodes' clocks agree no better."""
DERIVED_KEYS_MAX = 256
"""How many derived keys are kept ready; purposes are a dozen constants, but nothing may grow without end."""
HEADERS_MAX = 64
"""Headers of tokens kept ready: a key and a type each, of which there are a handful."""
ALGORITHM = "EdDSA"
OTHERS_ALGORITHMS = frozenset({"RS256", "PS256", "ES256", "EdDSA", "Ed25519"})
OTHERS_KEYS_MAX = 64
RSA_CHARS = range(342, 1367)
"""How long an RSA modulus may be in base64url: 2048 bits (RFC 7518, 3.3) to 8192, beyond which each check costs too much."""
ID_STEM_CHARS_MAX = 24
"""So that an id with a number behind it is still one."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


class Keyring:
    """
    The keys of one guard.

    `sealing`, `peppers`, `naming`, `signing`: key id to 32 bytes, the current key first; a signing key is an Ed25519
    seed (RFC 8032). Raises `ValueError`, which names the key by its id, when one is missing, has another length, or
    serves twice.
    """

    def __init__(
        self,
        *,
        sealing: Mapping[str, bytes],
        peppers: Mapping[str, bytes],
        naming: Mapping[str, bytes],
        signing: Mapping[str, bytes],
    ) -> None:
        _check("sealing", sealing)
        _check("pepper", peppers)
        _check("naming", naming)
        _check("signing", signing)
        keys = [key for use in (sealing, peppers, naming, signing) for key in use.values()]
        if len(set(keys)) != len(keys):
            raise ValueError("two of the keys are the same: each use and each id needs a key of its own")
        self.peppers: Mapping[str, bytes] = MappingProxyType(dict(peppers))
        self._sealing = dict(sealing)
        self.named: tuple[str, ...] = tuple(naming)
        self._naming_keys = dict(naming)
        self._names_with = self.named[0]
        self._seals_with = next(iter(self._sealing))
        self._cipher = lru_cache(DERIVED_KEYS_MAX)(self._derive_cipher)
        self._naming = lru_cache(DERIVED_KEYS_MAX)(self._derive_naming)
        self.public = PublicKeys(public_halves(signing))
        self._signing = {kid: Ed25519PrivateKey.from_private_bytes(seed) for kid, seed in signing.items()}
        self._signs_with = next(iter(self._signing))
        self._views: dict[str, Keyring] = {self._names_with: self}
        self._views |= {key_id: self._view(key_id) for key_id in self.named[1:]}

    def __repr__(self) -> str:
        """The ids of the keys, never a key."""
        ids = (list(use) for use in (self._sealing, self.peppers, self.named, self._signing))
        return "Keyring(sealing={}, peppers={}, naming={}, signing={})".format(*ids)

    def seal(self, plain: bytes, purpose: str) -> str:
        """
        `<key id>.<base64url of nonce, ciphertext and tag>`, to be opened for this `purpose` only.

        The nonce comes from the operating system here and is not an argument like chance elsewhere: a nonce
        used twice gives the key away, so no caller may choose it.
        """
        nonce = os.urandom(NONCE_BYTES)
        cipher = self._cipher(self._seals_with, purpose.partition("/")[0])
        box = nonce + cipher.encrypt(nonce, plain, purpose.encode())
        return f"{self._seals_with}.{_base64url(box)}"

    def unseal(self, sealed: str, purpose: str) -> bytes:
        """The plain bytes; `ValueError` when another key, another purpose or another hand made it."""
        key_id, _, text = sealed.partition(".")
        if key_id not in self._sealing:
            raise ValueError("sealed with a key that is not among the sealing keys configured here")
        try:
            box = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            return self._cipher(key_id, purpose.partition("/")[0]).decrypt(
                box[:NONCE_BYTES], box[NONCE_BYTES:], purpose.encode()
            )
        except (InvalidTag, ValueError):  # ValueError: not base64, or too short to hold a nonce
            raise ValueError(f"not sealed with key {key_id} for {purpose}, or changed since") from None

    def resealed(self, sealed: str, purpose: str) -> str | None:
        """See `ports.Keys.resealed`."""
        if sealed.partition(".")[0] == self._seals_with:
            return None
        return self.seal(self.unseal(sealed, purpose), purpose)

    def with_naming(self, key_id: str) -> "Keyring":
        """See `ports.Keys.with_naming`."""
        return self._views.get(key_id, self._views[self.named[0]])

    def pseudonym(self, what: str, value: str) -> str:
        """
        A name for `value` in records: `acc_` and 16 letters for what="account", `num_…` for "number".

        The same for ever under one naming key; without it nothing can be looked up or tried out. A name for
        one `what` does not fit another.
        """
        digest = hmac.digest(self._naming(self._names_with, "pseudonym", what), value.encode(), "sha256")
        return f"{what[:3]}_{base64.b32encode(digest[:PSEUDONYM_BYTES]).decode().lower()}"

    def derive(self, what: str, value: str) -> bytes:
        """32 secret bytes for `value`, which only this key makes: codes, MACs, tokens. `what` sets uses apart."""
        return hmac.digest(self._naming(self._names_with, "derive", what), value.encode(), "sha256")

    def sign(self, claims: Mapping[str, object], *, typ: str) -> str:
        """
        A JWT over `claims` (RFC 7519); `typ` is its media type without "application/" (RFC 8725, 3.11).

        Every request to an IVR carries one, so the compact form (RFC 7515, 3.1) is put together here, around the
        library's signature: three parts and two dots. Reading one, where the traps are, is joserfc's affair.
        """
        start = f"{_header(self._signs_with, typ)}.{_base64url(orjson.dumps(dict(claims)))}"
        return f"{start}.{_base64url(self._signing[self._signs_with].sign(start.encode()))}"

    def jwks(self) -> bytes:
        """The public keys as a JWK set (RFC 7517), in JSON: what `/.ivrguard/jwks.json` answers."""
        return self.public.jwks

    def verify(self, token: str, *, typ: str, iss: str, aud: str, now_ms: int) -> dict[str, object]:
        """
        The claims of a token of ours; `ValueError` if it is forged, of another kind, for others, or not of now.

        `iss`, `aud` and `exp` must be there and fit; `nbf` and `iat` must fit if they are there. This is what an IVR
        that checks our assertions does with any JWT library and `jwks()`.
        """
        claims_rule = jwt.JWTClaimsRegistry(
            now=now_ms // 1000,
            leeway=CLOCK_SKEW_S,
            iss={"essential": True, "value": iss},
            aud={"essential": True, "value": aud},
            exp={"essential": True},
        )
        claims = self.public.read(token, typ=typ)
        try:
            claims_rule.validate(claims)
        except JoseError as fault:
            raise ValueError(f"the token does not hold: {type(fault).__name__}") from None
        return claims

    def _derive_cipher(self, key_id: str, use: str) -> AESGCM:
        return AESGCM(_hkdf(self._sealing[key_id], f"ivrguard seal {use}"))

    def _view(self, key_id: str) -> "Keyring":
        view = copy(self)
        view._names_with = key_id  # noqa: SLF001 -- its own
        return view

    def _derive_naming(self, key_id: str, use: str, what: str) -> bytes:
        return _hkdf(self._naming_keys[key_id], f"ivrguard {use} {what}")


class PublicKeys:
    """
    Public halves of signing keys: what they check, they cannot sign. None of it is secret.

    `keys`: key id to 32 bytes (RFC 8032). There may be none: then nothing can be checked.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self.keys: Mapping[str, bytes] = MappingProxyType(dict(keys))
        every = [_okp(key_id, key) for key_id, key in keys.items()]
        self._set = KeySet([*every])
        self.jwks = orjson.dumps({"keys": [key.as_dict(private=False) for key in every]})

    def read(self, token: str, *, typ: str) -> dict[str, object]:
        """
        What a token of this type claims, whenever it was signed; `ValueError` if none of the keys here signed it.

        The error names the key, if it has a name that a key can have, and nothing else of the token.
        """
        try:
            found = jwt.decode(token, self._set, registry=_REGISTRY)
        except InvalidKeyIdError:
            which = f"key {key_of(token)}" if key_of(token) else "a key of no name"
            raise ValueError(f"the token does not hold: it is signed with {which}, not known here") from None
        except (JoseError, ValueError) as fault:  # ValueError: what is not even base64 or text
            raise ValueError(f"the token does not hold: {type(fault).__name__}") from None
        if found.header.get("typ") != typ:
            raise ValueError("the token does not hold: it is of another type")
        return found.claims


class UnknownKeyError(ValueError):
    """A token is signed with a key that is not known (yet): the set may have changed."""


class OthersKeys:
    """
    The public keys of an identity provider.

    `jwks`: its JWK set (RFC 7517) in JSON; keys of other kinds and for other uses are passed over. Raises `ValueError` for what
    is none, or has no key that can be used.
    """

    def __init__(self, jwks: bytes) -> None:
        try:
            found = [one for one in orjson.loads(jwks)["keys"][:OTHERS_KEYS_MAX] if _checks_signatures(one)]
            self._set = KeySet([JWKRegistry.import_key(one) for one in found])
        except (JoseError, ValueError, TypeError, KeyError) as fault:
            raise ValueError(f"this is no set of public keys: {type(fault).__name__}") from None
        if not found:
            raise ValueError("no key in it checks signatures of an algorithm that is trusted here")

    def read(self, token: str, *, types: frozenset[str]) -> dict[str, object]:
        """
        What a token of one of these types (in small letters, "" for none) claims, whenever and for whomever it was made.

        Raises `UnknownKeyError`, or `ValueError` for all else; nothing of the token is in them.
        """
        try:
            found = jwt.decode(token, self._set, registry=_OTHERS_REGISTRY)
        except InvalidKeyIdError:
            raise UnknownKeyError("the token does not hold: its key is not known") from None
        except (JoseError, ValueError) as fault:
            raise ValueError(f"the token does not hold: {type(fault).__name__}") from None
        typ = str(found.header.get("typ", "")).lower().removeprefix("application/")
        if typ not in types:
            raise ValueError("the token does not hold: it is of another type")
        return found.claims


def _checks_signatures(key: object) -> bool:
    """Whether a JWK is one that checks signatures, of a kind and size that is trusted."""
    if not isinstance(key, dict) or key.get("use", "sig") != "sig" or "d" in key:
        return False
    match key.get("kty"):
        case "RSA":
            return len(str(key.get("n", ""))) in RSA_CHARS
        case "EC":
            return key.get("crv") == "P-256"
        case "OKP":
            return key.get("crv") == "Ed25519"
        case _:
            return False


def public_halves(signing: Mapping[str, bytes]) -> dict[str, bytes]:
    """The public half of each Ed25519 seed, by key id."""
    return {
        key_id: Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        for key_id, seed in signing.items()
    }


def key_of(token: str) -> str:
    """Which key a token says it was signed with; "" if it says none, or what no key can be called."""
    with suppress(ValueError, TypeError, AttributeError):
        head = token.partition(".")[0]
        key_id = orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))).get("kid")
        return str(key_id) if _ID.fullmatch(key_id) else ""
    return ""


class _OnlyEdDSA(JWSRegistry):
    """
    A registry that knows one algorithm.

    joserfc warns that RFC 9864 renames EdDSA to Ed25519. The receivers are the customers' IVRs, in any
    language, and most JWT libraries know only the older name; law 4 pins the curve, which is what the new name is
    for. So the warning is passed by here, not silenced for the whole process.
    """

    def get_alg(self, name: str) -> JWSAlgModel:
        """The algorithm, if it is ours."""
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError("another algorithm")
        return self.algorithms[name]


_REGISTRY = _OnlyEdDSA()


class _Others(JWSRegistry):
    """A registry of the algorithms that are trusted of others, under the older name of EdDSA as well."""

    def get_alg(self, name: str) -> JWSAlgModel:
        """The algorithm, if it is one of them."""
        if name not in OTHERS_ALGORITHMS:
            raise UnsupportedAlgorithmError("another algorithm")
        return self.algorithms[name]


_OTHERS_REGISTRY = _Others(strict_check_header=False)  # what is marked critical is checked all the same


def written(keys: Mapping[str, bytes]) -> str:
    """Keys as settings hold them, in their order: `k2=<base64>;k1=<base64>`."""
    return ";".join(f"{key_id}={base64.b64encode(key).decode()}" for key_id, key in keys.items())


def new_material(random: Callable[[int], bytes]) -> dict[str, str]:
    """
    A fresh set of keys, one for each use, by the environment variable that holds it.

    `random(n)` gives n unguessable bytes (`secrets.token_bytes`).
    """
    uses = {"SEALING_KEYS": "k1", "PEPPERS": "p1", "NAMING_KEYS": "n1", "SIGNING_KEYS": "s1"}
    return {f"IVRGUARD_{use}": written({key_id: random(KEY_BYTES)}) for use, key_id in uses.items()}


def with_new(keys: Mapping[str, bytes], random: Callable[[int], bytes]) -> dict[str, bytes]:
    """
    The keys with a new one in front, whose id counts on from theirs: `k2` before `k1`.

    `random` as in `new_material`.
    """
    stem = next(iter(keys)).rstrip("0123456789")[:ID_STEM_CHARS_MAX]
    counted = [int(rest) for key_id in keys if (rest := key_id.removeprefix(stem)).isdecimal()]
    ids = (f"{stem}{number}" for number in count(max(counted, default=1) + 1))
    return {next(key_id for key_id in ids if key_id not in keys): random(KEY_BYTES), **keys}


def certificate_ends_ms(pem: bytes) -> int:
    """When the first of these PEM certificates to run out does, in ms since the epoch. Raises `ValueError` for none."""
    every = x509.load_pem_x509_certificates(pem)
    return int(min(one.not_valid_after_utc for one in every).timestamp()) * 1000


def _check(use: str, keys: Mapping[str, bytes]) -> None:
    """One key or more, each of the right length, each id one that can stand in a sealed text."""
    if not keys:
        raise ValueError(f"there is no {use} key")
    for key_id, key in keys.items():
        if not _ID.fullmatch(key_id):
            raise ValueError(f"the id of a {use} key has other characters than letters, digits, - and _")
        if len(key) != KEY_BYTES:
            raise ValueError(f"{use} key {key_id} has {len(key)} bytes; it needs {KEY_BYTES}")


def _okp(kid: str, public: bytes) -> OKPKey:
    """An Ed25519 key's public half for joserfc, with what a JWK set says of it."""
    data: dict[str, str | list[str]] = {"kty": "OKP", "crv": "Ed25519", "x": _base64url(public)}
    return OKPKey.import_key(data, {"kid": kid, "use": "sig", "alg": ALGORITHM})


@lru_cache(HEADERS_MAX)
def _header(kid: str, typ: str) -> str:
    """A token's first part."""
    return _base64url(orjson.dumps({"alg": ALGORITHM, "kid": kid, "typ": typ}))


def _base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _hkdf(key: bytes, label: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=label.encode()).derive(key)
