"""PINs: hashed under a pepper, judged with the same work for everybody, in a bounded pool, and not any PIN."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from importlib import import_module
from itertools import product
from typing import Any

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.assurance import Kind
from ivrguard.core.errors import Busy, DirectoryFault
from ivrguard.factors.pin import MOST_USED, PinJudge, weak
from ivrguard.ports import Credential, Right, Wrong

PEPPERS = {"p1": b"p" * 32}
ROTATED = {"p2": b"q" * 32, "p1": b"p" * 32}
PIN = "40718293"
library: Any = import_module("argon2._password_hasher")  # where the hashing begins: counted and held up here
NOW_MS = 1_790_000_000_000


@pytest.fixture(scope="module")
def judge() -> Iterator[PinJudge]:
    one = PinJudge(PEPPERS, threads=1)
    yield one
    one._pool.shutdown()


@pytest.fixture(scope="module")
def enrolled(judge: PinJudge) -> Credential:
    return asyncio.run(judge.enrol(PIN))


@pytest.fixture
async def rotated() -> AsyncIterator[PinJudge]:
    one = PinJudge(ROTATED, threads=1)
    yield one
    await one.close()


async def test_the_pin_is_right_and_anything_else_is_wrong(judge: PinJudge, enrolled: Credential) -> None:
    """A PIN enrolled is right; one digit more, less or other, and nothing at all, are wrong."""
    assert await judge.judge(enrolled, PIN, None, NOW_MS) == Right()
    for digits in ("40718294", "4071829", "407182930", ""):
        assert await judge.judge(enrolled, digits, None, NOW_MS) == Wrong()


def test_what_is_kept_is_an_argon2id_hash_of_the_owasp_parameters(enrolled: Credential) -> None:
    """m=19456 KiB, t=2, p=1, the pepper's id beside it, and nothing of the PIN; its repr shows no hash."""
    assert enrolled.secret.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (enrolled.kind, enrolled.key_id, enrolled.number) == (Kind.PIN, "p1", "")
    assert "argon2" not in repr(enrolled)


async def test_two_accounts_with_one_pin_have_two_hashes(judge: PinJudge, enrolled: Credential) -> None:
    """Each hash has a salt of its own: a table shows no equal PINs."""
    assert (await judge.enrol(PIN)).secret != enrolled.secret


def test_without_the_pepper_a_stolen_hash_says_nothing(enrolled: Credential) -> None:
    """The thief who has the whole store and guesses the very PIN still finds no match."""
    with pytest.raises(argon2.exceptions.VerifyMismatchError):
        argon2.PasswordHasher().verify(enrolled.secret, PIN)


async def test_a_pepper_rotates(rotated: PinJudge, enrolled: Credential) -> None:
    """Old PINs are judged under their own pepper; new ones take the first."""
    new = await rotated.enrol(PIN)
    assert new.key_id == "p2"
    assert await rotated.judge(new, PIN, None, NOW_MS) == Right()
    assert await rotated.judge(enrolled, "40718294", None, NOW_MS) == Wrong()


async def test_a_right_pin_of_an_old_pepper_is_hashed_anew(rotated: PinJudge, enrolled: Credential) -> None:
    """The digits are at hand only now: the verdict brings the hash under the new pepper, which needs no other."""
    verdict = await rotated.judge(enrolled, PIN, None, NOW_MS)
    assert isinstance(verdict, Right)
    assert verdict.renewed is not None
    assert verdict.renewed.key_id == "p2"
    assert await rotated.judge(verdict.renewed, PIN, None, NOW_MS) == Right()
    alone = PinJudge({"p2": ROTATED["p2"]}, threads=1)
    assert await alone.judge(verdict.renewed, PIN, None, NOW_MS) == Right()
    await alone.close()


async def test_a_right_pin_of_less_work_is_hashed_anew(judge: PinJudge) -> None:
    """Whoever raises the parameters raises them for everybody who calls."""
    weaker = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    old = Credential(Kind.PIN, weaker.hash(judge._keyed("p1", PIN)), "p1")
    verdict = await judge.judge(old, PIN, None, NOW_MS)
    assert isinstance(verdict, Right)
    assert verdict.renewed is not None
    assert verdict.renewed.secret.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_a_credential_holds_one_pin(rotated: PinJudge, enrolled: Credential) -> None:
    """Under an old pepper too. Where that cannot be told any more it holds none: who has the PIN enrols it anew."""
    assert await rotated.holds(enrolled, PIN)
    assert not await rotated.holds(enrolled, "40718294")
    assert not await rotated.holds(replace(enrolled, key_id="p0"), PIN)
    assert not await rotated.holds(replace(enrolled, secret="no hash"), PIN)


async def test_a_pepper_that_is_gone_is_said_aloud(judge: PinJudge, enrolled: Credential) -> None:
    """The operator reads which pepper to bring back; the caller is not told wrong for our fault."""
    with pytest.raises(DirectoryFault, match="needs pepper 'p9', which is not configured here"):
        await judge.judge(replace(enrolled, key_id="p9"), PIN, None, NOW_MS)


@pytest.mark.parametrize("damaged", ["", "hash", "ünreadable", "$argon2id$v=19$m=19456,t=2,p=1$AAAA"])
async def test_a_damaged_hash_is_said_aloud(judge: PinJudge, damaged: str) -> None:
    """What is no argon2 hash is a fault that names the mend and not the hash."""
    with pytest.raises(DirectoryFault, match=r"^a PIN kept under pepper 'p1' is damaged: enrol it anew$"):
        await judge.judge(Credential(Kind.PIN, damaged, "p1"), PIN, None, NOW_MS)


# -- the same work for everybody ----------------------------------------------------------------------------


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parameters of every hash that argon2 really worked out, in order."""
    done: list[str] = []
    verify: Callable[[bytes, bytes, argon2.Type], bool] = library.verify_secret

    def counted(hash_: bytes, secret: bytes, kind: argon2.Type) -> bool:
        try:
            right = verify(hash_, secret, kind)
        except argon2.exceptions.VerifyMismatchError:
            done.append(hash_.decode().split("$")[3])
            raise
        done.append(hash_.decode().split("$")[3])
        return right

    monkeypatch.setattr(library, "verify_secret", counted)
    return done


@pytest.mark.parametrize("name", ["right", "wrong", "unknown", "no pepper", "no hash"])
async def test_every_answer_costs_one_hash(
    name: str, judge: PinJudge, enrolled: Credential, work: list[str]
) -> None:
    """Known, unknown, locked, damaged: one argon2 of the same parameters each, so the time tells nothing."""
    credential, digits = {
        "right": (enrolled, PIN),
        "wrong": (enrolled, "11112222"),
        "unknown": (None, PIN),
        "no pepper": (replace(enrolled, key_id="p9"), PIN),
        "no hash": (replace(enrolled, secret="$argon2id$"), PIN),
    }[name]
    try:
        verdict = await judge.judge(credential, digits, None, NOW_MS)
    except DirectoryFault:
        assert name in {"no pepper", "no hash"}
    else:
        assert verdict == (Right() if name == "right" else Wrong())
    assert work == ["m=19456,t=2,p=1"]


# -- bounded ------------------------------------------------------------------------------------------------


class Gate:
    """Where hashes wait until the test lets them through; `reached` when the first one stands there."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    one = Gate()
    verify: Callable[[bytes, bytes, argon2.Type], bool] = library.verify_secret

    def gated(hash_: bytes, secret: bytes, kind: argon2.Type) -> bool:
        one.reached.set()
        one.opened.wait(10)
        return verify(hash_, secret, kind)

    monkeypatch.setattr(library, "verify_secret", gated)
    yield one
    one.opened.set()


async def test_beyond_the_bound_it_is_busy_at_once(gate: Gate, work: list[str]) -> None:
    """One thread and a queue of one: two are taken, the others hear Busy before any work; then there is room."""
    small = PinJudge(PEPPERS, threads=1, queue_per_thread=1)
    taken = [asyncio.ensure_future(small.judge(None, PIN, None, NOW_MS)) for _ in range(2)]
    await asyncio.sleep(0)
    for _ in range(3):
        with pytest.raises(Busy):
            await small.judge(None, PIN, None, NOW_MS)
    with pytest.raises(Busy):
        await small.enrol(PIN)
    assert work == []
    gate.opened.set()
    assert await asyncio.gather(*taken) == [Wrong(), Wrong()]
    assert await small.judge(None, PIN, None, NOW_MS) == Wrong()
    assert len(work) == 3
    await small.close()


async def test_who_hangs_up_frees_no_thread(gate: Gate) -> None:
    """A waiter that is cancelled leaves its hash running: its place is free only when the thread is."""
    small = PinJudge(PEPPERS, threads=1, queue_per_thread=0)
    gone = asyncio.ensure_future(small.judge(None, PIN, None, NOW_MS))
    await asyncio.to_thread(gate.reached.wait, 10)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    with pytest.raises(Busy):
        await small.judge(None, PIN, None, NOW_MS)
    gate.opened.set()
    await small.close()
    assert small._places.acquire(blocking=False)


async def test_as_many_threads_as_cores() -> None:
    """More threads than cores only add waiting; the bound counts those at work and those in the queue."""
    one = PinJudge(PEPPERS)
    cores = os.cpu_count() or 1
    assert (one._pool._max_workers, one._places._value) == (cores, cores * 9)
    await one.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads a priority of their own")
async def test_hashing_stands_behind_the_calls(judge: PinJudge) -> None:
    """The pool's threads have the lowest priority, the event loop's keeps its own."""

    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    assert await judge._in_pool(priority) == 19
    assert priority() == before


# -- weak PINs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digits", "why"),
    [
        ("", "digits 0 to 9"),
        ("12a4", "digits 0 to 9"),
        ("٤٠٧١", "digits 0 to 9"),
        ("407", "4 to 12 digits"),
        ("4071829340718", "4 to 12 digits"),
        ("5683", "most used"),
        ("159753", "most used"),
        ("77777777", "repeats itself"),
        ("40714071", "repeats itself"),
        ("407407407", "repeats itself"),
        ("890123", "counts up or down"),
        ("13579", "counts up or down"),
        ("98765432", "counts up or down"),
        ("4554", "backwards"),
        ("44007711", "pairs"),
        ("1987", "a year"),
        ("3112", "a date"),
        ("1231", "a date"),
        ("240587", "a date"),
        ("052487", "a date"),
        ("870524", "a date"),
        ("24051987", "a date"),
        ("05241987", "a date"),
        ("19870524", "a date"),
        ("29022000", "a date"),
    ],
)
async def test_a_weak_pin_is_refused_with_its_reason(judge: PinJudge, digits: str, why: str) -> None:
    """Each family of PINs that people choose and guessers try; the reason does not repeat the PIN."""
    reason = weak(digits)
    assert reason is not None
    assert why in reason
    assert not digits or digits not in reason
    with pytest.raises(ValueError, match=reason):
        await judge.enrol(digits)


@pytest.mark.parametrize(
    "digits", [PIN, "4071", "8068", "40718", "483920", "30021987", "31000000", "84029177"]
)
def test_a_pin_nobody_guesses_is_taken(digits: str) -> None:
    """Neither pattern nor date (30 February is none), nor often used."""
    assert weak(digits) is None


def test_all_of_the_most_used_are_refused() -> None:
    """The published lists, all of them."""
    assert all(weak(digits) for digits in MOST_USED)


def test_about_a_tenth_of_the_short_pins_is_refused() -> None:
    """Less does not help, more annoys (arXiv 2003.04868)."""
    refused = sum(weak("".join(digits)) is not None for digits in product("0123456789", repeat=4))
    assert 900 < refused < 1200


@given(st.text(max_size=15))
def test_any_text_gets_an_answer(text: str) -> None:
    """Whatever is typed in as a PIN: a reason, or digits of the right number."""
    reason = weak(text)
    assert reason is not None or (text.isascii() and text.isdigit() and 4 <= len(text) <= 12)


@given(st.text("0123456789", min_size=2, max_size=6), st.integers(2, 6))
def test_every_repetition_is_found(block: str, times: int) -> None:
    """A block said twice or more is never a good PIN."""
    assert weak(block * times) is not None


async def test_a_judge_apart_has_places_of_its_own():
    """The same keys and hashes; whoever crowds the one takes no place from the other."""
    judge = PinJudge(PEPPERS, threads=1, queue_per_thread=0)
    other = judge.apart(1)
    credential = await judge.enrol("24681357")
    held = asyncio.create_task(judge.judge(credential, "24681357", None, 0))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await judge.judge(credential, "24681357", None, 0)
    assert isinstance(await other.judge(credential, "24681357", None, 0), Right)
    assert isinstance(await held, Right)
    await judge.close()
    await other.close()
