"""Reporting from the panel, over a socket: one press, then as much as there is; and nothing of it on the caller's line."""

import pytest

from ivrguard.core.agents import Agent
from ivrguard.core.checklist import Checklist, Voice
from ivrguard.core.incidents import REPORTS_ALONE_MAX, Source
from ivrguard.web.console import words

HOME = "/.ivrguard/console/agent"


async def report_of(centre, path):
    (report,) = (await centre.server.threats.find(path.rpartition("/")[2])).reports
    return report


async def test_one_press_reports_the_call_that_is_held(taken):
    """At once, with nothing filled in; twice is one incident; the line hears nothing."""
    ann, line, path = taken
    assert "Report a threat" in (await ann.get(path)).said
    heard = len(line.heard)
    answer = await ann.post(f"{path}/reports", {})
    assert (answer.status, answer.headers["Location"]) == (303, f"{HOME}/reports/{line.call_sid}")
    assert (await ann.post(f"{path}/reports", {})).headers["Location"] == answer.headers["Location"]
    report = await report_of(ann.centre, answer.headers["Location"])
    assert (report.by, report.source, report.checklist) == ("agent:ann", Source.CALL, Checklist())
    assert len(line.heard) == heard
    page = await ann.get(answer.headers["Location"])
    for said in (*words.THREAT_SCRIPT, "When will it explode?", "Back to the caller"):
        assert said in page.said


async def test_the_checklist_is_filled_in_when_there_is_time(taken):
    """As often as wanted; and what was filled in stands in the form."""
    ann, _, path = taken
    report = (await ann.post(f"{path}/reports", {})).headers["Location"]
    answer = await ann.post(report, {"exact_words": "in the lobby", "voice": "calm", "age": "40"})
    assert answer.headers["Location"] == f"{report}?said=kept"
    page = await ann.get(answer.headers["Location"])
    assert words.KEPT in page.said
    assert "in the lobby" in page.said
    assert (await report_of(ann.centre, report)).checklist == Checklist(
        exact_words="in the lobby", voice=(Voice.CALM,), age=40
    )


async def test_what_cannot_be_kept_comes_back_as_it_was(taken):
    ann, _, path = taken
    report = (await ann.post(f"{path}/reports", {})).headers["Location"]
    answer = await ann.post(report, {"exact_words": "in the lobby", "age": "forty"})
    assert answer.status == 422
    assert words.NOT_KEPT in answer.said
    assert "in the lobby" in answer.said
    assert 'value="forty"' in answer.text
    assert (await report_of(ann.centre, report)).checklist == Checklist()


@pytest.mark.parametrize(
    ("sent", "source"), [("letter", Source.LETTER), ("rumour", Source.OTHER), ("call", Source.OTHER)]
)
async def test_a_threat_that_came_otherwise(ann, sent, source):
    answer = await ann.post(f"{HOME}/reports", {"source": sent})
    assert (await report_of(ann.centre, answer.headers["Location"])).source is source
    assert "Back to the panel" in (await ann.get(answer.headers["Location"])).said


async def test_too_many_are_said_to_be(ann):
    for _ in range(REPORTS_ALONE_MAX):
        await ann.post(f"{HOME}/reports", {"source": "letter"})
    answer = await ann.post(f"{HOME}/reports", {"source": "letter"})
    assert answer.headers["Location"] == f"{HOME}?said=threat_too_many"
    assert " ".join(words.THREAT_REFUSED["too_many"]) in (await ann.get(answer.headers["Location"])).said


async def test_a_report_is_for_whoever_made_it(taken, sit_down):
    """Nobody else sees it or fills it in; and a call that he does not hold is none that he reports on."""
    ann, line, path = taken
    report = (await ann.post(f"{path}/reports", {})).headers["Location"]
    bob = await sit_down(ann.centre, Agent("agent:bob", "Bob"))
    assert (await bob.get(report)).headers["Location"] == HOME
    assert (await bob.post(report, {"why": "x"})).headers["Location"] == HOME
    assert (await bob.post(f"{HOME}/calls/{line.call_sid}/reports", {})).headers["Location"] == HOME
    assert (await report_of(ann.centre, report)).checklist == Checklist()
