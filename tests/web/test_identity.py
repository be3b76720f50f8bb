"""Who asks: over a socket, by key and by session, and what he is answered who may not."""

from contextlib import AsyncExitStack
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from ivrguard.core.agents import Agent, Role
from ivrguard.core.errors import StoreFault
from ivrguard.guard import sessions as kept
from ivrguard.phone.rig import PUBLIC_URL, listen
from ivrguard.web import sessions as browser
from ivrguard.web.identity import CONSOLE_PREFIX, Identity, is_local

OURS = {"Origin": PUBLIC_URL}


def ann(clock, *roles, **more):
    return Agent(
        "agent:ann", "Ann", frozenset(roles or (Role.AGENT,)), ("queue:*",), shown_ms=clock(), **more
    )


@pytest.fixture
async def desk(guarded):
    """Pages that say who asks, beside a guard: `/.ivrguard/console/who`; `ask` asks it."""
    identity = Identity(guarded.server.guard)

    async def who(request):
        found = await identity.of(request)
        if found is None:
            return identity.turned_away(request)
        return web.json_response({"name": found.name, "desk": found.desk, "csrf": identity.csrf(request)})

    async with AsyncExitStack() as stack:
        app = web.Application()
        app.router.add_route("*", CONSOLE_PREFIX + "who", who)
        url = await listen(app, stack)

        async def ask(name="who", secret=None, method="GET", key=None, data=None, **headers):
            headers = {each.replace("_", "-"): text for each, text in headers.items()}
            if secret is not None:
                headers["Cookie"] = f"{browser.COOKIE}={secret}"
            if key is not None:
                headers["Authorization"] = key
            async with guarded.session.request(
                method, url + CONSOLE_PREFIX + name, headers=headers, data=data, allow_redirects=False
            ) as answer:
                body = await answer.json() if answer.content_type == "application/json" else None
                return answer.status, body, answer.headers

        yield ask


async def test_a_desk_is_known_by_its_key(desk, guarded):
    key = await guarded.desk("flex", "*")
    status, body, _ = await desk(key=f"Bearer {key}")
    assert (status, body) == (200, {"name": "flex", "desk": True, "csrf": ""})
    assert (await desk(key=f"bearer {key}", method="POST"))[0] == 200


@pytest.mark.parametrize(
    "key", ["", "Bearer", "Bearer ", "Basic {key}", "Bearer x{key}", "Bearer é", "{key}"]
)
async def test_what_is_no_key_is_nobodys(desk, guarded, key):
    """Nor does a cookie help: whoever sends a key is judged by it."""
    right = await guarded.desk("flex", "*")
    secret = await guarded.session_of(ann(guarded.clock))
    status, body, headers = await desk(secret=secret, key=key.format(key=right))
    assert (status, body["error"]) == (401, "unauthorized")
    assert headers["WWW-Authenticate"] == 'Bearer realm="ivrguard"'
    assert headers["Cache-Control"] == "no-store"


async def test_an_agent_is_known_by_his_session(desk, guarded):
    """What his pages send along is made of it; a page that nobody is logged in at has none."""
    secret = await guarded.session_of(ann(guarded.clock))
    status, body, _ = await desk(secret=secret)
    assert (status, body) == (
        200,
        {"name": "agent:ann", "desk": False, "csrf": browser.csrf_of(secret)},
    )
    assert (await desk(secret=browser.new_secret(bytes(32))))[0] == 401
    assert (await desk())[0] == 401


async def test_what_changes_something_needs_the_pages_own_origin_and_token(desk, guarded):
    """By header or by form; without either it is nobody's: a page elsewhere can have it sent, cookie and all."""
    secret = await guarded.session_of(ann(guarded.clock))
    token = browser.csrf_of(secret)
    assert (await desk(secret=secret, method="POST", X_CSRF_Token=token, **OURS))[0] == 200
    assert (await desk(secret=secret, method="POST", data={"csrf": token}, **OURS))[0] == 200
    assert (await desk(secret=secret, method="POST", data={"csrf": "x"}, **OURS))[0] == 401
    assert (await desk(secret=secret, method="POST", data={"other": "x"}, **OURS))[0] == 401
    assert (await desk(secret=secret, method="POST", **OURS))[0] == 401
    assert (await desk(secret=secret, method="POST", X_CSRF_Token=token))[0] == 401
    assert (await desk(secret=secret, method="POST", X_CSRF_Token=token, Origin="https://evil.example"))[
        0
    ] == 401


async def test_a_page_leads_to_the_log_in_and_back(desk):
    """With the query it had; a program, or a form that was sent, gets JSON."""
    status, _, headers = await desk("who?call=CA1", Accept="text/html")
    assert status == 303
    assert parse_qs(urlsplit(headers["Location"]).query) == {"next": ["/.ivrguard/console/who?call=CA1"]}
    assert headers["Cache-Control"] == "no-store"
    assert (await desk("who?x=" + "y" * 600, Accept="text/html"))[2]["Location"] == "/.ivrguard/console/login"
    assert (await desk("who", Accept="application/json"))[0] == 401
    assert (await desk("who", method="POST", Accept="text/html"))[0] == 401


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("/.ivrguard/console/agent", True),
        ("/.ivrguard/console/agent?call=CA1#x", True),
        ("", False),
        ("/", False),
        ("/menu", False),
        ("//evil.example", False),
        ("https://evil.example/.ivrguard/console/", False),
        ("/\\evil.example", False),
        ("/.ivrguard/console/\\evil.example", False),
        ("/.ivrguard/console/../../x", False),
        ("/.ivrguard/console/%2E%2e/x", False),
        ("/.ivrguard/console/a b", False),
        ("/.ivrguard/console/é", False),
        ("/.ivrguard/console/\nSet-Cookie:", False),
        ("/.ivrguard/console/" + "x" * 512, False),
        ("/.ivrguard/console/login?next=/x", False),
        ("/.ivrguard/console/logout", False),
        ("/.ivrguard/console/callback?code=x", False),
        ("javascript:alert(1)", False),
    ],
)
def test_only_our_own_pages_are_led_back_to(target, local):
    """No open redirect, however it is written; and no circle."""
    assert is_local(target) is local


@pytest.mark.parametrize(
    ("accept", "busy", "again", "lasts"),
    [
        ("text/html", True, False, True),
        ("text/html", False, False, False),
        ("text/event-stream", True, False, False),
        ("text/html", True, True, True),
    ],
)
async def test_what_no_hand_asked_for_keeps_no_session_alive(guarded, accept, busy, again, lasts):
    """A stream, a look for news, or one request asked about again and again: half an hour after a hand it is over."""
    secret = await guarded.session_of(ann(guarded.clock))
    identity = Identity(guarded.server.guard)
    headers = {"Cookie": f"{browser.COOKIE}={secret}", "Accept": accept}
    request = make_mocked_request("GET", "/x", headers=headers)
    guarded.clock.advance(1000)
    assert await identity.of(request, busy=busy)
    if again:
        guarded.clock.advance(1000)
        assert await identity.of(request)
        guarded.clock.advance(900)
        assert await identity.of(request) is None
        return
    guarded.clock.advance(1000)
    assert (await identity.of(make_mocked_request("GET", "/x", headers=headers)) is not None) is lasts


async def test_a_store_that_is_down_is_a_fault_and_nobody(guarded, monkeypatch):
    """Fail closed: it is not said that he is nobody, and he is nobody all the same."""
    secret = await guarded.session_of(ann(guarded.clock))

    async def down(*_, **__):
        raise StoreFault("down")

    monkeypatch.setattr(kept, "agent_of", down)
    identity = Identity(guarded.server.guard)
    with pytest.raises(StoreFault):
        await identity.of(make_mocked_request("GET", "/x", headers={"Cookie": f"{browser.COOKIE}={secret}"}))


@pytest.mark.parametrize("name", ["agent:ann", "oidc:ann"])
async def test_a_desk_that_has_a_persons_name_is_nobody(guarded, name):
    """Added before people had names: whoever may add desks takes nobody's calls by it."""
    key = await guarded.desk(name, "*")
    asks = make_mocked_request("GET", "/", headers={"Authorization": f"Bearer {key}"})
    assert await Identity(guarded.server.guard).of(asks) is None
