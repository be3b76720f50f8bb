"""
What proving needs of the world: codes through Messages and Verify, lookups before them, the owner's letters.

The services outside are lists in this file; at its end they are those of a pretend Twilio, over sockets and by its rules.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pyotp
import pytest

from ivrguard.core import lockout
from ivrguard.core.assurance import Kind
from ivrguard.core.errors import Busy, DirectoryFault, NotifyFault, OutOfSight
from ivrguard.core.flow import Catalogue, Flow, PinChange, Recording, Sends, Via
from ivrguard.core.lookup import Lookup, NumberFacts, Unknown
from ivrguard.core.rules import Demand
from ivrguard.directory.local import LocalDirectory
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import books, proving
from ivrguard.phone.bank import Bank
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Said
from ivrguard.phone.rig import SMS_FROM, Clock, Rig, rig
from ivrguard.ports import Account, Change, Credential, Put, Right, Verdict, Wrong

ACCOUNT = "123456789"
OWNER = "+15551230001"
PIN = "24681357"
NEW_PIN = "86420975"


@dataclass
class Service:
    """Verify: each number has one verification at a time, with one code; `fault` is what the next request meets."""

    started: list[tuple[str, bool, str, str]] = field(default_factory=list)
    checked: list[str | None] = field(default_factory=list)
    codes: dict[str, str] = field(default_factory=dict)
    fault: Exception | None = None

    def _meet(self) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault

    async def start(self, to: str, *, again: bool, intent: str, language: str, deadline_s: float) -> str:
        self._meet()
        self.started.append((to, again, intent, language))
        name = f"VE{len(self.started) - (1 if again else 0)}"
        self.codes.setdefault(name, f"{111111 * len(self.started):06}")
        return name

    async def check(self, verification: str | None, digits: str, *, deadline_s: float) -> Verdict:
        self.checked.append(verification)
        self._meet()
        return Right() if verification and self.codes[verification] == digits else Wrong()


@dataclass
class Numbers:
    """Lookups: what is known of any number."""

    facts: NumberFacts | Exception = NumberFacts()
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    async def look_up(self, number: str, packages: tuple[str, ...], *, deadline_s: float) -> NumberFacts:
        self.asked.append((number, packages))
        if isinstance(self.facts, Exception):
            raise self.facts
        return self.facts


@dataclass
class Pins:
    """Where PINs are changed; the weak one is refused."""

    kept: list[tuple[str, str]] = field(default_factory=list)

    async def change(self, account_id: str, digits: str, *, now_ms: int) -> bool:
        if digits == "12345678":
            return False
        self.kept.append((account_id, digits))
        return True


def with_code(flow: Flow, **changes: object) -> Flow:
    """The flow whose codes are otherwise."""
    return replace(flow, factors={**flow.factors, "code": replace(flow.factors["code"], **changes)})


def by_code_alone(flow: Flow) -> Flow:
    """Codes are all there is."""
    levels = {"one_factor": "code"}
    return replace(
        flow, factors={"code": flow.factors["code"]}, levels=levels, rules=(), default=Demand("one_factor")
    )


# ── Verify ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_code_through_verify(centre):
    """Sent for its intent in the caller's language, judged by the service under the name it gave."""
    service = Service()
    centre.flow = with_code(centre.flow, via=Via.VERIFY)
    centre.node("a", verifications=service)
    line = await centre.verified()

    await line.press("3")
    await line.press("111111")

    assert line.outcome == "forwarded"
    assert service.started == [(OWNER, False, "a wire transfer", "en-US")]
    assert service.checked == ["VE1"]
    assert centre.texts.sent == []


async def test_another_code_of_verify_is_the_same_one(centre):
    """The service sends the pending one again, and it is right under the first name."""
    service = Service()
    centre.flow = with_code(centre.flow, via=Via.VERIFY)
    centre.node("a", verifications=service)
    line = await centre.verified()
    await line.press("3")

    await line.press("1#")
    await line.press("111111")

    assert [again for _, again, _, _ in service.started] == [False, True]
    assert (line.outcome, service.checked) == ("forwarded", ["VE1"])


@pytest.mark.parametrize("account", [ACCOUNT, "999999999"], ids=["locked", "unknown"])
async def test_verify_is_asked_about_nothing_for_a_locked_or_unknown_account(centre, account):
    """The same request, and nothing real in it: neither guesses nor the time tell anything."""
    service = Service()
    centre.flow = by_code_alone(with_code(centre.flow, via=Via.VERIFY))
    centre.node("a", verifications=service)
    if account == ACCOUNT:
        for _ in range(2):
            line = centre.line("+15559990001")
            for keys in (None, f"{account}#", "000000", "000001", "000002"):
                await (line.dial() if keys is None else line.press(keys))
    before = len(service.checked)

    line = centre.line("+15559990002")
    for keys in (None, f"{account}#", "123456"):
        await (line.dial() if keys is None else line.press(keys))

    assert service.checked[before:] == [None]
    assert "did not match" in line.said


async def test_a_code_sent_before_a_lock_is_not_shown_to_verify_after_it(centre):
    """Strangers locked the account meanwhile: the request is made about nothing, though the code lives."""
    service = Service()
    centre.flow = with_code(centre.flow, via=Via.VERIFY)
    centre.node("a", verifications=service)
    line = await centre.verified()
    await line.press("3")
    key, now = books.ledger_key(f"{ACCOUNT}/sms_code/pool"), centre.clock()
    full = lockout.Ledger()
    for guess in range(centre.flow.locks.account.failures):
        full, _ = lockout.reserve(centre.flow.locks.account, full, f"guess/{guess}", now)
    await centre.store.amend([key], lambda _: Change(None, (Put(key, full),)))

    await line.press("111111")

    assert service.checked == [None]
    assert "did not match" in line.said


@pytest.mark.parametrize(
    ("fault", "attempts", "reason"),
    [
        (NotifyFault("sixth", why="too_many_checks"), 0, "authn_attempt_withdrawn"),
        (NotifyFault("slow"), 1, "authn_attempt_unjudged"),
    ],
)
async def test_what_verify_may_have_looked_at_counts(centre, fault, attempts, reason):
    """It refused to look, and the guess is taken back; it gave no verdict, and the guess stays counted."""
    service = Service()
    centre.flow = with_code(centre.flow, via=Via.VERIFY)
    centre.node("a", verifications=service)
    line = await centre.verified()
    await line.press("3")
    service.fault = fault

    await line.press("111111")

    assert len((await centre.ledger(kind="sms_code")).attempts) == attempts
    assert await centre.events(reason) == ["fault"]
    assert "we cannot take your call" in line.said


async def test_a_flow_that_needs_verify_where_there_is_none(centre, logged):
    """Before a proof nobody is told; afterwards the call ends in an apology; the log says what is missing."""
    centre.flow = with_code(centre.flow, via=Via.VERIFY)
    line = await centre.verified()

    await line.press("3")

    assert "we cannot take your call" in line.said
    assert [(one["event"], one["why"]) for one in logged if one["event"] == "code_not_sent"] == [
        ("code_not_sent", "not_set_up")
    ]
    assert await centre.events("authn_code_undelivered") == ["not_set_up"]


async def test_verify_gone_between_question_and_answer(centre, logged):
    """A restart without it: nobody looked, so nothing is counted."""
    centre.flow = with_code(centre.flow, via=Via.VERIFY)
    centre.node("a", verifications=Service())
    line = await centre.verified()
    await line.press("3")
    centre.node("b")
    line.node = "b"

    await line.press("111111")

    assert (await centre.ledger(kind="sms_code")).attempts == ()


async def test_a_judge_elsewhere_that_gave_no_verdict_counts(centre):
    """The bank's own system was asked about the PIN, and did not answer."""
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")

    class Silent:
        async def judge(self, *_: object) -> Verdict:
            raise OutOfSight("no answer")

    guard = centre.node()
    guard.world = replace(guard.world, judges=dict.fromkeys(guard.world.judges, Silent()))
    await line.press(PIN)

    assert len((await centre.ledger()).attempts) == 1
    assert await centre.events("authn_attempt_unjudged") == ["fault"]


# ── lookups ──────────────────────────────────────────────────────────────────────────────────────────────

SWAPPED = NumberFacts(swapped=True)
STEADY = NumberFacts(swapped=False, swapped_period_s=10**6)


@pytest.mark.parametrize(
    ("lookup", "facts", "why"),
    [
        (Lookup(sim_swap_s=3600), STEADY, ""),
        (Lookup(sim_swap_s=3600), SWAPPED, "sim_swap"),
        (Lookup(sim_swap_s=3600), NotifyFault("down"), "unknown"),
        (Lookup(sim_swap_s=3600, unknown=Unknown.SEND), NotifyFault("down"), ""),
        (Lookup(line_types=("mobile",)), NumberFacts(line_type="nonFixedVoip"), "line_type"),
        (Lookup(), SWAPPED, ""),
    ],
)
async def test_a_code_goes_only_where_the_flow_lets_it(centre, lookup, facts, why):
    """A swapped SIM gets no code: another factor, or an apology, and the reason on record."""
    numbers = Numbers(facts)
    centre.flow = with_code(centre.flow, lookup=lookup)
    centre.node("a", numbers=numbers)
    line = await centre.verified()

    await line.press("3")

    assert len(centre.texts.sent) == (0 if why else 1)
    assert await centre.events("authn_code_undelivered") == ([why] if why else [])
    assert ("cannot take your call" in line.said) is bool(why)
    assert numbers.asked == ([(OWNER, lookup.wanted())] if lookup.wanted() else [])


async def test_a_lookup_that_nobody_set_up_says_nothing(centre):
    """So the flow's `unknown` decides: withheld, unless it says otherwise."""
    centre.flow = with_code(centre.flow, lookup=Lookup(forwarding=True))
    line = await centre.verified()

    await line.press("3")

    assert await centre.events("authn_code_undelivered") == ["unknown"]


async def test_before_a_proof_a_withheld_code_is_not_told(centre, logged):
    """He hears what everybody hears, and may take another factor by key; the record and the log have the reason."""
    centre.flow = by_code_alone(with_code(centre.flow, lookup=Lookup(sim_swap_s=3600)))
    guard = centre.node("a", numbers=Numbers(SWAPPED))
    line = centre.line()
    await line.dial()

    await line.press(f"{ACCOUNT}#")
    await guard.drain()

    assert "We have just texted" in line.said
    assert await centre.events("authn_code_undelivered") == ["sim_swap"]
    assert [one["event"] for one in logged if one["log_level"] == "error"] == ["message_not_sent"]


# ── languages ────────────────────────────────────────────────────────────────────────────────────────────


def spanish(flow: Flow) -> Flow:
    """The flow with a second language on key 2: its own words with a mark."""
    prompts = {name: f"¡{text}" for name, text in flow.prompts.items()}
    return replace(flow, languages=(Catalogue("es-US", prompts, key="2"),))


async def test_a_language_by_key_is_heard_and_written(centre):
    """From the next question on, and in the message with the code."""
    centre.flow = spanish(centre.flow)
    line = centre.line()
    await line.dial()
    await line.press("2#")
    assert line.said.startswith("¡")

    for keys in (f"{ACCOUNT}#", PIN, "3"):
        await line.press(keys)

    assert centre.texts.sent[0][1].startswith("¡")


async def test_an_account_s_language_waits_for_a_proof(centre, keys):
    """The PIN is asked for in the flow's own; the code in the owner's."""
    centre.flow = spanish(centre.flow)
    directory = LocalDirectory(centre.store.store, keys)
    account = await directory.find(ACCOUNT)
    await directory.replace(replace(account, language="es-MX"), now_ms=centre.clock(), by="test")
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    assert not line.said.startswith("¡")

    await line.press(PIN)
    await line.press("3")

    assert line.said.startswith("¡")


# ── a new PIN ────────────────────────────────────────────────────────────────────────────────────────────


async def changing(centre, pins: Pins | None):
    """A caller who is asked for a new PIN."""
    centre.having(pin_change=PinChange("/change-pin", Demand("two_factor", within_s=300), "/voice"))
    centre.node("a", pins=pins)
    line = await centre.verified()
    await line.post("/change-pin")
    await line.press(centre.texts.code())
    assert "choose a new PIN" in line.said
    return line


async def test_a_pin_is_changed_by_phone(centre):
    """Keyed twice, kept once, told to the owner; then the IVR goes on, which never heard of it."""
    pins = Pins()
    line = await changing(centre, pins)
    await line.press(NEW_PIN)
    assert NEW_PIN not in repr(await centre.stored(line))

    await line.press(NEW_PIN)

    assert pins.kept == [(ACCOUNT, NEW_PIN)]
    assert "new PIN is in force" in line.said
    await line.go_on()
    await centre.node().drain()
    assert centre.ivr.paths() == ["/voice", "/voice"]
    assert centre.texts.sent[-1] == (OWNER, centre.flow.prompts["sms_pin_changed"])
    assert await centre.events("authn_password_change") == ["by_phone"]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [(NEW_PIN, "86420976", "not the same"), ("12345678", "12345678", "too easy to guess")],
)
async def test_a_pin_that_differs_or_is_weak_is_not_kept(centre, first, second, said):
    """Another try, from the beginning."""
    pins = Pins()
    line = await changing(centre, pins)

    await line.press(first)
    await line.press(second)

    assert said in line.said
    assert pins.kept == []


async def test_the_same_webhook_again_changes_a_pin_once(centre):
    """A repeated delivery is answered as before."""
    pins = Pins()
    line = await changing(centre, pins)
    await line.press(NEW_PIN)
    await line.press(NEW_PIN)
    before = line.body

    await line.again()

    assert (line.body, len(pins.kept)) == (before, 1)


async def test_a_directory_that_cannot_change_pins(centre, logged):
    """An apology; the log says what to take out of the flow."""
    line = await changing(centre, None)
    await line.press(NEW_PIN)

    await line.press(NEW_PIN)

    assert "cannot take your call" in line.said
    assert any("pin_change" in str(one.get("detail")) for one in logged)
    assert await centre.events("authn_password_change_fail") == ["fault"]


@pytest.mark.parametrize(
    ("fault", "event", "told"),
    [
        (DirectoryFault("not asked"), "authn_password_change_fail", False),
        (Busy("full"), "authn_password_change_fail", False),
        (OutOfSight("no answer"), "authn_password_change_unconfirmed", True),
    ],
)
async def test_a_change_that_nobody_confirms_is_on_record(centre, logged, fault, event, told):
    """An apology, an entry, and, where the PIN may be another now, a word to its owner."""

    class Down:
        async def change(self, account_id: str, digits: str, *, now_ms: int) -> bool:
            raise fault

    line = await changing(centre, Down())
    await line.press(NEW_PIN)
    letters = len(centre.texts.sent)

    await line.press(NEW_PIN)
    await centre.node().drain()

    assert "cannot take your call" in line.said
    assert await centre.events(event) == ["fault"]
    assert await centre.events("authn_password_change") == []
    assert [text for _, text in centre.texts.sent[letters:]] == (
        [centre.flow.prompts["sms_pin_changed"]] if told else []
    )
    assert [one["event"] for one in logged if one["log_level"] == "error"] == ["pin_change_fault"]


async def test_the_count_of_codes_to_a_number_outlives_a_rotation(centre, keys, rotated):
    """A new naming key is no new number: the count goes on under the name that it has."""
    account = await LocalDirectory(centre.store.store, keys).find(ACCOUNT)
    before, after = centre.world(), centre.world(keys=rotated)
    assert proving.to_of(before, account, ACCOUNT) == proving.to_of(after, account, ACCOUNT)


# ── a PIN hashed anew ────────────────────────────────────────────────────────────────────────────────────


async def rotated(centre, keys, renewals):
    """A node whose current pepper is a new one, the old one behind it."""
    judge = PinJudge({"p2": b"2" * 32, **keys.peppers}, threads=1)
    world = centre.world("rotated")
    centre.node("rotated", judges={**world.judges, Kind.PIN: judge}, renewals=renewals)
    return judge


async def test_after_a_rotation_a_right_pin_moves_to_the_new_pepper(centre, keys):
    """Once: the next call finds it there, and needs the old pepper no more."""
    directory = LocalDirectory(centre.store.store, keys)
    judge = await rotated(centre, keys, directory)
    for _ in range(2):
        await centre.verified(centre.line(node="rotated"))
    await judge.close()

    account = await directory.find(ACCOUNT)
    assert account.credential(Kind.PIN).key_id == "p2"
    assert await centre.events("user_updated") == ["renewed"]


async def test_a_wrong_pin_moves_nowhere(centre, keys):
    directory = LocalDirectory(centre.store.store, keys)
    judge = await rotated(centre, keys, directory)
    line = centre.line(node="rotated")
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    await line.press(NEW_PIN)
    await judge.close()

    account = await directory.find(ACCOUNT)
    assert account.credential(Kind.PIN).key_id == "p1"


@pytest.mark.parametrize("renewals", ["none", "down"])
async def test_a_pin_that_cannot_be_kept_anew_is_right_all_the_same(centre, keys, logged, renewals):
    """No caller pays for it: a directory without a place for it, or one that is down."""

    class Down:
        async def renew(self, *_: object, **__: object) -> bool:
            raise DirectoryFault("down")

    judge = await rotated(centre, keys, None if renewals == "none" else Down())
    await centre.verified(centre.line(node="rotated"))
    await judge.close()

    told = [one["event"] for one in logged if one["event"] == "credential_not_renewed"]
    assert told == ([] if renewals == "none" else ["credential_not_renewed"])


# ── letters to the owner ─────────────────────────────────────────────────────────────────────────────────


async def test_limits_of_a_number_count_over_calls(centre):
    """The third code to one number in a day is not sent; who has proved something is told."""
    few = Sends(per_call=9, per_account=9, per_number=2, per_number_s=86_400)
    centre.flow = with_code(centre.flow, sends=few)
    for _ in range(3):
        line = await centre.verified()
        await line.press("3")

    assert len(centre.texts.sent) == 2
    assert "could not verify you" in line.said


@pytest.mark.parametrize("via", list(Via))
async def test_the_owner_is_told_of_a_right_first_factor_and_a_wrong_second(centre, via):
    """Once in a call, whoever makes the codes: somebody has his PIN (OWASP, Credential stuffing)."""
    centre.flow = with_code(centre.flow, via=via)
    guard = centre.node("a", verifications=Service())
    line = await centre.verified()
    await line.press("3")

    for guess in ("000000", "000001"):
        await line.press(guess)
    await guard.drain()

    warned = [to for to, text in centre.texts.sent if text == centre.flow.prompts["sms_warning"]]
    assert warned == [OWNER]
    assert await centre.events("owner_notified") == ["sms_warning"]
    assert await centre.events("owner_not_notified") == []


async def test_an_owner_is_written_to_in_his_own_language(centre, keys):
    """Whatever the caller has chosen to hear: he may be somebody else."""
    centre.flow = spanish(centre.flow)
    directory = LocalDirectory(centre.store.store, keys)
    account = await directory.find(ACCOUNT)
    await directory.replace(replace(account, language="es-MX"), now_ms=centre.clock(), by="test")
    line = await centre.verified()
    await line.press("3")

    await line.press("000000")
    await centre.node().drain()

    assert centre.texts.sent[-1] == (OWNER, f"¡{centre.flow.prompts['sms_warning']}")


@pytest.mark.parametrize("why", ["no_number", "not_set_up", "outage"])
async def test_an_owner_who_was_not_told_is_on_record(centre, keys, logged, why):
    """An account without a number, a guard without a sender, a carrier that is down; the log has it, too."""
    if why == "no_number":
        directory = LocalDirectory(centre.store.store, keys)
        account = await directory.find(ACCOUNT)
        await directory.replace(replace(account, numbers=()), now_ms=centre.clock(), by="test")
    guard = centre.node("a")
    line = await centre.verified()
    await line.press("3")
    if why == "not_set_up":
        guard.world = replace(guard.world, messenger=None)
    centre.texts.fault = NotifyFault("down", why="outage") if why == "outage" else None

    await line.press("000000")
    await guard.drain()

    assert await centre.events("owner_not_notified") == [why]
    assert [text for _, text in centre.texts.sent if text == centre.flow.prompts["sms_warning"]] == []
    assert [one["event"] for one in logged if one["log_level"] == "error"] == ["message_not_sent"]


class Down:
    """A directory that does not answer."""

    async def by_id(self, _: str) -> None:
        raise DirectoryFault("down")


async def test_what_nobody_waits_for_is_on_record_whatever_fails(centre):
    """The directory as well as the carrier: of a letter, and of a code before anything is proved."""
    line = await centre.verified()
    await line.press("3")
    call, flow = await centre.stored(line), centre.flow
    world = replace(centre.node().world, directory=Down())

    for work in (
        proving.tell_owner(world, flow, call, "sms_warning"),
        proving.send_unheard(world, flow, call, call.sent[0]),
    ):
        with pytest.raises(DirectoryFault):
            await work

    assert await centre.events("owner_not_notified") == ["directory"]
    assert await centre.events("authn_code_undelivered") == ["directory"]


async def test_a_directory_that_fails_under_a_code_ends_in_words(centre):
    """The look-up of the number is the directory's fault, and no code is sent."""
    line = await centre.verified()
    guard = centre.node()
    guard.world = replace(guard.world, directory=Down())
    await line.press("3")

    assert "cannot take your call" in line.said
    assert centre.texts.sent == []


# ── over sockets, with Twilio's own rules ────────────────────────────────────────────────────────────────

APP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@asynccontextmanager
async def contact_centre(flow: Flow, **changes: object) -> AsyncIterator[tuple[Rig, Bank]]:
    """The sample bank behind the flow, whose codes go through Verify; its customer has an app as well."""
    bank = Bank()
    flow = with_code(flow, via=Via.VERIFY, **changes)
    async with rig(flow, bank.app, clock=Clock(1_790_000_000_000), hash_threads=1) as centre:
        held = (Credential(Kind.SMS_CODE, number=OWNER), TotpJudge(centre.keyring).enrol(APP_SECRET))
        await centre.enrol(Account(ACCOUNT, (OWNER,), held), pin=PIN)
        yield centre, bank


async def at_the_menu(centre: Rig) -> Line:
    line = centre.call(OWNER)
    await line.until_input()
    for keys in (f"{ACCOUNT}#", PIN):
        await line.press(keys)
    return line


async def press(line: Line, keys: str) -> str:
    """Key it, and hear what comes of it."""
    before = len(line.heard)
    await line.press(keys)
    return " ".join(event.text for event in line.heard[before:] if isinstance(event, Said))


async def recorded(centre: Rig, event: str) -> list[str]:
    return [one.entry.reason for one in await centre.store.entries() if one.entry.event == event]


async def test_a_wire_through_verify_from_the_first_key_to_the_last(flow):
    """
    The message says what the code is for; another code by a key is the same one; a wrong one is told to the owner, by
    Messages; the right one lets the wire through, once.
    """
    async with contact_centre(flow) as (centre, bank):
        line = await at_the_menu(centre)
        await line.press("3")
        first = centre.carrier.sent[-1]
        code = centre.carrier.code_for(OWNER)
        assert (
            first.body
            == f"Example Bank: {code} is your code for: a wire transfer. Nobody of ours will ask you for it."
        )
        assert "/wire/amount" not in bank.paths_seen()

        await line.press(f"{(int(code) + 1) % 10**6:06}")
        await centre.server.guard.drain()
        assert [one.sender for one in centre.carrier.sent[1:]] == [SMS_FROM]
        assert centre.carrier.sent[1].body == flow.prompts["sms_warning"]

        await line.press("1#")
        assert (centre.carrier.sent[-1], len(centre.carrier.sent)) == (first, 3)
        assert "How many dollars" in await press(line, code)
        assert await recorded(centre, "authn_code_sent") == ["new", "again"]
        assert bank.digits_seen() & {code, PIN} == set()


STARTS = [
    (429, 60203, "too_many_sends"),
    (403, 60410, "prefix_blocked"),
    (403, 60605, "country_not_allowed"),
    (403, 60238, "blocked"),
    (403, 60205, "landline"),
    (400, 60200, "invalid"),
    (404, 20404, "account"),
    (429, 20429, "too_many_requests"),
    (503, 20503, "outage"),
]


@pytest.mark.parametrize(("status", "code", "why"), STARTS)
async def test_whatever_verify_refuses_the_caller_is_asked_for_something_else(flow, status, code, why):
    """A number that cannot be texted, a blocked prefix, an outage: the app, and the reason on record."""
    async with contact_centre(flow) as (centre, _):
        line = await at_the_menu(centre)
        centre.verify.fail_next(404, 20404)  # nothing is pending
        centre.verify.fail_next(status, code)
        if (status, code) == (404, 20404):  # a language that a template has not got is asked for once without
            centre.verify.fail_next(status, code)

        assert "authenticator app" in await press(line, "3")
        assert await recorded(centre, "authn_code_undelivered") == [why]
        assert centre.carrier.sent == []

        assert "How many dollars" in await press(line, pyotp.TOTP(APP_SECRET).at(centre.clock() // 1000))


@pytest.mark.parametrize(
    ("status", "code", "counted", "said"),
    [
        (404, 20404, 1, "did not match"),  # expired, canceled, or right before
        (400, 60200, 1, "did not match"),  # no code at all
        (429, 60202, 0, "authenticator app"),  # five checks are used up: it looks at no more
        (503, 20503, 1, "authenticator app"),  # nobody knows what it looked at
    ],
)
async def test_whatever_verify_does_not_judge_lets_nobody_in(flow, status, code, counted, said):
    """The right code, and a service that will not say so: wrong, or another factor; never right."""
    async with contact_centre(flow) as (centre, bank):
        line = await at_the_menu(centre)
        await line.press("3")
        centre.verify.fail_next(status, code)

        assert said in await press(line, centre.carrier.code_for(OWNER))

        ledger = await centre.store.read(books.ledger_key(f"{ACCOUNT}/sms_code/pool"))
        assert len(ledger.attempts) == counted
        assert "/wire/amount" not in bank.paths_seen()


async def test_a_slow_verify_is_an_outage_within_the_provider_s_patience(flow, monkeypatch):
    """The caller hears the next question, not the provider's error."""
    monkeypatch.setattr(proving, "SEND_DEADLINE_S", 0.05)
    async with contact_centre(flow) as (centre, _):
        line = await at_the_menu(centre)
        centre.verify.hold = asyncio.Event()
        asked = await press(line, "3")
        centre.verify.hold.set()
        assert "authenticator app" in asked
        assert await recorded(centre, "authn_code_undelivered") == ["timeout"]


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        pytest.param(plant, why, id=name)
        for name, plant, why in (
            ("swapped", lambda api: api.swapped(OWNER, at_ms=1_789_999_000_000, in_period=True), "sim_swap"),
            ("forwarded", lambda api: api.forwarded(OWNER, on=True), "forwarding"),
            ("another kind of line", lambda api: api.line(OWNER, "nonFixedVoip"), "line_type"),
            ("60620", lambda api: api.fails(OWNER, "sim_swap", 60620), "unknown"),
            ("outage", lambda api: api.fail_next(503, 20503), "unknown"),
            ("nothing", lambda _: None, ""),
        )
    ],
)
async def test_a_number_is_looked_up_before_a_code_goes_to_it(flow, plant, why):
    """A swapped SIM, a forwarded line, a line of another kind, or a carrier that does not say: the app instead."""
    lookup = Lookup(sim_swap_s=3 * 86_400, forwarding=True, line_types=("mobile",))
    async with contact_centre(flow, lookup=lookup) as (centre, _):
        plant(centre.lookup)
        line = await at_the_menu(centre)
        assert ("authenticator app" in await press(line, "3")) is bool(why)
        assert await recorded(centre, "authn_code_undelivered") == ([why] if why else [])
        assert len(centre.carrier.sent) == (0 if why else 1)
        if not why:
            await line.press("1#")  # another code: what was said of the number still holds
            assert len(centre.carrier.sent) == 2
        assert centre.lookup.asked == 1


async def test_a_recording_hears_no_code(flow):
    """It runs at the menu, stands still at the question, and runs on with the IVR's next document."""
    flow = replace(flow, recording=Recording.MUST_PAUSE)
    async with contact_centre(flow) as (centre, _):
        line = await at_the_menu(centre)
        centre.recordings.begin(line.call_sid)
        await line.press("3")
        assert not centre.recordings.running(line.call_sid)
        assert "How many dollars" in await press(line, centre.carrier.code_for(OWNER))
        assert centre.recordings.running(line.call_sid)
