"""The call that an agent holds, and no other one: for everybody else it never was."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as searching
from hypothesis import strategies as st

from ivrguard.core import standing as standings
from ivrguard.core.agents import AFTER_CALL_S, Agent
from ivrguard.core.assurance import Kind, Proof
from ivrguard.core.call import Call, own_ledger_id
from ivrguard.core.caller import address_of
from ivrguard.core.errors import RecordFault, StoreFault
from ivrguard.core.handoff import Alias, Leg
from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.core.rules import Demand
from ivrguard.core.standing import Status
from ivrguard.guard import Flows, Mounted, World, books, held
from ivrguard.guard import desk as desks
from ivrguard.ports import Change, Put
from ivrguard.stores.memory import MemoryStore
from ivrguard.telephony.links import Links

Centre = Any

ANN, BOB = Agent("ann"), Agent("agent:bob")
SID = "CA" + "0a1b2c3d" * 4


async def put(store, key, value):
    await store.amend([key], lambda _: Change(None, (Put(key, value),)))


def a_leg(call, nth, agent=""):
    """The nth hand-over of a call, redeemed by this agent ("": by nobody yet)."""
    return Leg(
        id=f"{call}-{nth}",
        call=call,
        account="123456789",
        queues=("client:ada",),
        carriers=("parameter",),
        intent="agent",
        acr=("one_factor",),
        amr=("pin",),
        auth_ms=0,
        issued_ms=1,
        expires_ms=2**50,
        redeemed_ms=2 if agent else None,
        agent=agent,
    )


async def a_call(centre, *agents, sid=SID, **more):
    """A call in the store that was handed over to these, one after the other."""
    legs = [a_leg(sid, nth, agent) for nth, agent in enumerate(agents)]
    flow, now = centre.flow, centre.clock()
    caller = address_of("+15551230001")
    call = Call(sid, "AC1", flow.name, flow.version, caller, "+18005550100", attested=False, began_ms=now)
    usual = {
        "account": "123456789",
        "known": True,
        "enrolled": ("pin",),
        "legs": tuple(leg.id for leg in legs),
    }
    usual["proofs"] = (Proof("pin", Kind.PIN, now, 1),)
    call = replace(call, **{**usual, **more})
    for leg in legs:
        await put(centre.store, books.leg_key(leg.id), leg)
    await put(centre.store, books.call_key(sid), call)
    return call


async def test_who_redeemed_the_last_token_holds_the_call(centre: Centre):
    """With its flow and its hand-overs, in order."""
    call = await a_call(centre, "agent:bob", "ann")
    world = centre.node().world
    found = await held.held(world, ANN, SID)

    assert found is not None
    assert (found.call, found.mounted.flow) == (call, centre.flow)
    assert [leg.agent for leg in found.legs] == ["agent:bob", "ann"]
    assert await held.held(world, BOB, SID) is None


async def test_who_passed_it_on_holds_it_until_somebody_takes_it(centre: Centre):
    """An agent is not left with a caller that he knows nothing of; see core/handoff.py, `in_hands`."""
    await a_call(centre, "ann", "")
    world, name = centre.node().world, f"{SID}-1"
    passed = replace(a_leg(SID, 1), actors=("ann",))
    await put(centre.store, books.leg_key(name), passed)
    found = await held.held(world, ANN, SID)
    assert found is not None
    assert [leg.agent for leg in found.legs] == ["ann"]
    await put(centre.store, books.leg_key(name), replace(passed, redeemed_ms=3, agent="agent:bob"))
    assert await held.held(world, ANN, SID) is None
    assert await held.held(world, BOB, SID) is not None


@pytest.mark.parametrize("agents", [(), ("",), ("ann", ""), ("ann", "agent:bob"), ("agent:bob",), ("ANN",)])
async def test_nobody_else_does(centre: Centre, agents):
    """Not before the token is redeemed, not once the caller is handed on, nor by another name."""
    await a_call(centre, *agents)
    assert await held.held(centre.node().world, ANN, SID) is None


@pytest.mark.parametrize(
    "sid", ["CA" + "f" * 32, "", "CA1", SID.upper(), SID + "0", SID + "\n", f"{SID}/..", "*"]
)
async def test_a_call_that_never_was_and_what_is_no_callsid(centre: Centre, sid):
    await a_call(centre, "ann")
    assert await held.held(centre.node().world, ANN, sid) is None


async def test_a_hand_over_that_is_kept_no_longer_is_left_out(centre: Centre):
    """An earlier one: the call is held all the same. The last one: nobody holds it."""
    await a_call(centre, "agent:bob", "ann")
    world = centre.node().world
    await put(centre.store, books.leg_key(f"{SID}-0"), None)
    found = await held.held(world, ANN, SID)
    assert found is not None
    assert [leg.agent for leg in found.legs] == ["ann"]
    await put(centre.store, books.leg_key(f"{SID}-1"), None)
    assert await held.held(world, ANN, SID) is None


async def test_a_call_whose_flow_is_gone_is_nobodys(centre: Centre):
    """There is nothing to judge it by."""
    await a_call(centre, "ann", flow="gone")
    assert await held.held(centre.node().world, ANN, SID) is None


async def test_it_is_seen_as_it_stands_now(centre: Centre):
    """With the account's own books: what others guessed at it elsewhere is seen as well."""
    call = await a_call(centre, "ann")
    world = centre.node().world
    found = await held.held(world, ANN, SID)
    assert found is not None
    before = await held.seen(world, found)
    centre.clock.advance(1)
    rule = centre.flow.locks.account
    attempts = tuple(Attempt(str(nth), centre.clock()) for nth in range(rule.failures))
    name = own_ledger_id(centre.flow, call, "pin")
    await put(centre.store, books.ledger_key(name), Ledger(attempts, run=len(attempts)))
    after = await held.seen(world, found)

    assert (before.account, before.attempts_left, before.now_ms) == (
        "123456789",
        rule.failures,
        call.began_ms,
    )
    assert (after.status, after.attempts_left, after.now_ms) == (Status.LOCKED, 0, centre.clock())


async def test_a_call_that_no_account_was_claimed_in_is_seen_too(centre: Centre):
    """It came to an agent as it is: not verified, and no account's books are read."""
    await a_call(centre, "ann", account="", known=False, enrolled=(), proofs=())
    world = centre.node().world
    found = await held.held(world, ANN, SID)
    assert found is not None
    seen = await held.seen(world, found)
    assert (seen.status, seen.account, seen.able, seen.attempts_left) == (Status.NOT_VERIFIED, "", (), None)


async def test_a_store_that_is_down_says_so(centre: Centre):
    """Nobody is taken for somebody who holds nothing: the panel must say that it does not know."""
    await a_call(centre, "ann")
    world = centre.node().world
    await centre.store.close()
    with pytest.raises(StoreFault):
        await held.held(world, ANN, SID)


@pytest.mark.parametrize(("ago_s", "is_held"), [(0, True), (AFTER_CALL_S - 1, True), (AFTER_CALL_S, False)])
async def test_a_call_is_his_for_a_while_after_its_end(centre: Centre, ago_s, is_held):
    """There is work after a call; then it is as if it had never been."""
    await a_call(centre, "ann", ended_ms=centre.clock() - ago_s * 1000)
    assert (await held.held(centre.node().world, ANN, SID) is not None) == is_held


# ── what is on record ────────────────────────────────────────────────────────────────────────────────────


def looks(entries):
    return [
        (one.event, one.call, one.account, one.reason, one.detail) for one in entries if "view" in one.event
    ]


async def test_a_look_is_on_record_once_a_minute(centre: Centre):
    """For each agent and call; when that was is told to him who looks."""
    await a_call(centre, "ann", ref="acc_1")
    guard, began = centre.node(), centre.clock()
    found = await guard.held(ANN, SID)
    assert found is not None
    assert [await guard.look(ANN, found) for _ in range(3)] == [began] * 3
    centre.clock.advance(59.999)
    assert await guard.look(ANN, found) == began
    centre.clock.advance(0.001)
    assert await guard.look(ANN, found) == centre.clock()
    assert looks(await centre.record()) == [("call_viewed", SID, "acc_1", "held", (("agent", "ann"),))] * 2


async def test_two_looks_at_once_are_one_entry(centre: Centre, monkeypatch):
    """On two nodes, neither of which saw the other's: whoever comes second finds it, and is told of that one."""
    await a_call(centre, "ann")
    world = centre.node().world
    found = await held.held(world, ANN, SID)
    assert found is not None

    async def nothing_yet(_):
        return None

    monkeypatch.setattr(centre.store.store, "read", nothing_yet)
    first = await held.look(world, ANN, found)
    centre.clock.advance(1)
    assert await held.look(world, ANN, found) == first
    assert len(looks(await centre.record())) == 1


async def test_a_clock_that_jumped_back_hides_no_look(centre: Centre):
    await a_call(centre, "ann")
    guard = centre.node()
    found = await guard.held(ANN, SID)
    assert found is not None
    await guard.look(ANN, found)
    centre.clock.advance(-1)
    await guard.look(ANN, found)
    assert len(looks(await centre.record())) == 2


@pytest.mark.parametrize(
    ("asked", "named"), [(SID, SID), ("CA" + "f" * 32, "CA" + "f" * 32), ("x" * 300, "")]
)
async def test_who_asks_for_what_is_not_his_is_on_record(centre: Centre, asked, named):
    """Once a minute, alike for a call of somebody else's and one that never was; what is no CallSid is not repeated."""
    await a_call(centre, "agent:bob")
    guard = centre.node()
    for _ in range(3):
        assert await guard.held(ANN, asked) is None
    entry = ("call_view_refused", named, "", "not_held", (("agent", "ann"),))
    assert looks(await centre.record()) == [entry]
    centre.clock.advance(60)
    assert await guard.held(ANN, asked) is None
    assert looks(await centre.record()) == [entry, entry]


async def test_what_cannot_be_recorded_is_not_shown(centre: Centre):
    """Where a copy of the record is required and cannot be written, nobody looks."""
    await a_call(centre, "ann")
    guard = centre.node("unrecorded", refusal=lambda: "the copy cannot be written")
    found = await guard.held(ANN, SID)
    assert found is not None
    with pytest.raises(RecordFault):
        await guard.look(ANN, found)
    with pytest.raises(RecordFault):
        await guard.held(BOB, SID)


# ── whatever happens ─────────────────────────────────────────────────────────────────────────────────────

DESKS = (
    Agent("ann", queues=("enqueue:*",)),
    Agent("agent:ann", queues=("enqueue:*",)),
    Agent("eve", queues=("**",)),
)
SIDS = tuple(f"CA{number:032x}" for number in range(2))
WITHIN_S = 300


@dataclass
class Town:
    """A store, a clock, and what a simple mind expects: who holds which call, and when it last proved something."""

    world: World
    now_ms: int = 1_790_000_000_000
    holder: dict[str, str] = field(default_factory=dict)
    proved_ms: dict[str, int] = field(default_factory=dict)
    ended_ms: dict[str, int] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    legs: int = 0

    async def begin(self, flow):
        for sid in SIDS:
            caller = address_of("+15551230001")
            call = Call(sid, "AC1", flow.name, flow.version, caller, "+18005550100", False, self.now_ms)
            await put(
                self.world.store, books.call_key(sid), replace(call, account=f"77{sid[-7:]}", known=True)
            )

    async def change(self, sid, **more):
        call = await self.world.store.read(books.call_key(sid))
        more = {name: value(call) if callable(value) else value for name, value in more.items()}
        await put(self.world.store, books.call_key(sid), replace(call, **more))
        return call

    async def hand_on(self, sid, _, actors=()):
        """The IVR has the call handed over: a new token, and nobody holds it."""
        self.legs += 1
        leg = f"{self.legs:032x}"
        call = await self.change(sid, legs=lambda call: (*call.legs, leg))
        expires_ms = self.now_ms + 600_000
        made = replace(a_leg(sid, 0), id=leg, account=call.account, queues=("enqueue:x",), actors=actors)
        made = replace(made, issued_ms=self.now_ms, expires_ms=expires_ms)
        await put(self.world.store, books.leg_key(leg), made)
        await put(self.world.store, books.alias_key(self.world.keys, sid), Alias(leg, expires_ms))
        if not actors:
            self.holder.pop(sid, None)
        self.open.add(sid)

    async def pass_on(self, sid, _):
        """Whoever holds it passes it on: it is his until somebody takes it."""
        if sid in self.holder:
            await self.hand_on(sid, _, (self.holder[sid],))

    async def redeem(self, sid, agent):
        if await desks.redeem(self.world, agent.as_desk(), sid, None) is not None:
            assert sid in self.open, "a token works once"
            self.open.remove(sid)
            self.holder[sid] = agent.name

    async def prove(self, sid, _):
        proof = Proof("pin", Kind.PIN, self.now_ms, 1)
        await self.change(sid, proofs=lambda call: (*call.proofs, proof), enrolled=("pin",))
        self.proved_ms[sid] = self.now_ms

    async def end(self, sid, _):
        self.ended_ms.setdefault(sid, self.now_ms)
        await self.change(sid, ended_ms=self.ended_ms[sid])

    async def wait(self, *_):
        self.now_ms += 301_000

    def holds(self, agent, sid):
        over = sid in self.ended_ms and self.now_ms - self.ended_ms[sid] >= AFTER_CALL_S * 1000
        return self.holder.get(sid) == agent.name and not over

    async def check(self):
        """Everybody looks for every call: he finds what he holds, and of it what may be known."""
        for agent in DESKS:
            for sid in SIDS:
                found = await held.held(self.world, agent, sid)
                assert (found is not None) == self.holds(agent, sid), (agent.name, sid)
                if found is None:
                    continue
                seen = await held.seen(self.world, found)
                counts = self.now_ms - self.proved_ms.get(sid, 0) <= WITHIN_S * 1000
                assert (seen.account, seen.able) == ((found.call.account, ("pin",)) if counts else ("", ()))
                assert counts or found.call.account not in repr(seen)
            listed = [one.call.sid for one in await held.holding(self.world, agent)]
            assert sorted(listed) == [sid for sid in SIDS if self.holds(agent, sid)]


STEPS = ("hand_on", "redeem", "prove", "end", "wait", "pass_on")


def a_world(flow, keys):
    """A guard with a store and keys, and nothing else."""
    flow = replace(flow, rules=(), default=Demand("one_factor", within_s=WITHIN_S))
    links = Links("https://guard.example", flow.upstream.url, (), b"k" * 32)
    parts = dict.fromkeys(("directory", "codes", "messenger", "ivr"))
    town = None
    world = World(
        **parts,
        store=MemoryStore(),
        judges={},
        keys=keys,
        flows=Flows((Mounted(flow, links, ZoneInfo("UTC")),)),
        issuer="https://guard.example",
        node="a",
        clock=lambda: town.now_ms,
        chance=lambda count: b"7" * count,
    )
    town = Town(world)
    return town, flow


def lives(flow, keys, steps):
    async def run():
        town, flow_ = a_world(flow, keys)
        await town.begin(flow_)
        for what, nth, who in steps:
            await getattr(town, STEPS[what])(SIDS[nth], DESKS[who])
            await town.check()

    asyncio.run(run())


@searching(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from((0, 0, 1, 1, 1, 2, 3, 4, 5)), st.integers(0, 1), st.integers(0, 2)),
        max_size=12,
    )
)
def test_nobody_sees_a_call_that_he_does_not_hold(flow, keys, steps):
    """
    Whatever happens, in whatever order, to two calls between three desks (two of which share a name, but for its kind): each finds
    what he redeemed the last token of, and no other call; what is protected shows while a proof counts, and not before.
    """
    lives(flow, keys, steps)


HANDED_ON = [(0, 0, 0), (1, 0, 0), (5, 0, 0), (1, 0, 1), (0, 0, 0), (1, 0, 2)]
ENDED = [(0, 0, 0), (1, 0, 0), (3, 0, 0), (4, 0, 0), (4, 0, 0)]
PROVED = [(0, 0, 0), (1, 0, 0), (2, 0, 0), (4, 0, 0), (2, 0, 0)]


@pytest.mark.parametrize("steps", [HANDED_ON, ENDED, PROVED], ids=["handed on", "ended", "proved"])
def test_what_the_faults_below_are_planted_in_holds(flow, keys, steps):
    lives(flow, keys, steps)


SEEN = held.standing_of
FAULTS = {
    "his who passed it on": (held, "in_hands", lambda legs: 0, HANDED_ON),
    "nobody's while it is passed on": (held, "in_hands", lambda legs: len(legs) - 1, HANDED_ON),
    "anybody's": (
        held,
        "holds",
        lambda agent, leg: leg is not None and leg.redeemed_ms is not None,
        HANDED_ON,
    ),
    "nobody's yet": (held, "holds", lambda agent, leg: leg is not None, HANDED_ON),
    "by the name without its kind": (
        held,
        "holds",
        lambda agent, leg: leg.redeemed_ms is not None and leg.agent.endswith(agent.name.rpartition(":")[2]),
        HANDED_ON,
    ),
    "for ever": (held, "over", lambda *_: False, ENDED),
    "never listed": (books, "holding_put", lambda name, *_: Put(books.holding_key(name), None), HANDED_ON),
    "proved once": (standings, "proved", lambda proofs, *_: frozenset(one.factor for one in proofs), PROVED),
    "not protected": (
        held,
        "standing_of",
        lambda flow, call, *more: replace(SEEN(flow, call, *more), account=call.account),
        PROVED,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_turns_it_red(flow, keys, monkeypatch, fault):
    """Each line that keeps it is weakened once, and the check above finds it."""
    module, name, weakened, steps = FAULTS[fault]
    monkeypatch.setattr(module, name, weakened)
    with pytest.raises(AssertionError):
        lives(flow, keys, steps)


async def test_what_is_not_his_any_more_is_looked_for_no_longer(centre: Centre):
    """The list of what he took grows no longer than what he holds, up to a bound."""
    world = centre.node().world
    await a_call(centre, "ann")
    key = books.holding_key("ann")
    await put(centre.store, key, (("CA" + "f" * 32, 1), (SID, 2)))
    assert [one.call.sid for one in await held.holding(world, ANN)] == [SID]
    assert await centre.store.read(key) == ((SID, 2),)
    await a_call(centre, "ann", "")
    assert await held.holding(world, ANN) == ()
    assert await centre.store.read(key) is None


async def test_what_he_takes_while_the_list_is_read_stays_in_it(centre: Centre, monkeypatch):
    """He gives a call away and takes it back while the list is looked through: what he took then is another line."""
    world = centre.node().world
    await put(centre.store, books.holding_key("ann"), ((SID, 1),))

    async def meanwhile(*_):
        await put(centre.store, books.holding_key("ann"), ((SID, 2),))

    monkeypatch.setattr(held, "held", meanwhile)
    assert await held.holding(world, ANN) == ()
    assert await centre.store.read(books.holding_key("ann")) == ((SID, 2),)


async def test_a_list_that_is_gone_meanwhile_is_no_fault(centre: Centre, monkeypatch):
    world = centre.node().world
    await put(centre.store, books.holding_key("ann"), ((SID, 1),))

    async def meanwhile(*_):
        await put(centre.store, books.holding_key("ann"), None)

    monkeypatch.setattr(held, "held", meanwhile)
    assert await held.holding(world, ANN) == ()
