"""Messages that nobody waits for: started, bounded, and never lost sight of."""

import asyncio
from typing import Any

import pytest

from ivrguard.core.errors import NotifyFault
from ivrguard.guard import background
from ivrguard.guard.background import Background

Logged = list[dict[str, Any]]


async def test_drain_waits_for_all_that_was_started():
    """Also for what is started while it waits."""
    done: list[str] = []
    running = Background()

    async def work(name: str) -> None:
        await asyncio.sleep(0)
        done.append(name)
        if name == "first":
            running.start(work("second"))

    running.start(work("first"))
    await running.drain()

    assert done == ["first", "second"]


async def test_a_message_beyond_the_bound_is_dropped_and_told(
    monkeypatch: pytest.MonkeyPatch, logged: Logged
):
    """A flood of calls is no flood of memory; when there is room again, the next one goes."""
    monkeypatch.setattr(background, "BACKGROUND_MAX", 2)
    gate, sent = asyncio.Event(), []

    async def work(name: str) -> None:
        await gate.wait()
        sent.append(name)

    running = Background()
    for name in ("one", "two", "three"):
        running.start(work(name))
    gate.set()
    await running.drain()
    running.start(work("four"))
    await running.drain()

    assert sent == ["one", "two", "four"]
    assert [(line["event"], line["reason"]) for line in logged] == [("message_dropped", "background_full")]


@pytest.mark.parametrize(
    ("error", "event"),
    [(NotifyFault("the carrier is down"), "message_not_sent"), (KeyError("of ours"), "bug")],
)
async def test_what_goes_wrong_is_told_and_nothing_else_suffers(error: Exception, event: str, logged: Logged):
    """A fault, or a bug of ours: nobody waits for this work, so it is logged here or nowhere."""

    async def work() -> None:
        raise error

    running = Background()
    running.start(work())
    await running.drain()

    assert [line["event"] for line in logged] == [event]
