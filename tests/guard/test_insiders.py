"""
Insiders as conversations: what they do is on record, two nodes read it, one tells.

A made-up month of agents at work (tests/bench/insiders.py) goes through it as it is; a weakened one must miss what it must find.
"""

import asyncio
from zoneinfo import ZoneInfo

import pytest

from ivrguard.core import insiders as rules
from ivrguard.core.audit import Entry
from ivrguard.core.errors import StoreFault
from ivrguard.core.insiders import Sign, usual
from ivrguard.core.sense import Threshold
from ivrguard.guard import insiders
from ivrguard.guard.insiders import PLACE, Insiders, end, every, person_key
from ivrguard.ports import Change, Key
from tests.bench import insiders as months

WATCH = usual({Sign.NO_CALL: Threshold(3, 86_400)})
UTC = ZoneInfo("UTC")


class Node:
    """One node that reads on."""

    def __init__(self, centre, watch=WATCH):
        self.told = []
        self.insiders = Insiders(centre.store, centre.clock, watch, zone=UTC, tell=self.told.append)

    async def look(self):
        await self.insiders.look()
        return [(notice.type, notice.data["person"], notice.data["sign"]) for notice in self.told]


async def recorded(centre, *entries):
    key = Key("spent", "x")
    await centre.store.amend([key], lambda _: Change(None, (), tuple(entries)))


def refused(centre, nth, who="agent:eve", reason="ended"):
    return Entry(centre.clock(), "authn_token_refused", f"CA{nth:032x}", "acc_1", reason, (("desk", who),))


async def test_one_who_tries_tokens(centre, logged):
    """Three without a call: one entry, told once, by the name of the record; what was before the first look counts for nobody."""
    node = Node(centre)
    await recorded(centre, *[refused(centre, nth) for nth in range(3)])
    assert await node.look() == []
    await recorded(centre, *[refused(centre, nth) for nth in range(3)])
    assert await node.look() == [("insider.suspected", "eve", "no_call")]
    assert await node.look() == [("insider.suspected", "eve", "no_call")]
    assert await centre.events("insider_suspected") == ["no_call"]
    (notice,) = node.told
    assert notice.text == (
        "ivrguard: eve: tokens presented for which there is no call (3 counted, 3 raise a suspicion)"
    )
    assert [line["alert"] for line in logged if line["event"] == "insider_suspected"] == [notice.id]
    assert [one.name for one in await every(centre.store)] == ["eve"]


async def test_two_nodes_one_telling(centre):
    """Both read on at once: each entry counts once."""
    here, there = Node(centre), Node(centre)
    await asyncio.gather(here.look(), there.look())
    await recorded(centre, *[refused(centre, nth) for nth in range(2)], refused(centre, 7, "bob"))
    await asyncio.gather(here.look(), there.look())
    assert (await here.look(), await there.look()) == ([], [])
    await recorded(centre, refused(centre, 9))
    await asyncio.gather(here.look(), there.look())
    assert len(here.told + there.told) == 1
    assert await centre.store.read(PLACE) == (await centre.store.head())[0]


async def test_a_node_that_comes_too_late_counts_nothing(centre):
    """It has read a page that another one has counted meanwhile; and where it began, another one had begun."""
    here, there = Node(centre), Node(centre)
    await here.look()
    begun = await there.insiders._begun()
    assert begun == await centre.store.read(PLACE)
    await recorded(centre, *[refused(centre, nth) for nth in range(3)])
    page = await centre.store.entries(after=begun)
    assert len(await here.look()) == 1
    await there.insiders._read_on(begun, page)
    assert there.told == []
    assert len((await centre.store.read(person_key("eve"))).acts) == 3


async def test_it_is_over_by_itself_or_by_hand(centre):
    node = Node(centre)
    await node.look()
    await recorded(centre, *[refused(centre, nth, who) for nth in range(3) for who in ("eve", "max")])
    await node.look()
    ending = {"by": "rita", "because": "a broken phone", "now_ms": centre.clock()}
    assert await end(centre.store, "max", Sign.NO_CALL, **ending)
    assert not await end(centre.store, "max", Sign.NO_CALL, **ending)
    assert not await end(centre.store, "nobody", Sign.NO_CALL, **ending)
    centre.clock.advance(86_401)
    assert (await node.look())[-1] == ("insider.over", "eve", "no_call")
    assert sorted(await centre.events("insider_over")) == ["by_hand", "quiet"]
    assert node.told[-1].data["over_at_ms"] == centre.clock()


async def test_nothing_is_kept_of_whom_nothing_counts(centre):
    """An operator whose name stands in the record, and what a wrong clock wrote."""
    node = Node(centre)
    await node.look()
    await recorded(
        centre,
        Entry(centre.clock(), "user_updated", "", "acc_1", "pin", (("by", "root"),)),
        Entry(2**60, "authn_token_refused", "CA1", "", "ended", (("desk", "eve"),)),
    )
    await node.look()
    assert await centre.store.read(person_key("root")) is None
    assert await centre.store.read(person_key("eve")) is None


async def test_a_node_that_dies_has_moved_nothing(centre, crash):
    node, other = Node(centre), Node(centre)
    await node.look()
    await recorded(centre, *[refused(centre, nth) for nth in range(3)])
    centre.store.live()
    centre.store.dies = 0
    with pytest.raises(crash):
        await node.look()
    centre.store.live()
    assert len(await other.look()) == 1


async def test_it_goes_on_by_itself(centre, logged, monkeypatch):
    """A store that is gone does not end it."""
    monkeypatch.setattr(insiders, "LOOK_EVERY_S", 0)
    node, told, failed = Node(centre), asyncio.Event(), asyncio.Event()
    await node.look()
    await recorded(centre, *[refused(centre, nth) for nth in range(3)])
    node.insiders._tell = lambda _: told.set()
    look = node.insiders.look

    async def looked():
        try:
            await look()
        except StoreFault:
            failed.set()
            raise

    monkeypatch.setattr(node.insiders, "look", looked)
    centre.store.fault = StoreFault("gone")
    running = asyncio.create_task(node.insiders.run())
    async with asyncio.timeout(5):
        await failed.wait()
        centre.store.fault = None
        await told.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "insiders_failed" in [line["event"] for line in logged]


# ── a month ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def month():
    """A small month: what honest agents do, and every insider."""
    return months.month(3, agents=13)


def test_what_must_be_found_is(month):
    """And of honest people at most one is suspected of anything."""
    assert month.missed() == []
    assert len(month.false) <= 1
    assert month.entries > 5_000


def test_a_weakened_one_misses(monkeypatch):
    """One that forgets what it has seen a page ago."""
    whole = rules.seen

    def forgetful(watch, person, entry, weekday, minute):
        return whole(watch, rules.Person(person.name), entry, weekday, minute)

    monkeypatch.setattr(rules, "seen", forgetful)
    assert months.month(3, agents=4).missed()
