"""
The provider, and the telephones of it: posts, repeats, comes late, goes elsewhere, and does what the TwiML says.

Laws of this file
 1. What is posted is signed by rules that stand here once more, from the provider's page
    (https://www.twilio.com/docs/usage/security), not with the guard's own code.
 2. A request whose node dies is sent to another one, byte for byte; so is, now and then, one that is answered; and now
    and then one from long ago comes once more. Which and when, the seed says.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import random
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree as ET

from tests.sim import town
from tests.sim.nodes import Centre, Node, Posted, Turn

DEADLINE_S = 15.0
DELIVERIES_MAX = 4
DOCUMENTS_MAX = 40


def signature(url: str, params: list[tuple[str, str]]) -> str:
    """The value of X-Twilio-Signature."""
    text = url + "".join(name + value for name, value in sorted(params))
    digest = hmac.digest(town.AUTH_TOKEN.encode(), text.encode(), hashlib.sha1)
    return base64.b64encode(digest).decode()


@dataclass
class Habits:
    """How likely the provider and the hosts do each of these, per request."""

    twice: float = 0.05
    late: float = 0.03
    dies: float = 0.006


@dataclass
class Provider:
    """Carries requests to the nodes. `spoken`: how many requests came."""

    centre: Centre
    chance: random.Random
    habits: Habits
    errands: list[asyncio.Task] = field(default_factory=list)
    turns: itertools.count = field(default_factory=itertools.count)
    restarting: int = 0

    def errand(self, work: object) -> None:
        """Something that goes on beside everything else."""
        self.errands.append(asyncio.get_running_loop().create_task(work))

    def pick(self, other_than: Node | None = None) -> Node:
        """Some node that lives."""
        nodes = self.centre.nodes
        living = [node for node in nodes if node.alive and node is not other_than]
        return self.chance.choice(living or [node for node in nodes if node.alive])

    async def post(
        self,
        line: "Line",
        url: str,
        params: list[tuple[str, str]],
        *,
        signed: bool = True,
        to: Node | None = None,
    ) -> bytes | None:
        """Have a request answered, whatever happens to the nodes; None: nobody answered it."""
        target = url.removeprefix(town.ISSUER).partition("#")[0]
        body = urlencode(params).encode()
        headers = {"X-Twilio-Signature": signature(town.ISSUER + target, params) if signed else "forged"}
        node = to or self.pick()
        if signed:
            line.posted.append((url, params))
            if self.chance.random() < self.habits.twice:
                self.errand(self._again(line, target, body, headers, node))
        for _ in range(DELIVERIES_MAX):
            answer = await self._deliver(line, target, body, headers, node)
            if answer is not None or not signed:
                return answer
            await asyncio.sleep(0.1)
            node = self.pick(other_than=node)
        return None

    async def _again(self, line: "Line", target: str, body: bytes, headers: dict, node: Node) -> None:
        """The same once more, to another node: while it is answered, or a little later."""
        await asyncio.sleep(self.chance.choice((0.0, 0.02, 0.3, 3.0)))
        await self._deliver(line, target, body, headers, self.pick(other_than=node))

    async def late(self, line: "Line", url: str, params: list[tuple[str, str]]) -> None:
        """One from long ago."""
        self.centre.watch.disturb(line.sid)
        target = url.removeprefix(town.ISSUER).partition("#")[0]
        headers = {"X-Twilio-Signature": signature(town.ISSUER + target, params)}
        await self._deliver(line, target, urlencode(params).encode(), headers, self.pick())

    async def _deliver(
        self, line: "Line", target: str, body: bytes, headers: dict, node: Node
    ) -> bytes | None:
        if not node.alive:
            return None
        loop, fields = asyncio.get_running_loop(), dict(line.fields)
        params = dict(parse_qsl(body.decode(), keep_blank_values=True))
        turn = Turn(
            next(self.turns),
            node.name,
            line.sid,
            target,
            params.get("Digits"),
            (line.sid, target, body),
            loop.time(),
            over=params.get("CallStatus") == "completed",
            own="/.ivrguard/call/" in target and "/whisper/" not in target,
            caller=line.number,
            attested=fields.get("StirVerstat") == town.ATTESTED,
        )
        if self.chance.random() < self.habits.dies and sum(one.alive for one in self.centre.nodes) > 1:
            turn.dies_after = self.chance.choice((1, 1, 2, 3))
        watch = self.centre.watch
        watch.began(turn)
        task = node.take(Posted("POST", target, body, headers, "application/x-www-form-urlencoded"), turn)
        done, _ = await asyncio.wait({task}, timeout=DEADLINE_S)
        if not node.alive:
            self._bury(node)
        if not done:
            watch.unanswered(turn)
            task.cancel()
            return None
        if task.cancelled():
            watch.dropped(turn)
            return None
        response = task.result()
        watch.answered(
            turn, response.status, response.body or b"", signed=headers["X-Twilio-Signature"] != "forged"
        )
        return bytes(response.body or b"")

    async def present(self, queue: str, key: str, token: str, call_sid: str | None, leg: object) -> int:
        """A desk presents a token, at some node; who knows what `leg` it is of is the oracle alone. 0: the node died."""
        node, watch = self.pick(), self.centre.watch
        target = "/.ivrguard/agent/v1/redemptions"
        turn = Turn(next(self.turns), node.name, "", target, None, ("", target, b""), self.now_s())
        asks = {"token": token} | ({"call_sid": call_sid} if call_sid else {})
        headers = {"Authorization": f"Bearer {key}"}
        watch.presents(turn, queue, leg, call_sid)
        task = node.take(Posted("POST", target, json.dumps(asks).encode(), headers, "application/json"), turn)
        await asyncio.wait({task})
        if not task.cancelled():
            response = task.result()
            watch.desk_answered(turn, response.status, bytes(response.body))
            return response.status
        return 0

    async def ask(
        self, queue: str, key: str, sid: str, what: str = "", body: dict[str, str] | None = None
    ) -> tuple[int, dict]:
        """
        The agent of a queue asks about a call, or does `what` to it; no `body`: he looks. (0, {}): nobody answered.

        Where a node dies, the same goes to another one. A `request` in the body names it, as agents' programs do.
        """
        target = f"/.ivrguard/agent/v1/calls/{sid}" + (f"/{what}" if what else "")
        known = sid if sid in self.centre.watch.calls else ""
        asks, headers = body or {}, {"Authorization": f"Bearer {key}"}
        request = f"{queue}/{asks.get('request', next(self.turns))}".encode()
        node, watch = self.pick(), self.centre.watch
        for _ in range(DELIVERIES_MAX):
            name, keyed = (sid, target, request), asks.get("digits", asks.get("account"))
            turn = Turn(next(self.turns), node.name, known, target, keyed, name, self.now_s())
            if self.chance.random() < self.habits.dies and sum(one.alive for one in self.centre.nodes) > 1:
                turn.dies_after = self.chance.choice((1, 2, 3))
            watch.asks(turn, queue)
            sent = json.dumps(asks).encode() if body is not None else b""
            method = "GET" if body is None else "POST"
            task = node.take(Posted(method, target, sent, headers, "application/json"), turn)
            await asyncio.wait({task})
            if not node.alive:
                self._bury(node)
            if not task.cancelled():
                response = task.result()
                watch.acted(turn, response.status, bytes(response.body))
                return response.status, json.loads(response.body)
            watch.dropped(turn)
            node = self.pick(other_than=node)
        return 0, {}

    @staticmethod
    def now_s() -> float:
        return asyncio.get_running_loop().time()

    def _bury(self, node: Node) -> None:
        if node in self.centre.nodes and not getattr(node, "buried", False):
            node.buried = True
            self.errand(self._restart(node))

    async def _restart(self, node: Node) -> None:
        await asyncio.sleep(self.chance.uniform(1, 60))
        await self.centre.instead_of(node)


@dataclass
class Transfer:
    """Where a document takes the caller: `kind:name`, with what its agent is told."""

    target: str
    token: str = field(default="", repr=False)
    whisper: str = ""
    action: str = ""
    wait: str = ""


def transfers(root: ET.Element) -> list[Transfer]:
    """Every transfer in a document."""
    found = []
    for verb in root:
        action, wait = verb.get("action", ""), verb.get("waitUrl", "")
        if verb.tag == "Enqueue":
            task = verb.find("Task")
            name = (verb.text or "").strip()
            data = json.loads(task.text or "{}") if task is not None else {}
            target = f"workflow:{verb.get('workflowSid')}" if verb.get("workflowSid") else f"enqueue:{name}"
            found.append(Transfer(target, data.get("ivrguard_token", ""), "", action, wait))
        elif verb.tag == "Dial":
            noun = verb[0] if len(verb) else verb
            name, token = "".join(noun.itertext()).strip(), ""
            if noun.tag == "Client":
                name = noun.findtext("Identity") or name
                token = next(
                    (
                        one.get("value", "")
                        for one in noun.iter("Parameter")
                        if "ivrguard" in one.get("name", "")
                    ),
                    "",
                )
            if noun.tag == "Sip":
                name, _, query = name.partition("?")
                token = query.partition("X-Ivrguard-Token=")[2].partition("&")[0]
            found.append(Transfer(f"{noun.tag.lower()}:{name}", token, noun.get("url", ""), action))
        elif verb.tag in {"Connect", "Refer"}:
            found.append(Transfer(f"{verb.tag.lower()}:?"))
    return found


@dataclass
class Line:
    """
    One call. `action`: where the keys go that are waited for, "" when none are. `asked`: what the guard asks, "" when
    it is not the guard who asks. `transfer`: where the caller was taken.
    """

    provider: Provider
    sid: str
    number: str
    stir: str | None = None
    action: str = ""
    asked: str = ""
    version: str = ""
    heard: list[str] = field(default_factory=list)
    transfer: Transfer | None = None
    over: bool = False
    began_s: float = 0.0
    posted: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)

    @property
    def fields(self) -> list[tuple[str, str]]:
        """What stands in each request about the call."""
        stir = [("StirVerstat", self.stir)] if self.stir else []
        return [
            ("AccountSid", town.ACCOUNT_SID),
            ("ApiVersion", "2010-04-01"),
            ("CallSid", self.sid),
            ("Direction", "inbound"),
            ("From", self.number),
            ("To", town.NUMBER),
            *stir,
        ]

    def params(
        self, digits: str | None = None, status: str = "in-progress", **more: str
    ) -> list[tuple[str, str]]:
        keyed = [] if digits is None else [("Digits", digits)]
        return [*self.fields, ("CallStatus", status), *more.items(), *keyed]

    async def dial(self) -> None:
        await self.go(f"{town.ISSUER}/", self.params(status="ringing"))

    async def press(self, keys: str) -> None:
        """Key an answer to what is waited for."""
        await self.go(self.action, self.params(keys.removesuffix("#")))

    async def go(self, url: str, params: list[tuple[str, str]]) -> None:
        """Ask for a document, and do what it says until keys are waited for, or it is over."""
        self.action, self.asked = "", ""
        for _ in range(DOCUMENTS_MAX):
            await self._sometimes_late()
            body = await self.provider.post(self, url, params)
            if body is None:
                self.over = True
                return
            url, params = self._follow(ET.fromstring(body)), self.params()
            if not url:
                return
        self.over = True

    async def _sometimes_late(self) -> None:
        provider = self.provider
        if len(self.posted) > 2 and provider.chance.random() < provider.habits.late:
            url, params = provider.chance.choice(self.posted)
            provider.errand(provider.late(self, url, params))

    def _follow(self, root: ET.Element) -> str:
        """Where the document leads by itself; "" if it waits, or ends."""
        for verb in root:
            if verb.tag == "Say":
                self.heard.append(verb.text or "")
            elif verb.tag == "Gather":
                self.action = verb.attrib["action"]
                for say in verb.iter("Say"):
                    self.heard.append(say.text or "")
                    known = town.questions().get(say.text or "")
                    if known is not None and "/.ivrguard/call/" in self.action:
                        self.version, self.asked = known
                return ""
            elif verb.tag == "Redirect":
                return (verb.text or "").strip()
            elif verb.tag in {"Enqueue", "Dial", "Connect", "Refer"}:
                self.transfer = transfers(root)[0]
                return ""
            elif verb.tag == "Hangup":
                break
        self.over = True
        return ""

    async def hang_up(self) -> None:
        """The caller goes away; the provider says so, mostly."""
        self.over, self.action = True, ""
        if self.provider.chance.random() < 0.95:
            await self.provider.post(self, f"{town.ISSUER}/.ivrguard/status", self.params(status="completed"))

    async def wait_in_queue(self) -> None:
        """Hear what is played to those who wait."""
        if self.transfer is not None and self.transfer.wait:
            await self.provider.post(self, self.transfer.wait, self.params(QueuePosition="1"))

    async def after_the_agent(self, bridged: bool) -> None:
        """The agent is gone, or none came: the document of the transfer's action."""
        assert self.transfer is not None
        action, self.transfer = self.transfer.action, None
        if action:
            await self.go(action, self.params(DialCallStatus="completed" if bridged else "no-answer"))
        else:
            self.over = True
