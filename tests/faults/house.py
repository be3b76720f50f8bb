"""
A house of nodes on one store, with the world around it: calls, agents, an IVR, a carrier; and all that is counted after.

Each case takes an account of its own, so that its guesses can be counted, in a house that many cases share.
"""

import asyncio
import contextlib
import itertools
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiohttp

from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Linked
from ivrguard.directory.local import LocalDirectory
from ivrguard.factors.pin import PinJudge
from ivrguard.guard import desk as desks
from ivrguard.keyring import Keyring
from ivrguard.phone.exchange import Exchange, Line
from ivrguard.phone.heard import Asked, Queued
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, SMS_FROM
from ivrguard.ports import Account, Credential, Store
from ivrguard.stores.postgres import PostgresStore
from ivrguard.stores.sqlite import SqliteStore
from ivrguard.web.app import wall_clock_ms
from tests.faults.nodes import ROOT, Keys, Node, Nursery, Road
from tests.faults.others import Carrier, Ivr

PIN = "24681357"
FAILURES = 5
LOCK_S = 1800
NUMBER = "+18005550100"
FLOW = f"""flow: faults
numbers: ["*"]
upstream: {{url: "{{ivr}}/voice"}}
language: en-US
identify: {{ask: account_number, digits: {{min: 6, max: 12}}}}
factors:
  pin: {{kind: pin, digits: 8}}
  code: {{kind: sms_code, digits: 6, valid: 10m, sends: {{per_call: 2, per_account: "5 in 1h"}}}}
levels:
  one_factor: {{any: [pin]}}
  two_factor: {{all: [pin, code]}}
rules:
  - {{path: /wait, allow: anyone}}
  - {{path: "/bad/**", allow: anyone}}
  - {{path: "/wire/**", require: two_factor, intent: wire}}
  - {{transfer: any, require: one_factor, intent: agent}}
default: {{require: one_factor}}
lockout: {{failures: {FAILURES}, within: 1h, lock: [{LOCK_S // 60}m, 2h], lifetime: 100}}
"""
"""Two levels, and a path for every way in which an IVR can fail."""


class Kept(Protocol):
    """Where the nodes of a house keep their state: what they are told of it, and the same opened here to look at."""

    def env(self) -> Mapping[str, str]: ...

    async def open(self) -> Store: ...


@dataclass(frozen=True, slots=True)
class InSqlite:
    """In a file of this folder."""

    folder: Path

    def env(self) -> Mapping[str, str]:
        return {"IVRGUARD_STORE": f"sqlite:{self.folder / 'guard.db'}"}

    async def open(self) -> Store:
        return await SqliteStore.open(self.folder / "guard.db")


@dataclass(frozen=True, slots=True)
class InPostgres:
    """In a database."""

    url: str

    def env(self) -> Mapping[str, str]:
        return {"DATABASE_URL": self.url}

    async def open(self) -> Store:
        return await PostgresStore.open(self.url, chance=secrets.token_bytes)


@dataclass
class Caller:
    """One account, and what was done in its name: calls, guesses (in order), receipts."""

    account: str
    number: str
    texted: str = ""
    lines: list[Line] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)
    receipts: list[dict[str, object]] = field(default_factory=list)

    def wrong(self) -> str:
        """A wrong PIN, and another one each time."""
        guess = f"{13_570_000 + len(self.guesses)}"
        self.guesses.append(guess)
        return guess

    def right(self) -> str:
        """The right one."""
        self.guesses.append(PIN)
        return PIN


@dataclass
class House:
    """See the module. `store`: the same one that the nodes have, opened here to look at."""

    folder: Path
    nursery: Nursery
    keys: Keyring
    env: Mapping[str, str]
    nodes: list[Node]
    store: Store
    ivr: Ivr
    carrier: Carrier
    road: Road
    exchange: Exchange
    session: aiohttp.ClientSession
    pin: Credential
    desk: str = ""
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def caller(self, *, texted: str = "") -> Caller:
        """A new account with PIN, and a number for codes if `texted` gives its last digit."""
        number = next(self.numbers)
        caller = Caller(f"7{number:07}", f"+1555{number:07}", f"+1556{number:06}{texted}" if texted else "")
        codes = (Credential(Kind.SMS_CODE, number=caller.texted),) if texted else ()
        account = Account(caller.account, (), (self.pin, *codes))
        assert await LocalDirectory(self.store, self.keys).add(account, now_ms=wall_clock_ms(), by="faults")
        return caller

    def call(self, caller: Caller, *, path: str = "/", number: str = "") -> Line:
        """A call that has not begun; `path`: where the dialled number points."""
        dialled = f"{NUMBER[:-4]}{abs(hash(path)) % 10_000:04}" if path != "/" else NUMBER
        self.exchange.number(
            dialled,
            f"{PUBLIC_URL}{path}",
            fallback_url=f"{PUBLIC_URL}/.ivrguard/fallback",
            status_callback=f"{PUBLIC_URL}/.ivrguard/status",
        )
        line = self.exchange.call(number or caller.number, dialled)
        caller.lines.append(line)
        return line

    async def asked_for_pin(self, caller: Caller, **how: str) -> Line:
        """A call up to the question for the PIN."""
        line = self.call(caller, **how)
        await line.until_input()
        await line.press(f"{caller.account}#")
        assert isinstance(line.waiting, Asked), line.heard
        return line

    async def another_desk(self) -> None:
        """A desk of its own: one that presents twenty tokens that are no good is locked."""
        self.desk = secrets.token_urlsafe(32)
        name = f"ann{next(self.numbers)}"
        await desks.add(self.store, name, ("workflow:*",), secret=self.desk, now_ms=wall_clock_ms())

    async def redeem(self, caller: Caller, line: Line, token: str = "") -> int:
        """Present a token (the one in the queue of this call) at the desk, at the node that the road takes: its status."""
        node = self.nodes[self.road.first() % len(self.nodes)]
        url = f"http://127.0.0.1:{node.port}/.ivrguard/agent/v1/redemptions"
        body = {"token": token or token_in(line), "call_sid": line.call_sid}
        headers = {"Authorization": f"Bearer {self.desk}"}
        async with self.session.post(url, json=body, headers=headers) as response:
            if response.status == 201:
                caller.receipts.append(await response.json())
            return response.status

    async def ready(self, node: Node) -> bool:
        """Whether a node says that a caller would be let through."""
        async with self.session.get(f"http://127.0.0.1:{node.ops_port}/readyz") as response:
            return response.status == 200

    def judged(self) -> list[dict[str, object]]:
        """What judges looked at, in the order of their looking: what no hash thread was free for is not among it."""
        file = self.folder / "judged"
        found: list[dict[str, object]] = []
        for line in file.read_text().splitlines() if file.exists() else ():
            one = json.loads(line)
            if one.pop("busy", False):
                found.remove(one)
            else:
                found.append(one)
        return found

    async def entries(self) -> list[Linked]:
        """The whole record."""
        found: list[Linked] = []
        while page := await self.store.entries(after=found[-1].seq if found else 0):
            found += page
        return found

    def command(self, *arguments: str) -> tuple[int, str]:
        """Run a command on this house: exit code and what it said."""
        log = self.folder / f"command.{next(self.numbers)}.log"
        code = self.nursery.run(arguments, self.env, log)
        return code, log.read_text()


def token_in(line: Line) -> str:
    """The token in the task of the queue that a call stands in."""
    assert isinstance(line.waiting, Queued), line.heard
    return str(json.loads(line.waiting.task)["ivrguard_token"])


@asynccontextmanager
async def house(
    folder: Path,
    nursery: Nursery,
    *,
    kept: Kept,
    weak: str = "",
) -> AsyncIterator[House]:
    """Build everything, start two nodes, and end all of it."""
    async with AsyncExitStack() as stack:
        keys, ivr, carrier = Keys.new(), Ivr(), Carrier()
        await stack.enter_async_context(ivr.listening())
        await stack.enter_async_context(carrier.listening())
        flows = folder / "flows"
        shutil.copytree(ROOT / "flows" / "prompts", flows / "prompts")
        (flows / "faults.yaml").write_text(FLOW.replace("{ivr}", ivr.origin))
        told = {
            "IVRGUARD_PUBLIC_URL": PUBLIC_URL,
            "IVRGUARD_TWILIO_TOKENS": f"{ACCOUNT_SID}={AUTH_TOKEN}",
            "IVRGUARD_FLOWS": str(flows),
            "IVRGUARD_WATCH_FLOWS": "false",
            "IVRGUARD_HOST": "127.0.0.1",
            "IVRGUARD_SMS_FROM": SMS_FROM,
            "IVRGUARD_SMS_API_URL": carrier.origin,
            "IVRGUARD_OPS_PORT": "0",
            "PORT": "0",
            "FAULTS_JUDGED": str(folder / "judged"),
            **keys.env(),
            **kept.env(),
        }
        log = folder / "migrate.log"
        assert nursery.run(["migrate"], told, log) == 0, log.read_text()
        store = await kept.open()
        stack.push_async_callback(store.close)
        ring = keys.ring()
        judge = PinJudge(ring.peppers, threads=1)
        pin = await judge.enrol(PIN)
        await judge.close()
        every = [Node(f"node{number}", nursery, told, folder, weak) for number in range(2)]
        stack.push_async_callback(_ended, every)
        await asyncio.gather(*(node.start() for node in every))
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        road = Road(every, session)
        exchange = Exchange(road, ACCOUNT_SID, AUTH_TOKEN)  # type: ignore[arg-type]  # what it uses of a session
        built = House(folder, nursery, ring, told, every, store, ivr, carrier, road, exchange, session, pin)
        await built.another_desk()
        yield built


async def _ended(nodes: list[Node]) -> None:
    for node in nodes:
        with contextlib.suppress(ProcessLookupError):
            await node.stop()
