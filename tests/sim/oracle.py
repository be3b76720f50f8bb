"""
Who watches: told of everything that goes through a port, and holds it against the ten promises after every turn.

Laws of this file
 1. It asks the guard nothing. What is true it knows from the town (who has which secret), from the telephones (who keyed
    what, where) and from its own model of the rules (model.py). Decisions it reads off the record as they are committed;
    whether each was right it works out itself.
 2. Each check takes up where the last one ended: the cost of a turn does not grow with the history.
 3. The first broken promise ends the run (`Broken`): its number, the call, the turn, and the last steps of that call.
"""

import asyncio
import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from xml.etree import ElementTree as ET

from ivrguard.core.audit import Entry
from ivrguard.ports import Change, Credential, Request
from tests.sim import model, town
from tests.sim.hands import FACTORS, Hands
from tests.sim.model import Count, Proof
from tests.sim.nodes import Turn
from tests.sim.phone import DEADLINE_S, Transfer, transfers
from tests.sim.truth import CallTruth, Leg

INTENTS = {"a wire transfer": "wire", "speaking with an agent": "agent", "the call you are making now": ""}
WORDS = re.compile(r"[0-9A-Za-z_\-+/]+")
"""What a secret would stand as: a word of its own. Inside of what is sealed, any digits may come up."""
ANY_URL = re.compile(r"""[a-z]+://[^"'<>\s]*""")
NONCE = re.compile(rb"/\.ivrguard/call/[0-9a-f]{32}")
NEUTRAL = b"<Response><Hangup/></Response>"
REDRAWN = {"busy", "judge", "messenger"}
"""Faults that the guard decides about: what it answers then, it remembers."""


class Broken(AssertionError):
    """A promise that was not kept."""


class Oracle(Hands):
    """`fail` is told of the first broken promise. `digest`: over the whole history, the same in every run of a seed."""

    def __init__(self, people: town.Town, store: object, replay: str) -> None:
        self.town = people
        self.store = store
        self.replay = replay
        self.nodes: Callable[[str], str] = lambda _: ""
        self.failed: asyncio.Future | None = None
        self.digest = hashlib.blake2b(digest_size=16)
        self.acts = 0
        self.calls: dict[str, CallTruth] = {}
        self.counts: dict[tuple, Count] = {}
        self.trusted: dict[str, dict[str, int]] = {}
        self.spent: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.refs: dict[str, str] = {}
        self.tokens: dict[str, Leg] = {}
        self.secret_tokens: set[str] = set()
        self.words: dict[tuple, tuple[bytes, str]] = {}
        self.chain = (0, "0" * 64)
        self.tally: Counter = Counter()
        self._secrets = people.secrets
        self._now_s: Callable[[], float] = lambda: 0.0

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────

    def broken(self, promise: int, what: str, turn: Turn | None, call: CallTruth | None = None) -> None:
        """A promise is broken: the run ends."""
        call = call or (self.calls.get(turn.call) if turn is not None else None)
        steps = "\n".join(f"    {step}" for step in (call.steps if call is not None else ()))
        where = f"call {turn.call}, turn {turn.number} on {turn.node}" if turn is not None else "no turn"
        text = f"promise {promise}: {what}\n  {where}\n  the last steps of that call:\n{steps}\n  replay: {self.replay}"
        if self.failed is not None and not self.failed.done():
            self.failed.set_exception(Broken(text))

    def require(self, holds: bool, promise: int, what: str, turn: Turn | None) -> None:
        if not holds:
            self.broken(promise, what, turn)

    def note(self, turn: Turn | None, what: str) -> None:
        """A step of the history."""
        line = f"{self._now_s():.6f} {what}"
        self.digest.update(line.encode())
        call = self.calls.get(turn.call) if turn is not None else None
        if call is not None:
            call.steps.append(line)

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self.failed = loop.create_future()
        self._now_s = loop.time

    # ── a request comes and goes ─────────────────────────────────────────────────────────────────────────

    def began(self, turn: Turn) -> None:
        self.tally["turns"] += 1
        if not turn.call:
            return
        call = self.calls.get(turn.call)
        if call is None:
            call = self.calls[turn.call] = CallTruth(turn.call, turn.caller, turn.attested)
        call.flying += 1
        call.disturbed |= call.flying > 1
        turn.memory |= {"act": self.acts, "version": self.nodes(turn.node)}
        keyed = f" keys {turn.digits!r}" if turn.digits is not None else ""
        self.note(turn, f"turn {turn.number} on {turn.node}: {turn.target}{keyed}")

    def disturb(self, sid: str) -> None:
        """Something is sent in this call that no telephone sends."""
        if sid in self.calls:
            self.calls[sid].disturbed = True

    def dropped(self, turn: Turn) -> None:
        """The node died."""
        turn.faults.append("died")
        self.note(turn, f"turn {turn.number}: the node died")
        if "agent" not in turn.memory:
            self._gone(turn)
        elif turn.call:
            self._stricken(self.calls[turn.call], turn)

    def unanswered(self, turn: Turn) -> None:
        self.broken(10, f"no answer within {DEADLINE_S:g} s", turn)
        self._gone(turn)

    def _gone(self, turn: Turn) -> None:
        call = self.calls.get(turn.call)
        if call is not None:
            call.flying -= 1
            self._stricken(call, turn)

    def _stricken(self, call: CallTruth, turn: Turn) -> None:
        call.disturbed |= bool(turn.faults)
        if set(turn.faults) - REDRAWN:
            call.struck.add(turn.name)
        for fault in turn.faults:
            self.tally[f"fault: {fault}"] += 1

    def answered(self, turn: Turn, status: int, body: bytes, *, signed: bool) -> None:
        """What the provider got."""
        self.note(turn, f"turn {turn.number}: {status} {body.decode()} {' '.join(turn.faults)}")
        if not turn.call:
            return
        call = self.calls[turn.call]
        call.flying -= 1
        self._stricken(call, turn)
        if not signed:
            self.require(status == 403 and not body, 1, f"a forged request got {status}", turn)
            self.require(not turn.entries, 7, "a forged request changed something", turn)
            return
        self.require(status == 200, 10, f"a webhook was answered {status}", turn)
        took_s = self._now_s() - turn.began_s
        self.require(took_s < DEADLINE_S, 10, f"the answer took {took_s:.1f} s", turn)
        try:
            root = ET.fromstring(body)
        except ET.ParseError:
            self.broken(10, "the answer is not XML", turn)
            return
        self.require(root.tag == "Response", 10, "the answer is not TwiML", turn)
        if turn.target == "/.ivrguard/status":
            return
        if "/whisper/" in turn.target:
            self._whispered(root, call)
        self._document(turn, call, root, body)
        self._secret_free(turn, body.decode(), "an answer", tokens=False)
        self._as_before(turn, call, body)
        self._paired(turn, call, root)

    # ── promise 1, 9: documents ──────────────────────────────────────────────────────────────────────────

    def _document(self, turn: Turn, call: CallTruth, root: ET.Element, body: bytes) -> None:
        for url in ANY_URL.findall(body.decode()):
            if not url.startswith(f"{town.ISSUER}/"):
                self.broken(1, f"the caller's leg is sent to {url}", turn)
        for said in root.iter("Say"):
            known = town.questions().get(said.text or "")
            if known is not None:
                self.require(known[0] != "bad", 9, "a flow with a fault is in force", turn)
                self.require(
                    known[0] in call.versions, 9, f"a call of {call.versions} hears {known[0]}", turn
                )
        for transfer in transfers(root):
            if transfer.target not in town.OPEN_TRANSFERS:
                self._connected(turn, call, transfer, body)

    def _connected(self, turn: Turn, call: CallTruth, transfer: Transfer, body: bytes) -> None:
        """The caller is taken to somebody: the token that goes with it is his call's last, or all of it is a repeat."""
        made = "leg" in turn.memory or call.answers.get(turn.name) == body or turn.name in call.struck
        self.require(
            made and bool(call.legs), 1, f"{transfer.target} is connected, and nobody allowed it", turn
        )
        if transfer.token and call.legs:
            leg = self.tokens.get(transfer.token)
            if leg is None:
                leg = turn.memory.get("leg", call.legs[-1])
                self.require(leg.token == "", 4, "two tokens for one hand-over", turn)
                leg.token = transfer.token
                self.tokens[transfer.token] = leg
                self.secret_tokens.add(transfer.token)
            self.require(leg.call is call, 4, "a token of another call", turn)
            self.require(transfer.target in leg.queues.split(","), 4, "a token for another queue", turn)

    def _whispered(self, root: ET.Element, call: CallTruth) -> None:
        """The code that the agent on a plain phone hears."""
        code = re.search(r"\d(?: \d){7}", " ".join(say.text or "" for say in root.iter("Say")))
        if code is not None and call.legs:
            self.tokens.setdefault(code[0].replace(" ", ""), call.legs[-1])

    # ── promise 7: again is not twice ────────────────────────────────────────────────────────────────────

    def _as_before(self, turn: Turn, call: CallTruth, body: bytes) -> None:
        if "_ivrguard=q" in turn.target or "_ivrguard=w" in turn.target or "/whisper/" in turn.target:
            return
        first = call.answers.get(turn.name)
        if first is not None and turn.name not in call.struck:
            if body != first and NEUTRAL not in body:
                self.broken(7, f"the same request was answered otherwise before: {first.decode()}", turn)
        elif first is None and turn.name not in call.struck and not self._apology(turn, body):
            if NEUTRAL in body:  # overtaken: nothing is kept of that
                return
            call.answers[turn.name] = body
            self._same_words(turn, call, body)

    @staticmethod
    def _apology(turn: Turn, body: bytes) -> bool:
        """Whether this is what a fault is answered with, of which nothing is remembered."""
        decided = any(entry.event == "authz_fail" for entry in turn.entries)
        return b"we cannot take your call right now" in body and not decided

    # ── promise 6: nobody learns who exists ──────────────────────────────────────────────────────────────

    def _same_words(self, turn: Turn, call: CallTruth, body: bytes) -> None:
        """Callers who have proved nothing, and did the same so far, hear the same."""
        if call.disturbed or call.proofs or len(call.versions) != 1 or not (turn.own or not call.script):
            call.disturbed = True
            return
        keys = turn.digits or ""
        shape = keys if keys in {"1", "2"} or set(keys) == {"*"} else str(len(keys))
        call.script = (*call.script, shape if turn.own else "calls")
        if b"texted" in body:  # how many codes an account has had is another story
            call.disturbed = True
            return
        plain = NONCE.sub(b"", body)
        phone = call.caller.startswith("+")
        heard = self.words.setdefault((*call.versions, phone, call.script), (plain, call.sid))
        self.require(
            heard[0] == plain, 6, f"call {heard[1]} did the same and heard {heard[0].decode()}", turn
        )

    # ── promise 8: everything is on record ───────────────────────────────────────────────────────────────

    def _paired(self, turn: Turn, call: CallTruth, root: ET.Element) -> None:
        """What can be seen from outside has its entry, and what is on record happened."""
        if turn.name in call.struck or set(turn.faults) - REDRAWN or call.last != turn.name:
            return
        events = Counter(entry.event for entry in turn.entries)
        said = {say.text for say in root.iter("Say")}
        if said & town.refusals() and turn.name not in call.answers:
            self.require(events["authz_fail"] > 0, 8, "a caller was refused, and it is not on record", turn)
        fetched = turn.memory.get("fetched", 0)
        if "passed" not in turn.memory:
            self.require(events["authz_granted"] == fetched, 8, f"{fetched} requests to the IVR", turn)
        ends = sum(events[f"authn_{what}"] for what in ("login_success", "login_fail", "attempt_withdrawn"))
        self.require(events["authn_attempt"] == ends, 8, "an attempt without its end on record", turn)

    def amended(self, turn: Turn | None, change: Change) -> None:
        """An act was committed."""
        self.acts += 1
        call = self.calls.get(turn.call) if turn is not None else None
        if call is not None and turn is not None and any(put.key.kind == "call" for put in change.puts):
            call.last = turn.name
        for entry in change.entries:
            self._chained(turn, entry)
            if turn is not None:
                turn.entries.append(entry)
                self._decided(turn, entry, change)
        self.require(self.store._head[0] == self.chain[0], 8, "there are entries that nobody made", turn)
        for put in change.puts:
            row = self.store._rows.get(put.key)
            if row is not None:
                self._secret_free(turn, row.data.decode(), f"the store ({put.key.kind})")
            if put.key.kind == "call":
                self._with_its_entry(turn, put.value, change)

    def _chained(self, turn: Turn | None, entry: Entry) -> None:
        """The entry stands behind the one before it, as the documents say that it must."""
        seq, before = self.chain
        if len(self.store._entries) <= seq:
            self.broken(8, f"{entry.event} was decided and is not on record", turn)
            return
        data, hash_ = self.store._entries[seq]
        facts = {
            "account": entry.account,
            "at_ms": entry.at_ms,
            "call": entry.call,
            "detail": [list(each) for each in entry.detail],
            "event": entry.event,
            "reason": entry.reason,
            "seq": seq + 1,
        }
        plain = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        good = data == plain and hash_ == hashlib.sha256(before.encode() + plain).hexdigest()
        self.require(good, 8, f"entry {seq + 1} does not hold", turn)
        self.chain = (seq + 1, hash_)
        self.note(turn, f"on record: {plain.decode()}")
        about = f"{entry.call} {entry.reason} {entry.detail}"
        self._secret_free(turn, about, "the record")

    def _with_its_entry(self, turn: Turn | None, kept: object, change: Change) -> None:
        """What a call has changed in, an entry of the same act says."""
        call = self.calls.get(kept.sid)
        nonce = kept.pending.nonce if kept.pending is not None else ""
        if call is not None and nonce and nonce != call.cut:
            call.cut, call.cut_act = nonce, self.acts
        now = (kept.account, len(kept.proofs), len(kept.legs), kept.ended_ms is not None)
        if call is None or call.kept == now:
            return
        before, call.kept = call.kept or ("", 0, 0, False), now
        events = {entry.event for entry in change.entries}
        pairs = (
            (now[0] != before[0], "account_claimed"),
            (now[1] > before[1], "authn_login_success"),
            (now[2] > before[2], "authn_token_created"),
            (now[3] != before[3], "session_ended"),
        )
        for changed, event in pairs:
            self.require(not changed or event in events, 8, f"a call changed without {event} on record", turn)

    # ── promise 5: nobody learns a secret ────────────────────────────────────────────────────────────────

    def _secret_free(self, turn: Turn | None, text: str, where: str, *, tokens: bool = True) -> None:
        words = WORDS.findall(text)
        if not self._secrets.isdisjoint(words) or (tokens and not self.secret_tokens.isdisjoint(words)):
            self.broken(5, f"a secret stands in {where}", turn)

    def logged(self, line: bytes) -> None:
        """A line of the log; its time is the machine's own."""
        text = re.sub(r'"time":"[^"]*"', "", line.decode())
        self._secret_free(None, text, f"the log: {text}")
        if '"event":"bug"' in text:
            self.broken(10, f"a bug of the guard's: {text}", None)

    # ── the IVR, the carrier, the judges ─────────────────────────────────────────────────────────────────

    def fetched(self, turn: Turn | None, request: Request, assertion: str) -> None:
        """Something is sent to the IVR."""
        assert turn is not None
        call = self.calls[turn.call]
        params = dict(request.params)
        path = request.url.removeprefix(town.IVR).partition("?")[0]
        self.note(turn, f"to the IVR: {request.method} {path} {params.get('Digits', '')}")
        self.tally["to the IVR"] += 1
        everything = f"{request.url} {request.body.decode('latin-1')} {request.headers}"
        self._secret_free(turn, everything, "a request to the IVR")
        if turn.own and turn.digits:
            self.require(
                params.get("Digits") != turn.digits or len(turn.digits) < 6, 5, "the IVR gets keys", turn
            )
        wants = [town.wanted(version, path, params.get("Digits")) for version in call.versions]
        if "_ivrguard=q" in turn.target or "_ivrguard=w" in turn.target:
            turn.memory["passed"] = True
            self.require(any(want.factors == 0 for want in wants), 1, f"{path} was sent to other ears", turn)
            return
        granted = turn.memory.pop("granted", None)
        turn.memory["fetched"] = turn.memory.get("fetched", 0) + 1
        if granted is None:
            self.broken(1, f"{path} was sent to the IVR, and nobody allowed it", turn)
            return
        at_ms, about = granted
        self.require(about == path, 1, f"{about} was allowed, {path} was sent", turn)
        proofs = call.proofs.values()
        good = any(model.holds(want, proofs, at_ms) for want in wants)
        self.require(good, 1, f"{path} was sent to the IVR; proved is {[*call.proofs.values()]}", turn)
        self._asserted(turn, call, assertion)

    def _asserted(self, turn: Turn, call: CallTruth, assertion: str) -> None:
        """What the guard vouches for is what was proved."""
        payload = assertion.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        factors = {"none": 0, "one_factor": 1, "two_factor": 2}[claims["acr"]]
        kinds = [proof.kind for proof in call.proofs.values()]
        self.require(model.enough(kinds, factors), 1, f"{claims['acr']} is asserted of {kinds}", turn)
        person = claims.get("sub")
        self.require(person is None or (bool(kinds) and person == call.account), 1, "a false subject", turn)
        self.require(claims["call_sid"] == call.sid, 1, "an assertion about another call", turn)

    def texted(self, turn: Turn | None, to: str, text: str) -> None:
        """A message went out."""
        self.note(turn, f"texted to {to}: {text}")
        code = re.search(r"(?<!\d)\d{6}(?!\d)", text)
        if code is None or turn is None:
            return
        call = self.calls[turn.call]
        intent = next(name for words, name in INTENTS.items() if words in text)
        if "read" in turn.memory:
            turn.memory["read"].code = code[0]
            self.require(
                "Read it only to the agent" in text, 5, "a code does not say whom it may be read to", turn
            )
        else:
            call.texts.append((code[0], intent, turn.memory.get("code_ms", 0)))
        self._secrets.add(code[0])
        self.tally["codes"] += 1
        person = self.town.by_account.get(call.account)
        self.require(person is not None and person.number == to, 5, "a code went to somebody else", turn)

    def compared(
        self, turn: Turn | None, kind: str, credential: Credential | None, digits: str, now_ms: int
    ) -> None:
        """An answer is about to be looked at; with a credential it is a guess that may be right."""
        assert turn is not None
        reason = turn.memory.get("attempt")
        self.require(reason is not None, 2, "an answer is judged before it is counted", turn)
        self.require("worked" not in turn.memory, 2, "one count, and two answers judged", turn)
        turn.memory |= {"worked": True, "real": credential is not None, "kind": kind, "digits": digits}
        turn.memory["looked_ms"] = now_ms
        self._secrets.add(digits)
        if credential is not None:
            self.tally["guesses judged"] += 1
            self.require(reason == "counted", 2, "a guess is judged that was not counted", turn)

    def judged(self, turn: Turn | None, kind: str, verdict: object) -> None:
        self.note(turn, f"judged {kind}: {type(verdict).__name__}")

    # ── decisions ────────────────────────────────────────────────────────────────────────────────────────

    def _decided(self, turn: Turn, entry: Entry, change: Change) -> None:
        decide = getattr(self, f"_on_{entry.event}", None)
        self.tally[entry.event] += 1
        call = self.calls.get(entry.call)
        if call is not None and not call.versions:
            call.versions = {turn.memory.get("version", ""), self.nodes(turn.node)} - {""}
        if call is not None and turn.name not in call.struck and not turn.faults:
            call.decisions[turn.name, entry.event] += 1
            if entry.event in {"account_claimed", "authn_token_created", "authn_attempt"}:
                once = call.decisions[turn.name, entry.event] == 1
                self.require(once, 7, f"one request, and {entry.event} twice", turn)
        self._by_its_holder(turn, call, entry)
        if decide is not None:
            decide(turn, call, entry, change)

    def _on_account_claimed(self, turn: Turn, call: CallTruth, entry: Entry, _: Change) -> None:
        account = self.town.claimed(turn.digits or "", call.caller)
        known = account in self.town.by_account
        self.require(entry.reason == ("known" if known else "unknown"), 8, "a false claim on record", turn)
        self.require(self.refs.setdefault(entry.account, account) == account, 8, "one name for two", turn)
        since = self.trusted.get(account, {}).get(call.caller)
        lane = dict(entry.detail)["lane"]
        may = since is not None and call.attested
        self.require(lane == "pool" or may, 3, "a stranger got the lane of a trusted number", turn)
        must = may and since < turn.memory["act"]
        self.require(lane == "trusted" or not must, 3, "a trusted number was put among strangers", turn)
        call.account, call.lane = account, call.caller if lane == "trusted" else "pool"
        call.proofs, call.texts, call.read = {}, [], None

    def _counts(self, call: CallTruth, kind: str) -> list[Count]:
        kept = call.account in self.town.by_account
        key = (call.account, kind, call.lane)
        own = self.counts.setdefault(key, model.account_count(kept=kept))
        if call.lane != "pool" or not call.caller.startswith("+"):
            return [own]
        return [own, self.counts.setdefault(("number", call.caller), model.number_count())]

    def _on_authn_attempt(self, turn: Turn, call: CallTruth, entry: Entry, change: Change) -> None:
        kind = FACTORS[dict(entry.detail)["factor"]]
        counts = self._counts(call, kind)
        which = turn.memory["which"] = (*turn.name, self.acts) if "agent" in turn.memory else turn.name
        allowed = all(count.allows(which, entry.at_ms) for count in counts)
        if entry.reason == "counted":
            self.require(allowed, 2, f"a guess at the {kind} is allowed: {counts}", turn)
            if "agent" in turn.memory:  # each is a new one: it is kept in the act that says so
                kept = any(put.key.kind == "ledger" for put in change.puts)
                self.require(kept, 2, "an answer that an agent typed is counted nowhere", turn)
            for count in counts:
                count.count(which, entry.at_ms)
        else:
            promise = 2 if call.lane == "pool" else 3
            self.require(not allowed, promise, f"the {kind} is closed to a caller: {counts}", turn)
            self.tally["locked"] += 1
        turn.memory.pop("worked", None)
        turn.memory |= {"attempt": entry.reason, "factor": kind}

    def _on_authn_login_success(self, turn: Turn, call: CallTruth, entry: Entry, _: Change) -> None:
        kind = turn.memory.get("factor", "")
        counted = turn.memory.pop("attempt", "") == "counted" and turn.memory.get("worked")
        self.require(bool(counted), 2, "somebody is let in without a judged guess", turn)
        self.require(self._right(turn, call, kind), 1, f"a wrong {kind} was taken", turn)
        for nth, count in enumerate(self._counts(call, kind)):
            (count.take_back if nth else count.forgive)(turn.memory["which"], entry.at_ms)
        call.shown.add(call.account)
        if "agent" in turn.memory:
            assert call.read is not None
            call.proofs[kind, call.read.intent] = Proof(kind, entry.at_ms, self.acts, call.read.intent)
            call.read.used = True
            call.read_right.add(turn.name)
            self.tally["read back"] += 1
            return
        if call.caller.startswith("+"):
            numbers = self.trusted.setdefault(call.account, {})
            if call.caller in numbers or len(numbers) < model.TRUSTED_MAX:
                numbers.setdefault(call.caller, self.acts)
        intent = (
            next((one[1] for one in call.texts if one[0] == turn.digits), "") if kind == "sms_code" else ""
        )
        call.proofs = {key: proof for key, proof in call.proofs.items() if proof.kind != kind}
        call.proofs[kind, ""] = Proof(kind, entry.at_ms, self.acts, intent)
        if kind == "sms_code":
            call.texts = []
        if kind == "totp":
            self.spent[call.account] = self._step(turn, call) or 0

    def _right(self, turn: Turn, call: CallTruth, kind: str) -> bool:
        person, digits = self.town.by_account.get(call.account), turn.memory.get("digits", "")
        if person is None:
            return False
        if kind == "pin":
            return digits == person.pin
        if kind == "totp":
            return self._step(turn, call) is not None
        if "agent" in turn.memory:
            return self._read_right(turn, call)
        ages = [turn.memory["looked_ms"] - sent for code, _, sent in call.texts if code == digits]
        return any(-model.SKEW_MS <= age <= town.CODE_MS for age in ages)

    def _step(self, turn: Turn, call: CallTruth) -> int | None:
        """The step of the app that was keyed, if it was not used before. By the clock of the node that looked."""
        person = self.town.by_account[call.account]
        if person.app is None:
            return None
        middle = turn.memory["looked_ms"] // 30_000
        fits = [step for step in range(middle - 1, middle + 2) if person.totp(step) == turn.memory["digits"]]
        return next((step for step in reversed(fits) if step > self.spent.get(call.account, -1)), None)

    def _on_authn_login_fail(self, turn: Turn, call: CallTruth, entry: Entry, change: Change) -> None:
        kind, reason = turn.memory.get("factor", ""), turn.memory.pop("attempt", "")
        self.require("worked" in turn.memory, 6, "an answer was refused without the work of judging it", turn)
        self.require((entry.reason == "locked") == (reason == "locked"), 8, "a false reason on record", turn)
        if entry.reason == "wrong" and kind == "pin":
            self.require(not self._right(turn, call, kind), 2, "the right PIN was refused", turn)
        if "agent" in turn.memory and call.read is not None and entry.reason != "used":
            call.read.misses += 1
        self._lock_told(turn, call, kind, entry, change)

    def _lock_told(self, turn: Turn, call: CallTruth, kind: str, entry: Entry, change: Change) -> None:
        """The guess that filled a count is on record with the lock that it made."""
        made = [
            str(count.until_ms())
            for count in self._counts(call, kind)
            if count.tries
            and count.tries[-1][0] == turn.memory["which"]
            and count.until_ms()
            and count.closed(entry.at_ms)
            if not (count.lifetime and count.in_a_row >= count.lifetime)
        ]
        locks = [
            one for one in change.entries if one.event == "authn_login_lock" and one.reason == "maxretries"
        ]
        told = [dict(one.detail)["until_ms"] for one in locks]
        self.require(sorted(told) == sorted(made), 8, f"locks on record {told}, made {made}", turn)

    def _on_authn_attempt_withdrawn(self, turn: Turn, call: CallTruth, entry: Entry, _: Change) -> None:
        self.require(not turn.memory.get("worked"), 2, "a guess that was judged is not counted", turn)
        turn.memory.pop("attempt", None)
        for count in self._counts(call, turn.memory.get("factor", "")):
            count.take_back(turn.memory["which"], entry.at_ms)
        call.decisions[turn.name, "authn_attempt"] -= 1

    def _on_authz_granted(self, turn: Turn, call: CallTruth, entry: Entry, _: Change) -> None:
        turn.memory["granted"] = (entry.at_ms, dict(entry.detail).get("path", ""))

    def _on_authn_token_created(self, turn: Turn, call: CallTruth, entry: Entry, _: Change) -> None:
        if entry.reason == "passed_on":
            self._passed(turn, call, entry)
            return
        proofs = call.proofs.values()
        good = model.holds(town.AGENT, proofs, entry.at_ms, call.cut_act)
        self.require(good, 1, f"a transfer is allowed; proved is {[*call.proofs.values()]}", turn)
        facts = dict(entry.detail)
        if (
            call.legs and call.legs[-1].cut == call.cut
        ):  # the answer was lost: the same hand-over, made once more
            call.legs[-1].issued_ms = entry.at_ms
        else:
            leg = Leg(call, facts["queues"], entry.at_ms, call.cut, call.account)
            self._moved(call, lambda: call.legs.append(leg))
        turn.memory["leg"] = call.legs[-1]

    def _on_authn_code_sent(self, turn: Turn, call: CallTruth, entry: Entry, _: Change) -> None:
        turn.memory["code_ms"] = entry.at_ms
        if "agent" in turn.memory:
            self._code_asked(turn, call, entry)

    def _on_session_ended(self, turn: Turn, call: CallTruth, entry: Entry, _: Change) -> None:
        self.require(turn.over and not call.ended, 8, "a call ends twice, or while it goes on", turn)
        call.ended_ms = entry.at_ms

    # ── what is done beside calls ────────────────────────────────────────────────────────────────────────

    def reloaded(self, node: str, version: str, before: str, after: str, ending: str) -> None:
        """A node was told to read this version."""
        self.note(None, f"{node} reads {version}: {ending}")
        self.tally[f"reload: {ending}"] += 1
        if version == "bad":
            self.require(ending != "loaded" and after == before, 9, "a flow with a fault was loaded", None)
        good = after == version or ending in {"unchanged", "unrecorded", "refused"}
        self.require(good, 9, f"{version} was {ending}, and {after} is in force", None)

    def swept(self, now_ms: int) -> None:
        """What has no meaning any more was deleted."""
        gone = [
            key
            for key, one in self.counts.items()
            if one.forgotten_ms is not None and one.forgotten_ms < now_ms
        ]
        for key in gone:
            del self.counts[key]
