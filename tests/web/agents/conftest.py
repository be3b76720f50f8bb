"""A guard in front of an IVR that puts every caller before a workflow; and a caller in an agent's hands."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ivrguard.core.assurance import AllOf
from ivrguard.core.flow import Flow
from ivrguard.core.rules import Demand
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Queued
from ivrguard.phone.rig import Rig
from ivrguard.ports import Account

PIN = "24681357"
WORKFLOW = "WW" + "a1" * 16
ROOT = "/.ivrguard/agent/v1/"


@dataclass(frozen=True)
class Desk:
    """A desk's key at a guard."""

    centre: Rig
    key: str

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """What is answered to a GET: status and JSON."""
        url, headers = self.centre.guard_url + ROOT + path, {"Authorization": f"Bearer {self.key}", **headers}
        async with self.centre.session.get(url, headers=headers) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, await answer.json()


@pytest.fixture
def agents_flow(bank_flow: Flow) -> Flow:
    """One factor for everything; every transfer is to agents."""
    return replace(
        bank_flow,
        levels={"one_factor": AllOf(("pin",))},
        rules=(),
        default=Demand("one_factor", intent="agent"),
        token_valid_s=60,
    )


@pytest.fixture
async def centre(start, agents_flow: Flow, ivr) -> AsyncIterator[Rig]:
    ivr.documents["/voice"] = f'<Enqueue workflowSid="{WORKFLOW}"><Task>{{"a": 1}}</Task></Enqueue>'
    async with start(agents_flow) as guarded:
        await guarded.enrol(Account("123456"), pin=PIN)
        yield guarded


@pytest.fixture
def desk(centre: Rig) -> Callable[[str], Awaitable[Desk]]:
    """Adds a desk that serves every queue."""

    async def added(name: str) -> Desk:
        return Desk(centre, await centre.desk(name, "*"))

    return added


@pytest.fixture
def in_hand(centre: Rig) -> Callable[..., Awaitable[Line]]:
    """A verified caller whose token this desk redeemed."""

    async def taken(desk: Desk) -> Line:
        line = centre.call()
        await line.until_input()
        await line.press("123456#")
        await line.press(PIN)
        assert isinstance(line.waiting, Queued)
        status, _ = await centre.redeem(desk.key, line.waiting.attributes["ivrguard_token"], line.call_sid)
        assert status == 201
        return line

    return taken


@pytest.fixture
def desk_of() -> Callable[[Rig, str], Awaitable[Desk]]:
    """Adds a desk to any guard."""

    async def added(centre: Rig, name: str) -> Desk:
        return Desk(centre, await centre.desk(name, "*"))

    return added
