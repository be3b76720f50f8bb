"""Threats and suspicions from the command line: the same rules for whoever acts there, by the name that he goes by."""

import asyncio
import json
import re

import pytest

from ivrguard.core.agents import Agent, Role
from ivrguard.core.assurance import Kind
from ivrguard.core.checklist import Checklist
from ivrguard.core.incidents import Source, standing
from ivrguard.core.insiders import Act, Person, Sign, Suspicion
from ivrguard.guard import staff
from ivrguard.guard.incidents import ThreatDesk, incident_key
from ivrguard.guard.insiders import person_key
from ivrguard.keyring import PublicKeys
from ivrguard.ports import AgentAccount, Credential
from ivrguard.stores.sqlite import SqliteStore
from ivrguard.web.app import wall_clock_ms

WHEN = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
SAID = "a b0mb in locker 4711"
CLOSE = ("--decision", "no_action", "--reason", "a known hoax")
NOBODYS = "TH" + "0" * 32


@pytest.fixture
def team(store):
    """Rita and max of the risk team, ann who reported a letter and reports to max, and who is of no team; the letter's name."""
    made = [
        ("rita", (Role.RISK,), ""),
        ("paul", (Role.RISK,), ""),
        ("max", (Role.RISK,), ""),
        ("ann", (Role.AGENT,), "max"),
    ]
    for name, roles, manager in made:
        password, app = Credential(Kind.PIN, "x", "p"), Credential(Kind.TOTP, "x", "k")
        store.put(staff.agent_key(name), AgentAccount(name, name, roles, (), manager, password, app, 0))

    async def reported():
        opened = await SqliteStore.open(store.path)
        desk = ThreatDesk(opened, PublicKeys({}), wall_clock_ms, lambda count: b"1" * count)
        ann = Agent("agent:ann", manager="agent:max")
        done = await desk.report(ann, None, Source.LETTER, Checklist(exact_words=SAID), ("exact_words",))
        await opened.close()
        return done.incident.about.id

    store.incident = asyncio.run(reported())
    return store


def test_the_whole_way(team, asked, ends):
    """Listed without a word of anybody's, shown, acknowledged, closed; then among those that are over; all of it on record."""
    id_ = team.incident
    listed = asked(team.env, "incidents", "list")
    assert re.fullmatch(rf"{id_}: open since {WHEN}; agent:ann\n", listed.out)
    (row,) = [json.loads(line) for line in asked(team.env, "incidents", "list", "--json").out.splitlines()]
    assert (row["id"], row["state"], row["acts"]) == (id_, "open", 0)
    shown = json.loads(asked(team.env, "incidents", "show", id_, "--by", "rita").out)
    assert shown["reports"][0]["checklist"]["exact_words"] == SAID
    ends(asked(team.env, "incidents", "acknowledge", id_, "--by", "rita"), 0, f"{id_}: acknowledged\n")
    assert ", acknowledged by agent:rita; agent:ann" in asked(team.env, "incidents", "list").out
    ends(asked(team.env, "incidents", "close", id_, "--by", "agent:paul", *CLOSE), 0, f"{id_}: closed\n")
    ends(asked(team.env, "incidents", "list"), 0, "there is none\n")
    ends(asked(team.env, "incidents", "list", "--json"), 0)
    assert f"{id_}: closed since" in asked(team.env, "incidents", "list", "--closed").out
    exported = asked(team.env, "incidents", "export", id_, "--by", "rita")
    events = [json.loads(line)["entry"]["event"] for line in exported.out.splitlines()[1:]]
    assert events == [
        "threat_reported",
        "threat_read",
        "threat_acknowledged",
        "threat_decided",
        "threat_closed",
        "threat_read",
    ]
    assert SAID not in asked(team.env, "audit", "export").out


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("max", "max reported it, or is the reporter's manager, or reports to him: another one decides"),
        ("ann", "--by: agent:ann is not of the risk team"),
        ("eve", "--by: there is no agent 'eve'"),
        ("e v e", "--by: an agent's name is made of letters"),
    ],
)
def test_who_may_not(team, asked, by, said):
    for words in (("acknowledge",), ("close", *CLOSE)):
        result = asked(team.env, "incidents", words[0], team.incident, "--by", by, *words[1:])
        assert (result.code, result.out) == (1, "")
        assert said in result.err.replace("\n", " ")
    assert "open since" in asked(team.env, "incidents", "list").out


def test_somebody_was_faster(team, asked):
    asked(team.env, "incidents", "acknowledge", team.incident, "--by", "rita")
    second = asked(team.env, "incidents", "acknowledge", team.incident, "--by", "paul")
    assert (second.code, "agent:rita was faster" in second.err) == (1, True)
    asked(team.env, "incidents", "close", team.incident, "--by", "rita", *CLOSE)
    late = asked(team.env, "incidents", "close", team.incident, "--by", "paul", *CLOSE)
    assert (late.code, "agent:rita has closed it" in late.err) == (1, True)


@pytest.mark.parametrize("words", [("show",), ("acknowledge",), ("close", *CLOSE), ("export",)])
def test_what_is_not_there(team, asked, words):
    result = asked(team.env, "incidents", words[0], NOBODYS, "--by", "rita", *words[1:])
    assert (result.code, result.out) == (1, "")
    assert f"there is no incident {NOBODYS}" in result.err.replace("\n", " ")


def test_what_a_decision_wants(team, asked):
    """One of a few words, and a reason."""
    wrong = ("--decision", "no_acton", "--reason", "why")
    result = asked(team.env, "incidents", "close", team.incident, "--by", "rita", *wrong)
    assert "there is no decision 'no_acton'; did you mean 'no_action'?" in result.err.replace("\n", " ")
    empty = ("--decision", "watch", "--reason", " ")
    result = asked(team.env, "incidents", "close", team.incident, "--by", "rita", *empty)
    assert (result.code, "say why" in result.err) == (1, True)


# ── insiders ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def suspected(store):
    """Eve, of whom there is a suspicion now and was another one."""
    now = wall_clock_ms()
    gone = Suspicion(Sign.OFF_QUEUE, now - 9_000, 4, 4, 604_800, now - 8_000, "rita")
    stands = Suspicion(Sign.NO_CALL, now - 5_000, 13, 12, 86_400)
    person = Person("eve", (Act(now, Sign.NO_CALL, "CA1"),), (), (gone, stands))
    store.put(person_key("eve"), person, rank=stands.raised_ms)
    return store


def test_suspicions_are_listed_and_ended(suspected, asked, ends):
    """Those that stand first; ended with a name and a reason, once, and by nobody for himself."""
    stands, gone = asked(suspected.env, "insiders", "list").out.splitlines()
    assert re.fullmatch(
        rf"eve no_call: stands since {WHEN}; tokens presented for which there is no call: 13 \(12 raise a suspicion\)",
        stands,
    )
    assert re.match(rf"eve off_queue: raised {WHEN}, over {WHEN}, ended by rita; ", gone)
    end = ("insiders", "end", "eve", "no_call", "--reason", "a broken phone", "--by")
    assert "nobody ends a suspicion of himself" in asked(suspected.env, *end, "agent:Eve").err
    ends(asked(suspected.env, *end, "rita"), 0, "eve no_call: ended\n")
    ends(asked(suspected.env, *end, "rita"), 0, "eve no_call: no such suspicion stands\n")
    assert "insider_over by_hand" in asked(suspected.env, "audit", "show", "--limit", "1").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("eve", "nocall", "--by", "rita", "--reason", "why"), "there is no kind of suspicion 'nocall'"),
        (("eve", "no_call", "--by", " ", "--reason", "why"), "--by and --reason go on record"),
    ],
)
def test_an_end_needs_a_kind_a_person_and_a_reason(store, asked, words, said):
    result = asked(store.env, "insiders", "end", *words)
    assert (result.code, result.out) == (1, "")
    assert said in result.err.replace("\n", " ")


def test_there_was_never_one(store, asked, ends):
    ends(asked(store.env, "insiders", "list"), 0, "there was never a suspicion\n")


def test_what_is_kept_is_what_is_shown(team):
    """The fixture's letter is an incident that stands."""

    async def read():
        opened = await SqliteStore.open(team.path)
        found = await opened.read(incident_key(team.incident))
        await opened.close()
        return standing(found).acts

    assert asyncio.run(read()) == 0
