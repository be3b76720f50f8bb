"""A contact centre with agents at its pages: over bare HTTP, with what a browser would send along."""

import html
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from ivrguard.core.agents import Agent, Role
from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.flow import Flow
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Queued, Said
from ivrguard.phone.rig import PUBLIC_URL, Rig
from ivrguard.ports import Account, Credential

PIN = "24681357"
CALLER = "+15551230001"
AGENTS_PHONE = "+15550001111"
WORKFLOW = "WW" + "a1" * 16
ANN = Agent("agent:ann", "Ann Ames", queues=("workflow:*",))
HOME = "/.ivrguard/console/agent"


@dataclass(frozen=True, slots=True)
class Got:
    """What came back to a browser."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def said(self) -> str:
        """The page as words."""
        body = re.sub(r"(?s)<template.*?</template>|<head>.*?</head>", "", self.text)
        return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", body).split()))


@dataclass
class Desk:
    """An agent who is signed in, at a browser that does what it is told and no more."""

    centre: Rig
    agent: Agent
    secret: str

    async def get(self, path: str = HOME, **headers: str) -> Got:
        return await self._ask("GET", path, None, headers)

    async def post(self, path: str, form: Mapping[str, str], **headers: str) -> Got:
        sent = {"Origin": self.centre.guard_url, "Sec-Fetch-Site": "same-origin", **headers}
        return await self._ask("POST", path, {"csrf": await self.csrf(), **form}, sent)

    async def csrf(self) -> str:
        found = re.search('name="csrf" value="([^"]+)"', (await self.get()).text)
        assert found is not None
        return found[1]

    async def redeem(self, token: str) -> Got:
        return await self.post(f"{HOME}/redemptions", {"token": token})

    async def _ask(
        self, method: str, path: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> Got:
        sent = {"Cookie": f"__Host-ivrguard={self.secret}", "Accept": "text/html", **headers}
        url = self.centre.guard_url + path
        async with self.centre.session.request(
            method, url, data=form, headers=sent, allow_redirects=False
        ) as answer:
            return Got(answer.status, dict(answer.headers), await answer.text())


@pytest.fixture(scope="session")
def desk_flow(bank_flow: Flow) -> Flow:
    """Two factors of the last ten minutes to an agent, of the last five for a wire."""
    return replace(
        bank_flow,
        levels={
            "one_factor": AnyOf(("pin", "code", "app")),
            "two_factor": AllOf(("pin", AnyOf(("code", "app")))),
        },
        rules=(
            Rule(demand=Demand("two_factor", within_s=300, intent="wire"), path="/wire"),
            Rule(demand=Demand("two_factor", within_s=600, intent="agent"), transfer=Target("*", "*")),
        ),
        default=Demand(None),
    )


@pytest.fixture
def opened(start, desk_flow, ivr) -> Callable[..., AbstractAsyncContextManager[Rig]]:
    """Opens a centre whose IVR puts every caller before one workflow; account 123456 has a PIN, and codes to its number."""
    ivr.documents["/voice"] = f'<Enqueue workflowSid="{WORKFLOW}"/>'

    @asynccontextmanager
    async def opening(flow: Flow = desk_flow, **more: object) -> AsyncIterator[Rig]:
        async with start(flow, **more) as centre:
            credential = Credential(Kind.SMS_CODE, number=CALLER)
            await centre.enrol(Account("123456", (CALLER,), (credential,)), pin=PIN)
            yield centre

    return opening


@pytest.fixture
async def centre(opened) -> AsyncIterator[Rig]:
    async with opened() as running:
        yield running


async def desk_at(centre: Rig, agent: Agent = ANN) -> Desk:
    return Desk(centre, agent, await centre.session_of(agent))


async def handed_over(centre: Rig, *, between_s: int = 0) -> tuple[Line, str]:
    """A caller who keyed his PIN, and so much later the code, before the workflow: the line, and the token in his task."""
    line = centre.call(CALLER)
    await line.until_input()
    await line.press("123456#")
    await line.press(PIN)
    centre.clock.advance(between_s)
    await line.press(centre.carrier.code_for(CALLER))
    assert isinstance(line.waiting, Queued)
    return line, dict(line.waiting.attributes)["ivrguard_token"]


@pytest.fixture
def sit_down() -> Callable[..., object]:
    return desk_at


@pytest.fixture
def hand_over() -> Callable[..., object]:
    return handed_over


@pytest.fixture
async def ann(centre: Rig) -> Desk:
    return await desk_at(centre)


@pytest.fixture
def risk() -> Agent:
    return Agent("agent:ria", "Ria Reed", frozenset((Role.RISK,)))


@pytest.fixture
async def taken(ann: Desk) -> tuple[Desk, Line, str]:
    """Ann holds a call: her desk, the line, and the call's page."""
    line, token = await handed_over(ann.centre)
    answer = await ann.redeem(token)
    assert answer.status == 303
    return ann, line, answer.headers["Location"]


@dataclass
class Room:
    """Ann and her caller in a room of the guard's: the caller's line, the agent's own, and the call's page."""

    desk: Desk
    line: Line
    agent: Line
    path: str

    async def settle(self) -> None:
        """Everything that was begun is done: errands of the guard, moves of the provider."""
        centre = self.desk.centre
        while centre.server.guard._background._running or centre.calls._moving:
            await centre.server.guard._background.drain()
            await centre.calls.settled()


@pytest.fixture
def joined(opened, desk_flow: Flow, ivr) -> Callable[..., AbstractAsyncContextManager[Room]]:
    """Opens a centre whose transfers to a phone are bridged, with Ann joined to a caller who proved his PIN."""

    @asynccontextmanager
    async def joining(**more: object) -> AsyncIterator[Room]:
        ivr.documents |= {
            "/voice": f'<Dial action="/dialled"><Number>{AGENTS_PHONE}</Number></Dial>',
            "/dialled": "<Hangup/>",
        }
        rule = Rule(
            Demand("one_factor", within_s=600, intent="agent", bridge=True), transfer=Target("number", "*")
        )
        flow = replace(desk_flow, rules=(*desk_flow.rules[:1], rule))
        async with opened(flow, **more) as centre:
            centre.exchange.number(AGENTS_PHONE, f"{PUBLIC_URL}/")
            desk = await desk_at(centre, replace(ANN, queues=("number:*",)))
            line = centre.call(CALLER)
            room = Room(desk, line, line, "")
            await line.until_input()
            await line.press("123456#")
            await line.press(PIN)
            await room.settle()
            room.agent = next(one for one in centre.calls.lines.values() if one.direction == "outbound-api")
            whispered = " ".join(one.text for one in room.agent.heard if isinstance(one, Said))
            room.path = (await desk.redeem(re.sub(r"\D", "", whispered)[:8])).headers["Location"]
            yield room
            await room.settle()

    return joining
