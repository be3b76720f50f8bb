"""
Promise 1. **No way round.** Nothing that a flow protects is sent to the IVR, and no protected transfer is
connected, unless the call holds the required level at that moment. On any fault: refused, never let through.
Every URL the caller's leg can follow leads back to the guard.

What counts is what the IVR got: `Ivr.got` is every request that reached it, with its path read as the most
credulous server would read it.
"""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ivrguard.core import admission, assurance, demands
from ivrguard.core import call as calls
from ivrguard.core import step as steps
from ivrguard.core.assurance import AllOf, AnyOf
from ivrguard.core.errors import StoreFault
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.guard import Guard, webhook
from ivrguard.guard.webhook import Webhook
from ivrguard.phone.exchange import LineError
from ivrguard.phone.heard import Asked, Bridged, Dialled, Queued
from ivrguard.phone.wire import FetchError
from ivrguard.telephony import document, links

GUARD = "https://guard.example"
PROTECTED = "<Redirect>/wire/start</Redirect>"
XML = {"Content-Type": "text/xml"}
TRANSFER = '<Dial><Number url="/open/whisper" statusCallback="/open/told">+18005550142</Number></Dial>'

NASTY = {
    # name: the document that the caller begins with
    "a redirect": PROTECTED,
    "a redirect by GET": '<Redirect method="GET">/wire/start</Redirect>',
    "a redirect to its own origin": "<Redirect>{ivr}/wire/start</Redirect>",
    "a redirect to the guard's origin": "<Redirect>{guard}/wire/start</Redirect>",
    "a redirect with dots": "<Redirect>/open/../wire/start</Redirect>",
    "a redirect with escaped dots": "<Redirect>/open/%2e%2e/wire/start</Redirect>",
    "a redirect with escaped dots and slash": "<Redirect>/open/..%2fwire/start</Redirect>",
    "a redirect escaped twice": "<Redirect>/open/%252e%252e/wire/start</Redirect>",
    "a redirect with an escaped letter": "<Redirect>/%77ire/start</Redirect>",
    "a redirect with two slashes": "<Redirect>/wire//start</Redirect>",
    "a redirect that begins with two slashes": "<Redirect>//wire/start</Redirect>",
    "a redirect with a path parameter": "<Redirect>/wire;open=1/start</Redirect>",
    "a redirect with a backslash": "<Redirect>/open\\..\\wire\\start</Redirect>",
    "a redirect with a fragment": "<Redirect>/wire/start#rc=2</Redirect>",
    "a redirect with blanks": "<Redirect>\n   /wire/start\n  </Redirect>",
    "a redirect elsewhere": "<Redirect>https://elsewhere.example/wire/start</Redirect>",
    "a redirect to the guard's own paths": "<Redirect>{guard}/.ivrguard/at/wire/start</Redirect>",
    "a Gather without action": f'<Gather numDigits="1"/>{PROTECTED}',
    "a Gather with a relative action": '<Gather numDigits="1" action="../wire/start"/>',
    "a Gather to the protected key": '<Gather numDigits="1" action="/menu"/>',
    "a Gather that listens": '<Gather input="dtmf speech" numDigits="1" action="/wire/start"/>',
    "a Gather that reports": '<Gather numDigits="1" partialResultCallback="/open/told" action="/wire/x"/>',
    "a recording": '<Record action="/wire/start" recordingStatusCallback="/open/told"/>',
    "301": "<Redirect>/open/301</Redirect>",
    "302": "<Redirect>/open/302</Redirect>",
    "303": "<Redirect>/open/303</Redirect>",
    "307": "<Redirect>/open/307</Redirect>",
    "308": "<Redirect>/open/308</Redirect>",
    "a redirect that keeps the protected key": '<Gather numDigits="1" action="/open/307-menu"/>',
    "a redirect to the whole URL": "<Redirect>/open/302-whole</Redirect>",
    "a redirect to the guard": "<Redirect>/open/302-guard</Redirect>",
    "a redirect to an escaped path": "<Redirect>/open/302-escaped</Redirect>",
    "a chain of redirects": "<Redirect>/open/chain</Redirect>",
    "Refer": "<Refer><Sip>sip:desk@pbx.example</Sip></Refer>",
    "Refer that goes on": '<Refer action="/wire/start"><Sip>sip:desk@pbx.example</Sip></Refer>',
    "Enqueue": "<Enqueue>agents</Enqueue>",
    "Enqueue behind a Gather that falls through": '<Gather numDigits="1"/><Enqueue>agents</Enqueue>',
    "Enqueue into a workflow": '<Enqueue workflowSid="WWx"><Task>{"a":1}</Task></Enqueue>',
    "Enqueue of the open name into a workflow": '<Enqueue workflowSid="WWx">open-line</Enqueue>',
    "Dial": "<Dial>+18005550143</Dial>",
    "Dial with every noun": "<Dial><Number>+18005550143</Number><Client>ada</Client><Sip>sip:a@b.example</Sip>"
    "<Conference>room</Conference><Queue>agents</Queue></Dial>",
    "Dial of an open and a protected number": "<Dial><Number>+18005550142</Number>"
    "<Number>+18005550143</Number></Dial>",
    "Dial with a refer URL": '<Dial referUrl="/wire/start" action="/wire/start">+18005550142</Dial>',
    "Connect": "<Connect><Room>room</Room></Connect>",
    "two transfers, the second protected": "<Enqueue>open-line</Enqueue><Dial>+18005550143</Dial>",
    "two transfers, the first protected": "<Dial>+18005550143</Dial><Enqueue>open-line</Enqueue>",
    "a transfer that goes on": '<Enqueue action="/wire/start">open-line</Enqueue>',
    "a status callback that answers": TRANSFER.replace("/open/whisper", "/open/quiet"),
    "a whisper that redirects": TRANSFER,
    "a whisper that asks": TRANSFER.replace("/open/whisper", "/open/whisper-asks"),
    "a whisper that is protected": TRANSFER.replace("/open/whisper", "/wire/whisper"),
    "wait music that redirects": '<Enqueue waitUrl="/open/wait">open-line</Enqueue>',
    "wait music that asks": '<Enqueue waitUrl="/open/wait-asks">open-line</Enqueue>',
    "wait music that dials": '<Enqueue waitUrl="/open/wait-dials">open-line</Enqueue>',
    "wait music that leaves": f'<Enqueue waitUrl="/open/wait-leaves">open-line</Enqueue>{PROTECTED}',
    "wait music that is protected": '<Enqueue waitUrl="/wire/wait">open-line</Enqueue>',
    "wait music by a redirect": '<Enqueue waitUrl="/open/302">open-line</Enqueue>',
    "500": (500, XML, f"<Response>{PROTECTED}</Response>"),
    "500 behind a redirect": "<Redirect>/open/500</Redirect>",
    "garbage": (200, XML, f"<Response>{PROTECTED}<Response>"),
    "HTML": (200, {"Content-Type": "text/html"}, '<html><a href="/wire/start">here</a></html>'),
    "JSON": (200, {"Content-Type": "application/json"}, '{"redirect": "/wire/start"}'),
    "TwiML as text": (200, {"Content-Type": "text/plain"}, f"<Response>{PROTECTED}</Response>"),
    "a DTD": (200, XML, f'<!DOCTYPE Response [<!ENTITY x "/wire/start">]><Response>{PROTECTED}</Response>'),
    "too long": f"<Say>{'x' * 70_000}</Say>{PROTECTED}",
    "a verb that nobody knows": "<Teleport>{ivr}/wire/start</Teleport>",
    "an attribute that nobody knows": '<Say landing="{ivr}/wire/start">hello</Say>',
    "a challenge for a level that is not there": (
        401,
        {"WWW-Authenticate": 'Bearer error="insufficient_user_authentication", acr_values="no_such"'},
        f"<Response>{PROTECTED}</Response>",
    ),
}

OPEN = {
    "/open/told": f"{PROTECTED}<Dial>+18005550143</Dial>",
    "/open/whisper": f"{PROTECTED}<Dial>+18005550143</Dial>",
    "/open/whisper-asks": '<Gather numDigits="1" action="/wire/start"/>',
    "/open/wait": PROTECTED,
    "/open/wait-asks": '<Gather numDigits="1" action="/wire/start"/>',
    "/open/wait-dials": "<Dial>+18005550143</Dial>",
    "/open/wait-leaves": "<Leave/>",
    "/open/500": (500, XML, f"<Response>{PROTECTED}</Response>"),
    "/open/307-menu": (307, {"Location": "/menu"}, ""),
    "/open/302-whole": (302, {"Location": "{ivr}/wire/start"}, ""),
    "/open/302-guard": (302, {"Location": "{guard}/wire/start"}, ""),
    "/open/302-escaped": (302, {"Location": "/open/%2e%2e/%77ire/start"}, ""),
    "/open/chain": (302, {"Location": "/open/chain-1"}, ""),
    "/open/chain-1": (307, {"Location": "chain-2"}, ""),
    "/open/chain-2": (303, {"Location": "../wire/start"}, ""),
} | {f"/open/{status}": (status, {"Location": "/wire/start"}, "") for status in (301, 302, 303, 307, 308)}


def plant(patch, name: str, fault: object) -> None:
    """Put `fault` in the place of `name`, in each module that uses it."""
    for module in (steps, demands, calls, admission, webhook):
        if hasattr(module, name):
            patch.setattr(module, name, fault)


def protected(got, *, proven):
    """Whether the IVR should never have got this from a caller who proved nothing, or (`proven`) one factor."""
    if got.path.startswith("/wire") or (got.path == "/menu" and got.digits == "3"):
        return True
    return not proven and not got.path.startswith("/open")


def links_in(line):
    """Every URL that the guard ever wrote into an answer on this line."""
    found = {}
    for request in line.requests:
        for url in re.findall(r"""https://guard\.example[^\s"'<>]*""", request.body):
            found[url.replace("&amp;", "&").partition("#")[0]] = None
    return list(found)


async def wander(house, line, keys="3"):
    """Press `keys` at whatever asks, say nothing to the guard, leave every bridge: as far as it goes."""
    try:
        for _ in range(10):
            match line.waiting:
                case None:
                    await line.until_input()
                    if line.over:
                        return
                case Asked():
                    await (line.silent() if house.asks(line) else line.press(keys))
                case Queued():
                    await line.dequeued()
                    await line.agent_hangs_up()
                case Bridged():
                    await line.agent_hangs_up()
                case _:
                    await line.hang_up()
    except LineError:  # documents without end: a nasty IVR may lead in a circle
        return


async def follow_all(line):
    """Ask for every URL in every answer from the line's own leg."""
    for url in links_in(line):
        await line.send(url, {"Digits": "3"})


async def check_nasty_documents(house, *, proven):
    """Whatever an IVR's documents say, a caller who did not prove enough gets nowhere that is protected."""
    built = await house(OPEN, path="/open/start" if not proven else "/voice", levels=house.FAST)
    start = "/voice" if proven else "/open/start"
    for name, page in NASTY.items():
        built.ivr.documents[start] = page
        built.ivr.got.clear()
        line = built.call()
        await line.until_input()
        if proven:
            while built.asks(line) == "identify" or (built.asks(line) and start not in built.ivr.paths()):
                await line.press(await built.right(line))
            assert start in built.ivr.paths(), f"{name}: one factor did not reach the first document"
        await wander(built, line)
        await follow_all(line)
        for leg in line.legs:
            await follow_all(leg)
        reached = [got.target for got in built.ivr.got if protected(got, proven=proven)]
        assert reached == [], f"{name}: the IVR got {reached}"
        open_ones = {f"enqueue:{built.OPEN_QUEUE}", f"number:{built.OPEN_NUMBER}"}
        taken = set(built.transfers(line)) - open_ones
        assert taken == set(), f"{name}: the caller was taken to {taken}"
    return built


@pytest.mark.parametrize("proven", [False, True], ids=["nothing proved", "one factor proved"])
async def test_no_document_leads_round_the_guard(house, proven):
    """Seventy nasty documents: none leads to a protected path or transfer, by keys or by any URL written."""
    await check_nasty_documents(house, proven=proven)


# ── links that nobody wrote ──────────────────────────────────────────────────────────────────────────────

MANY_LINKS = (
    '<Gather numDigits="1" action="/open/next"><Play>/open/tune.mp3</Play></Gather>'
    '<Dial action="/open/after"><Number url="/open/quiet" statusCallback="/open/told">+18005550142</Number></Dial>'
    '<Enqueue waitUrl="/open/music">open-line</Enqueue>'
)

SPELLINGS = (
    "/wire/start",
    "/wire/start/",
    "/wire//start",
    "//wire/start",
    "/%77ire/start",
    "/wire%2fstart",
    "/wire;x=1/start",
    "/wire/start;x=1",
    "/open/../wire/start",
    "/open/%2e%2e/wire/start",
    "/open/..%2fwire/start",
    "/open/.%2e/wire/start",
    "/./wire/start",
    "/.ivrguard/../wire/start",
    "/.ivrguard/at/../../wire/start",
    "/.ivrguard/at/wire/start",
    "/.ivrguard/call/../../wire/start",
    "/wire/start?Digits=1",
    "/wire/start?x=1",
    "/menu?Digits=3",
)


def forged(url):
    """What somebody may try who has one link of the guard's: other paths, uses and turns, twice, or stripped."""
    parts = urlsplit(url)
    control = next(each for each in parts.query.split("&") if each.startswith("_ivrguard="))
    use, turn, mac = control.removeprefix("_ivrguard=").split(".")
    for spelling in SPELLINGS:
        joint = "&" if "?" in spelling else "?"
        yield GUARD + spelling
        yield f"{GUARD}{spelling}{joint}{control}"
        for kind in "twqsm":
            for method in "gp":
                yield f"{GUARD}{spelling}{joint}_ivrguard={kind}{method}.{turn}.{mac}"
    for kind in "twqsm":
        yield f"{GUARD}/wire/start?_ivrguard={kind}p.0.{mac}"
        yield f"{GUARD}/wire/start?_ivrguard={kind}p.{turn}.{mac}&_ivrguard={kind}p.{turn}.{mac}"
        yield f"{GUARD}/wire/start?_ivrguard={kind}p.{turn}.{'A' * 22}"
        yield f"{GUARD}{parts.path}?{control}&x=/wire/start"
    yield f"{GUARD}/wire/start?_ivrguard={use}.{turn}"
    yield f"{GUARD}/wire/start?%5Fivrguard={use}.{turn}.{mac}"


async def check_forged_links(house):
    """A link that the guard did not write, or wrote for something else, leads to nothing that is protected."""
    built = await house(OPEN | {"/open/start": MANY_LINKS}, levels=house.FAST)
    line = built.call()
    await line.until_input()
    written = [url for url in links_in(line) if "_ivrguard=" in url]
    uses = {re.search(r"_ivrguard=(.)", url)[1] for url in written}
    assert uses == {"t", "w", "s", "q", "m"}
    tried = {url for each in written for url in forged(each)}
    for number, url in enumerate(sorted(tried)):
        try:
            await line.send(url, {"Digits": "3"}, "GET" if number % 3 == 0 else "POST")
        except FetchError:  # the pretend Twilio itself takes no such URL
            continue
    reached = {got.target for got in built.ivr.got if protected(got, proven=False)}
    assert reached == set(), f"the IVR got {reached}"
    return len(tried)


async def test_a_forged_or_stripped_link_opens_nothing(house):
    """Some hundred forged links each for action, whisper, notice, wait music and media."""
    assert await check_forged_links(house) > 500


# ── at that moment ───────────────────────────────────────────────────────────────────────────────────────

MENU = '<Gather numDigits="1" action="/menu"/>'


async def check_a_proof_grows_old(house):
    """`within` 5 minutes: at 300 s the proofs count, a second later both factors are asked for again."""
    built = await house({"/voice": MENU, "/menu": MENU}, path="/voice", levels=house.FAST)
    line = await built.verify(built.call())
    await line.press("3")
    assert built.asks(line) == "sms_code"
    assert built.ivr.paths() == ["/voice"], "one factor was enough"
    proved_ms = built.clock()
    await line.press(await built.right(line))
    assert built.ivr.paths() == ["/voice", "/menu"], "two factors were not enough"

    built.clock.advance(300 - (built.clock() - proved_ms) / 1000)
    await line.press("3")
    assert built.ivr.paths() == ["/voice", "/menu", "/menu"], "a proof of five minutes no longer counted"

    built.clock.advance(0.001)
    await line.press("3")
    assert len(built.ivr.got) == 3, "a proof older than five minutes counted"
    assert built.asks(line) == "totp"
    await line.press(await built.right(line))
    assert len(built.ivr.got) == 3, "one new proof and one old one counted"
    await line.press(await built.right(line))
    assert len(built.ivr.got) == 4
    assert built.ivr.got[-1].digits == "3"


async def test_a_proof_counts_for_as_long_as_the_rule_says(house):
    """The level is derived at the moment of forwarding, never remembered; and the held request comes as it was."""
    await check_a_proof_grows_old(house)


async def check_a_transfer_wants_a_new_proof(house):
    """A caller with both factors is asked once more at the transfer, and taken nowhere before he answers."""
    documents = {"/voice": MENU, "/menu": "<Enqueue>agents</Enqueue>"}
    rules = (Rule(Demand("two_factor"), path="/menu"), *house.RULES)
    built = await house(documents, path="/voice", levels=house.FAST, rules=rules)
    line = await built.verify(built.call())
    await line.press("0")
    await line.press(await built.right(line))
    assert built.asks(line) == "totp", (
        "both factors were proved before, and nothing was asked at the transfer"
    )
    assert built.transfers(line) == []
    await line.press("000000")
    assert built.transfers(line) == [], "a wrong answer connected the transfer"
    await line.press(await built.right(line))
    assert built.transfers(line) == ["enqueue:agents"]


async def test_a_protected_transfer_is_connected_after_a_new_proof(house):
    """`reverify`: proofs from before the transfer was asked for do not count."""
    await check_a_transfer_wants_a_new_proof(house)


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────


class Stumbling:
    """A store whose n-th act fails: before anything is done, or (`late`) when it is done but nobody hears."""

    def __init__(self, inner):
        self.inner, self.acts, self.fails_at, self.late, self.error = inner, 0, None, False, None

    async def _act(self, act):
        number, self.acts = self.acts, self.acts + 1
        if number != self.fails_at:
            return await act()
        if self.late:
            await act()
        raise self.error

    async def read(self, key):
        return await self._act(lambda: self.inner.read(key))

    async def amend(self, keys, change):
        return await self._act(lambda: self.inner.amend(keys, change))

    def __getattr__(self, name):
        return getattr(self.inner, name)


async def check_faults(house):
    """
    The store fails at each act of a call in turn. A caller with one factor, who answers wrong when asked for the
    second, reaches nothing protected: neither by his own keys nor by what he is told instead.
    """
    store = None

    def wrap(inner):
        nonlocal store
        store = Stumbling(inner)
        return store

    built = await house({"/voice": MENU, "/menu": MENU}, path="/voice", levels=house.FAST, wrap=wrap)

    async def attempt():
        line = built.call()
        await line.until_input()
        while built.asks(line) and "/voice" not in built.ivr.paths():
            await line.press(await built.right(line))
        for keys in ("3", "000000"):
            if isinstance(line.waiting, Asked):
                await line.press(keys)
        await built.rig.server.guard.drain()
        return line

    store.acts = 0
    assert not (await attempt()).over, "without a fault the caller is asked again"
    acts = store.acts
    assert acts > 10
    errors = (StoreFault("the disk is gone"), RuntimeError("a bug"))
    for number, error, late in product(range(acts), errors, (False, True)):
        store.acts, store.fails_at, store.error, store.late = 0, number, error, late
        built.ivr.got.clear()
        line = await attempt()
        reached = [got.target for got in built.ivr.got if protected(got, proven=True)]
        assert reached == [], f"act {number} failed with {error!r}: the IVR got {reached}"
        assert built.transfers(line) == [], f"act {number} failed with {error!r}: the caller was handed on"
        assert {request.status for request in line.requests} == {200}
        assert {urlsplit(request.url).netloc for request in line.requests} == {"guard.example"}
    return acts


async def test_whatever_fails_lets_nothing_through(house):
    """Each act of the store fails once, before or after it is done, with a fault or with a bug."""
    await check_faults(house)


# ── any flow, any IVR, any caller ────────────────────────────────────────────────────────────────────────

PATHS = ("/a", "/a/1", "/b", "/b/1", "/c")
QUEUES = ("red", "blue")
LEVELS = {"one": AnyOf(("app", "code")), "two": AllOf(("app", "code"))}
LEVEL = st.sampled_from([None, "one", "two"])


@dataclass(frozen=True)
class World:
    """A flow's rules, an IVR's documents, and what a caller does."""

    rules: tuple[tuple[str, str | None, str | None, int | None], ...]
    default: str | None
    handing: tuple[tuple[str, str | None, bool], ...]
    documents: dict[str, str]
    acts: tuple[tuple[str, str], ...]


@st.composite
def verbs(draw, place):
    """A document of the page at `place`: it gathers towards any page, and goes on to later ones only."""
    later = PATHS[place + 1 :] or ("/end",)
    own = []
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(st.sampled_from(["gather", "say", "dial", "enqueue", "waits"]))
        action = draw(st.sampled_from(PATHS))
        queue = draw(st.sampled_from(QUEUES))
        own.append(
            {
                "gather": f'<Gather numDigits="1" action="{action}"/>',
                "say": "<Say>well</Say>",
                "dial": f"<Dial><Client>{queue}</Client></Dial>",
                "enqueue": f'<Enqueue action="{action}">{queue}</Enqueue>',
                "waits": f'<Enqueue waitUrl="{action}">{queue}</Enqueue>',
            }[kind]
        )
    end = draw(st.sampled_from(["", "redirect", "gather"]))
    if end == "redirect":
        own.append(f"<Redirect>{draw(st.sampled_from(later))}</Redirect>")
    if end == "gather":
        own.append(f'<Gather numDigits="1" action="{draw(st.sampled_from(PATHS))}"/>')
    return "".join(own)


@st.composite
def worlds(draw):
    patterns = st.sampled_from(["/a", "/a/**", "/b/**", "/b/1", "/c", "/**"])
    rule = st.tuples(
        patterns, st.sampled_from([None, None, "1", "2"]), LEVEL, st.sampled_from([None, None, 60])
    )
    hand = st.tuples(st.sampled_from(["red", "blue", "*"]), LEVEL, st.booleans())
    documents = {}
    for place, path in enumerate(PATHS):
        page = draw(verbs(place))
        if place and draw(st.integers(0, 4)) == 0:
            status = draw(st.sampled_from([302, 307]))
            target = draw(st.sampled_from(PATHS[place + 1 :] or ("/end",)))
            page = (status, {"Location": target}, "")
        documents[path] = page
    act = st.tuples(
        st.sampled_from(["right", "right", "right", "wrong", "silent", "later", "link"]),
        st.sampled_from(["1", "2"]),
    )
    return World(
        tuple(draw(st.lists(rule, max_size=4))),
        draw(LEVEL),
        tuple(draw(st.lists(hand, max_size=2))),
        documents,
        tuple(draw(st.lists(act, min_size=4, max_size=10))),
    )


def flow_of(base, world):
    """The world's rules as a flow."""
    rules = [
        Rule(Demand(level, within_s=within if level else None), path=pattern, digits=digits)
        for pattern, digits, level, within in world.rules
    ]
    rules += [
        Rule(Demand(level, reverify="one" if level and again else None), transfer=Target("*", name))
        for name, level, again in world.handing
    ]
    return replace(base, rules=tuple(rules), default=Demand(world.default), levels=LEVELS)


class Oracle:
    """What may happen, worked out anew from the world and from what the caller proved. It knows no code of ours."""

    def __init__(self, world, clock, order):
        self.world, self.clock, self.order = world, clock, order
        self.proofs = {}

    def proved(self, kind):
        self.proofs[kind] = (self.clock(), next(self.order))

    def holds(self, level, within=None):
        now = self.clock()
        young = [kind for kind, (at, _) in self.proofs.items() if within is None or now - at <= within * 1000]
        return level is None or len(young) >= {"one": 1, "two": 2}[level]

    def request(self, got):
        """Why this request should not have reached the IVR; None if it may."""
        level, within = self.world.default, None
        for pattern, digits, wanted, age in self.world.rules:
            stem = pattern.removesuffix("/**")
            fits = got.path == stem or (pattern != stem and got.path.startswith(stem + "/"))
            if fits and digits in (None, got.digits):
                level, within = wanted, age if wanted else None
                break
        return None if self.holds(level, within) else f"{got.path} needs {level} within {within}"

    def transfer(self, name, asked_order):
        """Why the caller should not have been taken there; `asked_order`: when the IVR was last asked."""
        level, again = self.world.default, False
        for pattern, wanted, anew in self.world.handing:
            if pattern in ("*", name):
                level, again = wanted, bool(wanted) and anew
                break
        if not self.holds(level):
            return f"{name} needs {level}"
        if again and not any(order > asked_order for _, order in self.proofs.values()):
            return f"{name} needs a new proof"
        return None


async def live_through(built, world, tally):
    """Let the caller act, and ask the oracle about all that happened."""
    built.ivr.documents = dict(world.documents)
    built.ivr.got.clear()
    built.deploy(flow_of(built.flow, world))
    oracle, line = Oracle(world, built.clock, built.ivr.order), None
    seen, places = 0, []

    async def hears(heard):
        if isinstance(heard, Queued | Dialled):
            name = heard.name if isinstance(heard, Queued) else heard.targets[0].name
            places.append((name, max(got.order for got in built.ivr.got)))
        return ""

    for act, key in (("right", "1"), *world.acts):
        if line is None or line.over:
            line = built.call()
            line.listener = hears
            oracle.proofs.clear()
        try:
            await do(built, oracle, line, act, key)
        except LineError:
            line = None
        for got in built.ivr.got[seen:]:
            tally[f"reached with {len(oracle.proofs)} proofs"] += 1
            wrong = oracle.request(got)
            assert wrong is None, f"the IVR got {got.target} with {sorted(oracle.proofs)}: {wrong}"
        seen = len(built.ivr.got)
        while places:
            tally["taken to somebody"] += 1
            name, asked = places.pop()
            wrong = oracle.transfer(name, asked)
            assert wrong is None, f"the caller was taken to {name} with {sorted(oracle.proofs)}: {wrong}"


async def do(built, oracle, line, act, key):
    """One act of the caller. A right answer is written down before it is given."""
    if act == "later":
        built.clock.advance(61)
    if line.waiting is None:
        await line.until_input()
    question = built.asks(line)
    if act == "link":
        for url in links_in(line)[-2:]:
            await line.send(url, {"Digits": key})
    elif question is not None and act in ("right", "later"):
        keys = await built.right(line)
        if question != "identify":
            oracle.proved(question)
        await line.press(keys)
    elif question is not None and act == "wrong":
        await line.press("0" * 6)
    elif isinstance(line.waiting, Asked):
        await (line.silent() if act == "silent" else line.press(key))
    elif isinstance(line.waiting, Queued):
        if act == "silent":
            await line.silent()
        else:
            await line.dequeued()
            await line.agent_hangs_up()
    elif isinstance(line.waiting, Bridged):
        await line.agent_hangs_up()


async def check_any_world(house, *, examples, shrink=True):
    """Any rules, any documents, any caller: the oracle finds nothing that reached the IVR or an agent unproved."""
    built = await house({}, path="/a", levels=LEVELS, rules=(), tries=6)
    loop, tally = asyncio.get_running_loop(), Counter()
    phases = [phase for phase in Phase if shrink or phase in (Phase.explicit, Phase.generate)]

    @settings(max_examples=examples, phases=phases, database=None)
    @given(worlds())
    def search(world):
        asyncio.run_coroutine_threadsafe(live_through(built, world, tally), loop).result()

    await asyncio.to_thread(search)
    return tally


async def test_no_flow_no_ivr_and_no_caller_makes_a_way_round(house):
    """A property: what reached the IVR and the agents is always what an oracle of its own allows."""
    tally = await check_any_world(house, examples=30 if house.kind == "memory" else 15)
    assert tally["taken to somebody"]
    assert tally["reached with 0 proofs"]
    assert tally["reached with 1 proofs"]


# ── planted faults: each must turn its check red ─────────────────────────────────────────────────────────


def without_gate(patch):
    """Every demand holds."""
    plant(patch, "missing", lambda *_: ())


def without_led_back_links(patch):
    """The IVR's links go out as absolute URLs of its own."""
    plain = lambda self, reference, kind, method: links.resolve(self.base, reference)  # noqa: E731 -- one line beside its use
    patch.setattr(document._Rewriting, "_led_back", plain)


def without_transfers(patch):
    """Nobody looks for transfers in a document."""
    patch.setattr(document, "_survey", lambda _: ())


def with_spellings(patch):
    """A path is matched as it is spelled."""
    patch.setattr(links, "_canonical", lambda path: path)


def with_redirects_followed(patch):
    """A redirect of the IVR is judged by the path that redirected."""
    redirected = Webhook._redirected

    def followed(self, request, reply):
        event = redirected(self, request, reply)
        return replace(event, visit=replace(event.visit, path=urlsplit(reply.url).path))

    patch.setattr(Webhook, "_redirected", followed)


def with_redirects_without_keys(patch):
    """A redirect that keeps what the caller keyed is judged as if he had keyed nothing."""
    redirected = Webhook._redirected

    def keyless(self, request, reply):
        event = redirected(self, request, reply)
        return replace(event, visit=replace(event.visit, digits=None))

    patch.setattr(Webhook, "_redirected", keyless)


def with_other_ears_ungated(patch):
    """Wait music and whispers pass whatever their path needs."""
    patch.setattr(Webhook, "holds", lambda *_: True)


def without_mac(patch):
    """The MAC of a link is not looked at."""
    patch.setattr(links, "hmac", SimpleNamespace(compare_digest=lambda *_: True))


def with_faults_let_through(patch):
    """The apology hands the caller to somebody."""
    onward = b"<Response><Dial>+18005550143</Dial></Response>"
    patch.setattr(Guard, "apology", lambda *_: onward)


def with_eternal_proofs(patch):
    """`within` is not looked at."""
    counts = assurance.Freshness.counts
    patch.setattr(
        assurance.Freshness,
        "counts",
        lambda self, proof, now: counts(replace(self, within_s=None), proof, now),
    )


def with_old_proofs_at_transfers(patch):
    """`reverify` takes proofs from before the transfer was asked for."""
    counts = assurance.Freshness.counts
    patch.setattr(
        assurance.Freshness,
        "counts",
        lambda self, proof, now: counts(replace(self, since_turn=0), proof, now),
    )


async def nothing_proved(house):
    await check_nasty_documents(house, proven=False)


async def one_factor_proved(house):
    await check_nasty_documents(house, proven=True)


async def any_world(house):
    await check_any_world(house, examples=200, shrink=False)


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (without_gate, nothing_proved),
        (without_gate, check_a_proof_grows_old),
        (without_gate, any_world),
        (without_transfers, any_world),
        (without_led_back_links, one_factor_proved),
        (without_transfers, nothing_proved),
        (without_transfers, check_a_transfer_wants_a_new_proof),
        (with_spellings, nothing_proved),
        (with_redirects_followed, nothing_proved),
        (with_redirects_without_keys, one_factor_proved),
        (with_other_ears_ungated, nothing_proved),
        (without_mac, check_forged_links),
        (with_faults_let_through, check_faults),
        (with_eternal_proofs, check_a_proof_grows_old),
        (with_old_proofs_at_transfers, check_a_transfer_wants_a_new_proof),
    ],
    ids=lambda one: one.__name__,
)
async def test_a_planted_fault_turns_it_red(broken, monkeypatch, plant, check):
    """Each piece of code that keeps this promise is taken out once, and the promise's own check fails."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await check(broken)
