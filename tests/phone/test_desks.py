"""The agents of a story: each line about a desk does what it says, and what must come of it is demanded."""

from pathlib import Path

import pytest

from ivrguard import flowfile
from ivrguard.factors import pin
from ivrguard.phone.desks import VERBS, Desks
from ivrguard.phone.stage import StoryFailed, play
from ivrguard.phone.story import Story
from ivrguard.phone.world import VERBS as EVERY
from ivrguard.phone.world import told

CALL = "call from +15551230001 to +18005550100"
VERIFIED = [CALL, "press {account}#", "press {pin}"]
AGENT = 'ivr /voice <Enqueue action="/after">support</Enqueue>'
HANDED = [
    AGENT,
    "desk ann serves enqueue:*",
    "desk bob serves client:bob",
    *VERIFIED,
    "press {code}",
    'transferred to enqueue "support"',
    "redeem at ann: two_factor",
]


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch):
    """The real argon2 with small parameters: what a hash costs is tests/factors/test_pin.py's business."""
    monkeypatch.setattr(pin, "MEMORY_KIB", 64)
    monkeypatch.setattr(pin, "PASSES", 1)


@pytest.fixture(scope="module")
def flow():
    loaded = flowfile.load(Path(__file__).parents[2] / "flows" / "bank.yaml")
    assert loaded.flow is not None, loaded.faults
    return loaded.flow


async def tells(flow, *lines):
    """Play these lines in the world; the talk."""
    story = Story.parse("\n".join(lines), "a.call", verbs=EVERY)
    async with told(flow, story) as telling:
        transcript = await play(story, telling.at.exchange, world=telling.world())
    return "\n".join(transcript.text)


async def test_a_desk_redeems_what_went_along(flow):
    """Once; who has no desk is told how to get one."""
    await tells(flow, *HANDED, "redeem at ann: refused")
    with pytest.raises(StoryFailed, match="2: there is no desk 'bob': add `desk bob serves QUEUE`"):
        await tells(flow, CALL, "redeem at bob: refused")
    with pytest.raises(StoryFailed, match="3: the desk got: refused"):
        await tells(flow, "desk ann serves enqueue:*", CALL, "redeem at ann: two_factor")


async def test_a_code_is_read_to_a_desk_and_the_caller_passed_on(flow):
    """Wrong, right, none any more; to the next desk with a new token; the digits are in no talk."""
    talk = await tells(
        flow,
        *HANDED,
        "desk ann sees verified",
        "desk bob sees nothing",
        "desk ann sends a code",
        "desk ann types {wrong_code}: wrong",
        "desk ann types {code}: right",
        "desk ann types 12345: no_code",
        "desk ann sends a code: no_more_codes",
        "desk ann passes on to client:bob",
        "redeem at bob: two_factor",
        "desk ann sees nothing",
        "desk bob names 987654321",
        "desk bob sees not_verified",
        "texted 3",
    )
    assert "{code}" in talk


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("desk bob sends a code", "not_found"),
        ("desk ann sends a code: no_more_codes", "it was sent"),
        ("desk bob sends a code: no_more_codes", "not_found"),
        ("desk ann types {pin}: right", "no_code"),
        ("desk bob names 123456", "not_found"),
        ("desk bob passes on to client:bob", "not_found"),
        ("desk ann sees locked", "the desk sees: verified"),
    ],
)
async def test_what_comes_otherwise_fails_the_story(flow, line, why):
    """With the line, and what came instead."""
    with pytest.raises(StoryFailed, match=f"10: .*{why}"):
        await tells(flow, *HANDED, line)


def test_every_line_has_its_method():
    """And says in its words how it looks."""
    for usage, method in VERBS.items():
        assert usage in getattr(Desks, method).__doc__
