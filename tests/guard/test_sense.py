"""
Attacks sensed, as conversations: callers who guess, nodes that put together what they saw, and what callers need meanwhile.

A synthetic month (tests/bench/sense.py) goes through the sensor as it is; a weakened one must miss what it must find.
"""

import asyncio
import random
from dataclasses import replace

import pytest

from ivrguard.core import sense
from ivrguard.core.alerts import Alert
from ivrguard.core.assurance import AnyOf, Kind
from ivrguard.core.call import Call
from ivrguard.core.caller import address_of
from ivrguard.core.errors import StoreFault
from ivrguard.core.rules import Demand
from ivrguard.core.sense import BUCKETS, Attack, Sense, Threshold
from ivrguard.guard import sense as sensing
from ivrguard.guard.sense import NOTES_MAX, Sensor, end, recent, standing
from ivrguard.stores.memory import MemoryStore
from tests.bench import sense as months

HOUR = 3600
FEW = Sense(
    spray=Threshold(5, 6 * HOUR),
    many_numbers=Threshold(3, 24 * HOUR),
    many_accounts=Threshold(3, 24 * HOUR),
    stuffing=Threshold(10, HOUR),
    flood=Threshold(10, 60),
)
GUESS = "13579246"


@pytest.fixture
def bank(flow):
    """The sample flow, easily alarmed; two factors while an alert stands."""
    return replace(flow, sense=replace(FEW, raise_to="two_factor"))


class Node:
    """One node's sensor, on a store that others share."""

    def __init__(self, centre, flow, store=None):
        self.told: list[Alert] = []
        self.shown: list[list[str]] = []
        self.flow = flow
        self.store = store or centre.store
        self.sensor = Sensor(
            self.store,
            centre.keys,
            centre.clock,
            lambda name: self.flow if self.flow is not None and name == self.flow.name else None,
            told=self.told.append,
            shown=lambda alerts: self.shown.append([alert.id for alert in alerts]),
        )

    def wrong(self, account, number, answer=GUESS, *, right=False, kind=Kind.PIN):
        call = Call("CA", "AC", "bank", "1", address_of(number), "+18005550100", False, 0, account=account)
        self.sensor.judged(self.flow, call, kind, answer, right=right)

    async def merged(self):
        await self.sensor.merge()
        return [(alert.attack.value, alert.over_ms is None) for alert in self.told]


def number(nth):
    return f"+1555{nth:07d}"


# ── what is found ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_spray_from_many_numbers(centre, bank):
    """The same answer on six accounts, each from a number of its own: an alert, and one entry in the same act."""
    node = Node(centre, bank)
    for nth in range(6):
        node.wrong(f"acc{nth}", number(nth))
    assert await node.merged() == [("spray", True)]
    (entry,) = [one for one in await centre.record() if one.event == "attack_suspected"]
    assert entry.reason == "spray"
    assert dict(entry.detail)["count"] == "6"
    assert "subjects" not in dict(entry.detail)


async def test_different_answers_are_no_spray(centre, bank):
    """Nor are the codes that somebody has mistyped, or right answers."""
    node = Node(centre, replace(bank, sense=replace(FEW, stuffing=None)))
    for nth in range(6):
        node.wrong(f"acc{nth}", number(nth), f"{nth * 1_234_567:08d}")
        node.wrong(f"acc{nth}", number(nth), "123456", kind=Kind.SMS_CODE)
        node.wrong(f"acc{nth}", number(nth), GUESS, right=True)
    assert await node.merged() == []


async def test_one_account_from_many_numbers(centre, bank):
    """The alert names the account as records do."""
    node = Node(centre, bank)
    for nth in range(3):
        node.wrong("123456789", number(nth))
    assert await node.merged() == [("many_numbers", True)]
    assert node.told[0].subjects == (centre.keys.pseudonym("account", "123456789"),)


async def test_one_number_over_many_accounts(centre, bank):
    """And the number. A withheld one is nobody's: it says nothing."""
    node = Node(centre, replace(bank, sense=replace(FEW, spray=None)))
    for nth in range(5):
        node.wrong(f"acc{nth}", "anonymous")
    assert await node.merged() == []
    for nth in range(3):
        node.wrong(f"acc{nth}", number(7))
    assert await node.merged() == [("many_accounts", True)]
    assert node.told[0].subjects == (centre.keys.pseudonym("number", number(7)),)


async def test_more_wrong_answers_and_more_calls_than_usual(centre, bank):
    """Guesses with a list of stolen pairs, each from another number; and a flood of calls that say nothing."""
    node = Node(centre, replace(bank, sense=replace(FEW, spray=None)))
    for nth in range(12):
        node.wrong(f"acc{nth}", number(nth), f"{nth * 1_234_567:08d}")
    assert await node.merged() == [("stuffing", True)]
    for _ in range(10):
        node.sensor.called(bank)
    assert await node.merged() == [("stuffing", True), ("flood", True)]


async def test_what_is_off_is_not_looked_for(centre, bank):
    """And nothing is kept of it."""
    node = Node(centre, replace(bank, sense=Sense(None, None, None, None, None)))
    for nth in range(20):
        node.wrong("acc", number(nth))
        node.sensor.called(bank)
    assert await node.merged() == []
    kinds = ("sketch", "bucket", "answers", "calls", "alert")
    assert [len(await centre.store.list(kind)) for kind in kinds] == [0] * 5


# ── many nodes, one picture ──────────────────────────────────────────────────────────────────────────────


async def test_what_two_nodes_saw_is_one_picture(centre, bank):
    """Three guesses here, three there, merged at the same time: one alert, on record once, known to both."""
    here, there = Node(centre, bank), Node(centre, bank)
    for nth in range(3):
        here.wrong(f"acc{nth}", number(nth))
        there.wrong(f"acc{nth + 3}", number(nth + 3))
    await asyncio.gather(here.sensor.merge(), there.sensor.merge())
    assert await centre.events("attack_suspected") == ["spray"]
    assert len(here.told) + len(there.told) == 1
    await here.sensor.look()
    assert here.sensor.stands("bank")
    assert there.sensor.stands("bank")
    assert here.shown[-1] == there.shown[-1] != []


async def test_a_node_that_dies_loses_what_it_had_not_merged(centre, bank, crash):
    """The store did not take it, and nothing is half there; a fault costs as much."""
    node = Node(centre, bank)
    for nth in range(6):
        node.wrong(f"acc{nth}", number(nth))
    centre.store.dies = 0
    with pytest.raises(crash):
        await node.sensor.merge()
    centre.store.live()
    assert await node.merged() == []
    assert await centre.store.list("sketch") == []


async def test_a_store_that_does_not_answer_is_told_and_ends_nothing(centre, bank, logged, monkeypatch):
    """The loop goes on; what stood still stands."""
    node = await sprayed(centre, bank)
    centre.store.fault = StoreFault("no answer")
    node.wrong("acc", number(1))
    naps = iter((None, None))

    async def nap(seconds):
        assert seconds == sensing.MERGE_EVERY_S
        if next(naps, "over") == "over":
            raise asyncio.CancelledError

    monkeypatch.setattr(sensing.asyncio, "sleep", nap)
    with pytest.raises(asyncio.CancelledError):
        await node.sensor.run()
    assert [line["reason"] for line in logged if line["event"] == "sense_failed"] == ["store"]
    assert node.sensor.stands("bank")


# ── an alert's end ───────────────────────────────────────────────────────────────────────────────────────


async def sprayed(centre, flow):
    node = Node(centre, flow)
    for nth in range(6):
        node.wrong(f"acc{nth}", number(nth))
    await node.sensor.merge()
    assert node.sensor.stands("bank")
    return node


async def test_over_when_nothing_was_seen_for_an_hour(centre, bank):
    """By itself, on record once, though nobody calls meanwhile."""
    node = await sprayed(centre, bank)
    centre.clock.advance(HOUR - 1)
    await node.sensor.merge()
    assert node.sensor.stands("bank")
    centre.clock.advance(1)
    assert await node.merged() == [("spray", True), ("spray", False)]
    assert not node.sensor.stands("bank")
    assert await centre.events("attack_over") == ["quiet"]
    assert node.shown[-1] == []


@pytest.mark.parametrize("what", ["flow", "attack"])
async def test_over_when_nobody_looks_for_it_any_more(centre, bank, what):
    """The flow was withdrawn, or the admin switched it off: no alert stands for ever."""
    node = await sprayed(centre, bank)
    node.flow = None if what == "flow" else replace(bank, sense=replace(bank.sense, spray=None))
    centre.clock.advance(HOUR)
    node.sensor.called(bank)
    await node.sensor.merge()
    assert not node.sensor.stands("bank")
    assert await centre.events("attack_over") == ["quiet"]


async def test_another_node_may_have_ended_it(centre, bank):
    """Both find it quiet; one ends it, and it is on record once."""
    here = await sprayed(centre, bank)
    there = Node(centre, None)
    await there.sensor.look()
    centre.clock.advance(HOUR)
    await there.sensor.merge()
    here.flow = None
    await here.sensor.merge()
    assert await centre.events("attack_over") == ["quiet"]


async def test_ended_by_hand(centre, bank):
    """With name and reason; servers know of it at their next look, and the same guesses raise none again."""
    node = await sprayed(centre, bank)
    over = await end(
        centre.store, "bank", Attack.SPRAY, now_ms=centre.clock(), by="ann", because="our own test"
    )
    assert over is not None
    assert over.ended_by == "ann"
    node.wrong("acc99", number(99))
    await node.sensor.merge()
    assert not node.sensor.stands("bank")
    assert await centre.events("attack_over") == ["by_hand"]
    again = [
        await end(centre.store, "bank", attack, now_ms=centre.clock(), by="bob", because="me too")
        for attack in (Attack.SPRAY, Attack.FLOOD)
    ]
    assert again == [None, None]
    assert await standing(centre.store) == ()
    assert [alert.ended_by for alert in await recent(centre.store)] == ["ann"]


# ── what is kept, and how much ───────────────────────────────────────────────────────────────────────────


async def test_no_answer_is_kept_and_no_window_outlives_its_time(centre, bank):
    """Promise 5: neither the guess nor a plain hash of it is anywhere; and when the window is over, all of it is swept."""
    node = await sprayed(centre, bank)
    dump = repr(centre.store.store._rows) + repr(await centre.record()) + repr(vars(node.sensor))
    assert GUESS not in dump
    centre.clock.advance(24 * HOUR)
    await centre.store.sweep(centre.clock())
    assert await centre.store.list("sketch") == []
    assert await centre.store.list("bucket") == []


async def test_an_answer_of_the_window_before_is_let_go(centre, bank):
    """Its cell is one of another key: what was seen in the last second of a window counts everywhere but there."""
    node = Node(centre, bank)
    centre.clock.now_ms += bank.sense.spray.ends_ms(centre.clock()) - centre.clock() - 1
    for nth in range(6):
        node.wrong(f"acc{nth}", number(nth))
    centre.clock.advance(1)
    assert await node.merged() == []
    assert await centre.store.list("sketch") == []


async def test_bounded_whatever_an_attacker_does(centre, bank):
    """Law 1 and 2: three thousand guesses, each at another account from another number, in one second and in many."""
    store = MemoryStore(values_max=2 * BUCKETS + 20)
    node = Node(centre, replace(bank, sense=replace(FEW, spray=Threshold(1_000, HOUR))), store)
    for nth in range(2_000):
        node.wrong(f"acc{nth}", number(nth), f"{nth:08d}")
    assert len(node.sensor._seen["bank"].notes) == NOTES_MAX
    await node.sensor.merge()
    for nth in range(1_000):
        node.wrong(f"more{nth}", number(nth), f"{nth:08d}")
        if nth % NOTES_MAX == 0:
            await node.sensor.merge()
    assert len(await store.list("bucket", limit=1_000)) <= 2 * BUCKETS
    assert [alert.attack for alert in node.told if alert.over_ms is None] == [Attack.STUFFING]


# ── what callers need meanwhile ──────────────────────────────────────────────────────────────────────────


async def test_while_an_alert_stands_callers_need_the_level_that_the_flow_raises(centre, bank):
    """Guesses through the guard itself raise it; one factor is not enough any more; what is open is open; then it is over."""
    centre.having(sense=bank.sense)
    node = Node(centre, centre.flow)
    guard = centre.node("a", sensor=node.sensor)
    assert guard.world.sensor is node.sensor
    for nth in range(6):
        line = centre.line(number(nth))
        for keys in (None, f"70000000{nth}#", GUESS):
            await (line.dial() if keys is None else line.press(keys))
    assert await node.merged() == [("spray", True)]

    line = await line_with_pin(centre)
    assert line.outcome == "ask"
    assert "code" in line.said
    await line.press(centre.texts.code())
    assert line.outcome == "forwarded"
    await line.press("1")
    assert line.outcome == "forwarded"  # who holds both is asked for nothing
    centre.ivr.pages["/hours"] = "<Say>Nine to five.</Say>"
    stranger = centre.line(number(50))
    await stranger.post("/hours")
    assert stranger.outcome == "forwarded"

    centre.clock.advance(HOUR)
    await node.sensor.merge()
    assert (await line_with_pin(centre)).outcome == "forwarded"


async def line_with_pin(centre):
    """The owner calls, says which account, and keys his PIN."""
    line = centre.line()
    for keys in (None, "123456789#", "24681357"):
        await (line.dial() if keys is None else line.press(keys))
    return line


async def test_a_flow_that_raises_nothing_is_only_watched(centre, bank):
    """The alert is told, and callers need what they always did."""
    centre.having(sense=FEW)
    node = await sprayed(centre, replace(bank, sense=FEW))
    centre.node("a", sensor=node.sensor)
    assert (await line_with_pin(centre)).outcome == "forwarded"


async def test_a_raised_flow_never_asks_for_less(centre, bank):
    """Promise 1: a rule that wants another level than `raise` keeps it (`check` refuses such a flow)."""
    levels = {**bank.levels, "app_only": AnyOf(("app",))}
    centre.having(sense=bank.sense, levels=levels, default=Demand("app_only"))
    assert centre.mounted().raised.default == Demand("app_only")


# ── a month ──────────────────────────────────────────────────────────────────────────────────────────────


def three_days():
    """The first days of a month, with its first attack: one PIN over 200 accounts."""
    chance = random.Random(3)
    plan = months.month_of_attacks(chance)
    (spray, *_) = plan.planted
    guesses = [one for one in plan.events if one.at_ms <= spray.ends_ms]
    return sorted([*months.honest(chance, 3, 60), *guesses]), [spray]


def test_a_month_of_calls(logged):
    """
    Every attack that must be found is; honest callers raise at most one alert in four weeks; and what the sensor keeps is
    bounded. The figures of larger months are in docs/alerts.md (`python -m bench sense`).
    """
    result = months.month(1, 60, merge_ms=15 * months.MINUTE_MS)
    assert result.missed() == []
    assert len(result.false) <= 1, result.false
    assert result.values <= 4 * BUCKETS + 20


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        ("sprayed", lambda *_: None),
        ("cell_of", lambda key, answer: hash(key + answer.encode() + random.randbytes(4)) % sense.CELLS),
        ("mark_of", lambda *_: 1),
    ],
)
def test_a_weakened_sensor_misses_what_must_be_found(monkeypatch, logged, what, instead):
    """Planted faults: one that does not look, one whose cells change with each answer, one that takes all accounts for one."""
    events, planted = three_days()
    monkeypatch.setattr(sense, what, instead)
    assert asyncio.run(months.lived(events, planted, merge_ms=15 * months.MINUTE_MS)).missed() != []


def test_a_sensor_without_a_floor_cries_wolf(monkeypatch, logged):
    """A planted fault: thresholds that do not grow with what is usual raise alerts on honest days."""
    usual = replace(months.FLOW, sense=Sense(spray=Threshold(5, 6 * HOUR)))
    monkeypatch.setattr(sense, "POPULAR_SHARE", 0)
    monkeypatch.setattr(sense, "SIGMAS", 0)
    chance = random.Random(5)
    events = sorted(months.honest(chance, 1, 1_500))
    assert asyncio.run(months.lived(events, [], usual, months.HOUR_MS)).false != ()
