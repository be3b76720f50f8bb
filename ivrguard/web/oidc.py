"""
The company's identity provider: OpenID Connect Core 1.0, authorization code with PKCE.

The laws of this file:

1. **A log-in belongs to the browser that began it.** What it is bound by (state, nonce, PKCE's verifier: RFC 7636, S256) is derived
   from one secret that stands sealed in that browser's cookie and nowhere else: nothing is written for whoever only knocks.
2. **An answer is of the provider that was asked**: `iss` in it, where sent or promised, is to the letter ours (RFC 9207); so are the
   issuer of its metadata (OpenID Connect Discovery 1.0, 4.3) and of its tokens (core/claims.py).
3. **Keys come from the place that the metadata names**, never from a token (RFC 8725, 3.10), and are fetched anew after an hour, or when
   a token names one that is not known, then once a minute at most.
4. No token is kept, logged or shown: it is read, and what it says of somebody is kept. Nobody here calls the provider's APIs.
5. Bounded: seconds, bytes, no redirects. What the provider does not answer is a `ProviderFault`, and nobody is let in.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
import orjson

from ivrguard import log
from ivrguard.core import claims as rules
from ivrguard.core.agents import Agent
from ivrguard.core.claims import Company
from ivrguard.core.errors import Fault, ProviderFault
from ivrguard.core.sessions import ABSOLUTE_S
from ivrguard.keyring import OthersKeys, UnknownKeyError
from ivrguard.ports import Keys
from ivrguard.web.identity import CALLBACK_PATH
from ivrguard.web.login import LOGIN_S, Finished, Unfinished
from ivrguard.web.sessions import new_secret

DEADLINE_S = 5.0
ANSWER_BYTES_MAX = 256 * 1024
TOKEN_CHARS_MAX = 8 * 1024
FRESH_S = 3600
"""How long metadata and keys are taken for what they are."""
STALE_S = 6 * 3600
"""How long they do while the provider cannot be asked."""
RETRY_S = 5
"""After it did not answer, nobody asks for so long."""
UNKNOWN_EVERY_S = 60
"""How often a key that nobody knows has the keys fetched anew."""
PURPOSE = "oidc_login"
ID_TYPES, ACCESS_TYPES = frozenset({"", "jwt"}), frozenset({"", "jwt", "at+jwt"})

logger = log.get()


@dataclass(frozen=True, slots=True)
class Client:
    """The guard as the provider knows it. `secret`: "" for a public client, which PKCE alone protects."""

    company: Company
    scopes: str = "openid profile"
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class _Metadata:
    """What the provider says of itself, as far as it matters."""

    authorize: str
    token: str
    jwks: str
    logout: str
    says_iss: bool
    posts_secret: bool


@dataclass(frozen=True, slots=True)
class _Begun:
    """A log-in under way: what its browser's cookie holds, sealed."""

    secret: str = field(repr=False)
    next: str
    at_s: int
    anew: bool

    def of(self, use: str) -> str:
        """A secret of its own for each use: 43 characters, as PKCE's verifier wants at least."""
        return new_secret(hmac.digest(self.secret.encode(), use.encode(), "sha256"))


class OidcProvider:
    """Logs people in by the company's provider, and knows its bearer tokens. Implements `web.login.Provider`."""

    def __init__(
        self,
        client: Client,
        keys: Keys,
        *,
        public_url: str,
        clock: Callable[[], int],
        chance: Callable[[int], bytes],
    ) -> None:
        self._client = client
        self._company = client.company
        self._sealing = keys
        self._redirect_uri = public_url.rstrip("/") + CALLBACK_PATH
        self._clock = clock
        self._chance = chance
        self._session: aiohttp.ClientSession | None = None
        self._asking = asyncio.Lock()
        self._metadata: _Metadata | None = None
        self._metadata_ms = self._keys_ms = self._failed_ms = self._unknown_ms = -(10**15)
        self._keys: OthersKeys | None = None

    async def keep(self) -> None:
        """Know the provider from the start, and go on knowing it, while the server runs."""
        while True:
            wait_s = FRESH_S / 2
            try:
                await self._known_keys()
            except Fault as fault:
                logger.error("fault", reason=fault.reason, detail=str(fault))
                wait_s = RETRY_S
            await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.close()

    # ── pages ────────────────────────────────────────────────────────────────────────────────────────────

    async def begin(self, *, next_: str, anew: bool) -> tuple[str, str]:
        """See `web.login.Provider`."""
        known = await self._known()
        begun = _Begun(new_secret(self._chance(32)), next_, self._clock() // 1000, anew)
        challenge = hashlib.sha256(begun.of("verifier").encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._company.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": self._client.scopes,
            "state": begun.of("state"),
            "nonce": begun.of("nonce"),
            "code_challenge": new_secret(challenge),
            "code_challenge_method": "S256",
            "max_age": "0"
            if anew
            else str(ABSOLUTE_S),  # whoever gets this says when somebody showed who he is
        }
        if anew:
            asked["prompt"] = "login"
        if self._company.acr:
            asked["acr_values"] = " ".join(self._company.acr)
        plain = orjson.dumps([begun.secret, begun.next, begun.at_s, begun.anew])
        return _with(known.authorize, asked), self._sealing.seal(plain, PURPOSE)

    async def finish(self, query: str, cookie: str) -> Finished | Unfinished:
        """See `web.login.Provider`."""
        begun = self._begun(cookie)
        if begun is None:
            return Unfinished("another_browser")
        pairs = parse_qsl(query, keep_blank_values=True)
        answer = dict(pairs)
        if len(answer) < len(pairs) or not hmac.compare_digest(
            answer.get("state", "").encode(), begun.of("state").encode()
        ):
            return Unfinished("state")
        known = await self._known()
        if answer.get("iss", "" if known.says_iss else self._company.issuer) != self._company.issuer:
            return Unfinished("issuer")
        if "error" in answer or not answer.get("code"):
            return Unfinished("said_no")
        token = await self._redeemed(known, answer["code"], begun)
        said = await self._read(token, ID_TYPES) if token is not None else None
        if said is None:
            return Unfinished("code" if token is None else "token")
        fault = rules.id_fault(
            self._company,
            said,
            nonce=begun.of("nonce"),
            now_s=self._clock() // 1000,
            since_s=begun.at_s - (0 if begun.anew else ABSOLUTE_S),
            anew=begun.anew,
        )
        if fault:
            return Unfinished(fault)
        agent = rules.agent_of(self._company, said, shown_ms=rules.shown_ms(said))
        if agent is None:
            return Unfinished("no_role", str(said.get("sub", "")))
        return Finished(agent, begun.next, hashlib.sha256(begun.of("state").encode()).hexdigest())

    async def out(self) -> str:
        """See `web.login.Provider`. The provider asks itself whether it is meant: it gets no token as a hint, for none is kept."""
        try:
            known = await self._known()
        except ProviderFault:
            return ""
        return _with(known.logout, {"client_id": self._company.client_id}) if known.logout else ""

    def _begun(self, cookie: str) -> _Begun | None:
        try:
            secret, next_, at_s, anew = orjson.loads(self._sealing.unseal(cookie, PURPOSE))
        except ValueError:
            return None
        age_s = self._clock() // 1000 - at_s
        return _Begun(secret, next_, at_s, anew) if -rules.SKEW_S <= age_s <= LOGIN_S else None

    async def _redeemed(self, known: _Metadata, code: str, begun: _Begun) -> str | None:
        """The ID token that the provider gives for a code; None if it gives none."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": begun.of("verifier"),
        }
        headers = {}
        client, secret = self._company.client_id, self._client.secret
        if not secret or known.posts_secret:
            form |= {"client_id": client} | ({"client_secret": secret} if secret else {})
        else:  # RFC 6749, 2.3.1: each form-encoded first
            pair = ":".join(urlencode({"": one})[1:] for one in (client, secret))
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        status, found = await self._asked("POST", known.token, form=form, headers=headers)
        token = found.get("id_token")
        return token if status == 200 and isinstance(token, str) else None

    # ── the API ──────────────────────────────────────────────────────────────────────────────────────────

    async def bearer(self, token: str) -> Agent | None:
        """Whose access token this is (RFC 9068, or a plain JWT for our audience); None if it is no good. Raises `ProviderFault`."""
        if not self._company.audience:
            return None
        said = await self._read(token, ACCESS_TYPES)
        if said is None or rules.access_fault(self._company, said, now_s=self._clock() // 1000):
            return None
        return rules.agent_of(self._company, said, shown_ms=rules.shown_ms(said))

    async def _read(self, token: str, types: frozenset[str]) -> Mapping[str, object] | None:
        """What a token of the provider's claims; None if it is not one."""
        if len(token) > TOKEN_CHARS_MAX:
            return None
        try:
            try:
                return (await self._known_keys()).read(token, types=types)
            except UnknownKeyError:
                if not self._may_look_anew():
                    return None
                return (await self._known_keys(anew=True)).read(token, types=types)
        except ValueError:
            return None

    def _may_look_anew(self) -> bool:
        now = self._clock()
        if now - max(self._unknown_ms, self._keys_ms) < UNKNOWN_EVERY_S * 1000:
            return False
        self._unknown_ms = now
        return True

    # ── what the provider says of itself ─────────────────────────────────────────────────────────────────

    async def _known(self) -> _Metadata:
        async with self._asking:
            return await self._metadata_now()

    async def _known_keys(self, *, anew: bool = False) -> OthersKeys:
        async with self._asking:
            known, now = await self._metadata_now(), self._clock()
            if self._keys is not None and not anew and now - self._keys_ms < FRESH_S * 1000:
                return self._keys
            try:
                self._may_ask(now)
                status, found = await self._asked("GET", known.jwks)
                if status != 200:
                    raise ProviderFault(f"its keys: it answers {status}")
                self._keys, self._keys_ms = _keys_of(found), now
            except ProviderFault:
                self._failed_ms = max(self._failed_ms, now)
                if self._keys is None or now - self._keys_ms >= STALE_S * 1000:
                    raise
            return self._keys

    async def _metadata_now(self) -> _Metadata:
        now = self._clock()
        if self._metadata is not None and now - self._metadata_ms < FRESH_S * 1000:
            return self._metadata
        try:
            self._may_ask(now)
            url = f"{self._company.issuer.rstrip('/')}/.well-known/openid-configuration"
            status, found = await self._asked("GET", url)
            if status != 200:
                raise ProviderFault(f"its metadata: it answers {status}; look at IVRGUARD_OIDC_ISSUER")
            self._metadata, self._metadata_ms = _metadata_of(found, self._company.issuer), now
        except ProviderFault:
            self._failed_ms = max(self._failed_ms, now)
            if self._metadata is None or now - self._metadata_ms >= STALE_S * 1000:
                raise
        return self._metadata

    def _may_ask(self, now: int) -> None:
        if 0 <= now - self._failed_ms < RETRY_S * 1000:
            raise ProviderFault("it did not answer a moment ago, and is left alone for some seconds")

    async def _asked(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, object]]:
        """Status and JSON of one request. Raises `ProviderFault`, which shows neither form nor answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=DEADLINE_S)
            )
        try:
            async with self._session.request(
                method,
                url,
                data=form,
                headers={"Accept": "application/json", **(headers or {})},
                allow_redirects=False,
            ) as answer:
                body = await answer.content.read(ANSWER_BYTES_MAX + 1)
                while not answer.content.at_eof() and len(body) <= ANSWER_BYTES_MAX:
                    body += await answer.content.read(ANSWER_BYTES_MAX + 1 - len(body))
                status = answer.status
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ProviderFault(f"it does not answer: {type(error).__name__}") from None
        if status >= 500 or len(body) > ANSWER_BYTES_MAX:
            raise ProviderFault(f"it answers {status}, {len(body)} bytes")
        try:
            found = orjson.loads(body) if body else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ProviderFault(f"it answers {status} with what is no JSON object")
        return status, found


def _keys_of(found: Mapping[str, object]) -> OthersKeys:
    try:
        return OthersKeys(orjson.dumps(found))
    except ValueError as error:
        raise ProviderFault(f"its keys: {error}") from None


def _metadata_of(found: Mapping[str, object], issuer: str) -> _Metadata:
    """What matters of the metadata. Raises `ProviderFault` for another issuer's, or what lacks an endpoint or names one over http."""
    if found.get("issuer") != issuer:
        raise ProviderFault(
            "its metadata is of another issuer: write IVRGUARD_OIDC_ISSUER to the letter as it stands there"
        )
    plain = issuer.startswith("http:")

    def place(name: str, *, needed: bool = True) -> str:
        url = found.get(name)
        if isinstance(url, str) and (url.startswith("https://") or (plain and url.startswith("http://"))):
            return url
        if needed:
            raise ProviderFault(f"its metadata: {name} is missing, or not https")
        return ""

    ways = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return _Metadata(
        place("authorization_endpoint"),
        place("token_endpoint"),
        place("jwks_uri"),
        place("end_session_endpoint", needed=False),
        says_iss=found.get("authorization_response_iss_parameter_supported") is True,
        posts_secret=isinstance(ways, list) and "client_secret_basic" not in ways,
    )


def _with(url: str, asked: Mapping[str, str]) -> str:
    """A URL with a query, behind the one that it may have."""
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(asked)}"
