"""
Log-ins at a real OpenID provider: the certified npm package oidc-provider, run by node, over real sockets.

What a provider could say that it should not is test_oidc.py's. Where node or npm is missing these are skipped; `.ci/run` has both.
"""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import time
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from yarl import URL

from ivrguard.core.agents import Role, fresh
from ivrguard.core.claims import Company
from ivrguard.guard import sessions as kept
from ivrguard.phone.rig import PUBLIC_URL
from ivrguard.web import login
from ivrguard.web.identity import CALLBACK_PATH, LOGIN_PATH
from ivrguard.web.oidc import Client

HERE = Path(__file__).parent / "provider"
BUILD = Path(__file__).parents[2] / "build" / "provider"
API = "https://guard.example/api"
SECRET = "a secret/of the test"
START_S = 30.0


def built():
    """The provider's packages, locked by hash; put where they are once, whoever of several processes comes first."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lockfile = (HERE / "package-lock.json").read_bytes()
        done = BUILD / "done"
        if not done.exists() or done.read_bytes() != lockfile:
            for file in ("package.json", "package-lock.json"):
                shutil.copy(HERE / file, BUILD / file)
            command = ["npm", "ci", "--ignore-scripts", "--silent", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=BUILD, check=True)
            done.write_bytes(lockfile)
    shutil.copy(HERE / "provider.mjs", BUILD / f"provider-{os.getpid()}.mjs")
    return BUILD / f"provider-{os.getpid()}.mjs"


@pytest.fixture(scope="module")
def provider():
    """Where it listens."""
    if not (shutil.which("node") and shutil.which("npm")):
        assert "TESTS_SKIP_NOTHING" not in os.environ, "node and npm are missing"
        pytest.skip(
            "node or npm is missing: no real OpenID provider is run (Debian: apt-get install nodejs npm)"
        )
    script = built()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = ["node", str(script), str(port), PUBLIC_URL + CALLBACK_PATH, API]
    process = subprocess.Popen(
        command, cwd=BUILD, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        until = time.monotonic() + START_S
        assert process.stdout.readline() == "listening\n", "the provider did not start"
        assert time.monotonic() < until
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=20)
        script.unlink()


class Person:
    """Somebody at his browser: what he has of cookies at the guard and at the provider, and what he types there."""

    def __init__(self, browser, name):
        self.browser, self.name = browser, name
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.asked = []

    async def there(self, url):
        """At the provider, until it sends him back: the URL of that."""
        method, data = "GET", None
        for _ in range(12):
            async with self.session.request(method, url, data=data, allow_redirects=False) as answer:
                if answer.status in {302, 303}:
                    url = answer.headers["Location"]
                    if url.startswith(PUBLIC_URL):
                        return url
                    url = str(answer.url.join(URL(url)))
                    method, data = "GET", None
                    continue
                page = await answer.text()
                assert answer.status == 200, page
                prompt = re.search(r'name="prompt" value="(\w+)"', page)
                assert prompt, page
                self.asked.append(prompt[1])
                url = str(answer.url.join(URL(re.search(r'action="([^"]+)"', page)[1])))
                method, data = "POST", {"prompt": prompt[1], "login": self.name, "password": "anything"}
        raise AssertionError("the provider leads in a circle")

    async def enter(self, query=""):
        """From the guard's page to the provider and back; what the guard says then."""
        got = await self.browser.ask(f"{LOGIN_PATH}?way=provider{query}")
        assert got.status == 303, got.text
        back = await self.there(got.headers["Location"])
        return await self.browser.ask(back.removeprefix(PUBLIC_URL)), back

    async def agent(self):
        secret = self.browser.session
        return secret and await kept.agent_of(self.browser.guarded.server.world, secret, idle_s=1800)


@pytest.fixture
async def stage(provider, start, open_flow, browser_at):
    """Starts a guard that is this client of the provider, for somebody at his browser."""

    @asynccontextmanager
    async def made(client="rs256", name="ann", secret=SECRET):
        roles = {"ivr-agents": Role.AGENT, "fraud": Role.RISK}
        company = Client(Company(provider, client, audience=API, roles=roles), secret=secret)
        async with start(open_flow, extra={"company": company}) as guarded:
            person = Person(browser_at(guarded), name)
            try:
                yield guarded, person
            finally:
                await person.session.close()

    return made


@pytest.mark.parametrize("client", ["rs256", "ps256", "es256", "eddsa", "public"])
async def test_somebody_logs_in(stage, client):
    """With each algorithm that is trusted, and as a public client; the claims of the ID token become who he is."""
    async with stage(client, secret="" if client == "public" else SECRET) as (guarded, person):
        got, back = await person.enter("&next=/.ivrguard/console/agent?call=CA1".replace("?call", "%3Fcall"))
        assert (got.status, got.headers["Location"]) == (303, "/.ivrguard/console/agent?call=CA1")
        assert parse_qs(urlsplit(back).query)["iss"][0] == guarded.server.company._company.issuer
        agent = await person.agent()
        assert (agent.name, agent.label, agent.roles) == ("oidc:ann", "Ann Lee", {Role.AGENT})
        assert (agent.queues, agent.manager) == (("workflow:*",), "oidc:bob")
        assert fresh(agent, guarded.clock() + 5_000)


async def test_whoever_has_no_role_here_stays_outside(stage):
    async with stage(name="guest") as (guarded, person):
        got, _ = await person.enter()
        assert (got.status, await person.agent()) == (403, None)
        entry = (await guarded.store.entries())[-1].entry
        assert (entry.event, entry.reason) == ("agent_login_failed", "no_role")


async def test_what_is_grave_has_the_provider_ask_again(stage):
    """It has a session of its own and would let him through unasked; told to, it asks, and says when."""
    async with stage(name="fred") as (_, person):
        await person.enter()
        first = await person.agent()
        assert first.roles == {Role.RISK}
        person.asked.clear()
        person.browser.cookies.clear()
        await person.enter()
        assert "login" not in person.asked
        assert (await person.agent()).shown_ms == first.shown_ms
        got, _ = await person.enter("&fresh=1")
        assert got.status == 303
        assert "login" in person.asked
        assert (await person.agent()).shown_ms >= first.shown_ms


async def test_a_code_is_good_once_and_for_the_browser_that_asked(stage):
    """Replayed it is refused there; with another browser's secrets it is refused here, and PKCE would refuse it there."""
    async with stage() as (guarded, person):
        got = await person.browser.ask(f"{LOGIN_PATH}?way=provider")
        cookie = person.browser.cookies[login.LOGIN_COOKIE]
        back = (await person.there(got.headers["Location"])).removeprefix(PUBLIC_URL)

        thief = Person(type(person.browser)(guarded), "fred")
        got = await thief.browser.ask(f"{LOGIN_PATH}?way=provider")
        assert (await thief.browser.ask(back)).status == 403
        company = guarded.server.company
        other = company._begun(thief.browser.cookies[login.LOGIN_COOKIE])
        code = parse_qs(urlsplit(back).query)["code"][0]
        assert await company._redeemed(await company._known(), code, other) is None
        await thief.session.close()

        own = company._begun(cookie)
        assert await company._redeemed(await company._known(), code, own) is not None
        assert (await person.browser.ask(back)).status == 403
        assert [one.entry.reason for one in await guarded.store.entries()][-2:] == ["state", "code"]


async def test_a_program_comes_with_an_access_token(stage, provider):
    """RFC 9068's, made by the provider for our audience; its ID tokens and tokens for others are none."""
    async with stage() as (guarded, person):
        form = {"grant_type": "client_credentials", "resource": API, "scope": "calls"}
        form |= {"client_id": "crm", "client_secret": SECRET}
        async with person.session.post(f"{provider}/token", data=form) as answer:
            token = (await answer.json())["access_token"]
        agent = await guarded.server.company.bearer(token)
        assert (agent.name, agent.roles, agent.shown_ms) == ("oidc:crm", {Role.AGENT}, 0)
        assert (await guarded.redeem(token, "0" * 26))[0] == 403  # known, but what is redeemed is no good
        assert (await guarded.redeem(token[:-4] + "AAAA", "0" * 26))[0] == 401


async def test_logging_out_leads_to_the_providers_own(stage):
    """Which asks whether it is meant; the session here is over in any case."""
    async with stage() as (_, person):
        await person.enter()
        secret = person.browser.session
        got = await person.browser.ask(
            "/.ivrguard/console/logout", "POST", {"csrf": login.browser.csrf_of(secret)}
        )
        page = await person.browser.ask(got.headers["Location"])
        place = re.search(r'href="([^"]*/session/end[^"]*)"', page.text)[1].replace("&amp;", "&")
        async with person.session.get(place) as answer:
            assert answer.status == 200
        assert await SimpleNamespace(agent=person.agent).agent() is None
