"""
Promise 6: nobody learns who exists. Unknown, known and locked accounts hear the same words after the same time.

Time is not measured here but made sure of: whoever calls, the same hashes are computed and the same values are
read, in the same order. (How long they take is the bench's business.)
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ivrguard import flowfile
from ivrguard.core import admission, demands, readback
from ivrguard.core import call as calls
from ivrguard.core import step as steps
from ivrguard.core.assurance import AnyOf, Kind
from ivrguard.core.flow import Flow
from ivrguard.core.rules import ANYONE
from ivrguard.directory.local import LocalDirectory
from ivrguard.factors import pin
from ivrguard.factors.pin import PinJudge
from ivrguard.guard import webhook
from ivrguard.guard.books import trust_key
from ivrguard.guard.webhook import Webhook
from ivrguard.phone import bank
from ivrguard.phone.rig import Clock, Rig, rig
from ivrguard.ports import Account, Credential, Key, Store, Wrong
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.sqlite import SqliteStore

PIN = "24681357"
WRONG = "13572468"
OWNER, LOCKED, DISABLED, UNENROLLED, STRANGER = "123456", "222222", "333333", "444444", "999999"
LOCKED_STRANGER = "888888"
SHARED_NUMBER, NOBODYS_NUMBER = "+15551230009", "+15550000009"
NOW_MS = 1_800_000_000_000
SILENCE = None

FLOW = flowfile.load_all(Path(__file__).parents[2] / "flows").flows[0]
BY_PIN = replace(
    FLOW, levels={**FLOW.levels, "one_factor": "pin"}, locks=replace(FLOW.locks, caller_number=None)
)
OPEN = replace(BY_PIN, levels=FLOW.levels, rules=(), default=ANYONE)
"""Everything is open to anyone, people too: whoever takes the call has to ask."""
BY_CODE = replace(BY_PIN, levels={**FLOW.levels, "one_factor": AnyOf(("code",))})


def plant(patch, name: str, fault: object) -> None:
    """Put `fault` in the place of `name`, in each module that uses it."""
    for module in (steps, demands, calls, admission, webhook):
        if hasattr(module, name):
            patch.setattr(module, name, fault)


def number_of(account: str) -> str:
    """The number on file of an account."""
    return f"+1555123{account[:4]}"


BY_ITSELF = {"alert", "published"}
"""What a server reads and keeps about once a second, whoever calls: alerts with what was counted, and the flows in force."""


class Watched:
    """A store that writes down what is asked of it, but for what is done in the background, and by the server itself."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: list[tuple[str, ...]] = []

    async def read(self, key):
        if not in_the_background() and key.kind not in BY_ITSELF:
            self.asked.append(("read", key.kind))
        return await self._store.read(key)

    async def amend(self, keys, change):
        if not in_the_background() and not BY_ITSELF & {key.kind for key in keys}:
            self.asked.append(("amend", *(key.kind for key in keys)))
        return await self._store.amend(keys, change)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def in_the_background() -> bool:
    task = asyncio.current_task()
    assert task is not None
    return task.get_coro().__qualname__.startswith("Background.")


class CountedHashes:
    """The argon2 of a judge of PINs, and how often it was asked."""

    def __init__(self, judge: PinJudge) -> None:
        self._real = judge._hasher
        self.count = 0
        judge._hasher = self  # type: ignore[assignment]  # it does all that the judge asks of it

    def verify(self, hash_: str, digits: bytes) -> bool:
        self.count += 1
        return self._real.verify(hash_, digits)

    def hash(self, digits: bytes) -> str:
        return self._real.hash(digits)


@dataclass
class House:
    """A centre with accounts of every kind, and what its store and hashes were asked."""

    rig: Rig
    watched: Watched
    hashes: CountedHashes

    async def settled(self) -> None:
        await self.rig.server.guard.drain()


@dataclass(frozen=True)
class Talk:
    """
    One call: what was sent back (nonces replaced), what it cost, and what is on record of it.

    `asked` and `hashes`: what the store and the hash pool were asked. `texted`: numbers that got a message.
    """

    heard: tuple[tuple[int, str | None, str], ...]
    asked: tuple[tuple[str, ...], ...]
    hashes: int
    texted: tuple[str, ...]
    record: tuple[tuple[str, str], ...] = field(default=())


@asynccontextmanager
async def house(store: Store, flow: Flow) -> AsyncIterator[House]:
    watched = Watched(store)
    async with rig(flow, bank.app, store=watched, clock=Clock(NOW_MS)) as running:
        for account in (OWNER, LOCKED, DISABLED, UNENROLLED):
            kinds = [Credential(Kind.SMS_CODE, number=number_of(account))]
            numbers = (
                (number_of(account), SHARED_NUMBER) if account in {OWNER, LOCKED} else (number_of(account),)
            )
            enrolled = PIN if account != UNENROLLED else None
            await running.enrol(Account(account, numbers, tuple(kinds)), pin=enrolled)
        assert await running.server.directory.disable(DISABLED, now_ms=NOW_MS, by="test")
        made = House(running, watched, CountedHashes(running.server.pins))
        for account in (LOCKED, LOCKED_STRANGER):
            for guesses in (3, 2):  # five wrong ones lock
                await talk(
                    made, f"+1555777{account[:4]}", [f"{account}#", *[WRONG[: digits(flow)]] * guesses]
                )
        yield made


def digits(flow: Flow) -> int:
    return 6 if flow.levels["one_factor"] == AnyOf(("code",)) else 8


async def talk(house: House, from_: str, keys: Sequence[str | None]) -> Talk:
    """Call, and press these; what came of it."""
    line = house.rig.call(from_)
    seq, hashes = (await house.rig.store.head())[0], house.hashes.count
    texted = len(house.rig.carrier.sent)
    house.watched.asked.clear()
    await line.until_input()
    for each in keys:
        if line.over:
            break
        await (line.silent() if each is SILENCE else line.press(each))
    asked = tuple(house.watched.asked)
    await house.settled()
    answers = [request.answer for request in line.requests if request.purpose != "callback"]
    assert all(answers)
    return Talk(
        heard=tuple((one.status, one.content_type, without_nonces(one.text)) for one in answers if one),
        asked=asked,
        hashes=house.hashes.count - hashes,
        texted=tuple(message.to for message in house.rig.carrier.sent[texted:]),
        record=tuple((one.entry.event, one.entry.reason) for one in await house.rig.store.entries(after=seq)),
    )


def without_nonces(text: str) -> str:
    return re.sub(r"/call/[0-9a-f]{32}", "/call/N", text)


def same(talks: dict[str, Talk], hashes: int, tries: int) -> None:
    """Nobody who listens, or looks at the clock, can tell these calls apart."""
    (first, one), *others = talks.items()
    for name, other in others:
        assert other.heard == one.heard, f"words: {name} hears something else than {first}"
        assert len(other.asked) == len(one.asked), f"work: the store is asked more or less for {name}"
        assert other.asked == one.asked, f"work: the store is asked something else for {name}"
        assert other.hashes == one.hashes, f"work: more or fewer hashes for {name} than for {first}"
    assert one.hashes == hashes, "work: not one hash for each guess"
    assert one.heard[-1][2].count("We could not verify you on this call") == 1, "words: no refusal"
    assert sum("That did not match" in body for _, _, body in one.heard) == tries - 1, "words"


def known_apart(talks: dict[str, Talk], expected: dict[str, tuple[str, str]]) -> None:
    """The record does tell them apart: how the account was claimed, and what became of its guesses."""
    for name, (claimed, failed) in expected.items():
        record = talks[name].record
        assert ("account_claimed", claimed) in record, f"record: {name}"
        assert {reason for event, reason in record if event == "authn_login_fail"} == {failed}, (
            f"record: {name}"
        )


# ── the promise ──────────────────────────────────────────────────────────────────────────────────────────


async def check_keyed_accounts_sound_the_same(store: Store) -> None:
    """Whoever keys an account and guesses: unknown, known, locked (right PIN or wrong), disabled, without a PIN."""
    async with house(store, BY_PIN) as made:
        subjects = {
            "unknown": (STRANGER, WRONG),
            "known": (OWNER, WRONG),
            "locked, wrong": (LOCKED, WRONG),
            "locked, right": (LOCKED, PIN),
            "locked, unknown": (LOCKED_STRANGER, WRONG),
            "disabled": (DISABLED, PIN),
            "without a PIN": (UNENROLLED, WRONG),
        }
        talks, fumbled = {}, {}
        for place, (name, (account, guess)) in enumerate(subjects.items()):
            talks[name] = await talk(made, f"+1555888000{place}", [f"{account}#", guess, guess, guess])
        for place, (name, (account, guess)) in enumerate(subjects.items()):
            keys = [f"{account}#", SILENCE, "*", "123", guess, guess]
            fumbled[name] = await talk(made, f"+1555999000{place}", keys)
    same(talks, hashes=3, tries=3)
    same(fumbled, hashes=2, tries=2)
    heard = " ".join(body for one in (*talks.values(), *fumbled.values()) for _, _, body in one.heard)
    assert "texted" not in heard, "second: somebody who proved nothing was asked for a second factor"
    assert not any(one.texted for one in (*talks.values(), *fumbled.values())), "sms: a message went out"
    expected = {
        "unknown": ("unknown", "wrong"),
        "known": ("known", "wrong"),
        "locked, wrong": ("known", "locked"),
        "locked, right": ("known", "locked"),
        "locked, unknown": ("unknown", "locked"),
        "disabled": ("unknown", "wrong"),
    }
    known_apart(talks, expected)


async def check_callers_numbers_sound_the_same(store: Store) -> None:
    """The account of the number that calls is offered to everybody, and taking it tells nothing."""
    async with house(store, BY_PIN) as made:
        numbers = {
            "on file": number_of(OWNER),
            "on nobody's file": NOBODYS_NUMBER,
            "on two files": SHARED_NUMBER,
            "of a disabled account": number_of(DISABLED),
            "of a locked account": number_of(LOCKED),
        }
        talks = {
            name: await talk(made, number, ["1#", WRONG, WRONG, WRONG]) for name, number in numbers.items()
        }
    same(talks, hashes=3, tries=3)
    assert not any(one.texted for one in talks.values()), "sms: a message went out"
    known_apart(
        talks,
        {
            "on file": ("known", "wrong"),
            "on nobody's file": ("unknown", "wrong"),
            "on two files": ("unknown", "wrong"),
            "of a disabled account": ("unknown", "wrong"),
            "of a locked account": ("known", "locked"),
        },
    )


async def check_codes_sound_the_same(store: Store) -> None:
    """Where a code comes first, everybody is told that one was sent; it is, to the owner alone."""
    async with house(store, BY_CODE) as made:
        made.rig.carrier.sent.clear()
        wrong = "000000"
        subjects = {"unknown": STRANGER, "known": OWNER, "locked": LOCKED, "disabled": DISABLED}
        talks = {
            name: await talk(made, f"+1555888000{place}", [f"{account}#", wrong, wrong, wrong])
            for place, (name, account) in enumerate(subjects.items())
        }
    same(talks, hashes=0, tries=3)
    texted = {name: one.texted for name, one in talks.items()}
    assert texted == {
        "unknown": (),
        "known": (number_of(OWNER),),
        "locked": (),
        "disabled": (),
    }, "sms: not to the owner alone"
    assert all("We have just texted" in one.heard[1][2] for one in talks.values()), "words"


async def check_agents_learn_nothing(store: Store) -> None:
    """An agent whom a caller tells an account sees the same of all of them, whatever he tries, until something is proved."""
    async with house(store, OPEN) as made:
        key = await made.rig.desk("ann", "enqueue:*")
        subjects = {"unknown": STRANGER, "known": OWNER, "disabled": DISABLED}
        told, asked = {}, {}
        for name, account in subjects.items():
            line = made.rig.call("+15558880000")
            await line.until_input()
            await line.press("9")
            assert (await made.rig.redeem(key, line.call_sid))[0] == 201
            made.watched.asked.clear()
            wrong = [("answers", {"digits": "000000"})] * 3
            acts = [("claims", {"account": account}), *(("codes", {}), *wrong) * 2, ("codes", {})]
            told[name] = [await desk(made.rig, key, line.call_sid, *act) for act in acts]
            asked[name] = tuple(made.watched.asked)
            await made.settled()
    first, *others = subjects
    for name in others:
        assert told[name] == told[first], f"words: the agent is told something else of {name}"
        assert asked[name] == asked[first], f"work: the store is asked something else for {name}"
    statuses = [status for status, _ in told[first]]
    assert statuses == [200, 202, 200, 200, 200, 202, 200, 200, 200, 429], "words: not the whole story"
    assert "locked" in told[first][-2][1], "words: five wrong ones do not lock"
    texted = {message.to for message in made.rig.carrier.sent}
    assert texted == {number_of(OWNER)}, "sms: not to the owner alone"


async def desk(rig: Rig, key: str, sid: str, what: str, body: dict[str, str]) -> tuple[int, str]:
    """What the agents' API answers, without the call's own name."""
    url = f"{rig.guard_url}/.ivrguard/agent/v1/calls/{sid}/{what}"
    async with rig.session.post(url, json=body, headers={"Authorization": f"Bearer {key}"}) as answer:
        return answer.status, (await answer.text()).replace(sid, "CA").replace(sid[2:10].upper(), "REF")


CHECKS = [
    check_agents_learn_nothing,
    check_keyed_accounts_sound_the_same,
    check_callers_numbers_sound_the_same,
    check_codes_sound_the_same,
]


# ── green ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return await SqliteStore.open(tmp_path / "guard.db", migrate=True)


@pytest.fixture
def cheap_hashes(monkeypatch) -> None:
    """The real argon2 with small parameters: what is counted is how often."""
    monkeypatch.setattr(pin, "MEMORY_KIB", 64)
    monkeypatch.setattr(pin, "PASSES", 1)


@pytest.mark.usefixtures("cheap_hashes")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_nobody_learns_who_exists(check, store):
    """The same words, the same work, no message; only the record knows."""
    await check(store)


# ── red: each piece that keeps the promise, taken out ────────────────────────────────────────────────────


def refuse_locked_at_once(monkeypatch) -> None:
    """The lock is told: a locked account is refused before it is asked."""
    real = steps._claimed

    def claimed(flow, call, books, event, now_ms):
        step = real(flow, call, books, event, now_ms)
        if calls.locked(flow, step.call, books, now_ms):
            return steps._refuse(step.call, books, "refused", "locked", now_ms, step.entries)
        return step

    plant(monkeypatch, "_claimed", claimed)


def other_words_for_the_locked(monkeypatch) -> None:
    """The wrong answer of a locked account sounds otherwise."""
    real = steps._missed

    def missed(flow, call, books, again, preface, now_ms, entries=()):
        return real(flow, call, books, again, "hold" if call.locked_out else preface, now_ms, entries)

    plant(monkeypatch, "_missed", missed)


def no_hash_without_a_credential(monkeypatch) -> None:
    """Nothing to compare with: so nothing is computed."""
    real = PinJudge._judge

    def judge(self, credential, digits):
        return Wrong() if credential is None else real(self, credential, digits)

    monkeypatch.setattr(PinJudge, "_judge", judge)


def no_second_look_for_unknown_accounts(monkeypatch) -> None:
    """An account that is not there has no trusted numbers: so they are not looked up."""

    async def find(self, keys):
        account = await self._world.directory.by_id(keys)
        ref = self._world.keys.pseudonym("account", keys)
        if account is not None:
            await self._world.store.read(trust_key(keys))
        every = tuple(self._flow.factors)
        return calls.Found(keys, known=account is not None, ref=ref, enrolled=every)

    monkeypatch.setattr(Webhook, "_find", find)


def no_second_look_for_unknown_numbers(monkeypatch) -> None:
    """A number on nobody's file leads to no account: so none is looked up."""
    real = LocalDirectory.by_number

    async def by_number(self, number):
        ids = await self._store.read(Key("number", number)) or ()
        return await real(self, number) if len(ids) == 1 else None

    monkeypatch.setattr(LocalDirectory, "by_number", by_number)


def asked_by_what_is_enrolled(monkeypatch) -> None:
    """The first question goes by what the account has: whoever has no PIN hears so."""
    real = demands.missing

    def missing(flow, call, demand, since_turn, now_ms):
        wanted = real(flow, call, demand, since_turn, now_ms)
        have = [name for name in wanted or () if name in call.enrolled]
        return tuple(have) or ("code",) if wanted and call.account else wanted

    plant(monkeypatch, "missing", missing)


def messages_to_the_locked(monkeypatch) -> None:
    """A code goes out although no answer to it is judged."""
    plant(monkeypatch, "is_locked", lambda *_: False)


def unknown_accounts_are_told(monkeypatch) -> None:
    """An account that is not there is told so: friendly, and an oracle."""
    real = steps._claimed

    def claimed(flow, call, books, event, now_ms):
        if event.found is not None and not event.found.known:
            return steps._missed(flow, call, books, calls.Question(event.nonce), "mistyped", now_ms)
        return real(flow, call, books, event, now_ms)

    plant(monkeypatch, "_claimed", claimed)


def the_record_forgets(monkeypatch) -> None:
    """The record has the caller's words: nobody can look into an attack afterwards."""
    real = steps.entry_of

    def entry(call, event, now_ms, reason, **detail):
        return real(call, event, now_ms, "" if event == "account_claimed" else reason, **detail)

    plant(monkeypatch, "entry_of", entry)


def agents_are_told(monkeypatch) -> None:
    """No code is sent for nobody, and the agent is told so: helpful, and an oracle."""
    real = readback.ask

    def ask(flow, call, *more):
        done = real(flow, call, *more)
        return done if call.known else replace(done, outcome=readback.Why.NOT_ENROLLED)

    monkeypatch.setattr(readback, "ask", ask)


FAULTS: list[tuple[Callable[..., None], Callable[..., object], str]] = [
    (agents_are_told, check_agents_learn_nothing, "words"),
    (refuse_locked_at_once, check_keyed_accounts_sound_the_same, "words"),
    (other_words_for_the_locked, check_keyed_accounts_sound_the_same, "words"),
    (no_hash_without_a_credential, check_keyed_accounts_sound_the_same, "hashes"),
    (no_second_look_for_unknown_accounts, check_keyed_accounts_sound_the_same, "work"),
    (asked_by_what_is_enrolled, check_keyed_accounts_sound_the_same, "words"),
    (unknown_accounts_are_told, check_keyed_accounts_sound_the_same, "words"),
    (the_record_forgets, check_keyed_accounts_sound_the_same, "record"),
    (no_second_look_for_unknown_numbers, check_callers_numbers_sound_the_same, "work"),
    (messages_to_the_locked, check_codes_sound_the_same, "sms"),
]


@pytest.mark.usefixtures("cheap_hashes")
@pytest.mark.parametrize(("fault", "check", "says"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
async def test_without_this_piece_somebody_learns(fault, check, says, monkeypatch):
    """The same check, red."""
    fault(monkeypatch)
    with pytest.raises(AssertionError, match=says):
        await check(MemoryStore())
