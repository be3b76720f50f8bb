"""The agents' log-in over a socket, with a real store and argon2: the form, the session, and what attackers try."""

import itertools
import re
from urllib.parse import urlsplit

import pyotp
import pytest

from ivrguard.core.agents import Role
from ivrguard.core.errors import Busy, StoreFault
from ivrguard.guard import sessions as kept
from ivrguard.guard import staff
from ivrguard.ports import AgentAccount
from ivrguard.web import login
from ivrguard.web.identity import LOGIN_PATH, LOGOUT_PATH
from ivrguard.web.sessions import COOKIE, SECRET_CHARS, csrf_of

PASSWORD = "four tall ships at noon"
SECRET = "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU"
DOOR = login.DOOR_COOKIE
NEXT = "/.ivrguard/console/agent?call=CA1"
numbers = itertools.count()


async def who(browser):
    """Whom the guard takes this browser for."""
    if not browser.session:
        return None
    found = await kept.agent_of(browser.guarded.server.world, browser.session, idle_s=1800)
    return found.name if found else None


@pytest.fixture
async def desk(guarded):
    """A guard with an agent ann."""
    known = await guarded.server.passwords.enrol(PASSWORD, name="ann")
    held = guarded.server.login._logins._apps.enrol(SECRET)
    roles = (Role.AGENT,)
    ann = AgentAccount("ann", "Ann", roles, ("queue:*",), "agent:bob", known, held, guarded.clock())
    assert await staff.add(guarded.store, ann, by="root")
    return guarded


@pytest.fixture
def browser(desk, browser_at):
    return browser_at(desk)


async def events(desk):
    return [
        f"{one.entry.event}:{one.entry.reason}"
        for one in await desk.store.entries()
        if one.entry.event.startswith("agent_")
    ]


async def test_the_form_says_who_may_read_it(browser):
    """No script, no frame, no store, no other origin; a label for each field; nothing secret in it."""
    got = await browser.ask(LOGIN_PATH)
    assert got.status == 200
    policy = got.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert "script" not in got.text.lower()
    assert got.headers["Cache-Control"] == "no-store"
    assert got.headers["Referrer-Policy"] == "same-origin"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    ids = set(re.findall(r'<label for="(\w+)">', got.text))
    assert ids == {"name", "password", "code"} < set(re.findall(r' id="(\w+)"', got.text))
    assert browser.cookies[DOOR] not in got.text


async def test_logging_in_and_out(browser, desk, metric):
    """Led back to where he was; a cookie of our own; out again, and the secret is good for nothing."""
    got = await browser.enter(query=f"?next={NEXT}")
    assert (got.status, got.headers["Location"]) == (303, NEXT)
    [line] = [one for one in got.set if one.startswith(f"{COOKIE}=")]
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{{SECRET_CHARS}}}; Path=/; Secure; HttpOnly; SameSite=Lax", line)
    assert DOOR not in browser.cookies
    assert await who(browser) == "agent:ann"
    assert await metric(desk, 'ivrguard_logins_total{outcome="entered"}') == 1

    assert (await browser.ask(LOGIN_PATH)).headers["Location"] == login.HOME
    assert (await browser.ask(f"{LOGIN_PATH}?next={NEXT}")).headers["Location"] == NEXT
    secret = browser.session
    assert (await browser.ask(LOGOUT_PATH, "POST")).headers["Location"] == LOGIN_PATH
    assert await who(browser) == "agent:ann"  # without the token it was not he who asked
    got = await browser.ask(LOGOUT_PATH, "POST", {"csrf": csrf_of(secret)})
    assert got.headers["Location"] == f"{LOGIN_PATH}?out=1"
    assert COOKIE not in browser.cookies
    assert "logged out here" in (await browser.ask(f"{LOGIN_PATH}?out=1")).text
    browser.cookies[COOKIE] = secret
    assert await who(browser) is None
    assert await events(desk) == [
        "agent_created:added",
        "agent_login_attempt:counted",
        "agent_logged_in:password",
        "agent_logged_out:asked_for",
    ]


async def test_showing_anew_who_one_is(browser, desk):
    """Asked although logged in; a new secret, and the old one is dead; back to where one was."""
    await browser.enter()
    old = browser.session
    desk.clock.advance(600)
    got = await browser.ask(f"{LOGIN_PATH}?fresh=1&next={NEXT}")
    assert (got.status, "once more" in got.text) == (200, True)
    got = await browser.enter(query=f"?fresh=1&next={NEXT}")
    assert (got.status, got.headers["Location"]) == (303, NEXT)
    assert browser.session != old
    agent = await kept.agent_of(desk.server.world, browser.session, idle_s=1800)
    assert agent.shown_ms == pytest.approx(desk.clock(), abs=5_000)
    browser.cookies[COOKIE] = old
    assert await who(browser) is None


MISFITS = [
    {"password": "four tall ships at nine"},
    {"code": "000000"},
    {"name": "mallory"},
    {"name": "four tall ships at noon", "password": "ann"},
    {"name": "<script>alert(1)</script>"},
]


async def test_one_page_for_all_that_does_not_fit(desk, browser_at):
    """Enumeration: unknown and known names, wrong passwords and codes get the same page, to the letter, status and headers."""
    seen = set()
    for typed in MISFITS:
        browser = browser_at(desk)
        got = await browser.enter(**typed)
        assert (browser.session, await who(browser), "<script>" in got.text) == (None, None, False)
        headers = tuple(sorted(name for name in got.headers if name != "Date"))
        seen.add((got.status, re.sub(r'name="csrf" value="[^"]*"', "", got.text), headers))
    assert len(seen) == 1
    assert seen.pop()[0] == 403


async def test_a_lock_looks_like_all_else(desk, browser):
    """Promise 6: nobody learns that there is such a name by locking it."""
    for name in ("ann", "mallory"):
        pages = {re.sub(r'value="[^"]*"', "", (await browser.enter(name, "wrong")).text) for _ in range(7)}
        assert len(pages) == 1
    assert (await browser.enter()).status == 403
    assert (await events(desk))[-1] == "agent_login_failed:locked"


# ── attacks ──────────────────────────────────────────────────────────────────────────────────────────────


LOGIN_CSRF = {
    "no token": 403,
    "another browser's token": 403,
    "no cookie": 403,
    "another origin": 403,
    "no origin": 403,
    "another site": 403,
    "an unreadable form": 403,
    "none of these": 303,
}


async def test_nobody_logs_somebody_in_from_another_page(desk, browser_at):
    """Login CSRF: whoever knows a password cannot have others work in his session. And nothing is counted."""
    for attack, status in LOGIN_CSRF.items():
        browser = browser_at(desk)
        hidden, headers, data = await browser.open(), {}, None
        match attack:
            case "no token":
                hidden["csrf"] = ""
            case "another browser's token":
                hidden = await browser_at(desk).open()
            case "no cookie":
                browser.cookies.clear()
            case "another origin":
                browser.origin = "https://evil.example"
            case "no origin":
                browser.origin = None
            case "another site":
                headers["Sec_Fetch_Site"] = "cross-site"
            case "an unreadable form":
                data = "name=ann"
                headers["Content_Type"] = "text/plain"
        code = pyotp.TOTP(SECRET).at(desk.clock() // 1000)
        form = {**hidden, "name": "ann", "password": PASSWORD, "code": code}
        got = await browser.ask(LOGIN_PATH, "POST", data or form, **headers)
        assert got.status == status, attack
        assert (browser.session is not None) is (status == 303), attack
        assert ("agent_login_attempt:counted" in await events(desk)) is (status == 303), attack


async def test_a_cookie_that_was_planted_is_not_what_logs_in(desk, browser_at):
    """Fixation: whatever the browser had before, what is logged in is new; the planted one stays nobody's."""
    browser = browser_at(desk)
    planted = "p" * SECRET_CHARS
    browser.cookies[COOKIE] = planted
    await browser.enter()
    assert browser.session != planted
    assert await who(browser) == "agent:ann"
    browser.cookies[COOKIE] = planted
    assert await who(browser) is None


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example",
    "/\\evil.example",
    "/.ivrguard/console/%2e%2e/%2e%2e/x",
    "javascript:alert(1)",
    "/menu",
    LOGIN_PATH,
    "/.ivrguard/console/x%0d%0aSet-Cookie:%20a=b",
]


async def test_nobody_is_led_to_another_host(desk, browser_at):
    """Open redirect: from the link, and from a form that was changed."""
    for target in ELSEWHERE:
        browser = browser_at(desk)
        got = await browser.enter(query=f"?next={target}", next=target)
        desk.clock.advance(30)
        place = got.headers["Location"]
        assert got.status == 303, target
        assert urlsplit(place).netloc == "", target
        assert place == login.HOME or place.startswith("/.ivrguard/console/x%0d"), target
        assert "a" not in browser.cookies, target


async def test_a_session_ends_with_its_account(desk, browser):
    """At once, without waiting for it to run out (ASVS 7.4.2)."""
    await browser.enter()
    await staff.remove(desk.store, "ann", now_ms=desk.clock(), by="root")
    assert await who(browser) is None
    assert (await browser.ask(LOGIN_PATH)).status == 200


@pytest.mark.parametrize("fault", [Busy("full"), StoreFault("down")])
async def test_what_cannot_be_done_is_told_and_lets_nobody_in(
    desk, browser, monkeypatch, fault, logged, metric
):
    """503, whichever part is down; the operator hears which."""

    async def down(*_, **__):
        raise fault

    monkeypatch.setattr(desk.server.login._logins, "log_in", down)
    got = await browser.enter()
    assert (got.status, "in a moment" in got.text, browser.session) == (503, True, None)
    assert any(line["event"] == "fault" and line["reason"] == fault.reason for line in logged)
    assert await metric(desk, 'ivrguard_logins_total{outcome="down"}') == 1
    monkeypatch.setattr(kept, "agent_of", down)
    browser.cookies[COOKIE] = "x" * SECRET_CHARS
    assert (await browser.ask(LOGIN_PATH)).status == 503
    monkeypatch.setattr(kept, "end", down)
    got = await browser.ask(LOGOUT_PATH, "POST", {"csrf": csrf_of("x" * SECRET_CHARS)})
    assert got.status == 503


async def test_without_an_identity_provider_nobody_is_called_back(browser):
    got = await browser.ask("/.ivrguard/console/callback?code=x&state=y")
    assert (got.status, "Please try again" in got.text) == (403, True)


async def test_no_secret_gets_anywhere(desk, browser, capsys, logged):
    """Promise 5: password, app, session, token: in no record, log, page, URL or repr; the store has digests and sealed text."""
    code = pyotp.TOTP(SECRET).at(desk.clock() // 1000)
    await browser.enter(password="a wrong canary password", code="271828")
    await browser.enter("a canary in the name", "a wrong canary password", code="271828")
    await browser.enter(code=code)
    session = browser.session
    csrf = csrf_of(session)
    await browser.ask(LOGOUT_PATH, "POST", {"csrf": csrf})
    canaries = [PASSWORD, "canary", "271828", SECRET, session, code]
    record = repr(await desk.store.entries())
    kinds = ("agent", "session", "sessions", "ledger", "spent")
    stored = repr([await desk.store.list(kind) for kind in kinds])
    account = await desk.store.read(staff.agent_key("ann"))
    pages = "".join(got.text + repr(got.headers.get("Location")) for got in browser.seen)
    said = capsys.readouterr()
    for place in (record, stored, repr(account), pages, repr(logged), said.out + said.err):
        assert not [one for one in canaries if one in place]
    assert csrf not in record + repr(logged)
