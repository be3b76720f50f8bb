"""The risk team's pages over a socket: who sees them, what they bring about, and what becomes of two who act at once."""

import re
from dataclasses import replace

import pytest

from ivrguard.core.agents import Agent, Role
from ivrguard.core.checklist import Checklist
from ivrguard.core.incidents import Source, standing
from ivrguard.web.console import words

LIST = "/.ivrguard/console/incidents"
RITA = Agent("agent:rita", "Rita", frozenset((Role.RISK,)))
PAUL = Agent("agent:paul", "Paul", frozenset((Role.RISK,)))
ANN = Agent("agent:ann", "Ann", frozenset((Role.AGENT, Role.RISK)))


@pytest.fixture
async def team(centre, sit_down):
    """Rita and Paul of the risk team, and a letter that Ann reported."""
    done = await centre.server.threats.report(
        ANN, None, Source.LETTER, Checklist(where_now="the lobby"), ["where_now"]
    )
    rita, paul = [replace(one, shown_ms=centre.clock()) for one in (RITA, PAUL)]
    return await sit_down(centre, rita), await sit_down(centre, paul), done.incident.about.id


async def stands(centre, id_):
    return standing(await centre.server.threats.find(id_))


async def events(centre):
    return [
        f"{one.entry.event}:{one.entry.reason}"
        for one in await centre.store.entries()
        if "threat" in one.entry.event
    ]


async def test_an_incident_from_its_report_to_its_end(centre, team):
    """Listed, read, taken in hand, assessed, decided and closed: each once, and each on record."""
    rita, _, id_ = team
    page = await rita.get(LIST)
    assert f'href="{LIST}/{id_}"' in page.text
    assert "Open: 1" in page.said
    one = await rita.get(f"{LIST}/{id_}")
    assert "Nobody has it" in one.said
    assert "the lobby" in one.said
    for path, form in (
        ("acknowledgements", {}),
        ("assessments", {"rating": "low", "note": "known", "seen": "1"}),
        ("decisions", {"decision": "no_action", "note": "called before", "close": "yes", "seen": "2"}),
    ):
        answer = await rita.post(f"{LIST}/{id_}/{path}", form)
        assert (answer.status, answer.headers["Location"]) == (303, f"{LIST}/{id_}")
    page = await rita.get(LIST)
    assert "Nothing stands open" in page.said
    assert id_ in page.text
    assert words.THREAT_REFUSED["closed"][0] in (await rita.get(f"{LIST}/{id_}")).said
    assert [each for each in await events(centre) if "read" not in each] == [
        "threat_reported:letter",
        "threat_acknowledged:by_hand",
        "threat_assessed:low",
        "threat_decided:no_action",
        "threat_closed:by_hand",
    ]


async def test_nobody_decides_in_his_own_affair(centre, team, sit_down):
    """The reporter reads why there are no buttons; a form of his is refused, and on record."""
    _, _, id_ = team
    ann = await sit_down(centre, ANN)
    page = await ann.get(f"{LIST}/{id_}")
    assert words.THREAT_REFUSED["not_apart"][0] in page.said
    assert f'action="{LIST}' not in page.text
    answer = await ann.post(f"{LIST}/{id_}/acknowledgements", {})
    assert answer.status == 409
    assert (await stands(centre, id_)).holder == ""
    assert "threat_refused:not_apart" in await events(centre)


async def test_who_was_slower_reads_what_is_new_and_loses_nothing(team):
    """What he typed is still in the form."""
    rita, paul, id_ = team
    await rita.post(f"{LIST}/{id_}/assessments", {"rating": "high", "note": "real", "seen": "0"})
    for path, form in (("assessments", {"rating": "low"}), ("decisions", {"decision": "watch"})):
        answer = await paul.post(f"{LIST}/{id_}/{path}", {**form, "note": "my own words", "seen": "0"})
        assert answer.status == 409
        assert words.THREAT_REFUSED["faster"][0] in answer.said
        assert 'value="my own words"' in answer.text
        assert "assessed it: high" in answer.said


async def test_closing_is_for_somebody_who_just_showed_who_he_is(centre, team):
    """Else the box is not there, but the way to it is; a form with it all the same closes nothing."""
    rita, _, id_ = team
    centre.clock.advance(301)
    page = await rita.get(f"{LIST}/{id_}")
    assert 'name="close"' not in page.text
    assert "fresh=1" in page.text
    form = {"decision": "watch", "note": "x", "close": "yes", "seen": "0"}
    answer = await rita.post(f"{LIST}/{id_}/decisions", form)
    assert answer.status == 409
    assert words.THREAT_REFUSED["not_fresh"][0] in answer.said
    assert (await stands(centre, id_)).state == "open"


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("assessments", {"rating": "harmless", "seen": "0"}),
        ("decisions", {"decision": "", "seen": "0"}),
    ],
)
async def test_what_is_no_answer_changes_nothing(centre, team, path, form):
    rita, _, id_ = team
    answer = await rita.post(f"{LIST}/{id_}/{path}", form)
    assert (answer.status, answer.headers["Location"]) == (303, f"{LIST}/{id_}")
    assert (await stands(centre, id_)).acts == 0


@pytest.mark.parametrize("seen", ["", "x", "9" * 30, "²"])
async def test_who_does_not_say_what_he_saw_acts_on_nothing(centre, team, seen):
    rita, _, id_ = team
    answer = await rita.post(f"{LIST}/{id_}/assessments", {"rating": "low", "seen": seen})
    assert answer.status == 409
    assert (await stands(centre, id_)).acts == 0


async def test_no_such_incident(team):
    """404 and the list, for a name and for a form."""
    rita, _, _ = team
    gone = f"{LIST}/TH{'0' * 32}"
    page, form = await rita.get(gone), await rita.post(f"{gone}/acknowledgements", {})
    assert (page.status, form.status) == (404, 404)
    assert " ".join(words.GONE_INCIDENT) in page.said
    assert re.search("Open: 1", form.said)


async def test_agents_do_not_see_the_team_s_pages(ann, team):
    _, _, id_ = team
    for path in (LIST, f"{LIST}/{id_}"):
        page = await ann.get(path)
        assert page.status == 403
        assert "the lobby" not in page.text
