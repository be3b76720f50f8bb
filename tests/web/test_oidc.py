"""
The company's identity provider, played by a puppet that does as a test says: every way in which an answer or a token can be wrong.

A real one logs people in at test_oidc_server.py; it cannot be made to lie.
"""

import asyncio
import base64
import hashlib
import json
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from aiohttp import web
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from ivrguard.core.agents import Role
from ivrguard.core.claims import Company
from ivrguard.core.errors import ProviderFault
from ivrguard.guard import sessions as kept
from ivrguard.phone.rig import PUBLIC_URL, Clock, listen, new_keyring
from ivrguard.web import login, oidc
from ivrguard.web.identity import CALLBACK_PATH, LOGIN_PATH
from ivrguard.web.oidc import Client, OidcProvider

NOW = 1_795_000_000
API = "https://guard.example/api"
NEXT = "/.ivrguard/console/agent?call=CA1"
ROLES = {"agents": Role.AGENT, "fraud": Role.RISK}


@pytest.fixture(scope="module")
def pairs():
    """The puppet's keys: one of each kind that is trusted, and one that nobody knows."""
    return {
        "rs": RSAKey.generate_key(2048, {"kid": "rs", "use": "sig"}),
        "es": ECKey.generate_key("P-256", {"kid": "es"}),
        "ed": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
        "new": ECKey.generate_key("P-256", {"kid": "new"}),
    }


class Puppet:
    """An identity provider that says what it is told to say. `asked`: paths and forms."""

    def __init__(self, pairs, clock):
        self.pairs, self.clock = pairs, clock
        self.published = ["rs", "es", "ed"]
        self.metadata, self.claims, self.header = {}, {}, {}
        self.key, self.token, self.down = "es", None, set()
        self.nonce, self.asked, self.status = "", [], 200
        self.url = ""

    def app(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, request):
        path, form = request.path, dict(await request.post())
        self.asked.append((path, form, request.headers.get("Authorization", "")))
        if path in self.down:
            return web.Response(status=503, text="down")
        if path.startswith("/.well-known/"):
            return web.json_response(self.said())
        if path == "/jwks":
            keys = [self.pairs[name].as_dict(private=False) for name in self.published]
            return web.json_response({"keys": keys})
        body = {"id_token": self.token or self.made(), "access_token": "not-to-be-kept"}
        return web.json_response(body, status=self.status)

    def said(self):
        usual = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "end_session_endpoint": f"{self.url}/out?a=b",
        }
        return {name: text for name, text in (usual | self.metadata).items() if text is not None}

    def made(self, **changed):
        """A token: an ID token of now, with the test's changes (None takes a claim out)."""
        now = self.clock() // 1000
        usual = {
            "iss": self.url,
            "aud": "ivrguard",
            "sub": "00u1",
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "nonce": self.nonce,
            "name": "Ann Lee",
            "roles": ["agents"],
            "queues": ["queue:*"],
        }
        claims = {name: text for name, text in (usual | self.claims | changed).items() if text is not None}
        return self.signed(claims)

    def signed(self, claims):
        key = self.pairs[self.key]
        alg = {"rs": "RS256", "es": "ES256", "ed": "EdDSA", "new": "ES256"}[self.key]
        header = {"alg": alg, "kid": self.key, **self.header}
        header = {name: text for name, text in header.items() if text is not None}
        registry = jws.JWSRegistry(
            algorithms=["RS256", "PS256", "ES256", "Ed25519"], strict_check_header=False
        )
        if alg == "EdDSA":
            registry = oidc_registry()
        return jws.serialize_compact(header, json.dumps(claims).encode(), key, registry=registry)

    def count(self, path):
        return sum(one[0] == path for one in self.asked)


def oidc_registry():
    """The guard's own, which takes EdDSA by its older name without a warning."""
    from ivrguard.keyring import _OTHERS_REGISTRY

    return _OTHERS_REGISTRY


@pytest.fixture
async def stage(pairs, start, open_flow, browser_at):
    """Starts a guard whose agents log in at a puppet: the puppet, the guard, a browser."""

    @asynccontextmanager
    async def made(secret="s e/cret", extra=None, **company):
        async with AsyncExitStack() as stack:
            clock = Clock(NOW * 1000)
            puppet = Puppet(pairs, clock)
            puppet.url = await listen(puppet.app(), stack)
            client = Client(
                Company(puppet.url, "ivrguard", **{"audience": API, "roles": ROLES, **company}), secret=secret
            )
            guarded = await stack.enter_async_context(
                start(open_flow, clock=clock, extra={"company": client, **(extra or {})})
            )
            yield puppet, guarded, browser_at(guarded)

    return made


async def begun(puppet, browser, query=""):
    """The browser is sent to the provider: what it is asked."""
    got = await browser.ask(f"{LOGIN_PATH}?way=provider{query}")
    assert got.status == 303, got.text
    place = urlsplit(got.headers["Location"])
    assert f"{place.scheme}://{place.netloc}{place.path}" == f"{puppet.url}/authorize"
    asked = dict(parse_qsl(place.query))
    puppet.nonce = asked["nonce"]
    return asked


async def back(browser, asked, **answer):
    """The provider sends the browser back."""
    given = {"code": "the-code", "state": asked["state"], **answer}
    query = urlencode({name: text for name, text in given.items() if text is not None})
    return await browser.ask(f"{CALLBACK_PATH}?{query}")


async def who(browser):
    if not browser.session:
        return None
    return await kept.agent_of(browser.guarded.server.world, browser.session, idle_s=1800)


async def reasons(guarded):
    return [
        one.entry.reason for one in await guarded.store.entries() if one.entry.event == "agent_login_failed"
    ]


@pytest.mark.parametrize(
    ("embedders", "site"), [((), "Lax"), (("https://flex.example",), "None; Partitioned")]
)
async def test_a_log_in_begun_in_anothers_frame_keeps_its_cookie_there(stage, embedders, site):
    """Or nobody could come back to it: each cookie of the way is of the same kind, and taken back as it was given."""
    async with stage(extra={"embedders": embedders}) as (puppet, _, browser):
        asked = await begun(puppet, browser)
        (given,) = browser.seen[-1].set
        assert f"SameSite={site}; Max-Age" in given
        got = await back(browser, asked, iss=puppet.url)
        assert got.status == 303
        taken = [one for one in got.set if one.startswith(f"{login.LOGIN_COOKIE}=;")]
        assert [f"SameSite={site}; Max-Age=0" in one for one in taken] == [True]


async def test_somebody_logs_in_by_the_provider(stage, metric):
    """Code, PKCE, state, nonce; the claims become who he is; back to where he was; no token is kept."""
    async with stage() as (puppet, guarded, browser):
        page = await browser.ask(f"{LOGIN_PATH}?next={NEXT}")
        assert "way=provider&amp;next=" in page.text
        assert "<form" not in page.text
        asked = await begun(puppet, browser, f"&next={NEXT}")
        assert asked["response_type"] == "code"
        assert asked["redirect_uri"] == f"{PUBLIC_URL}{CALLBACK_PATH}"
        assert (asked["scope"], asked["client_id"]) == ("openid profile", "ivrguard")
        assert ("prompt" in asked, asked["max_age"]) == (False, "43200")
        got = await back(browser, asked, iss=puppet.url)
        assert (got.status, got.headers["Location"]) == (303, NEXT)
        assert login.LOGIN_COOKIE not in browser.cookies

        agent = await who(browser)
        assert (agent.name, agent.label, agent.roles) == ("oidc:00u1", "Ann Lee", {Role.AGENT})
        assert (agent.queues, agent.shown_ms) == (("queue:*",), NOW * 1000)

        path, form, authorization = puppet.asked[-1]
        assert (path, form["grant_type"], form["code"]) == ("/token", "authorization_code", "the-code")
        verifier = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        assert (asked["code_challenge_method"], asked["code_challenge"]) == (
            "S256",
            verifier.decode().rstrip("="),
        )
        assert base64.b64decode(authorization.removeprefix("Basic ")) == b"ivrguard:s+e%2Fcret"
        assert "client_secret" not in form
        assert await metric(guarded, 'ivrguard_logins_total{outcome="entered"}') == 1
        whole = repr([await guarded.store.list(kind) for kind in ("session", "sessions", "login")])
        assert "not-to-be-kept" not in whole + repr(await guarded.store.entries())

        gone = await browser.ask(
            "/.ivrguard/console/logout", "POST", {"csrf": login.browser.csrf_of(browser.session)}
        )
        page = await browser.ask(gone.headers["Location"])
        assert f'href="{puppet.url}/out?a=b&amp;client_id=ivrguard"' in page.text


@pytest.mark.parametrize(
    ("methods", "secret", "sent"),
    [
        (None, "x", "basic"),
        (["client_secret_post"], "x", "post"),
        (["client_secret_basic", "client_secret_post"], "x", "basic"),
        (["none"], "", "public"),
    ],
)
async def test_how_the_guard_shows_who_it_is(stage, methods, secret, sent):
    """As the provider wants it; a public client has PKCE alone."""
    async with stage(secret=secret) as (puppet, _, browser):
        puppet.metadata["token_endpoint_auth_methods_supported"] = methods
        assert (await back(browser, await begun(puppet, browser))).status == 303
        _, form, authorization = puppet.asked[-1]
        found = "basic" if authorization else "post" if "client_secret" in form else "public"
        assert (found, "client_id" in form) == (sent, sent != "basic")


async def test_showing_anew_who_one_is(stage):
    """The provider is told to ask, and believed only if it did; the same session, of a new secret, back where one was."""
    async with stage() as (puppet, guarded, browser):
        await back(browser, await begun(puppet, browser))
        old = browser.session
        guarded.clock.advance(600)
        page = await browser.ask(f"{LOGIN_PATH}?fresh=1&next={NEXT}")
        assert "once more" in page.text
        asked = await begun(puppet, browser, f"&fresh=1&next={NEXT}")
        assert (asked["prompt"], asked["max_age"]) == ("login", "0")
        puppet.claims["auth_time"] = NOW
        assert (await back(browser, asked)).status == 403
        assert await reasons(guarded) == ["auth_time"]
        asked = await begun(puppet, browser, f"&fresh=1&next={NEXT}")
        puppet.claims["auth_time"] = NOW + 601
        assert (await back(browser, asked)).headers["Location"] == NEXT
        assert (await who(browser)).shown_ms == (NOW + 601) * 1000
        browser.cookies["__Host-ivrguard"] = old
        assert await who(browser) is None


async def test_accounts_of_our_own_open_nothing_then(stage):
    """One way in: neither the form nor a session of one."""
    async with stage() as (_, guarded, browser):
        got = await browser.ask(LOGIN_PATH, "POST", {"name": "ann", "password": "x", "code": "1"})
        assert got.status == 403
        ann = login.Agent("agent:ann", shown_ms=guarded.clock())
        browser.cookies["__Host-ivrguard"] = await guarded.session_of(ann)
        assert (await browser.ask(LOGIN_PATH)).status == 200


# ── attacks on the way back ──────────────────────────────────────────────────────────────────────────────


ANSWERS = {
    "another browser's answer": "state",
    "no state": "state",
    "a state twice": "state",
    "mixed-up issuer": "issuer",
    "the provider says no": "said_no",
    "no code": "said_no",
    "the code is refused": "code",
    "no token": "code",
    "a token that is none": "token",
    "a cookie of somebody's own": "another_browser",
    "a sealed text of another purpose": "another_browser",
    "too late": "another_browser",
    "no issuer where it was promised": "issuer",
}


async def attacked(attack, puppet, guarded, browser):
    """The way back, with something wrong in it: the guard's answer."""
    asked, answer = await begun(puppet, browser), {}
    puppet.status, puppet.token = 200, None
    match attack:
        case "another browser's answer":
            answer["state"] = (await begun(puppet, type(browser)(guarded)))["state"]
        case "no state":
            answer["state"] = None
        case "a state twice":
            return await browser.ask(f"{CALLBACK_PATH}?code=c&state={asked['state']}&state={asked['state']}")
        case "mixed-up issuer":
            answer["iss"] = "https://evil.example"
        case "no issuer where it was promised":
            puppet.metadata["authorization_response_iss_parameter_supported"] = True
            guarded.server.company._metadata = None
        case "the provider says no":
            answer["error"] = "access_denied"
        case "no code":
            answer["code"] = None
        case "the code is refused":
            puppet.status = 400
        case "no token":
            puppet.token = 5
        case "a token that is none":
            puppet.token = "not.a.token"
        case "too late":
            guarded.clock.advance(login.LOGIN_S + 1)
        case "a cookie of somebody's own":
            browser.cookies[login.LOGIN_COOKIE] = "k1.AAAA"
        case "a sealed text of another purpose":
            browser.cookies[login.LOGIN_COOKIE] = guarded.keyring.seal(b'["x","",0,false]', "totp")
    return await back(browser, asked, **answer)


async def test_an_answer_that_is_not_right_lets_nobody_in(stage, metric, browser_at):
    """One page for all of it, and why on record; a code is not even tried where the answer is not ours."""
    tried = {"code", "token"}
    async with stage() as (puppet, guarded, _):
        for attack, reason in ANSWERS.items():
            browser, before = browser_at(guarded), puppet.count("/token")
            got = await attacked(attack, puppet, guarded, browser)
            assert (got.status, browser.session) == (403, None), attack
            assert "did not let you in" in got.text, attack
            assert (await reasons(guarded))[-1] == reason, attack
            assert puppet.count("/token") - before == (reason in tried), attack
        assert await reasons(guarded) == [*ANSWERS.values()]
        assert await metric(guarded, 'ivrguard_logins_total{outcome="refused"}') == len(ANSWERS)


async def test_an_answer_is_good_once(stage):
    """Replayed with code, state and cookie, even at a provider that gives tokens twice: one session."""
    async with stage() as (puppet, _, browser):
        asked = await begun(puppet, browser)
        cookie = browser.cookies[login.LOGIN_COOKIE]
        assert (await back(browser, asked)).status == 303
        again = type(browser)(browser.guarded)
        again.cookies[login.LOGIN_COOKIE] = cookie
        got = await back(again, asked)
        assert (got.status, again.session) == (403, None)
        assert await who(browser)


async def test_without_the_cookie_of_a_log_in_nobody_is_called_back(stage):
    async with stage() as (puppet, guarded, browser):
        asked = await begun(puppet, browser)
        browser.cookies.clear()
        assert (await back(browser, asked)).status == 403
        assert puppet.count("/token") == 0
        assert await reasons(guarded) == []


# ── attacks on tokens ────────────────────────────────────────────────────────────────────────────────────


def unsigned(token, alg, **more):
    """The token with another header, and no signature."""
    named = {"alg": alg, "kid": "es" if more else "rs", **more}
    header = base64.urlsafe_b64encode(json.dumps(named).encode()).decode().rstrip("=")
    return f"{header}.{token.split('.')[1]}."


def by_the_public_key(token, key, kid):
    """HS256 with the RSA key that everybody has, as PEM (CVE-2015-9235 and its kin)."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": kid}).encode()).decode().rstrip("=")
    start = f"{header}.{token.split('.')[1]}"
    import hmac

    mac = hmac.digest(key.as_pem(private=False), start.encode(), "sha256")
    return f"{start}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


TOKENS = {
    "as it should be": ({}, None, ""),
    "RSA": ({}, {"key": "rs"}, ""),
    "RSA-PSS": ({}, {"key": "rs", "header": {"alg": "PS256"}}, ""),
    "EdDSA": ({}, {"key": "ed"}, ""),
    "typ JWT": ({}, {"header": {"typ": "JWT"}}, ""),
    "an extra header": ({}, {"header": {"x5t": "abc"}}, ""),
    "alg none": ({}, "none", "token"),
    "alg NONE": ({}, "NONE", "token"),
    "HS256 with the public key": ({}, "HS256", "token"),
    "another kind of key": ({}, {"header": {"kid": "rs"}}, "token"),
    "kid unknown": ({}, {"key": "new"}, "token"),
    "no kid": ({}, {"header": {"kid": None}}, "token"),
    "a critical header that nobody knows": ({}, "crit", "token"),
    "an access token": ({}, {"header": {"typ": "at+jwt"}}, "token"),
    "a logout token": ({}, {"header": {"typ": "logout+jwt"}}, "token"),
    "much too long": ({"name": "x" * 9000}, None, "token"),
    "wrong issuer": ({"iss": "https://evil.example"}, None, "issuer"),
    "wrong audience": ({"aud": "another"}, None, "audience"),
    "another's party": ({"azp": "another"}, None, "party"),
    "wrong nonce": ({"nonce": "another"}, None, "nonce"),
    "no nonce": ({"nonce": None}, None, "nonce"),
    "expired": ({"exp": NOW - 61}, None, "expired"),
    "of tomorrow": ({"iat": NOW + 90_000}, None, "issued"),
    "of yesterday": ({"iat": NOW - 90_000}, None, "issued"),
    "no role": ({"roles": ["staff"]}, None, "no_role"),
    "no subject": ({"sub": None}, None, "no_role"),
}


async def test_which_tokens_are_believed(stage, browser_at):
    """RFC 8725 and OpenID Connect Core 3.1.3.7, attack by attack; the record has why, and no subject in clear."""
    async with stage() as (puppet, guarded, _):
        for name, (claims, how, reason) in TOKENS.items():
            browser, before = browser_at(guarded), len(await reasons(guarded))
            asked = await begun(puppet, browser)
            puppet.claims, puppet.key, puppet.header, puppet.token = claims, "es", {}, None
            if isinstance(how, dict):
                puppet.key, puppet.header = how.get("key", "es"), how.get("header", {})
            elif how == "HS256":
                puppet.token = by_the_public_key(puppet.made(), puppet.pairs["rs"], "rs")
            elif how == "crit":
                puppet.token = unsigned(puppet.made(), "ES256", crit=["x"], x=1)
            elif how is not None:
                puppet.token = unsigned(puppet.made(), how)
            got = await back(browser, asked)
            assert got.status == (403 if reason else 303), name
            assert (await reasons(guarded))[before:] == ([reason] if reason else []), name
            assert (await who(browser) is None) is bool(reason), name
            if reason == "no_role":
                entry = (await guarded.store.entries())[-1].entry
                assert entry.account.startswith("age_") is ("sub" not in claims)
                assert "00u1" not in repr(entry)


async def test_how_somebody_logged_in_can_be_asked_for(stage):
    """`acr_values` is asked for, and `acr` must be one of them (ASVS 6.8.4)."""
    async with stage(acr=("phr", "mfa")) as (puppet, guarded, browser):
        asked = await begun(puppet, browser)
        assert asked["acr_values"] == "phr mfa"
        assert (await back(browser, asked)).status == 403
        puppet.claims["acr"] = "mfa"
        assert (await back(browser, await begun(puppet, browser))).status == 303
        assert await reasons(guarded) == ["acr"]


# ── programs ─────────────────────────────────────────────────────────────────────────────────────────────


async def redeemed(guarded, token):
    """What the API says to a bearer: 401 to nobody, 400 to somebody who sends nothing."""
    url = f"{guarded.guard_url}/.ivrguard/agent/v1/redemptions"
    async with guarded.session.post(url, headers={"Authorization": f"Bearer {token}"}) as answer:
        return answer.status


ACCESS = [
    ({}, {"typ": "at+jwt"}, True),
    ({}, {"typ": "application/at+jwt"}, True),
    ({}, {}, True),
    ({"aud": ["x", API]}, {"typ": "at+jwt"}, True),
    ({"aud": "ivrguard"}, {}, False),
    ({"iss": "https://evil.example"}, {"typ": "at+jwt"}, False),
    ({"exp": NOW - 61}, {"typ": "at+jwt"}, False),
    ({"roles": []}, {"typ": "at+jwt"}, False),
    ({}, {"typ": "dpop+jwt"}, False),
]


async def test_access_tokens_at_the_api(stage):
    """RFC 9068 and plain JWTs, for our audience; an ID token is none."""
    async with stage() as (puppet, guarded, _):
        for claims, header, known in ACCESS:
            puppet.header = header
            token = puppet.made(**{"aud": API, "nonce": None, **claims})
            assert (await redeemed(guarded, token) != 401) is known, (claims, header)
            agent = await guarded.server.company.bearer(token)
            assert (agent is not None) is known
            assert agent is None or (agent.name, agent.shown_ms) == ("oidc:00u1", NOW * 1000)


async def test_desks_keys_are_known_beside_a_provider(stage):
    async with stage() as (_, guarded, __):
        assert await redeemed(guarded, await guarded.desk("flex", "*")) != 401
        assert await redeemed(guarded, "x.y.z") == 401


async def test_without_an_audience_there_are_no_access_tokens(stage):
    async with stage(audience="") as (puppet, guarded, _):
        assert await redeemed(guarded, puppet.made(aud="ivrguard")) == 401


# ── what the provider says of itself ─────────────────────────────────────────────────────────────────────


async def test_keys_are_fetched_once_an_hour_and_once_a_minute_for_one_that_is_new(stage):
    """A key that the provider begins to use is known at the next token; a thousand tokens of none are one request."""
    async with stage() as (puppet, guarded, _):
        provider = guarded.server.company
        token = puppet.made(aud=API)
        assert await provider.bearer(token)
        before = puppet.count("/jwks")
        assert await provider.bearer(token)
        puppet.key, unknown = "new", None
        unknown = puppet.made(aud=API)
        puppet.key = "es"
        assert await provider.bearer(unknown) is None
        assert puppet.count("/jwks") == before
        guarded.clock.advance(60)
        for _ in range(5):
            assert await provider.bearer(unknown) is None
        assert puppet.count("/jwks") == before + 1
        puppet.published.append("new")
        guarded.clock.advance(60)
        assert await provider.bearer(unknown)
        assert puppet.count("/jwks") == before + 2
        puppet.published.remove("new")
        guarded.clock.advance(3600)
        puppet.key = "new"
        assert await provider.bearer(puppet.made(aud=API)) is None  # withdrawn there, no good here
        assert puppet.count("/jwks") == before + 3


async def test_a_provider_that_is_down_is_known_for_hours_and_then_no_more(stage):
    """Its keys do for a while; somebody new cannot log in meanwhile without its metadata being known."""
    async with stage() as (puppet, guarded, browser):
        provider = guarded.server.company
        await provider.bearer(puppet.made(aud=API))
        puppet.down = {"/.well-known/openid-configuration", "/jwks", "/token"}
        guarded.clock.advance(2 * 3600)
        assert await provider.bearer(puppet.made(aud=API))
        assert (await back(browser, await begun(puppet, browser))).status == 503
        guarded.clock.advance(4 * 3600)
        assert await redeemed(guarded, puppet.made(aud=API)) == 503
        got = await browser.ask(f"{LOGIN_PATH}?way=provider")
        assert (got.status, "in a moment" in got.text) == (503, True)
        assert await provider.out() == ""
        asked = len(puppet.asked)
        guarded.clock.advance(1)
        assert (await browser.ask(f"{LOGIN_PATH}?way=provider")).status == 503
        assert len(puppet.asked) == asked  # left alone for some seconds
        puppet.down = set()
        guarded.clock.advance(5)
        assert (await back(browser, await begun(puppet, browser))).status == 303


async def test_metadata_that_is_not_the_providers_is_not_used(pairs):
    rows = [
        ({"issuer": "https://evil.example"}, "of another issuer"),
        ({"issuer": None}, "of another issuer"),
        ({"token_endpoint": None}, "token_endpoint is missing"),
        ({"authorization_endpoint": "ftp://x"}, "authorization_endpoint is missing, or not https"),
        ({"jwks_uri": 5}, "jwks_uri is missing"),
    ]
    async with AsyncExitStack() as stack:
        puppet = Puppet(pairs, clock := Clock(NOW * 1000))
        puppet.url = await listen(puppet.app(), stack)
        provider = unserved(puppet.url, clock)
        stack.push_async_callback(provider.close)
        for metadata, said in rows:
            puppet.metadata = metadata
            clock.advance(10)
            with pytest.raises(ProviderFault, match=said):
                await provider.begin(next_="", anew=False)


def test_of_a_provider_over_https_nothing_is_http():
    """A man in the middle would be told the code."""
    found = {
        "issuer": "https://i",
        "authorization_endpoint": "https://i/a",
        "token_endpoint": "https://i/t",
        "jwks_uri": "http://i/j",
    }
    with pytest.raises(ProviderFault, match="jwks_uri is missing, or not https"):
        oidc._metadata_of(found, "https://i")
    assert oidc._metadata_of({**found, "jwks_uri": "https://i/j"}, "https://i").logout == ""


def unserved(url, clock):
    """A client of the provider without a server around it."""
    client = Client(Company(url, "ivrguard", audience=API, roles=ROLES))
    return OidcProvider(client, new_keyring(), public_url=PUBLIC_URL, clock=clock, chance=bytes)


async def alone(answer):
    """A provider that answers like this, asked once: what comes of it."""
    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        url = await listen(app, stack)
        provider = unserved(url, Clock(NOW * 1000))
        stack.push_async_callback(provider.close)
        with pytest.raises(ProviderFault) as caught:
            await provider.begin(next_="", anew=False)
        return str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"{}", "it answers 404; look at IVRGUARD_OIDC_ISSUER"),
        (302, b"", "it answers 302"),
        (500, b"{}", "it answers 500"),
        (200, b"<html>", "no JSON object"),
        (200, b"[]", "no JSON object"),
        (200, b'"' + b"x" * oidc.ANSWER_BYTES_MAX + b'"', "bytes"),
    ],
)
async def test_what_is_no_answer_is_told_to_the_operator(status, body, said):
    """Bounded, and no redirect is followed."""

    async def answer(_):
        return web.Response(status=status, body=body, headers={"Location": "/x"})

    assert said in await alone(answer)


async def test_one_that_nobody_asked_has_nothing_to_close():
    await unserved("https://login.example", Clock(NOW * 1000)).close()


async def test_one_that_hangs_up_does_not_answer():
    async def answer(request):
        request.transport.abort()
        return web.Response()

    assert "it does not answer: " in await alone(answer)


async def test_a_set_without_a_key_that_is_trusted_is_none(stage):
    """Nothing is checked with what nobody can name."""
    async with stage() as (puppet, guarded, _):
        puppet.pairs = {**puppet.pairs, "shared": OctKey.import_key(b"x" * 32, {"kid": "shared"})}
        puppet.published = ["shared"]
        puppet.pairs["shared"].as_dict = lambda private: {"kty": "oct", "k": "eA", "kid": "shared"}
        provider = guarded.server.company
        provider._keys = None
        guarded.clock.advance(10)
        with pytest.raises(ProviderFault, match="no key in it checks signatures"):
            await provider.bearer(puppet.made(aud=API))


async def test_the_keys_answer_must_be_one(stage):
    async with stage() as (puppet, guarded, _):
        puppet.metadata["jwks_uri"] = f"{puppet.url}/jwks"
        provider = guarded.server.company
        provider._keys = None
        guarded.clock.advance(10)
        puppet.status = 404
        puppet.metadata["jwks_uri"] = f"{puppet.url}/elsewhere"
        provider._metadata = None
        with pytest.raises(ProviderFault, match="its keys: it answers 404"):
            await provider.bearer(puppet.made(aud=API))


async def test_it_is_known_from_the_start_and_asked_again_when_it_was_down(pairs, monkeypatch, logged):
    """Nobody's first log-in waits for it."""
    waited = []

    async def slept(seconds):
        waited.append(seconds)
        if len(waited) > 1:
            raise asyncio.CancelledError

    async with AsyncExitStack() as stack:
        clock = Clock(NOW * 1000)
        puppet = Puppet(pairs, clock)
        puppet.url, puppet.down = await listen(puppet.app(), stack), {"/jwks"}
        provider = unserved(puppet.url, clock)
        stack.push_async_callback(provider.close)

        async def recovering(seconds):
            puppet.down = set()
            clock.advance(10)
            await slept(seconds)

        monkeypatch.setattr(oidc, "asyncio", SimpleNamespace(sleep=recovering))
        with pytest.raises(asyncio.CancelledError):
            await provider.keep()
    assert waited == [oidc.RETRY_S, oidc.FRESH_S / 2]
    assert any(line.get("reason") == "identity_provider" for line in logged)


async def test_nothing_of_it_is_told(stage, logged, capsys):
    """Promise 5: secret, code, verifier, tokens and cookie are in no log, record, page or repr."""
    async with stage(secret="the-clients-canary") as (puppet, guarded, browser):
        asked = await begun(puppet, browser)
        cookie = browser.cookies[login.LOGIN_COOKIE]
        puppet.claims["roles"] = []
        await back(browser, asked, code="canary-code")
        puppet.claims.clear()
        asked = await begun(puppet, browser)
        await back(browser, asked, code="canary-code")
        form = puppet.asked[-1][1]
        canaries = ["canary", form["code_verifier"], puppet.made(), cookie, browser.session, asked["nonce"]]
        provider = guarded.server.company
        told = [
            repr(await guarded.store.entries()),
            repr([await guarded.store.list(kind) for kind in ("session", "sessions", "login")]),
            "".join(got.text for got in browser.seen),
            repr(logged),
            repr(provider._client) + repr(login.Unfinished("x", "00u1")) + repr(provider._begun(cookie)),
            "".join(capsys.readouterr()),
        ]
    assert [one for one in canaries for place in told if one in place] == []
    assert not [
        got for got in browser.seen if "error" in parse_qs(urlsplit(got.headers.get("Location", "")).query)
    ]


async def test_who_only_knocks_fills_no_record(stage, metric):
    """Of answers in which the provider names nobody, so many in a minute are recorded; the metric counts them all."""
    async with stage() as (puppet, guarded, browser):
        asked = await begun(puppet, browser)
        for _ in range(130):
            assert (await back(browser, asked, state="another")).status == 403
        assert 0 < len(await reasons(guarded)) < 130
        assert await metric(guarded, 'ivrguard_logins_total{outcome="refused"}') == 130
