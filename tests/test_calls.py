"""
The stories of `calls/*.call`, each played for real on each store: sockets, signatures, hashes, the sample bank.

Beside the verbs of `ivrguard/phone/story.py` these stories have their own (`Telling`). After each one, whatever
happened in it: the bank believed every request, nothing keyed for the guard reached it, no answer failed at the
provider, and the chain of the record is whole.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyotp
import pytest

from ivrguard import flowfile
from ivrguard.core import audit
from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.lockout import Unlocked, UnlockRequest
from ivrguard.core.rules import ANYONE, Rule
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import locks
from ivrguard.phone import rig
from ivrguard.phone.bank import Bank
from ivrguard.phone.heard import AgentBehaviour, Failed, Queued
from ivrguard.phone.rig import Clock, Rig
from ivrguard.phone.story import Act, Scene, Story, World, play
from ivrguard.ports import Account, Credential, Store
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.sqlite import SqliteStore

STORIES = {
    path.name: path.read_text() for path in sorted(Path(__file__).parent.joinpath("calls").glob("*.call"))
}
FLOW = flowfile.load_all(Path(__file__).parent.parent / "flows").flows[0]
NOW_MS = 1_790_000_000_000

OWNER = "+15551230001"
ACCOUNT = "123456789"
APP_OWNER = "+15550000003"
APP_ACCOUNT = "555000111"
APP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
PIN = "24681357"
WRONG = "11112229"
ENTRIES_MAX = 1_000


def insist(scene: Scene, holds: bool) -> None:
    """A step that says what is not so, or that nobody understands, ends the story."""
    if not holds:
        raise scene.fail("it is not so")


def opened(rest: str) -> tuple[Rule, ...]:
    """What `anyone may ask for PATH` and `anyone may press KEY at PATH` make."""
    match rest.split():
        case ["may", "ask", "for", path]:
            return (Rule(ANYONE, path=path),)
        case ["may", "press", key, "at", path]:
            return (Rule(ANYONE, path=path, digits=key),)
        case _:
            return ()


@dataclass
class Telling:
    """One story while it is told: the world that it plays in, and the verbs that the world has."""

    story: Story
    bank: Bank = field(default_factory=Bank)
    centre: Rig | None = None
    desks: dict[str, str] = field(default_factory=dict)
    keyed: set[str] = field(default_factory=set)
    """What was keyed for the guard alone."""

    @property
    def at(self) -> Rig:
        assert self.centre is not None
        return self.centre

    # ---- before anybody calls ----------------------------------------------------------------------------

    def rules(self) -> tuple[Rule, ...]:
        """The flow's rules, after those that the story opens."""
        acts = [step.does for step in self.story.steps if isinstance(step.does, Act)]
        return (*(rule for act in acts if act.verb == "anyone" for rule in opened(act.rest)), *FLOW.rules)

    # ---- verbs -------------------------------------------------------------------------------------------

    async def anyone(self, scene: Scene, rest: str) -> None:
        """See `opened`: it was done before anybody called."""
        insist(scene, bool(opened(rest)))

    async def bank_(self, scene: Scene, rest: str) -> None:
        """`bank transfers by KIND`; `bank heard PATH`, `bank never heard PATH`."""
        *words, last = rest.split()
        match words:
            case ["transfers", "by"]:
                self.bank.transfer = last  # type: ignore[assignment]  # a test: a wrong word fails the story
            case ["heard"]:
                insist(scene, last in self.bank.paths_seen())
            case _:
                insist(scene, words == ["never", "heard"] and last not in self.bank.paths_seen())

    async def agents(self, scene: Scene, rest: str) -> None:
        """`agents busy`, `agents no-answer`: from now on."""
        scene.exchange.otherwise = AgentBehaviour(does=rest)  # type: ignore[arg-type]  # the same

    async def desk(self, scene: Scene, rest: str) -> None:
        """`desk NAME serves QUEUES`."""
        name, _, queues = rest.split()
        self.desks[name] = await self.at.desk(name, queues)

    async def redeem(self, scene: Scene, rest: str) -> None:
        """`redeem at NAME: LEVEL`, or `refused`: the token of the last transfer, or the call where none went along."""
        name, wanted = rest.removeprefix("at ").split(": ")
        carried = scene.tokens[-1:] or [scene.line.call_sid]
        status, answered = await self.at.redeem(self.desks[name], carried[0], scene.line.call_sid)
        got = answered.get("acr", "refused")
        insist(scene, (status, got) == (403 if wanted == "refused" else 201, wanted))

    async def unlock(self, scene: Scene, rest: str) -> None:
        """`unlock ACCOUNT by PERSON`."""
        account, person = rest.split(" by ")
        asked = UnlockRequest(person, "the owner called", self.at.clock())
        outcomes = await locks.unlock(self.at.store, self.at.keyring, (self.at.flow,), account, asked)
        insist(scene, Unlocked.UNLOCKED in [outcome for _, outcome in outcomes])

    async def messages(self, scene: Scene, rest: str) -> None:
        """`messages fail`: the next one does."""
        insist(scene, rest == "fail")
        self.at.carrier.fail_next(500, 20500)

    async def everything(self, scene: Scene, rest: str) -> None:
        """`everything arrives twice`: each webhook of this call from now on."""
        insist(scene, rest == "arrives twice")
        scene.line.send_twice = True

    async def texted(self, scene: Scene, rest: str) -> None:
        """`texted N`: so many messages went out so far."""
        await self.at.server.guard.drain()
        insist(scene, len(self.at.carrier.sent) == int(rest))

    async def wired(self, scene: Scene, rest: str) -> None:
        """`wired AMOUNT`, `wired nothing`: that, once, and nothing else."""
        insist(scene, self.bank.wired == ([] if rest == "nothing" else [rest]))

    async def recorded(self, scene: Scene, rest: str) -> None:
        """`recorded EVENT REASON`: it is on record."""
        event, reason = rest.split()
        insist(scene, (event, reason) in [(entry.event, entry.reason) for entry in await self.record()])

    async def never(self, scene: Scene, rest: str) -> None:
        """`never recorded EVENT`."""
        word, event = rest.split()
        insist(scene, word == "recorded" and event not in [entry.event for entry in await self.record()])

    async def record(self) -> list[Entry]:
        return [linked.entry for linked in await self.at.store.entries(limit=ENTRIES_MAX)]

    # ---- values ------------------------------------------------------------------------------------------

    def key(self, digits: str) -> str:
        self.keyed.add(digits)
        return digits

    def code(self, number: str) -> str:
        return self.key(self.at.carrier.code_for(number))

    def world(self) -> World:
        """The world of the story: what `{pin}` and the like stand for, and its verbs."""
        return World(
            values={
                "pin": lambda: self.key(PIN),
                "wrong": lambda: self.key(WRONG),
                "wrong_code": lambda: self.key(f"{(int(self.at.carrier.code_for(OWNER)) + 1) % 10**6:06}"),
                "app": lambda: self.key(pyotp.TOTP(APP_SECRET).at(self.at.clock() // 1000)),
            },
            code_for=self.code,
            advance=self.at.clock.advance,
            actions=verbs(self),
        )

    async def holds(self) -> None:
        """What holds after every story."""
        assert [seen.path for seen in self.bank.seen if not seen.signed] == []
        assert self.bank.digits_seen() & self.keyed == set()
        found = audit.verify(await self.at.store.entries(limit=ENTRIES_MAX), head=await self.at.store.head())
        assert isinstance(found, int), found


VERBS = {
    **{name: name for name in ("anyone", "agents", "desk", "redeem", "unlock", "messages", "everything")},
    **{name: name for name in ("texted", "wired", "recorded", "never")},
    "bank": "bank_",
}


def verbs(telling: Telling) -> dict[str, Callable[..., Any]]:
    """The world's verbs, by their first word."""
    return {verb: getattr(telling, method) for verb, method in VERBS.items()}


@asynccontextmanager
async def told(story: Story, store: Store) -> AsyncIterator[Telling]:
    """A contact centre with two accounts: one with a number for messages, one with an app."""
    telling = Telling(story)
    flow = replace(FLOW, rules=telling.rules())
    async with rig.rig(flow, telling.bank.app, store=store, clock=Clock(NOW_MS), hash_threads=2) as centre:
        telling.centre = centre
        by_message = Credential(Kind.SMS_CODE, number=OWNER)
        first = await centre.enrol(Account(ACCOUNT, (OWNER,), (by_message,)), pin=PIN)
        by_app = TotpJudge(centre.keyring).enrol(APP_SECRET)
        await centre.enrol(Account(APP_ACCOUNT, (APP_OWNER,), (first.credentials[0], by_app)))
        yield telling


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """The rig closes it."""
    if request.param == "memory":
        return MemoryStore()
    return await SqliteStore.open(tmp_path / "calls.db", migrate=True)


@pytest.mark.parametrize("name", STORIES)
async def test_story(name: str, store: Store):
    """It comes true, line by line."""
    story = Story.parse(STORIES[name], name, actions=VERBS)
    async with told(story, store) as telling:
        transcript = await play(story, telling.at.exchange, world=telling.world())
        await telling.holds()
    assert [event for line in transcript.lines for event in line.heard if isinstance(event, Failed)] == []


def test_every_story_reads_as_it_is_written():
    """Each has a title of its own, and is the same story when it is written down again."""
    stories = [Story.parse(text, name, actions=VERBS) for name, text in STORIES.items()]
    titles = [story.title for story in stories]

    assert len(titles) >= 15
    assert (len(set(titles)), "" in titles) == (len(titles), False)
    assert stories == [Story.parse(str(story), "again", actions=VERBS) for story in stories]


async def test_a_call_that_the_bank_makes(store: Store):
    """outbound-api: the person called is asked who he is, as if he had called."""
    async with told(Story("", ()), store) as telling:
        line = telling.at.exchange.call(FLOW.numbers[0], OWNER, direction="outbound-api")
        for keys in ("1#", PIN, "0", None):
            await line.until_input()
            await line.press(keys or telling.at.carrier.code_for(OWNER))
        assert isinstance(line.waiting, Queued)
        assert "ivrguard_token" in line.waiting.task
        await line.hang_up()
        await telling.holds()
