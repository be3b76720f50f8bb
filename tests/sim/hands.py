"""
The half of the oracle that watches agents: whose token is good, who holds which call, and what he does to it.

Laws of this file
 1. A call is held by whoever redeemed its last token; while nobody has redeemed what he passed it on with, still by him.
 2. Whatever changes a call at an agent's request names him in its entry, and he held the call at that very moment. What is
    shown to him he held at some moment since he asked.
 3. A code that is read to an agent is counted and judged by the same model as what is keyed; it is good for one agent, in
    one call, for the account that the call speaks for, and once.
"""

import json
from collections import Counter
from collections.abc import Callable

from ivrguard.core.audit import Entry
from ivrguard.ports import Change
from tests.sim import model, town
from tests.sim.model import Count
from tests.sim.nodes import Turn
from tests.sim.truth import CallTruth, Leg, Read

FACTORS = {"pin": "pin", "code": "sms_code", "app": "totp"}
NOBODY = "nobody"
"""Who presents tokens with a key that no desk has."""
AFTER_CALL_MS, SLACK_MS = 600_000, 60_000
"""How long a call is still his who held it when it ended; and what a slow store may add before that is on record."""
NOT_NOW = {
    "ended",
    "no_account",
    "not_by_voice",
    "not_enrolled",
    "at_the_keypad",
    "undeliverable",
    "no_code",
    "mistyped",
}
NOT_NOW |= {"being_judged", "superseded", "unknown_intent"}
"""What an agent may be told with 409: none of it says why an answer was wrong, or who exists."""


class Hands:
    """What agents do, and whether they might (the rest of it: oracle.py)."""

    calls: dict[str, CallTruth]
    counts: dict[tuple, Count]
    tokens: dict[str, Leg]
    secret_tokens: set[str]
    tally: Counter
    acts: int

    # ── promise 4: a token works once ────────────────────────────────────────────────────────────────────

    def leg_of(self, presented: str) -> Leg | None:
        """The hand-over that a token, a code or a call stands for."""
        call = self.calls.get(presented)
        if call is None:
            return self.tokens.get(presented)
        return next((leg for leg in reversed(call.legs) if leg.queues == "enqueue:support"), None)

    def presents(self, turn: Turn, queue: str, leg: Leg | None, call_sid: str | None) -> None:
        """A desk is about to present a token: which hand-over it really is, for the desk of which queue."""
        turn.memory |= {"desk": (queue, leg, call_sid)}
        self.tally["presented"] += 1
        self.note(turn, f"turn {turn.number} on {turn.node}: the desk of {queue} presents a token")

    def _redemption(self, turn: Turn, entry: Entry, *, taken: bool) -> None:
        queue, leg, call_sid = turn.memory["desk"]
        call = leg.call if leg is not None else None
        count = self.counts.setdefault(("desk", queue), model.desk_count())
        why = self._spoiled(queue, leg, call_sid, count, entry.at_ms)
        if taken != (not why):
            self.broken(4, f"a token is {'taken' if taken else 'refused'}; it is {why or 'good'}", turn, call)
        if not count.closed(entry.at_ms) and not taken:
            count.count(turn.number, entry.at_ms)
        if taken and leg is not None:
            self._moved(leg.call, lambda: setattr(leg, "agent", queue))
            self.tally["redeemed"] += 1
        turn.memory["redeemed"] = taken

    def _spoiled(self, queue: str, leg: Leg | None, call_sid: str | None, count: Count, now_ms: int) -> str:
        if leg is None:
            return "nobody's"
        call = leg.call
        factors = [self.counts.get((call.account, kind, call.lane)) for kind in FACTORS.values()]
        closed = any(one is not None and one.closed(now_ms) for one in factors)
        reasons = (
            (count.closed(now_ms), "at a closed desk"),
            (queue not in leg.queues.split(","), "for another queue"),
            (leg.account != call.account, "for another account"),
            (call_sid is not None and call_sid != call.sid, "of another call"),
            (leg.redeemed, "spent"),
            (now_ms >= leg.issued_ms + town.TOKEN_MS, "too old"),
            (now_ms < leg.issued_ms - model.SKEW_MS, "not of now"),
            (call.ended, "of a call that is over"),
            (call.legs[-1] is not leg, "not the last of its call"),
            (closed, "of a locked account"),
        )
        return next((why for holds, why in reasons if holds), "")

    def _moved(self, call: CallTruth, change: Callable[[], object]) -> None:
        """The call may have come into other hands."""
        before = call.holder
        change()
        if before and call.holder != before:
            call.held_until[before] = self.acts

    def _on_authn_token_redeemed(self, turn: Turn, _: object, entry: Entry, __: Change) -> None:
        self._redemption(turn, entry, taken=True)

    def _on_authn_token_refused(self, turn: Turn, _: object, entry: Entry, __: Change) -> None:
        self._redemption(turn, entry, taken=False)

    _on_authn_token_reuse = _on_authn_token_refused

    def desk_answered(self, turn: Turn, status: int, body: bytes) -> None:
        """What an agent sees: a receipt, the one refusal, or that the store is away."""
        self.note(turn, f"turn {turn.number}: {status}")
        taken = turn.memory.get("redeemed")
        if status == 401:
            self.require(turn.memory["desk"][0] == NOBODY, 10, "a desk is not known any more", turn)
        elif status == 201:
            self.require(taken is True, 4, "a receipt for a token that was not taken", turn)
        elif status == 403:
            self.require(taken is False, 4, "a token was taken, and its receipt is lost", turn)
            self.require(body == b'{"error":"invalid_token"}', 4, "a refusal that says why", turn)
        else:
            self.require(status == 503 and bool(turn.faults), 10, f"a desk was answered {status}", turn)

    # ── who holds a call, and what he does to it ─────────────────────────────────────────────────────────

    def asks(self, turn: Turn, queue: str) -> None:
        """The agent of this queue asks something about a call, or for something to be done to it."""
        call = self.calls.get(turn.call)
        turn.memory |= {"agent": queue, "act": self.acts, "version": self.nodes(turn.node)}
        if call is not None:
            turn.memory["held"] = call.holder == queue
            call.disturbed = True
        self.tally["asked by agents"] += 1
        self.note(turn, f"turn {turn.number} on {turn.node}: {queue} asks {turn.target} {turn.digits or ''}")

    def _held_since(self, turn: Turn, call: CallTruth | None) -> bool:
        agent = turn.memory.get("agent")
        if call is None or not agent:
            return False
        return call.holder == agent or call.held_until.get(agent, -1) > turn.memory["act"]

    def _by_its_holder(self, turn: Turn, call: CallTruth | None, entry: Entry) -> None:
        """Law 2, for what names an agent."""
        name = dict(entry.detail).get("agent")
        if name is None:
            return
        agent = turn.memory.get("agent", "")
        self.require(self.names.get(name) == agent, 8, f"{name} is on record for what {agent} did", turn)
        if entry.event == "call_viewed":
            self.require(self._held_since(turn, call), 4, "a call is shown to who does not hold it", turn)
            over_ms = entry.at_ms - call.ended_ms if call is not None and call.ended_ms is not None else 0
            self.require(over_ms < AFTER_CALL_MS + SLACK_MS, 4, "a call is shown long after its end", turn)
        elif entry.event != "call_view_refused":
            mine = call is not None and call.holder == agent
            self.require(mine, 4, f"{entry.event} by an agent who does not hold the call", turn)

    def _on_call_view_refused(self, turn: Turn, call: CallTruth | None, entry: Entry, _: Change) -> None:
        turn.memory["refused"] = True

    def _code_asked(self, turn: Turn, call: CallTruth, entry: Entry) -> None:
        read = Read(turn.memory["agent"], entry.at_ms, dict(entry.detail).get("intent", ""))
        call.read = turn.memory["read"] = read
        self.tally["codes to be read"] += 1

    def _passed(self, turn: Turn, call: CallTruth, entry: Entry) -> None:
        leg = Leg(call, dict(entry.detail)["queues"], entry.at_ms, "", call.account, passed=True)
        self._moved(call, lambda: call.legs.append(leg))
        call.passed[turn.name] = leg
        self.tally["passed on"] += 1

    def _read_right(self, turn: Turn, call: CallTruth) -> bool:
        """Whether what the agent typed is the code that he asked for, and nobody has used it."""
        read, digits = call.read, turn.memory.get("digits", "")
        if read is None or read.used or read.misses >= town.TRIES or read.agent != turn.memory["agent"]:
            return False
        age_ms = turn.memory["looked_ms"] - read.asked_ms
        return read.code == digits != "" and -model.SKEW_MS <= age_ms <= town.CODE_MS

    def acted(self, turn: Turn, status: int, body: bytes) -> None:
        """What the agent got."""
        text = body.decode()
        self.note(
            turn, f"turn {turn.number}: {status} {text if status != 201 else ''} {' '.join(turn.faults)}"
        )
        call = self.calls.get(turn.call)
        if call is not None:
            self._stricken(call, turn)
            if turn.faults:
                call.struck.add(turn.name)
        self._secret_free(turn, text, "what an agent gets", tokens=status != 201)
        said = json.loads(body)
        if status in {503, 409, 429}:
            known = said["error"] in NOT_NOW if status == 409 else True
            self.require(known, 6, f"an agent is told {text}", turn)
            self.require(status != 503 or bool(turn.faults), 10, f"an agent was answered {text}", turn)
        elif status == 404:
            self._not_his(turn, call, body)
        else:
            self.require(status in {200, 201, 202}, 10, f"an agent was answered {status}", turn)
            self.require(self._held_since(turn, call), 4, "who does not hold a call is answered", turn)
            self._told(turn, call, said, status)

    def _not_his(self, turn: Turn, call: CallTruth | None, body: bytes) -> None:
        """The very same for a call of another agent's and for one that never was; who holds a call is not told so."""
        first = self.words.setdefault(("not his",), (body, turn.call))[0]
        self.require(first == body, 6, "what is not his is refused in two ways", turn)
        lately = call is not None and not call.ended and call.holder and not turn.faults
        if lately and turn.memory["held"] and call.holder == turn.memory["agent"]:
            legs = [leg for leg in call.legs if leg.redeemed]
            if self._now_s() * 1000 + town.BEGAN_MS - legs[-1].issued_ms < town.TOKEN_MS:
                self.broken(4, "who holds a call is told that he does not", turn)

    def _told(self, turn: Turn, call: CallTruth, said: dict, status: int) -> None:
        """Judged right or wrong; a new token; a call to look at."""
        if status == 201:
            leg = call.passed.get(turn.name)
            if leg is None:
                self.broken(8, "a token is handed out, and that is not on record", turn)
            elif said["carrier"] != "call":
                self.require(leg.token in {"", said["token"]}, 7, "two tokens for one request", turn)
                leg.token = said["token"]
                self.require(
                    self.tokens.setdefault(leg.token, leg) is leg, 4, "one token for two hand-overs", turn
                )
                if said["carrier"] != "whisper":
                    self.secret_tokens.add(leg.token)
        if "right" in said:
            was = call.told.setdefault(turn.name, said["right"])
            self.require(was == said["right"], 7, "the same answer was judged otherwise before", turn)
            right = turn.name in call.read_right
            self.require(said["right"] == right, 8, "what an agent is told is not what is on record", turn)
        seen = said.get("call", said)
        if seen.get("account") is not None:
            shown = seen["account"] in call.shown
            self.require(shown, 5, "an agent sees the account of somebody who has proved nothing", turn)
