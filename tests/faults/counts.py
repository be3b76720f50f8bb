"""
What is counted when a fault is over: from outside, and never by what the guard says of itself alone.

Guesses are counted where the judge was given them, requests where the IVR got them, messages at the carrier, receipts at the
desk, answers at the caller's ear. Each is held against the record and the ledgers in the store:

- **lost**: something happened and is not on record, or a webhook, a call or a message got no end.
- **doubled**: something is on record, counted or sent more often than it happened.
- **let through**: a guess that nobody counted or that is beyond the rule, a request that the IVR got without a proof, a
  second receipt for one token.

What is done anew because its answer was lost is on record as such (`again`), and is not a second decision.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from ivrguard.core.audit import Entry
from ivrguard.core.lockout import Ledger
from ivrguard.guard import books
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Failed, Queued, Said
from tests.faults.house import FAILURES, PIN, Caller, House

APOLOGY = "we cannot take your call"
NO_END = "a call ended and that is not on record"
NO_MESSAGE = "a code was to be sent and was not"
NO_RECEIPT = "a token is spent and the desk has no receipt"
KNOWN = {NO_MESSAGE: "message", NO_RECEIPT: "receipts"}
"""What may be lost, for the page says why; and its word there."""

NO_VERDICT = "a PIN was keyed and there is no verdict on record"
SETTLED_S = 15.0
OPEN = ("/wait", "/bad/")
VERDICTS = frozenset(
    {"authn_login_success", "authn_login_fail", "authn_attempt_withdrawn", "authn_attempt_unjudged"}
)


@dataclass
class Count:
    """What was found, in words; the table has how many of each."""

    calls: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    through: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Count") -> Self:
        self.calls += other.calls
        self.lost += other.lost
        self.doubled += other.doubled
        self.through += other.through
        return self

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled or let through."""
        return not (self.lost or self.doubled or self.through)

    def balance(self, what: str, happened: int, recorded: int) -> None:
        """Hold what happened against what is on record."""
        if recorded < happened:
            self.lost += [f"{what}: {happened} happened, {recorded} on record"] * (happened - recorded)
        if recorded > happened:
            self.doubled += [f"{what}: {happened} happened, {recorded} on record"] * (recorded - happened)


def hashed(guess: str) -> str:
    """A guess as the launcher writes it down."""
    return sha256(guess.encode()).hexdigest()


def again(entry: Entry) -> bool:
    """Whether an entry is of something that was done anew."""
    return dict(entry.detail).get("again") == "yes"


async def count(
    house: House, callers: Iterable[Caller], *, gave_up: int = 0, perhaps: int = 0, windows: int = 1
) -> Count:
    """
    Count what became of these callers, whose calls are over.

    `gave_up`: answers of theirs that got the apology, because something that the guard needs was gone: they have no
    verdict. `perhaps`: such answers of which it is not known whether there was a verdict before. `windows`: how often the clock let a lock end.
    """
    entries = [one.entry for one in await house.entries()]
    by_call: dict[str, list[Entry]] = {}
    for entry in entries:
        by_call.setdefault(entry.call, []).append(entry)
    judged = house.judged()
    found = Count()
    for caller in callers:
        own = [one for one in judged if one["account"] == caller.account]
        found += await _of(house, caller, by_call, own, windows)
    for _ in range(gave_up):
        found.lost.remove(NO_VERDICT)
    for _ in range(min(perhaps, found.lost.count(NO_VERDICT))):
        found.lost.remove(NO_VERDICT)
    code, said = house.command("audit", "verify")
    if code:
        found.lost.append(f"the chain: {said}")
    return found


async def settled(house: House, callers: Sequence[Caller], **how: int) -> Count:
    """The same, once the ends of calls that waited for the store are on record; or as it is when they do not come."""
    end = time.monotonic() + SETTLED_S
    while True:
        found = await count(house, callers, **how)
        if NO_END not in found.lost or time.monotonic() > end:
            return found
        await asyncio.sleep(0.1)


async def _of(
    house: House,
    caller: Caller,
    by_call: dict[str, list[Entry]],
    judged: Sequence[dict[str, object]],
    windows: int,
) -> Count:
    found = Count(calls=len(caller.lines))
    every = [entry for line in caller.lines for entry in by_call.get(line.call_sid, [])]
    await _guesses(house, caller, every, judged, found, windows)
    for line in caller.lines:
        _call(house, line, by_call.get(line.call_sid, []), found)
    if caller.texted.endswith("0"):  # messages reach that number
        sent = sum(to == caller.texted for to, _ in house.carrier.sent)
        told = sum(entry.event == "authn_code_sent" and entry.reason != "for_show" for entry in every)
        found.lost += [NO_MESSAGE] * (told - sent)
        found.doubled += ["a code was sent and is not on record"] * (sent - told)
    redeemed = sum(entry.event == "authn_token_redeemed" for entry in every)
    found.lost += [NO_RECEIPT] * (redeemed - len(caller.receipts))
    found.lost += ["a receipt was given and is not on record"] * (len(caller.receipts) - redeemed)
    given = Counter(receipt["call_sid"] for receipt in caller.receipts)
    found.through += [f"{many} receipts in {sid}" for sid, many in given.items() if many > 1]
    return found


async def _guesses(
    house: House,
    caller: Caller,
    entries: Sequence[Entry],
    judged: Sequence[dict[str, object]],
    found: Count,
    windows: int,
) -> None:
    of_pin = [(one["call"], one["guess"]) for one in judged if one["factor"] == "pin" and one["allowed"]]
    looked_at = dict.fromkeys(of_pin)
    right = hashed(PIN)
    pins = [entry for entry in entries if dict(entry.detail).get("factor") == "pin"]
    successes = sum(entry.event == "authn_login_success" for entry in pins)
    wrong = [guess for _, guess in looked_at if guess != right]
    beyond = len(set(wrong)) - FAILURES * (windows + successes)
    found.through += ["a guess beyond the rule was judged"] * beyond
    counted = [entry for entry in pins if entry.event == "authn_attempt" and entry.reason == "counted"]
    fresh = sum(not again(entry) for entry in counted)
    if fresh < len(looked_at):
        found.lost += ["a guess was judged and is not on record"] * (len(looked_at) - fresh)
    waited = sum(entry.event == "authn_attempt_withdrawn" and entry.reason == "busy" for entry in pins)
    answered = sum(entry.event in VERDICTS for entry in pins) - waited
    keyed = sum(entry.event == "authn_attempt" and not again(entry) for entry in pins) - waited
    if keyed > len(caller.guesses):
        found.doubled += ["an attempt is on record twice"] * (keyed - len(caller.guesses))
    found.lost += [NO_VERDICT] * (len(caller.guesses) - answered)
    found.doubled += ["a verdict is on record twice"] * (answered - len(caller.guesses))
    last = max((at for at, (_, guess) in enumerate(of_pin) if guess == right), default=-1)
    since = {guess for _, guess in of_pin[last + 1 :]}
    keyed_since = (
        caller.guesses[len(caller.guesses) - caller.guesses[::-1].index(PIN) :]
        if last >= 0
        else caller.guesses
    )
    ledger = await house.store.read(books.ledger_key(f"{caller.account}/pin/pool")) or Ledger()
    found.through += ["a guess was judged and not counted"] * (len(since) - ledger.run)
    found.doubled += ["a guess was counted twice"] * (ledger.run - len(keyed_since))


def _call(house: House, line: Line, entries: Sequence[Entry], found: Count) -> None:
    failures = [one for one in line.heard if isinstance(one, Failed)]
    if APOLOGY not in " ".join(said(line)):  # the fallback's words will do
        found.lost += [f"no TwiML for {one.url}" for one in failures]
    if line.over and entries:  # a call of which nothing could be decided has no end either
        ends = sum(entry.event == "session_ended" for entry in entries)
        found.lost += [NO_END] * (ends < 1)
        found.doubled += ["a call ended twice"] * (ends - 1)
    success_ms = [entry.at_ms for entry in entries if entry.event == "authn_login_success"]
    got = Counter(one.path for one in house.ivr.got if one.call == line.call_sid)
    asked = Counter(dict(entry.detail).get("path", "") for entry in entries if entry.event == "authz_granted")
    for path, many in got.items():
        if path.startswith(OPEN):
            continue
        if not success_ms:
            found.through += [f"the IVR got {path} of a call that proved nothing"] * many
        if asked[path] < many:
            found.lost += [f"the IVR got {path} and it is not on record"] * (many - asked[path])
    deliveries = {
        (one.path, *one.params.items())
        for one in house.ivr.got
        if one.call == line.call_sid and not one.path.startswith(OPEN)
    }
    fresh = [entry for entry in entries if entry.event == "authz_granted" and not again(entry)]
    closed = sum(not dict(entry.detail).get("path", "").startswith(OPEN) for entry in fresh)
    found.balance("requests granted", len(deliveries), closed)
    transfers = sum(isinstance(one, Queued) and bool(one.task) for one in line.heard)
    made = sum(entry.event == "authn_token_created" and not again(entry) for entry in entries)
    found.balance("tokens made", transfers, made)


def said(line: Line) -> list[str]:
    """What a caller heard."""
    return [one.text for one in line.heard if isinstance(one, Said)]


def task(line: Line) -> str:
    """The token that a call was handed over with."""
    (queued,) = [one for one in line.heard if isinstance(one, Queued)]
    return str(json.loads(queued.task)["ivrguard_token"])
