"""
The threat desk as conversations: callers who say what the flow listens for, agents who report, a team that acts; two nodes, one
escalation. And the caller notices nothing: whole calls with and without a report are the same to the byte.
"""

import asyncio
import json
import random
from dataclasses import replace

import pytest

from ivrguard.core import incidents as rules
from ivrguard.core.agents import Agent, Role
from ivrguard.core.audit import Entry
from ivrguard.core.checklist import Checklist, Voice
from ivrguard.core.errors import StoreFault
from ivrguard.core.incidents import (
    REPORTS_ALONE_MAX,
    Changed,
    Decision,
    Rating,
    Refusal,
    Refused,
    Source,
    State,
    standing,
)
from ivrguard.exports import jsonl
from ivrguard.guard import incidents
from ivrguard.guard.incidents import NOTES_MAX, ThreatDesk, document, exported, incident_key
from ivrguard.keyring import PublicKeys
from ivrguard.ports import Change, Request
from ivrguard.stores import sqlite
from ivrguard.telephony.links import Kind

ANN = Agent("agent:ann", manager="agent:max")
RITA = Agent("agent:rita", roles=frozenset({Role.RISK}))
PAUL = Agent("agent:paul", roles=frozenset({Role.RISK}))
SAID = "listen, there is a b0mb in locker 4711, my account is 123456789"
PHRASES = (" there is a b0mb ",)
CANARIES = ("4711", "b0mb", "123456789", "+15551230001")
NOTHING = (Checklist(), ())


class Node:
    """One node's threat desk on a store that others share, and what the risk team heard from it."""

    def __init__(self, centre, **more):
        self.told = []
        self.further = []
        self.desk = ThreatDesk(
            centre.store, PublicKeys({}), centre.clock, centre.chance, tell=self._tell, **more
        )

    def _tell(self, notice, further):
        self.told.append(notice)
        self.further.append(further)

    def types(self):
        return [notice.type.removeprefix("threat.") for notice in self.told]


@pytest.fixture
def node(centre):
    """A node whose guard listens."""
    centre.having(phrases=PHRASES)
    centre.ivr.pages["/voice"] = (
        '<Gather input="speech dtmf" action="menu" numDigits="1"><Say>Menu.</Say></Gather>'
    )
    made = Node(centre)
    centre.node("a", threats=made.desk)
    return made


def fresh(agent, centre):
    return replace(agent, shown_ms=centre.clock())


async def test_a_report_on_a_call(centre, node, logged):
    """One step; the team is told which call and by whom, and nothing of what was said, nor whose account it is."""
    line = await centre.verified()
    call = await centre.stored(line)
    checklist = Checklist(exact_words=SAID, caller="+15551230001", voice=(Voice.CALM,))
    done = await node.desk.report(ANN, call, Source.LETTER, checklist, ("exact_words", "caller", "voice"))
    assert (done.incident.about.id, done.incident.reports[0].source) == (line.sid, Source.CALL)
    (notice,) = node.told
    assert (notice.type, notice.data["call"], notice.data["reporters"]) == (
        "threat.reported",
        line.sid,
        ["agent:ann"],
    )
    assert notice.data["account"] == call.ref
    assert notice.text.startswith("ivrguard: THREAT reported by agent:ann (incident CA")
    assert await centre.events("threat_reported") == ["call"]
    seen = repr((node.told, await centre.record(), logged, done))
    assert [canary for canary in CANARIES if canary in seen] == []


async def test_a_caller_who_says_it(centre, node):
    """Heard in the result of a Gather: an incident of that call, with what he said; once, however often it comes."""
    line = await centre.verified()
    await line.post(line.links("Gather", "action")[0], SpeechResult=SAID)
    await line.again()
    assert await node.desk.find(line.sid) is None
    await node.desk.look()
    found = await node.desk.find(line.sid)
    assert [one.words for one in found.heard] == [SAID]
    assert (found.about.flow, found.about.ref) == ("bank", (await centre.stored(line)).ref)
    assert node.types() == ["reported"]
    assert node.told[0].data["source"] == "speech"
    assert "THREAT heard in a caller's speech" in node.told[0].text
    seen = repr((node.told, await centre.record()))
    assert [canary for canary in CANARIES if canary in seen] == []


async def test_partial_results_and_transcriptions_are_listened_to(centre, node):
    """They come as notices; the IVR gets them as ever."""
    line = await centre.verified()
    centre.ivr.pages["/partial"] = ""
    url = centre.links().outward("https://ivr.example/partial", kind=Kind.S, method="POST", turn=0)
    params = (("CallSid", line.sid), ("UnstableSpeechResult", SAID))
    target = url.removeprefix("https://guard.example")
    await centre.node("a").notice(target, Request("POST", "", params))
    await node.desk.look()
    assert node.types() == ["reported"]
    assert centre.ivr.paths()[-1] == "/partial"


async def test_what_is_no_threat_is_no_work(centre, node):
    """Other words, a call without a name, a flow that listens for nothing, a number that no flow has."""
    node.desk.listen(centre.flow, (("CallSid", "CA" + "1" * 32), ("SpeechResult", "my balance")))
    node.desk.listen(centre.flow, (("SpeechResult", SAID),))
    node.desk.listen(replace(centre.flow, phrases=()), (("CallSid", "CA" + "1" * 32), ("SpeechResult", SAID)))
    await centre.line(to="+19990000000").dial(SpeechResult=SAID)
    await node.desk.look()
    assert (await node.desk.open(), node.told) == ((), [])


async def test_heard_in_a_call_that_is_not_kept_any_more(centre, node):
    """The incident names the call all the same."""
    sid = "CA" + "2" * 32
    node.desk.listen(centre.flow, (("CallSid", sid), ("SpeechResult", SAID)))
    await node.desk.look()
    assert (await node.desk.find(sid)).about.ref == ""


async def test_what_was_heard_waits_for_the_store(centre, node, logged):
    """And for no more than `NOTES_MAX`: of more the log says how many."""
    centre.store.fault = StoreFault("gone")
    for nth in range(NOTES_MAX + 3):
        node.desk.listen(centre.flow, (("CallSid", f"CA{nth:032x}"), ("SpeechResult", SAID)))
    with pytest.raises(StoreFault):
        await node.desk.look()
    centre.store.fault = None
    await node.desk.look()
    assert len(node.told) == NOTES_MAX
    assert [line["count"] for line in logged if line["event"] == "threats_not_heard"] == [3]


async def test_the_desk_works_by_itself(centre, node, logged, monkeypatch):
    """What is heard is worked off at once; a store that is gone does not end it."""
    heard, failed = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(node.desk, "_tell_team", lambda *_: heard.set())
    monkeypatch.setattr(incidents, "LOOK_EVERY_S", 0.01)
    look = node.desk.look

    async def looked():
        try:
            await look()
        except StoreFault:
            failed.set()
            raise

    monkeypatch.setattr(node.desk, "look", looked)
    centre.store.fault = StoreFault("gone")
    running = asyncio.create_task(node.desk.run())
    node.desk.listen(centre.flow, (("CallSid", "CA" + "1" * 32), ("SpeechResult", SAID)))
    await failed.wait()
    centre.store.fault = None
    async with asyncio.timeout(5):
        await heard.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "threats_failed" in [line["event"] for line in logged]


# ── escalated ────────────────────────────────────────────────────────────────────────────────────────────


async def test_escalated_by_one_node_until_somebody_acknowledges(centre, node):
    """Two nodes look at the same moment: one tells; the next contacts come in one by one; acknowledged, it is quiet."""
    other = Node(centre)
    done = await node.desk.report(ANN, None, Source.LETTER, *NOTHING)
    for minutes in (2, 3, 5, 5):
        centre.clock.advance(minutes * 60)
        await asyncio.gather(node.desk.look(), other.desk.look())
        await asyncio.gather(node.desk.look(), other.desk.look())
    told = sorted((notice for each in (node, other) for notice in each.told), key=lambda one: one.at_ms)
    assert [notice.data["escalations"] for notice in told] == [0, 1, 2, 3, 4]
    assert len({notice.id for notice in told}) == 5
    assert sorted(node.further + other.further) == [0, 0, 1, 2, 3]
    assert "told the second time" in told[1].text
    assert isinstance(await other.desk.acknowledge(RITA, done.incident.about.id), Changed)
    centre.clock.advance(3600)
    await asyncio.gather(node.desk.look(), other.desk.look())
    assert (node.types() + other.types()).count("escalated") == 4
    assert other.types()[-1] == "acknowledged"


async def test_many_nodes_on_one_file(centre, tmp_path):
    """Real SQLite, four processes' worth of connections at once: one escalation, one acknowledgement, one end."""
    path = tmp_path / "ivrguard.db"
    sqlite.migrate(path)
    stores = [await sqlite.SqliteStore.open(path) for _ in range(4)]
    nodes = [Node(replace(centre, store=store)) for store in stores]
    id_ = (await nodes[0].desk.report(ANN, None, Source.LETTER, *NOTHING)).incident.about.id
    for _ in range(3):
        centre.clock.advance(301)
        await asyncio.gather(*[node.desk.look() for node in nodes * 2])
    told = [notice.data["escalations"] for node in nodes for notice in node.told]
    assert sorted(told) == [0, 1, 2, 3]
    team = [Agent(f"agent:{nth}", roles=frozenset({Role.RISK}), shown_ms=centre.clock()) for nth in range(4)]
    done = await asyncio.gather(
        *[node.desk.acknowledge(who, id_) for node, who in zip(nodes, team, strict=True)]
    )
    assert sorted(type(one).__name__ for one in done) == ["Changed", *["Refused"] * 3]
    ends = [
        node.desk.decide(who, id_, Decision.WATCH, "why", close=True, seen=1)
        for node, who in zip(nodes, team, strict=True)
    ]
    assert sorted(type(one).__name__ for one in await asyncio.gather(*ends)) == ["Changed", *["Refused"] * 3]
    for store in stores:
        await store.close()


async def test_a_node_that_dies_before_it_told_anybody(centre, node, crash):
    """Its claim is lost with it; the next escalation, by any node, is not."""
    other = Node(centre)
    await node.desk.report(ANN, None, Source.CHAT, *NOTHING)
    centre.clock.advance(121)
    centre.store.live()
    centre.store.dies, centre.store.late = 0, True
    with pytest.raises(crash):
        await node.desk.look()
    centre.store.live()
    centre.clock.advance(181)
    await other.desk.look()
    assert [notice.data["escalations"] for notice in other.told] == [2]


async def test_a_clock_that_was_put_back_silences_nothing(centre, node):
    centre.clock.advance(7200)
    await node.desk.report(ANN, None, Source.EMAIL, *NOTHING)
    centre.clock.advance(-7200)
    await node.desk.look()
    assert node.types() == ["reported", "escalated"]


# ── the team ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_whole_way(centre, node):
    """Acknowledged, rated, decided and closed; then it is among those that are over, and kept for a year and more."""
    id_ = (await node.desk.report(ANN, None, Source.IN_PERSON, *NOTHING)).incident.about.id
    assert id_.startswith("TH")
    assert [one.about.id for one in await node.desk.open()] == [id_]
    rita = fresh(RITA, centre)
    await node.desk.acknowledge(rita, id_)
    await node.desk.assess(rita, id_, Rating.LOW, "no detail", seen=1)
    done = await node.desk.decide(rita, id_, Decision.NO_ACTION, "a hoax", close=True, seen=2)
    assert standing(done.incident).state is State.CLOSED
    assert node.types() == ["reported", "acknowledged", "closed"]
    assert await node.desk.open() == ()
    assert [one.about.id for one in await node.desk.closed()] == [id_]
    centre.clock.advance(incidents.KEPT_S + 1)
    await centre.store.sweep(centre.clock())
    assert await node.desk.closed() == ()


async def test_two_people_at_once(centre, node):
    """One wins; the other is told by whom. The same for two nodes that close it."""
    other = Node(centre)
    id_ = (await node.desk.report(ANN, None, Source.OTHER, *NOTHING)).incident.about.id
    mine, yours = await asyncio.gather(node.desk.acknowledge(RITA, id_), other.desk.acknowledge(PAUL, id_))
    winner, loser = (mine, yours) if isinstance(mine, Changed) else (yours, mine)
    assert loser == Refused(Refusal.FASTER, standing(winner.incident).holder)
    both = [
        each.desk.decide(fresh(who, centre), id_, Decision.WATCH, "why", close=True, seen=1)
        for each, who in ((node, RITA), (other, PAUL))
    ]
    assert sorted(type(done).__name__ for done in await asyncio.gather(*both)) == ["Changed", "Refused"]
    assert await centre.events("threat_closed") == ["by_hand"]


async def test_whoever_may_not_is_on_record(centre, node):
    id_ = (await node.desk.report(ANN, None, Source.OTHER, *NOTHING)).incident.about.id
    for agent in (
        replace(ANN, roles=frozenset({Role.RISK})),
        Agent("agent:max", roles=frozenset({Role.RISK})),
    ):
        done = await node.desk.decide(
            fresh(agent, centre), id_, Decision.NO_ACTION, "why", close=True, seen=0
        )
        assert done.why is Refusal.NOT_APART
    assert await centre.events("threat_refused") == ["not_apart", "not_apart"]
    assert standing(await node.desk.find(id_)).state is State.OPEN


async def test_what_is_not_there(centre, node):
    """None for every act, as for a name that is none."""
    nobody = "TH" + "0" * 32
    assert await node.desk.acknowledge(RITA, nobody) is None
    for name in ("", "TH1", "\ud800", f"{nobody}/x"):
        assert await node.desk.acknowledge(RITA, name) is None
        assert await node.desk.looked_at(RITA, name, "read") is None
    assert await node.desk.looked_at(RITA, nobody, "read") is None
    assert await node.desk.own(ANN, nobody) is None
    assert await node.desk.detail(ANN, nobody, *NOTHING) is None
    assert await centre.record() == [entry for entry in await centre.record() if "threat" not in entry.event]


async def test_one_that_goes_between_two_looks(centre, node):
    """Erased by hand while somebody acts: he is told that it is over, and nothing is made anew."""
    id_ = (await node.desk.report(ANN, None, Source.OTHER, *NOTHING)).incident.about.id
    done = await node.desk._change(
        "TH" + "9" * 32, lambda found: Refused(Refusal.CLOSED) if found is None else Changed(found)
    )
    assert done == Refused(Refusal.CLOSED)
    assert [one.about.id for one in await node.desk.open()] == [id_]


async def test_a_reporter_reads_and_fills_in_his_own(centre, node):
    """Nobody else's, and nobody else his."""
    id_ = (await node.desk.report(ANN, None, Source.OTHER, *NOTHING)).incident.about.id
    done = await node.desk.detail(ANN, id_, Checklist(kind="pipe"), ("kind",))
    assert done.incident.reports[0].checklist.kind == "pipe"
    _, report = await node.desk.own(ANN, id_)
    assert report.checklist.kind == "pipe"
    assert await node.desk.own(Agent("agent:bob"), id_) is None
    assert await node.desk.detail(Agent("agent:bob"), id_, *NOTHING) == Refused(Refusal.NOT_YOURS)


async def test_threats_by_no_call_are_so_many_an_hour(centre, node):
    """From one reporter: whoever floods the team silences others. An hour later he may again."""
    done = [await node.desk.report(ANN, None, Source.OTHER, *NOTHING) for _ in range(REPORTS_ALONE_MAX + 1)]
    assert done[-1] == Refused(Refusal.TOO_MANY)
    assert isinstance(await node.desk.report(PAUL, None, Source.OTHER, *NOTHING), Changed)
    centre.clock.advance(3601)
    assert isinstance(await node.desk.report(ANN, None, Source.OTHER, *NOTHING), Changed)


# ── export ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_export(centre, node, keys):
    """The whole of it; its entries, each of which can be verified; the call's by number, event and hash."""
    line = await centre.verified()
    call = await centre.stored(line)
    done = await node.desk.report(
        ANN, call, Source.CALL, Checklist(kind="pipe", voice=(Voice.CALM,)), ("kind", "voice")
    )
    await centre.line("+15550009999").dial()
    await node.desk.looked_at(RITA, line.sid, "exported")
    found = await node.desk.find(line.sid)
    lines = b"".join([each async for each in node.desk.export(found)]).splitlines(keepends=True)
    first, *rest = map(json.loads, lines)
    assert first["incident"] == json.loads(json.dumps(document(done.incident)))
    assert first["incident"]["reports"][0]["checklist"] == {"kind": "pipe", "voice": ["calm"]}
    by_reference = [one for one in rest if "of_the_call" in one]
    record = {linked.seq: linked for linked in await centre.store.entries()}
    assert {one["of_the_call"] for one in by_reference} >= {"account_claimed", "authn_login_success"}
    assert all(record[one["seq"]].hash == one["hash"] for one in by_reference)
    own = [jsonl.read(text) for text in lines if b'"chain"' in text]
    assert [one.linked.entry.event for one in own] == ["threat_reported", "threat_read"]
    assert all(one.linked == record[one.linked.seq] for one in own)
    others = [linked for linked in record.values() if linked.entry.call not in {"", line.sid}]
    assert others
    assert not {linked.hash for linked in others} & {one.get("hash") for one in rest}


async def test_export_of_what_came_by_no_call(centre, node):
    done = await node.desk.report(ANN, None, Source.LETTER, *NOTHING)
    lines = [each async for each in exported(centre.store, PublicKeys({}), done.incident)]
    assert b"threat_reported" in lines[-1]


# ── the caller notices nothing ───────────────────────────────────────────────────────────────────────────

MOVES = ("keys", "menu", "silence", "speech", "again")


async def lived(make, seed, *, quiet):
    """A call of chance moves: every document that the caller got. `quiet`: nobody listens and nobody reports."""
    centre, chance = make(), random.Random(seed)
    node = Node(centre)
    centre.ivr.pages["/voice"] = (
        '<Gather input="speech dtmf" action="menu" numDigits="1"><Say>Menu.</Say></Gather>'
    )
    centre.ivr.pages["/menu"] = '<Say>Yes.</Say><Enqueue workflowSid="WW1"><Task>{}</Task></Enqueue>'
    centre.node("a", **({} if quiet else {"threats": node.desk}))
    line = centre.line(sid=f"CA{seed:032x}")
    await line.dial()
    heard = [line.body]
    for _ in range(9):
        move = chance.choice(MOVES)
        gathers = line.links("Gather", "action")
        keys = chance.choice(["123456789#", "24681357", "11112222", "1"])
        if move == "again" or not gathers:
            await line.again()
        elif move == "keys":
            await line.press(keys)
        elif move == "silence":
            await line.silent()
        elif move == "menu":
            await line.post(gathers[0], "1")
        else:
            await line.post(gathers[0], SpeechResult=SAID)
        heard.append(line.body)
        if not quiet:
            call = await centre.stored(line)
            await node.desk.look()
            done = await node.desk.report(ANN, call, Source.CALL, Checklist(kind=move), ("kind",))
            await node.desk.acknowledge(RITA, done.incident.about.id)
        centre.clock.advance(7)
    asked = [(one.path, one.request.params) for one in centre.ivr.asked]
    await centre.node("a").drain()
    return heard, asked, len(node.told)


@pytest.fixture
def make(centre):
    """The same centre again and again: same keys, same chance, same clock, the same accounts."""
    rows = dict(centre.store.store._rows)

    def made():
        again = type(centre)(
            centre.flow, type(centre.store)(type(centre.store.store)()), centre.keys, centre.pins
        )
        again.store.store._rows.update(rows)
        again.flow = replace(again.flow, phrases=PHRASES)
        return again

    return made


async def check_to_the_byte(make, seeds):
    told = 0
    for seed in seeds:
        with_, without = await lived(make, seed, quiet=False), await lived(make, seed, quiet=True)
        assert with_[:2] == without[:2]
        told += with_[2]
    assert told


async def test_the_caller_notices_nothing(make):
    """The same documents, and the IVR is asked the same, in whole calls with reports, phrases and acknowledgements."""
    await check_to_the_byte(make, range(6))


async def test_a_report_that_shows_is_found_out(make, monkeypatch):
    """One that draws from the call's chance, or that changes what the call knows of the caller."""
    report = ThreatDesk.report

    async def drawing(self, agent, call, *more):
        self._chance(16)
        return await report(self, agent, call, *more)

    monkeypatch.setattr(ThreatDesk, "report", drawing)
    with pytest.raises(AssertionError):
        await check_to_the_byte(make, range(6))

    async def changing(self, agent, call, *more):
        key = incidents.books.call_key(call.sid)
        put = incidents.Put(key, replace(call, heard=()))
        await self._store.amend([key], lambda _: Change(None, (put,)))
        return await report(self, agent, call, *more)

    monkeypatch.setattr(ThreatDesk, "report", changing)
    with pytest.raises(AssertionError):
        await check_to_the_byte(make, range(6))


async def test_names(centre, node):
    """An incident's name is its call's: two nodes that hear the same make one."""
    assert incident_key("CA1").id == "CA1"
    assert isinstance(
        rules.read((await node.desk.report(ANN, None, Source.OTHER, *NOTHING)).incident, RITA, "read", 1),
        Entry,
    )
