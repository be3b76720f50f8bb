"""
Promises 2, 5, 6, 8 and 10 where accounts and PINs are the bank's own system's: over real sockets and mutual TLS, on every
store, whatever that system does.

The guard's own tables hold an account of the same name with another PIN, which must count for nothing, and with an app
(TOTP), which is the one thing that they are asked for. What a guess is here: a PIN that was sent to the bank with the
reference of the account.
"""

import asyncio
import base64
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pyotp
import pytest
from aiohttp import web

from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.errors import DirectoryFault
from ivrguard.core.flow import Locks, PinChange
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import Demand
from ivrguard.directory import bank as banks
from ivrguard.directory import http
from ivrguard.directory.bank import Access, Bank, MutualTls
from ivrguard.directory.http import HttpDirectory, HttpPinJudge
from ivrguard.directory.messages import CHANGE, LOOKUP, VERIFY, SigningKey
from ivrguard.guard import proving
from ivrguard.phone.directory import AccountSystem
from ivrguard.phone.rig import listen
from ivrguard.ports import Credential, Wrong

SECRET = secrets.token_bytes(32)
ACCOUNT, OWNER, PIN, WRONG = "123456", "+15551230001", "97531864", "13572468"
LOCKED, WITHOUT, UNKNOWN, UNKNOWN_TOO = "654321", "777777", "999999", "888888"
SHARED = "+15551230077"
WELCOME = "<Say>Welcome home</Say>"
SORRY = "We are sorry, we cannot take your call right now."

FIVE = Locks(account=Lockout(failures=5, within_s=3600, lock_s=(1800,)), caller_number=None)
BY_PIN = {"one_factor": AnyOf(("pin",)), "two_factor": AllOf(("pin", "app"))}


@dataclass
class Centre:
    """A guard, a bank's system behind it, and the way from one to the other."""

    house: object
    system: AccountSystem
    access: Access
    reference: str

    def guesses(self) -> list[str]:
        """The PINs that the bank was asked about, of the account."""
        return [one.said["pin"] for one in self.system.asked if one.said.get("reference") == self.reference]

    async def call(self, *keys: str, from_: str = "+15559870002"):
        """Call, and key these one after the other."""
        line = self.house.call(from_)
        await line.until_input()
        for each in keys:
            if line.over:
                break
            await line.press(each)
        return line

    def said(self, line) -> str:
        return " ".join(self.house.says(line))


@dataclass
class Opened:
    """Makes centres; each with a bank's system of its own, over mutual TLS."""

    build: object
    authority: Callable

    async def __call__(
        self,
        kind: type[AccountSystem] = AccountSystem,
        *,
        deadline_s: float = 2.5,
        wrap=None,
        **changes: object,
    ) -> Centre:
        late: list[Centre] = []

        def now_ms() -> int:  # the house's clock, which is made after this
            return late[0].house.clock()

        system = kind({"k1": SECRET}, now_ms, hash_cost=2)
        reference = system.add(ACCOUNT, pin=PIN, numbers=(OWNER, SHARED), sms_number=OWNER)
        system.add(LOCKED, pin=PIN, numbers=("+15551230006", SHARED))
        system.add(WITHOUT, numbers=("+15551230007",))
        ours = self.authority("bank")
        tls = MutualTls(ours.ca, *ours.issue("guard"))
        url = await listen(system.app(), self.build.stack, ours.demands(ours.issue("server")))
        access = Access(url, SigningKey("k1", SECRET), tls, deadline_s)
        usual = {"levels": BY_PIN, "locks": FIVE, "path": "/voice"}
        house = await self.build({"/voice": WELCOME}, extra={"bank": access}, wrap=wrap, **usual | changes)
        late.append(Centre(house, system, access, reference))
        return late[0]


@pytest.fixture
def opened(house, authority) -> Opened:
    """On each store in turn."""
    return Opened(house, authority)


@pytest.fixture
def weak(broken, authority) -> Opened:
    """For the red tests, and for what no store has a part in."""
    return Opened(broken, authority)


# ── a day like any other ─────────────────────────────────────────────────────────────────────────────────


async def test_a_guarded_call(opened):
    """
    The account and the judgement are the bank's, the app is from our own tables; a PIN that our tables have is wrong. The
    caller changes his PIN, which the bank keeps, and is told so by text at the number that the bank has.
    """
    two = Demand("two_factor")
    centre = await opened(default=two, pin_change=PinChange("/change", two, "/voice"))
    house = centre.house
    line = await centre.call(f"{ACCOUNT}#", house.PIN, from_=OWNER)
    assert "That did not match" in centre.said(line)
    await line.press(PIN)
    await line.press(pyotp.TOTP(house.secret).generate_otp(house.clock() // 30_000))
    assert house.says(line)[-1] == "Welcome home"
    assert {one.path for one in centre.system.asked} == {LOOKUP, VERIFY}

    house.ivr.documents["/voice"] = "<Redirect>/change</Redirect>"
    house.clock.advance(30)
    line = await centre.call(f"{ACCOUNT}#", PIN, from_=OWNER)
    await line.press(pyotp.TOTP(house.secret).generate_otp(house.clock() // 30_000))
    house.ivr.documents["/voice"] = WELCOME
    for _ in range(2):
        await line.press("24816357")
    assert house.says(line)[-2:] == ["Thank you. Your new PIN is in force from now on.", "Welcome home"]
    await house.rig.server.guard.drain()
    assert (house.rig.carrier.sent[-1].to, "was changed by phone" in house.rig.carrier.sent[-1].body) == (
        OWNER,
        True,
    )
    assert [one.said for one in centre.system.asked if one.path == CHANGE] == [
        {"account": ACCOUNT, "pin": "24816357"}
    ]
    assert ("authn_password_change", "by_phone") in await house.events()


async def test_an_account_of_our_own_that_the_bank_does_not_have_is_unknown(opened):
    """Closed at the bank, still in our tables with its app and a PIN: nobody gets in by it."""
    centre = await opened()
    centre.system._accounts.clear()
    line = await centre.call(f"{ACCOUNT}#", centre.house.PIN, PIN)
    assert centre.house.ivr.got == []
    assert "That did not match" in centre.said(line)
    assert ("account_claimed", "unknown") in await centre.house.events()


# ── 2. a fixed number of guesses ─────────────────────────────────────────────────────────────────────────


async def nobody_gets_in(centre: Centre, asked: int) -> None:
    """From now on not even the right PIN is sent with the account's reference, and the caller hears the usual words."""
    line = await centre.call(f"{ACCOUNT}#", PIN, from_="+15559990000")
    assert len(centre.guesses()) == asked, "a guess went to the bank while the account was locked"
    assert centre.house.ivr.got == []
    assert "That did not match" in centre.said(line)
    assert centre.system.asked[-1].path == VERIFY, "the bank was not asked for a locked account"


async def check_all_at_once_on_two_nodes(opened: Opened) -> None:
    """Ten calls key a PIN at the same moment, each answer goes to both nodes with other digits: the bank hears of five."""
    centre = await opened(deadline_s=30)  # a busy machine may take its time, but the count is five
    node = await opened.build.node(centre.house, bank=centre.access)
    exchange = await opened.build.balanced(centre.house, node)
    lines = [exchange.call(f"+1555800{number:04}", centre.house.rig.flow.numbers[0]) for number in range(10)]
    for line in lines:
        await line.until_input()
        await line.press(f"{ACCOUNT}#")
    await asyncio.gather(
        *(
            line.send(line.waiting.action, {"Digits": f"{13_570_000 + 2 * number + half}"})
            for number, line in enumerate(lines)
            for half in (0, 1)
        )
    )
    assert len(centre.guesses()) <= 5, "more guesses than the rule allows"
    assert (await centre.house.events()).count(("authn_attempt", "counted")) == 5
    await nobody_gets_in(centre, len(centre.guesses()))


async def test_twenty_guesses_at_once_are_five(opened):
    await check_all_at_once_on_two_nodes(opened)


def dropped(system: AccountSystem) -> None:
    system.drop_next(VERIFY)


def unsigned(system: AccountSystem) -> None:
    system.unsigned_next(VERIFY)


def status(code: int) -> Callable[[AccountSystem], None]:
    return lambda system: system.fail_next(code, VERIFY)


UNJUDGED = {
    "it breaks off": dropped,
    "somebody answers in its place": unsigned,
    "it answers 500": status(500),
    "it answers 400, as OAuth does for a wrong password": status(400),
    "it answers 401, as many do": status(401),
    "it answers 423, that the account is locked": status(423),
}


async def check_guesses_without_a_verdict_count(opened: Opened, happens: Callable) -> None:
    """Five guesses go out, and no verdict comes back: nobody knows whether they were judged, so they were."""
    centre = await opened()
    for number in range(5):
        happens(centre.system)
        line = await centre.call(f"{ACCOUNT}#", f"{13_570_000 + number}", from_=f"+155570000{number:02}")
        assert SORRY in centre.said(line), "something that is no verdict was taken for one"
    assert len(centre.guesses()) == 5
    events = [event for event, _ in await centre.house.events()]
    assert events.count("authn_attempt_unjudged") == 5, "it is not on record that the guesses were not judged"
    centre.house.clock.advance(10)  # the circuit has opened, for some of these
    await nobody_gets_in(centre, 5)
    centre.house.clock.advance(1800)
    line = await centre.call(f"{ACCOUNT}#", PIN)
    assert centre.house.says(line)[-1] == "Welcome home"


@pytest.mark.parametrize("happens", UNJUDGED.values(), ids=UNJUDGED)
async def test_a_guess_counts_though_its_verdict_never_came(weak, happens):
    await check_guesses_without_a_verdict_count(weak, happens)


async def test_a_guess_counts_though_the_bank_was_too_slow(opened, monkeypatch):
    """The deadline passes while the bank is at it."""
    real = Bank._heard

    async def heard(self, path, body, *, reads):
        """Of a judgement the deadline is short, so that the test is; a look-up has its time."""
        usual = self._access
        self._access = replace(usual, deadline_s=0.25 if path == VERIFY else usual.deadline_s)
        try:
            return await real(self, path, body, reads=reads)
        finally:
            self._access = usual

    monkeypatch.setattr(Bank, "_heard", heard)
    centre = await opened(Slow)
    for number in range(5):
        line = await centre.call(f"{ACCOUNT}#", f"{13_570_000 + number}", from_=f"+155570000{number:02}")
        assert SORRY in centre.said(line)
    centre.system.done.set()
    centre.house.clock.advance(10)
    await nobody_gets_in(centre, 5)


class Slow(AccountSystem):
    """A bank that judges when it is told to, and not before."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.done = asyncio.Event()

    async def _verify(self, said):
        await self.done.wait()
        return await super()._verify(said)


async def check_what_was_not_looked_at_does_not_count(opened: Opened) -> None:
    """
    The bank says so (503), or nothing reached it (its circuit is open): a hundred such guesses lock nobody out, and
    nobody is let in.
    """
    centre = await opened()
    for number in range(8):
        centre.system.fail_next(503, VERIFY)
        line = await centre.call(f"{ACCOUNT}#", PIN, from_=f"+155570000{number:02}")
        assert SORRY in centre.said(line)
    judged = [one for one in centre.system.asked if one.path == VERIFY]
    assert (len(judged), centre.house.ivr.got) == (5, []), "an open circuit let a request through"
    events = [event for event, _ in await centre.house.events()]
    assert events.count("authn_attempt_withdrawn") == 8, "a guess that nobody looked at counted"
    centre.house.clock.advance(10)
    centre.system._faults.clear()
    line = await centre.call(f"{ACCOUNT}#", PIN)
    assert centre.house.says(line)[-1] == "Welcome home"


async def test_a_guess_that_nobody_looked_at_does_not_count(opened):
    await check_what_was_not_looked_at_does_not_count(opened)


@pytest.mark.parametrize("cut", ["the bank's authority", "the guard's certificate", "the clock", "the key"])
async def test_a_way_that_is_cut_off_locks_nobody_out(weak, authority, cut):
    """
    A wrong authority, a certificate that ran out, clocks that differ, a key that was changed: callers hear the apology, no
    guess is sent, none counts, the IVR is not reached. When it is mended, all is as before.
    """
    centre = await weak()
    bank = centre.house.rig.server.bank
    theirs, was = authority("stranger"), bank._access
    tls = {
        "the bank's authority": lambda: MutualTls(theirs.ca, *theirs.issue("guard")),
        "the guard's certificate": lambda: MutualTls(
            was.tls._files[0], *authority("x").issue("guard", days=-1)
        ),
    }.get(cut, lambda: was.tls)()
    key = SigningKey("k1", secrets.token_bytes(32)) if cut == "the key" else was.key
    bank._access = replace(was, tls=tls, key=key)
    ahead = 301_000 if cut == "the clock" else 0
    clock, bank._clock = bank._clock, lambda: centre.house.clock() + ahead
    for number in range(7):
        line = await centre.call(f"{ACCOUNT}#", PIN, from_=f"+155570000{number:02}")
        assert SORRY in centre.said(line)
    assert (centre.system.asked, centre.house.ivr.got) == ([], [])
    assert not [event for event, _ in await centre.house.events() if event.startswith("authn_")]
    bank._access, bank._clock = was, clock
    centre.house.clock.advance(10)
    assert centre.house.says(await centre.call(f"{ACCOUNT}#", PIN))[-1] == "Welcome home"


async def test_a_bank_that_lies_about_who_is_meant_gives_no_second_count(weak):
    """It answers for another spelling, another account, another number: each is nobody's, and so is the guess."""

    class Liar(AccountSystem):
        async def _lookup(self, said):
            account = self._accounts[ACCOUNT]
            return 200, {
                "account": {
                    "id": ACCOUNT,
                    "numbers": account.numbers,
                    "language": "",
                    "pin": account.reference,
                    "sms_number": None,
                }
            }

    centre = await weak(Liar)
    for keyed in ("0123456#", "00123456#", "654321#"):
        line = await centre.call(keyed, PIN)
        assert "That did not match" in centre.said(line)
    line = await centre.call("1#", PIN, from_="+15550001111")
    assert "That did not match" in centre.said(line)
    assert (centre.guesses(), centre.house.ivr.got) == ([], [])


# ── 6. nobody learns who exists ──────────────────────────────────────────────────────────────────────────


@dataclass
class Looked:
    """Our own tables, and how often accounts were looked up in them during a talk."""

    store: object
    kinds: list[str] = field(default_factory=list)

    async def read(self, key):
        self.kinds.append(key.kind)
        return await self.store.read(key)

    def __getattr__(self, name):
        return getattr(self.store, name)


class Rest(AccountSystem):
    """A bank that calls unknown 404, as is the custom."""

    async def _lookup(self, said):
        status, answer = await super()._lookup(said)
        return (status, answer) if answer["account"] else (404, {"error": "not found"})

    async def _verify(self, said):
        status, answer = await super()._verify(said)
        known = any(one.reference == said["reference"] for one in self._accounts.values())
        return (status, answer) if known else (404, {"error": "not found"})


async def talk(centre: Centre, looked: Looked, from_: str, *keys: str):
    """
    What a caller hears, and what it costs: documents without their nonces; requests to the bank with path, keys and names
    of headers; hashes there; reads of our own tables.
    """
    centre.system.asked.clear()
    looked.kinds.clear()
    hashes = centre.system.hashes
    line = await centre.call(*keys, from_=from_)
    answers = [request.answer for request in line.requests if request.purpose != "callback"]
    heard = [
        (one.status, one.content_type, re.sub(r"/call/[0-9a-f]{32}", "/call/N", one.text)) for one in answers
    ]
    asked = [(one.path, sorted(one.said), sorted(one.headers)) for one in centre.system.asked]
    return heard, asked, centre.system.hashes - hashes, list(looked.kinds)


async def check_nobody_learns_who_exists(opened: Opened, kind: type[AccountSystem] = AccountSystem) -> None:
    """Unknown, known, locked (right or wrong), locked and unknown, without a PIN; by account and by the caller's number."""
    looked: list[Looked] = []

    def watched(store):
        looked.append(Looked(store))
        return looked[0]

    centre = await opened(kind, wrap=watched)
    for account in (LOCKED, UNKNOWN_TOO):
        for calls in range(3):
            await centre.call(f"{account}#", WRONG, WRONG, from_=f"+1555777{account[:3]}{calls}")
    subjects = {
        "known": (ACCOUNT, WRONG),
        "unknown": (UNKNOWN, WRONG),
        "locked, wrong": (LOCKED, WRONG),
        "locked, right": (LOCKED, PIN),
        "locked, unknown": (UNKNOWN_TOO, WRONG),
        "without a PIN": (WITHOUT, WRONG),
    }
    talks = {
        name: await talk(centre, looked[0], f"+1555888000{place}", f"{account}#", guess, guess)
        for place, (name, (account, guess)) in enumerate(subjects.items())
    }
    assert [path for path, *_ in talks["known"][1]] == [LOOKUP, LOOKUP, VERIFY, LOOKUP, VERIFY]
    assert talks["known"][2] == 2, "not one hash at the bank for each guess"
    numbers = {
        "on file": OWNER,
        "on nobody's file": "+15551239999",
        "on two files": SHARED,
        "of a locked account": "+15551230006",
    }
    by_number = {name: await talk(centre, looked[0], number, "1#", WRONG) for name, number in numbers.items()}
    for group in (talks, by_number):
        (first, one), *others = group.items()
        for name, other in others:
            assert other[0] == one[0], f"words: {name} hears something else than {first}"
            assert other[1] == one[1], f"work: the bank is asked something else for {name} than for {first}"
            assert other[2] == one[2], f"work: more or fewer hashes for {name} than for {first}"
            assert other[3] == one[3], (
                f"work: our tables are asked something else for {name} than for {first}"
            )


@pytest.mark.parametrize("kind", [AccountSystem, Rest])
async def test_nobody_learns_who_exists(opened, kind):
    """The same words after the same work: also from a bank that has its own ideas of unknown."""
    await check_nobody_learns_who_exists(opened, kind)


# ── 8. everything is on record ───────────────────────────────────────────────────────────────────────────

FATES = ("authn_login_success", "authn_login_fail", "authn_attempt_withdrawn", "authn_attempt_unjudged")


async def test_every_guess_has_its_fate_on_record(opened):
    """Right, wrong, locked, refused and lost: one entry that it was made, one of what became of it, and a chain that holds."""
    centre = await opened()
    await centre.call(f"{ACCOUNT}#", WRONG, PIN)
    for plant in (dropped, unsigned, status(503), status(500)):
        plant(centre.system)
        await centre.call(f"{ACCOUNT}#", WRONG)
    await centre.call(f"{UNKNOWN}#", WRONG)
    centre.house.clock.advance(10)
    entries = await centre.house.rig.store.entries()
    events = [one.entry.event for one in entries]
    assert events.count("authn_attempt") == sum(events.count(fate) for fate in FATES) == 7
    assert [events.count(fate) for fate in FATES] == [1, 2, 1, 3]
    assert await centre.house.rig.store.head() == (entries[-1].seq, entries[-1].hash)
    assert not any(ACCOUNT in repr(one.entry) or WRONG in repr(one.entry) for one in entries)


@pytest.mark.parametrize(
    ("plant", "event", "letters"),
    [
        (lambda system: system.drop_next(CHANGE), "authn_password_change_unconfirmed", 1),
        (lambda system: system.unsigned_next(CHANGE), "authn_password_change_unconfirmed", 1),
        (lambda system: system.fail_next(503, CHANGE), "authn_password_change_fail", 0),
        (lambda system: system.fail_next(404, CHANGE), "authn_password_change_fail", 0),
    ],
    ids=["broken off", "not signed", "not now", "closed meanwhile"],
)
async def test_a_change_that_nobody_confirmed_is_on_record(weak, plant, event, letters):
    """The caller hears the apology; if the PIN may be another one now, its owner gets the message about it."""
    pin = Demand("one_factor")
    centre = await weak(pin_change=PinChange("/change", pin, "/voice"))
    centre.house.ivr.documents["/voice"] = "<Redirect>/change</Redirect>"
    line = await centre.call(f"{ACCOUNT}#", PIN, "24816357", from_=OWNER)
    plant(centre.system)
    sent = len(centre.house.rig.carrier.sent)
    await line.press("24816357")
    await centre.house.rig.server.guard.drain()
    assert SORRY in centre.said(line)
    changes = [one for one, _ in await centre.house.events() if one.startswith("authn_password_change")]
    assert changes == [event]
    assert len(centre.house.rig.carrier.sent) - sent == letters


# ── 10. the caller always hears something sensible ───────────────────────────────────────────────────────


async def hangs(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def trickles(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"{")
    return await hangs(request)


async def floods(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 4096)


async def redirects(request: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect("/v1/accounts/lookup?again")


async def breaks(request: web.Request) -> web.StreamResponse:
    request.transport.abort()
    return web.Response()


async def babbles(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>Bad gateway</html>", content_type="text/html", status=502)


async def agrees(request: web.Request) -> web.StreamResponse:
    return web.json_response({"account": None, "right": True, "changed": True})


@pytest.mark.parametrize("at", [LOOKUP, VERIFY])
@pytest.mark.parametrize("instead", [hangs, trickles, floods, redirects, breaks, babbles, agrees])
async def test_whatever_the_bank_does_the_caller_hears_words(weak, instead, at):
    """
    A webhook with an account's digits or a PIN's in it is answered 200 with TwiML that says something, and nothing is let
    through: whether it is the look-up or the judgement that meets it.
    """
    centre = await weak(deadline_s=0.2)
    served = centre.system.app()
    other = web.Application()
    other.router.add_post(at, instead)
    for route in served.router.routes():
        if route.resource.canonical != at:
            other.router.add_post(route.resource.canonical, route.handler)
    bank = centre.house.rig.server.bank
    bank._url = await listen(other, weak.build.stack)
    line = await centre.call(f"{ACCOUNT}#", PIN)
    assert line.over
    assert SORRY in centre.said(line)
    for request in line.requests:
        assert request.answer.status == 200
    answered = [request.answer for request in line.requests if request.purpose != "callback"]
    assert all("xml" in one.content_type and "<Say" in one.text for one in answered)
    assert centre.house.ivr.got == []


async def test_a_bank_that_comes_back_is_asked_again(opened):
    """Its circuit opens: the apology comes at once and at no cost. Half open, one call goes through and closes it."""
    centre = await opened()
    for number in range(5):
        centre.system.fail_next(500, LOOKUP)
        await centre.call(f"{UNKNOWN}#", from_=f"+155570000{number:02}")
    asked = len(centre.system.asked)
    assert SORRY in centre.said(await centre.call(f"{ACCOUNT}#", PIN))
    assert len(centre.system.asked) == asked, "an open circuit let a request through"
    centre.house.clock.advance(9.999)
    assert SORRY in centre.said(await centre.call(f"{ACCOUNT}#", PIN))
    centre.house.clock.advance(0.001)
    assert centre.house.says(await centre.call(f"{ACCOUNT}#", PIN))[-1] == "Welcome home"
    async with centre.house.rig.session.get(f"{centre.house.rig.ops_url}/readyz") as answer:
        assert await answer.json() == {"status": "ready"}


# ── 5. nobody learns a secret ────────────────────────────────────────────────────────────────────────────


async def test_nobody_learns_a_secret(opened, logged):
    """
    A day with everything that goes wrong; then the log, the record, the store, the operators' pages, URLs and headers, the
    IVR's requests and the reprs of all that is about are searched for PINs, the shared key and what stands for the PIN.
    """
    centre = await opened(pin_change=PinChange("/change", Demand("one_factor"), "/voice"))
    house, new = centre.house, "24816357"
    await centre.call(f"{ACCOUNT}#", WRONG, PIN)
    for plant in (dropped, unsigned, status(503), status(500), status(400)):
        plant(centre.system)
        await centre.call(f"{ACCOUNT}#", PIN)
        house.clock.advance(1800)
    house.ivr.documents["/voice"] = "<Redirect>/change</Redirect>"
    await centre.call(f"{ACCOUNT}#", PIN, "24816357", "24816357")
    centre.system.drop_next(CHANGE)
    await centre.call(f"{ACCOUNT}#", new, "97531864", "97531864")
    await house.rig.server.guard.drain()

    server = house.rig.server
    seen = [logged.getvalue().decode(), repr(await house.rows()), repr(await house.rig.store.entries())]
    seen += [repr(one) for one in (server, server.world, server._parts, server.bank, centre.access)]
    seen += [
        repr(one)
        for one in (
            server.bank._access,
            server.world.directory.behind,
            server.world.pins.behind,
            centre.system.asked,
        )
    ]
    for page in ("metrics", "readyz"):
        async with house.rig.session.get(f"{house.rig.ops_url}/{page}") as answer:
            seen.append(await answer.text())
    seen += [f"{one.path} {dict(one.headers)}" for one in centre.system.asked]
    seen += [f"{got.target} {got.headers} {got.body}" for got in house.ivr.got]
    for where, text in enumerate(seen):
        for secret in (
            PIN,
            WRONG,
            new,
            centre.reference,
            SECRET.hex(),
            base64.b64encode(SECRET).decode(),
            str(SECRET),
        ):
            assert secret not in text, (where, secret)
    assert "judge_fault" in seen[0]
    assert "pin_change_fault" in seen[0]


# ── red: each piece that keeps these, taken out ──────────────────────────────────────────────────────────


def with_every_refusal_taken_at_its_word(patch) -> None:
    """Any signed 4xx takes the guess back: whose bank says 400 for a wrong PIN is guessed at without end."""
    real = banks._read

    def read(heard, path, answer):
        if 400 <= heard.status < 500:
            raise banks.Unanswered("refused", banks.Outcome.REFUSED)
        return real(heard, path, answer)

    patch.setattr(banks, "_read", read)


def with_lost_verdicts_taken_back(patch) -> None:
    """What was sent and not answered does not count."""
    patch.setattr(http, "_seen", lambda fault: DirectoryFault(str(fault)))


def with_503_counting(patch) -> None:
    """A bank that is busy locks its customers out."""
    patch.setattr(http, "_seen", lambda fault: http.OutOfSight(str(fault)))


def with_a_locked_accounts_reference(patch) -> None:
    """The bank is asked about locked accounts too: they are guessed at all the same."""
    real = proving.judge

    async def judge(world, flow, call, move, digits):
        return await real(world, flow, call, replace(move, allowed=True), digits)

    patch.setattr(proving, "judge", judge)


def without_a_breaker(patch) -> None:
    """A bank that fails is asked on and on."""
    patch.setattr(banks.Breaker, "admits", lambda *_: True)


def without_signatures_on_answers(patch) -> None:
    """Whoever answers is believed."""
    patch.setattr(banks.hmac, "compare_digest", lambda *_: True)


def without_a_decoy(patch) -> None:
    """Where there is nothing to compare with, the bank is not asked."""
    real = HttpPinJudge.judge

    async def judge(self, credential, digits, challenge, now_ms):
        return Wrong() if credential is None else await real(self, credential, digits, challenge, now_ms)

    patch.setattr(HttpPinJudge, "judge", judge)


def with_404_as_a_fault(patch) -> None:
    """A bank that calls unknown 404 gives its customers away."""
    real = banks._read

    def read(heard, path, answer):
        if heard.status == 404:
            raise banks.Unanswered("404", banks.Outcome.UNSETTLED)
        return real(heard, path, answer)

    patch.setattr(banks, "_read", read)


def without_a_look_into_our_tables_for_the_unknown(patch) -> None:
    """Only accounts that exist can have an app: so only they are looked up."""

    async def found(self, said, account_id):
        answer = await self._bank.ask(LOOKUP, said, http.LookupAnswer, reads=True)
        if answer is None or answer.account is None:
            return None
        await self._own.by_id(answer.account.id)
        secret = (
            Credential(Kind.PIN, secret=answer.account.pin, key_id="remote") if answer.account.pin else None
        )
        numbers = tuple(answer.account.numbers)
        return http.Account(answer.account.id, numbers, (secret,) if secret else ())

    patch.setattr(HttpDirectory, "_found", found)


async def red_400(opened):
    await check_guesses_without_a_verdict_count(opened, status(400))


async def red_drop(opened):
    await check_guesses_without_a_verdict_count(opened, dropped)


async def red_unsigned(opened):
    await check_guesses_without_a_verdict_count(opened, unsigned)


async def red_rest(opened):
    await check_nobody_learns_who_exists(opened, Rest)


FAULTS: list[tuple[Callable[..., None], Callable[..., Awaitable[None]], str]] = [
    (with_every_refusal_taken_at_its_word, red_400, "not on record that the guesses were not judged"),
    (with_lost_verdicts_taken_back, red_drop, "not on record that the guesses were not judged"),
    (with_503_counting, check_what_was_not_looked_at_does_not_count, "nobody looked at counted"),
    (with_a_locked_accounts_reference, check_all_at_once_on_two_nodes, "more guesses than the rule allows"),
    (without_a_breaker, check_what_was_not_looked_at_does_not_count, "an open circuit let a request through"),
    (without_signatures_on_answers, red_unsigned, "no verdict was taken for one"),
    (without_a_decoy, check_nobody_learns_who_exists, "work: the bank is asked something else"),
    (with_404_as_a_fault, red_rest, "words"),
    (without_a_look_into_our_tables_for_the_unknown, check_nobody_learns_who_exists, "work: our tables"),
]


@pytest.mark.parametrize(("fault", "check", "says"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
async def test_without_this_piece_it_is_red(weak, monkeypatch, fault, check, says):
    """The same check, red."""
    fault(monkeypatch)
    with pytest.raises(AssertionError, match=says):
        await check(weak)
