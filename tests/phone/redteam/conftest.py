"""
What the tests of the red team share: flows that were weakened, guards that were, and one attack played against them.

A weakened flow is an example with lines changed, and `check` has no fault to find in it: that is why somebody might run
it. A weakened guard is the real one with one piece taken out. Hashes are argon2's own, with the least work there is.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import structlog

from ivrguard import flowfile, log
from ivrguard.core.flow import Flow
from ivrguard.factors import pin
from ivrguard.phone.redteam import raid
from ivrguard.phone.redteam.attack import Outcome, Verdict
from ivrguard.phone.redteam.ground import Talk

FLOWS = Path(__file__).parents[3] / "flows"
SEED = 7


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """Nothing is logged, and a hash takes no time."""
    monkeypatch.setattr(pin, "MEMORY_KIB", 8)
    monkeypatch.setattr(pin, "PASSES", 1)
    before = structlog.get_config()
    log.configure("critical")
    yield
    structlog.configure(**before)
    logging.root.handlers[:] = [one for one in logging.root.handlers if not isinstance(one, log._Libraries)]


def read(name: str, *edits: tuple[str, str]) -> Flow:
    """An example flow with some of its text changed; without a fault."""
    text = (FLOWS / f"{name}.yaml").read_text()
    for before, after in edits:
        assert before in text, before
        text = text.replace(before, after)
    loaded = flowfile.read(
        f"{name}.yaml", text.encode(), lambda tag: (FLOWS / "prompts" / f"{tag}.yaml").read_bytes()
    )
    assert loaded.faults == ()
    assert loaded.flow is not None
    return loaded.flow


Played = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def flow_with() -> Callable[..., Flow]:
    return read


@pytest.fixture
def played() -> Played:
    """Play one attack against a flow."""

    async def play(name: str, flow: Flow | None = None) -> Outcome:
        (attack,) = raid.chosen([name])
        return await raid.played(flow or read("bank"), attack, SEED)

    return play


async def untroubled(_: object) -> tuple[Talk, Talk]:
    """An owner who does not call."""
    return Talk(True, 0, ()), Talk(True, 0, ())


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner does not call: for attacks of which he would feel nothing anyway."""
    monkeypatch.setattr(raid, "_owner", untroubled)


@pytest.fixture
def catches(played: Played, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Outcome]]:
    """The attack must let something through, and say it in these words. `owner`: whether he calls meanwhile."""

    async def caught(
        name: str,
        says: str,
        flow: Flow | None = None,
        place: tuple[object, ...] | None = None,
        *,
        owner: bool = False,
    ) -> Outcome:
        if not owner:
            monkeypatch.setattr(raid, "_owner", untroubled)
        outcome = await played(name, flow)
        found = [hole for hole in outcome.holes if says in hole.what]
        assert found, f"{name} found {[hole.what for hole in outcome.holes]}"
        assert outcome.verdict is Verdict.LET_THROUGH
        assert found[0].place == place
        return outcome

    return caught
