"""Many stories one after the other: found, read, played, and told to people, programs and build servers."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ivrguard import flowfile
from ivrguard.phone.rehearsal import Outcome, found, junit, read, record, rehearse
from ivrguard.phone.story import StoryFault

CALL = "call from +15551230001 to +18005550100\n"
TRUE = f'title: It is asked\nflow: bank\n{CALL}hear "account number"\n'
FALSE = f'flow: bank\n{CALL}hear "a song"\n'


@pytest.fixture(scope="module")
def flow():
    loaded = flowfile.load(Path(__file__).parents[2] / "flows" / "bank.yaml")
    assert loaded.flow is not None, loaded.faults
    return loaded.flow


@pytest.fixture
def folder(tmp_path):
    """Stories of two flows, one that cannot be read, and a file that is no story."""
    (tmp_path / "bank").mkdir()
    for name, text in {
        "bank/true.call": TRUE,
        "bank/false.call": FALSE,
        "clinic.call": f"flow: clinic\n{CALL}",
        "nobody.call": CALL,
        "binary.call": "\N{LATIN SMALL LETTER E WITH ACUTE}",
        "notes.txt": "hear nothing",
    }.items():
        (tmp_path / name).write_text(text, encoding="latin-1")
    return tmp_path


def names(paths, folder):
    return [str(path.relative_to(folder)) for path in paths]


def test_stories_are_found_in_every_folder_and_in_order(folder):
    """For one flow: without those that are about another."""
    every = ["bank/false.call", "bank/true.call", "binary.call", "clinic.call", "nobody.call"]
    assert names(found(folder), folder) == every
    assert names(found(folder, "bank"), folder) == [name for name in every if name != "clinic.call"]
    assert found(folder / "nowhere") == ()


def test_a_story_is_read_with_the_verbs_of_the_world(folder):
    path = folder / "a.call"
    path.write_text("texted 0\ndance")
    with pytest.raises(StoryFault, match=r"a\.call:2: there is no verb 'dance'"):
        read(path, ["bank"])


async def test_each_story_is_played_and_told_as_it_comes(folder, flow):
    """One that cannot be read has not come true; the others are played all the same."""
    told = []
    paths = [folder / name for name in ("bank/true.call", "bank/false.call", "clinic.call")]
    outcomes = await rehearse(paths, [flow], each=told.append)

    assert outcomes == tuple(told)
    true, false, unread = outcomes
    assert (true.flow, true.title, true.faults) == ("bank", "It is asked", ())
    assert true.talk[0] == f">> {CALL.strip()}"
    assert true.seconds > 0
    assert (false.title, false.faults) == (
        "false",
        (f'{folder}/bank/false.call:3: expected to hear "a song": nobody said it',),
    )
    assert false.talk[-1] == '-> hear "a song"'
    assert (unread.flow, unread.faults) == (
        "",
        (f"{folder}/clinic.call:1: there is no flow 'clinic'; there is: bank",),
    )


async def test_nothing_of_a_story_is_left_for_the_next(folder, flow):
    """The fifth wrong PIN locks, and in the next story nobody has guessed."""
    guesses = f"{CALL}press {{account}}#\n" + "press {wrong}\n" * 3 + "hung up\n"
    path = folder / "a.call"
    path.write_text(guesses * 2 + "recorded authn_login_lock maxretries")
    (folder / "b.call").write_text(f'{CALL}press {{account}}#\npress {{pin}}\nhear "path /voice"')
    outcomes = await rehearse([path, folder / "b.call"], [flow], each=lambda _: None)
    assert [one.faults for one in outcomes] == [(), ()]


OUTCOMES = (
    Outcome("a.call", "bank", "One & all", seconds=0.25, talk=(">> call",)),
    Outcome("b.call", "bank", "Two", ("b.call:3: <why>", "b.call:4: too"), ('<< "\x1bnoise"',), 1.5),
    Outcome("c.call", "", "c", ("c.call:1: no verb",)),
)


def test_a_build_server_reads_it():
    """A suite for each flow, a failure with where, why and the talk; nothing that XML may not hold."""
    root = ET.fromstring(junit(OUTCOMES))
    assert (root.tag, root.attrib) == (
        "testsuites",
        {"tests": "3", "failures": "2", "errors": "0", "name": "ivrguard test", "time": "1.750"},
    )
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in root] == [
        ("bank", "2", "1"),
        ("unreadable", "1", "1"),
    ]
    first, second = root[0]
    assert (first.attrib, len(first)) == (
        {"name": "One & all", "classname": "bank", "file": "a.call", "time": "0.250"},
        0,
    )
    assert second[0].get("message") == "b.call:3: <why>"
    assert second[0].text == 'b.call:3: <why>\nb.call:4: too\n<< "\ufffdnoise"'


def test_a_program_reads_it():
    whole = record(OUTCOMES)
    assert (whole["played"], whole["failed"], whole["seconds"]) == (3, 2, 1.75)
    assert whole["stories"][1] == {
        "file": "b.call",
        "flow": "bank",
        "title": "Two",
        "came_true": False,
        "faults": ["b.call:3: <why>", "b.call:4: too"],
        "talk": ['<< "\x1bnoise"'],
        "seconds": 1.5,
    }


# ── the examples ─────────────────────────────────────────────────────────────────────────────────────────

FLOWS = Path(__file__).parents[2] / "flows"
EXAMPLES = found(FLOWS / "stories")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(FLOWS)))
async def test_an_example_comes_true(path):
    """Those in flows/stories, which flows/README.md shows."""
    flows = flowfile.load_all(FLOWS).flows
    (outcome,) = await rehearse([path], flows, each=lambda _: None)
    assert outcome.faults == ()


def test_each_example_flow_has_stories_with_titles_of_their_own():
    texts = [path.read_text() for path in EXAMPLES]
    titles = [re.search("^title: (.+)$", text, re.MULTILINE)[1] for text in texts]
    assert len(set(titles)) == len(titles)
    for flow in flowfile.load_all(FLOWS).flows:
        assert sum(f"\nflow: {flow.name}\n" in text for text in texts) >= 2, flow.name
