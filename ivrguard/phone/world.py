"""
The world of a story: a whole contact centre on loopback, made-up customers, and the verbs that need them.

The stories of the tests, those of an admin (`ivrguard test`), and the telephone in the terminal all play in it.

Laws of this file
 1. **A story holds no secret.** The PIN, the app and whatever is wrong are made up here, for the flow that is called,
    and a story names them: `{pin}`. All customers of a story have the same ones.
 2. Without a line about accounts there is one customer, who has everything that a flow can ask for: account 123456789
    (longer or shorter where the flow wants it so), calling from +15551230001.
 3. Nothing passes but the time that a story tells of.
 4. **What holds after every story** (`ends`), whatever happened in it: nothing that was keyed for the guard reached
    the IVR, the IVR got nothing that is not signed, no answer failed at the provider, and the chain of the record is
    whole.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pyotp

from ivrguard.core import audit, lockout
from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Linked
from ivrguard.core.call import ledger_id
from ivrguard.core.flow import Flow, Via
from ivrguard.core.lockout import Unlocked, UnlockRequest
from ivrguard.directory.local import canonical_number
from ivrguard.factors.totp import STEP_S, TotpJudge
from ivrguard.guard import books, locks
from ivrguard.phone import desks
from ivrguard.phone.bank import Bank
from ivrguard.phone.exchange import Line, LineError
from ivrguard.phone.heard import AgentBehaviour, Asked, Failed
from ivrguard.phone.rig import PUBLIC_URL, Clock, Rig, dialled, rig
from ivrguard.phone.stage import Scene, World
from ivrguard.phone.story import Act, Story, seconds
from ivrguard.phone.stub import GOES_ON, Stub
from ivrguard.ports import Account, Change, Credential, Put, Store

MONDAY = datetime(2026, 1, 5, 10, 0)  # noqa: DTZ001 - by the flow's own clock, wherever that is
"""When a story begins that does not say when."""
OWN_NUMBER = "+15551230001"
ACCOUNT_DIGITS = 9
ACCOUNT = "123456789" * 4
UNKNOWN = "987654321" * 4
PIN_DIGITS = 8
CODE_DIGITS = 6
PIN = "7392641850829374"
NEW_PIN = "5820473916472058"
"""Cut from these, as long as the flow wants them; no beginning of a PIN is a weak one."""
APP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105 - of an app that nobody has
OWN_QUESTIONS = f"{PUBLIC_URL}/.ivrguard/"
ENTRIES_A_PAGE = 1_000
SECRET_DIGITS_MIN = 4
"""Fewer keys are no secret, but a choice."""
SWAP_PERIOD_S = 48 * 3600


@dataclass(frozen=True, slots=True)
class Real:
    """An IVR that runs: the URL of its first document, and the token that it checks signatures with."""

    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MadeUp:
    """What a flow's customers key: as many digits as it wants. `unknown`: an account that nobody has."""

    account: str
    unknown: str
    pin: str = field(repr=False)
    wrong: str = field(repr=False)
    new_pin: str = field(repr=False)


def made_up(flow: Flow) -> MadeUp:
    """The accounts and PINs of a flow's customers."""
    digits = next((one.digits for one in flow.factors.values() if one.kind is Kind.PIN), PIN_DIGITS)
    length = min(max(ACCOUNT_DIGITS, flow.identify.digits_min), flow.identify.digits_max)
    pin = PIN[:digits]
    return MadeUp(ACCOUNT[:length], UNKNOWN[:length], pin, _next(pin), NEW_PIN[:digits])


def _next(digits: str) -> str:
    """Other digits, as many."""
    return f"{(int(digits) + 1) % 10 ** len(digits):0{len(digits)}}"


def sample(flow: Flow) -> str:
    """The IVR that fits a flow: the sample bank is the one of the example of that name."""
    return "bank" if flow.name == "bank" else "stub"


def begin_ms(flow: Flow, begins: datetime | None) -> int:
    """A moment of the flow's own clock, in ms since the epoch; None: the usual Monday."""
    return int((begins or MONDAY).replace(tzinfo=ZoneInfo(flow.timezone)).timestamp() * 1000)


@dataclass
class Telling:
    """One story while it is told: the contact centre, who calls it, and what the verbs of the world do in it.

    `ivr`: what stands behind the guard; None for a real one. `last`: the account that was named last.
    """

    at: Rig
    ivr: Bank | Stub | None
    who: MadeUp
    _accounts: list[str] = field(default_factory=list)
    _pin: Credential | None = None

    # ── customers ────────────────────────────────────────────────────────────────────────────────────────

    async def account(self, _: Scene | None, account: str) -> Account:
        """`account ACCOUNT`: there is such a customer; with everything, until another line takes it away."""
        found = await self.at.server.directory.find(account)
        if found is not None:
            return found
        if self._pin is None:
            self._pin = await self.at.server.pins.enrol(self.who.pin)
        self._accounts.append(account)
        number = f"{OWN_NUMBER[:-1]}{len(self._accounts)}"
        app = TotpJudge(self.at.keyring).enrol(APP_SECRET)
        every = (self._pin, Credential(Kind.SMS_CODE, number=number), app)
        return await self.at.enrol(Account(account, (number,), every))

    async def has(self, scene: Scene, account: str, factors: str) -> None:
        """`account ACCOUNT has FACTORS`: these, and no others."""
        before = await self.account(scene, account)
        kept = tuple(one for one in before.credentials if one.kind in factors.split())
        await self._change(replace(before, credentials=kept))

    async def calls_from(self, scene: Scene, account: str, number: str) -> None:
        """`account ACCOUNT calls from NUMBER`: it is the number on file, for codes too."""
        before = await self.account(scene, account)
        try:
            number = canonical_number(number)
        except ValueError as fault:
            raise scene.fail(str(fault)) from None
        credentials = tuple(
            replace(one, number=number) if one.kind is Kind.SMS_CODE else one for one in before.credentials
        )
        await self._change(replace(before, numbers=(number,), credentials=credentials))

    async def speaks(self, scene: Scene, account: str, language: str) -> None:
        """`account ACCOUNT speaks LANGUAGE`."""
        await self._change(replace(await self.account(scene, account), language=language))

    async def disabled(self, scene: Scene, account: str) -> None:
        """`account ACCOUNT disabled`."""
        await self._change(replace(await self.account(scene, account), disabled=True))

    async def locked(self, scene: Scene, account: str, factor: str) -> None:
        """`account ACCOUNT locked FACTOR`: strangers have just guessed as often as they may."""
        await self.account(scene, account)
        rule, now_ms = self.at.flow.locks.account, self.at.clock()
        ledger = lockout.Ledger()
        for guess in range(rule.failures):
            ledger, _ = lockout.reserve(rule, ledger, f"story/{guess}", now_ms)
        key = books.ledger_key(ledger_id(account, factor, lockout.POOL))
        until = now_ms + rule.lock_s[0] * 1000
        await self.at.store.amend([key], lambda _: Change(None, (Put(key, ledger, rank=until),)))

    async def _change(self, account: Account) -> None:
        await self.at.server.directory.replace(account, now_ms=self.at.clock(), by="story")

    async def unlock(self, scene: Scene, account: str, person: str) -> None:
        """`unlock ACCOUNT by PERSON`: an operator does."""
        asked = UnlockRequest(person, "the owner called", self.at.clock())
        outcomes = await locks.unlock(self.at.store, self.at.keyring, (self.at.flow,), account, asked)
        if Unlocked.UNLOCKED not in [outcome for _, outcome in outcomes]:
            raise scene.fail("there was no lock to take away")

    # ── what goes wrong ──────────────────────────────────────────────────────────────────────────────────

    async def messages(self, _: Scene) -> None:
        """`messages fail`: the next code or warning does."""
        verified = any(one.via is Via.VERIFY for one in self.at.flow.factors.values())
        (self.at.verify if verified else self.at.carrier).fail_next(500, 20500)

    async def everything(self, scene: Scene) -> None:
        """`everything arrives twice`: each webhook of this call from now on."""
        scene.line.send_twice = True

    async def swapped(self, _: Scene, number: str, ago: str) -> None:
        """`number NUMBER swapped DURATION ago`: its SIM changed hands."""
        at_ms = self.at.clock() - seconds(ago) * 1000
        self.at.lookup.swapped(number, at_ms=at_ms, in_period=seconds(ago) <= SWAP_PERIOD_S)

    async def forwarded(self, _: Scene, number: str) -> None:
        """`number NUMBER forwarded`: its calls go elsewhere."""
        self.at.lookup.forwarded(number, on=True)

    async def line(self, _: Scene, number: str, kind: str) -> None:
        """`number NUMBER is LINE`: mobile, landline, nonFixedVoip … (Twilio's words)."""
        self.at.lookup.line(number, kind)

    async def begins_at(self, scene: Scene, number: str, path: str) -> None:
        """`number NUMBER begins at PATH`: its voice URL is that path of the guard's, not the first document."""
        if number not in dialled(self.at.flow):
            raise scene.fail(
                f"this flow does not answer {number}; it does: {', '.join(dialled(self.at.flow))}"
            )
        self.at.number(number, path)

    async def recording_starts(self, scene: Scene) -> None:
        """`recording starts`: the provider begins to record the call."""
        self.at.recordings.begin(scene.line.call_sid)

    async def recording_runs(self, scene: Scene) -> None:
        """`recording runs`: it does just now."""
        if not self.at.recordings.running(scene.line.call_sid):
            raise scene.fail("no recording of this call runs")

    async def recording_stands(self, scene: Scene) -> None:
        """`recording stands still`: none runs just now."""
        if self.at.recordings.running(scene.line.call_sid):
            raise scene.fail("a recording of this call runs")

    # ── agents ───────────────────────────────────────────────────────────────────────────────────────────

    async def agents(self, scene: Scene, does: str) -> None:
        """`agents busy`, `agents no-answer`, `agents failed`, `agents answer`: from now on."""
        doing = cast(Literal["answer", "busy", "no-answer", "failed"], does)
        scene.exchange.otherwise = AgentBehaviour(does=doing)

    # ── what came of it ──────────────────────────────────────────────────────────────────────────────────

    async def texted(self, scene: Scene, count: str) -> None:
        """`texted N`: so many messages went out so far."""
        await self.at.server.guard.drain()
        sent = len(self.at.carrier.sent)
        if sent != int(count):
            raise scene.fail(f"messages that went out so far: {sent}")

    async def recorded(self, scene: Scene, event: str, reason: str) -> None:
        """`recorded EVENT REASON`: it is on record."""
        found = [f"{linked.entry.event} {linked.entry.reason}" for linked in await self.record()]
        if f"{event} {reason}" not in found:
            raise scene.fail(f"it is not on record; there is: {', '.join(dict.fromkeys(found)) or 'nothing'}")

    async def never_recorded(self, scene: Scene, event: str) -> None:
        """`never recorded EVENT`."""
        if event in [linked.entry.event for linked in await self.record()]:
            raise scene.fail("it is on record")

    async def record(self) -> list[Linked]:
        """The whole record."""
        every: list[Linked] = []
        while page := await self.at.store.entries(after=len(every), limit=ENTRIES_A_PAGE):
            every += page
        return every

    # ── the IVR ──────────────────────────────────────────────────────────────────────────────────────────

    async def answers(self, scene: Scene, path: str, document: str) -> None:
        """`ivr PATH TWIML`: what the stub answers from now on. A real IVR answers for itself."""
        if self.ivr is not None:
            self._stub(scene).answers(path, document)

    async def answers_keys(self, scene: Scene, path: str, keys: str, document: str) -> None:
        """`ivr PATH DIGITS TWIML`: the same, when just these keys came."""
        if self.ivr is not None:
            self._stub(scene).answers(path, document, keys)

    async def goes(self, scene: Scene, path: str) -> None:
        """`go to PATH`: the stub leads the caller there, from a question of its own."""
        scene.afresh()
        await self.lead(scene.line, path)

    async def lead(self, line: Line, path: str) -> None:
        """Have the stub lead a caller to `path`. Raises `LineError` when it cannot."""
        if not isinstance(self.ivr, Stub):
            raise LineError("only a stub leads to any path: --ivr stub, or `ivr: stub`")
        if not isinstance(line.waiting, Asked) or line.waiting.action.startswith(OWN_QUESTIONS):
            raise LineError("the stub does not ask anything just now, so it can lead nowhere")
        self.ivr.leads(line.waiting.action, path)
        await line.press(GOES_ON)

    async def heard(self, scene: Scene, path: str) -> None:
        """`ivr heard PATH`: it was asked for that so far."""
        if path not in self._asked_for(scene):
            raise scene.fail("the IVR was not asked for that")

    async def never_heard(self, scene: Scene, path: str) -> None:
        """`ivr never heard PATH`: it was not asked for that so far."""
        if path in self._asked_for(scene):
            raise scene.fail("the IVR was asked for that")

    async def transfers(self, scene: Scene, kind: str) -> None:
        """`bank transfers by KIND`: how the sample bank reaches its agents."""
        self._bank(scene).transfer = kind  # type: ignore[assignment]  # the verb's form has the same words

    async def wired(self, scene: Scene, amount: str) -> None:
        """`wired AMOUNT`, `wired nothing`: that left the sample bank, once, and nothing else."""
        wired = self._bank(scene).wired
        if wired != ([] if amount == "nothing" else [amount]):
            raise scene.fail(f"wired: {', '.join(wired) or 'nothing'}")

    def _asked_for(self, scene: Scene) -> list[str]:
        if self.ivr is None:
            raise scene.fail("nobody knows what a real IVR heard: leave this line out, or --ivr")
        return self.ivr.paths_seen()

    def _stub(self, scene: Scene) -> Stub:
        if not isinstance(self.ivr, Stub):
            raise scene.fail("the sample bank answers for itself: take `ivr: bank` out of the head")
        return self.ivr

    def _bank(self, scene: Scene) -> Bank:
        if not isinstance(self.ivr, Bank):
            raise scene.fail("only the sample bank knows this: add `ivr: bank` to the head")
        return self.ivr

    # ── the world as a whole ─────────────────────────────────────────────────────────────────────────────

    def code(self) -> str:
        """The code that was texted last. Raises `LookupError` when none was."""
        for message in reversed(self.at.carrier.sent):
            with suppress(LookupError):
                return self.at.carrier.code_for(message.to)
        raise LookupError("no code was texted")

    def wrong_code(self) -> str:
        """A code, but not the one that was texted last."""
        factors = self.at.flow.factors.values()
        digits = next((one.digits for one in factors if one.kind is Kind.SMS_CODE), CODE_DIGITS)
        with suppress(LookupError):
            return _next(self.code())
        return "0" * digits

    def wrong_app(self) -> str:
        """A code that the app does not show, and did not show lately."""
        shown = {self.app(steps) for steps in (-1, 0, 1)}
        return next(code for code in ("314159", "271828", "161803", "141421") if code not in shown)

    def app(self, steps: int = 0) -> str:
        """What the app shows now, or so many steps of half a minute later."""
        return pyotp.TOTP(APP_SECRET).at(self.at.clock() // 1000 + steps * STEP_S)

    def world(self) -> World:
        """The world of the story: what `{pin}` and the like stand for, its verbs, and what holds in the end."""
        who = self.who
        values: Mapping[str, Callable[[], str]] = {
            "account": lambda: self._accounts[0],
            "unknown": lambda: who.unknown,
            "pin": lambda: who.pin,
            "wrong": lambda: who.wrong,
            "new_pin": lambda: who.new_pin,
            "code": self.code,
            "weak_pin": lambda: "1" * len(who.pin),
            "wrong_code": self.wrong_code,
            "app": self.app,
            "old_app": lambda: self.app(-1),
            "wrong_app": self.wrong_app,
        }
        at_desks = desks.Desks(self.at, values)
        return World(
            values=values,
            advance=self.at.clock.advance,
            actions={
                **{usage: getattr(self, method) for usage, method in _VERBS.items()},
                **{usage: getattr(at_desks, method) for usage, method in desks.VERBS.items()},
            },
            ends=self.ends,
        )

    async def ends(self, scene: Scene) -> None:
        """What holds after every story."""
        for line in scene.lines:
            for event in line.heard:
                if isinstance(event, Failed):
                    where = urlsplit(event.url).path
                    raise scene.fail(f"the provider could not run what it got at {where}: error {event.code}")
        if self.ivr is not None:
            unsigned = (
                self.ivr.unsigned
                if isinstance(self.ivr, Stub)
                else [seen.path for seen in self.ivr.seen if not seen.signed]
            )
            if unsigned:
                raise scene.fail(f"the IVR was asked for {unsigned[0]} by somebody who is not Twilio")
            if self.ivr.digits_seen() & keyed_for_the_guard(scene.lines):
                raise scene.fail("what was keyed for the guard reached the IVR")
        found = audit.verify(await self.record(), head=await self.at.store.head())
        if not isinstance(found, int):
            raise scene.fail(f"the record's chain is broken: {found}")


def keyed_for_the_guard(lines: list[Line]) -> set[str]:
    """What was keyed at the guard's own questions, and nowhere else in these calls."""
    own, others = set[str](), set[str]()
    for line in lines:
        for request in line.requests:
            keys = dict(request.params).get("Digits", "")
            if len(keys) >= SECRET_DIGITS_MIN:
                (own if request.url.startswith(OWN_QUESTIONS) else others).add(keys)
    return own - others


_VERBS: Mapping[str, str] = {
    "account ACCOUNT": "account",
    "account ACCOUNT has FACTORS": "has",
    "account ACCOUNT calls from NUMBER": "calls_from",
    "account ACCOUNT speaks LANGUAGE": "speaks",
    "account ACCOUNT disabled": "disabled",
    "account ACCOUNT locked pin|sms_code|totp": "locked",
    "unlock ACCOUNT by PERSON": "unlock",
    "messages fail": "messages",
    "everything arrives twice": "everything",
    "number NUMBER swapped DURATION ago": "swapped",
    "number NUMBER forwarded": "forwarded",
    "number NUMBER is LINE": "line",
    "number NUMBER begins at PATH": "begins_at",
    "recording starts": "recording_starts",
    "recording runs": "recording_runs",
    "recording stands still": "recording_stands",
    "agents answer|busy|no-answer|failed": "agents",
    "texted N": "texted",
    "recorded EVENT REASON": "recorded",
    "never recorded EVENT": "never_recorded",
    "ivr PATH TWIML": "answers",
    "ivr PATH DIGITS TWIML": "answers_keys",
    "go to PATH": "goes",
    "ivr heard PATH": "heard",
    "ivr never heard PATH": "never_heard",
    "bank transfers by workflow|queue|number|client|sip|conference": "transfers",
    "wired AMOUNT": "wired",
}
VALUES = (
    *("account", "unknown", "pin", "wrong", "new_pin", "weak_pin"),
    *("code", "wrong_code", "app", "old_app", "wrong_app"),
)
"""The names of what keys may stand for: `{pin}`."""
VERBS = (*_VERBS, *desks.VERBS)
"""How each line of the world's looks: see `story.Form`."""


def _has_accounts(story: Story | None) -> bool:
    steps = story.steps if story is not None else ()
    return any(isinstance(step.does, Act) and step.does.words.startswith("account ") for step in steps)


@asynccontextmanager
async def told(
    flow: Flow,
    story: Story | None = None,
    *,
    ivr: str = "",
    real: Real | None = None,
    clock: Clock | None = None,
    store: Store | None = None,
) -> AsyncIterator[Telling]:
    """
    The world for a story, or for somebody at a telephone (None).

    `ivr`: which one stands behind the guard, unless the story says so ("": a stub); `real`: one that runs, whatever they say.
    `clock`: otherwise it stands still from the story's beginning on. `store`: closed at the end.
    """
    begins = story.begins if story is not None else None
    clock = clock or Clock(begin_ms(flow, begins))
    url = real.url if real is not None else flow.upstream.url
    parts = urlsplit(url)
    path = parts._replace(scheme="", netloc="", path=parts.path or "/").geturl()
    pretend = None if real is not None else _pretend((story.ivr if story else "") or ivr, parts.path or "/")
    behind = pretend.app if pretend is not None else f"{parts.scheme}://{parts.netloc}"
    extra = {"upstream_token": real.token} if real is not None else None
    if isinstance(pretend, Bank):
        path = "/voice"
    async with rig(flow, behind, path=path, store=store, clock=clock, hash_threads=1, extra=extra) as centre:
        telling = Telling(centre, pretend, made_up(flow))
        code = next((one.digits for one in flow.factors.values() if one.kind is Kind.SMS_CODE), None)
        if code is not None:
            centre.verify.code_length = code
        if not _has_accounts(story):
            await telling.account(None, telling.who.account)
        yield telling


def _pretend(ivr: str, first: str) -> Bank | Stub:
    return Bank() if ivr == "bank" else Stub(first)
