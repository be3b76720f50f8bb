"""
The stories of `calls/*.call`, each played for real on each store: sockets, signatures, hashes, the sample bank.

The world that they play in is the one of `ivrguard test` (`ivrguard/phone/world.py`), and what it insists on after each
story holds here too. Their own is one line: `anyone may …`, which opens a rule of the flow before anybody calls. The flow
is the bank's, and lets callers change their PIN at a path of its own.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from ivrguard import flowfile
from ivrguard.core.flow import PinChange
from ivrguard.core.rules import ANYONE, Demand, Rule
from ivrguard.phone import world
from ivrguard.phone.heard import Queued
from ivrguard.phone.stage import World, play
from ivrguard.phone.story import Act, Form, Story
from ivrguard.phone.world import told
from ivrguard.ports import Store
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.sqlite import SqliteStore

STORIES = {
    path.name: path.read_text() for path in sorted(Path(__file__).parent.joinpath("calls").glob("*.call"))
}
LOADED = flowfile.load(Path(__file__).parent.parent / "flows" / "bank.yaml").flow
assert LOADED is not None
CHANGE = PinChange("/change-pin", Demand("two_factor", within_s=300), "/menu")
FLOW = replace(LOADED, pin_change=CHANGE)

ASKS, PRESSES = Form("anyone may ask for PATH"), Form("anyone may press KEYS at PATH")
VERBS = (*world.VERBS, ASKS.usage, PRESSES.usage)


def rules(story: Story) -> tuple[Rule, ...]:
    """The flow's rules, after those that the story opens."""
    opened = []
    for words in (step.does.words for step in story.steps if isinstance(step.does, Act)):
        if asks := ASKS.read(words):
            opened.append(Rule(ANYONE, path=asks[0]))
        if presses := PRESSES.read(words):
            opened.append(Rule(ANYONE, path=presses[1], digits=presses[0]))
    return (*opened, *FLOW.rules)


async def _opened(*_: object) -> None:
    """See `rules`: it was done before anybody called."""


def whole(own: World) -> World:
    """The world with the line that is these stories' own."""
    return replace(own, actions={**own.actions, ASKS.usage: _opened, PRESSES.usage: _opened})


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """The world closes it."""
    if request.param == "memory":
        return MemoryStore()
    return await SqliteStore.open(tmp_path / "calls.db", migrate=True)


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, store: Store):
    """It comes true, line by line."""
    story = Story.parse(STORIES[name], name, verbs=VERBS)
    async with told(replace(FLOW, rules=rules(story)), story, store=store) as telling:
        await play(story, telling.at.exchange, world=whole(telling.world()))


def test_every_story_reads_as_it_is_written():
    """Each has a title of its own, and is the same story when it is written down again."""
    stories = [Story.parse(text, name, verbs=VERBS) for name, text in STORIES.items()]
    titles = [story.title for story in stories]

    assert len(titles) >= 15
    assert (len(set(titles)), "" in titles) == (len(titles), False)
    assert stories == [Story.parse(str(story), "again", verbs=VERBS) for story in stories]


async def test_a_call_that_the_bank_makes(store: Store):
    """outbound-api: the person called is asked who he is, as if he had called."""
    async with told(FLOW, ivr="bank", store=store) as telling:
        line = telling.at.exchange.call(FLOW.numbers[0], world.OWN_NUMBER, direction="outbound-api")
        for keys in ("1#", telling.who.pin, "0", None):
            await line.until_input()
            await line.press(keys or telling.code())
        assert isinstance(line.waiting, Queued)
        assert "ivrguard_token" in line.waiting.task
        await line.hang_up()
