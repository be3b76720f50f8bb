"""
Promise 7. **Again is not twice.** A webhook repeated, replayed, late or out of order changes nothing and is answered as
before; two at once are answered as one after the other.

The provider's signature has neither time nor nonce, so what it signed once is signed for ever, and it does send
webhooks again (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides). Two kinds of request pass
through the guard without being remembered, for they change nothing in it: notices to the IVR (status callbacks) and
wait music.
"""

import asyncio
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ivrguard import guard
from ivrguard.core import admission, demands
from ivrguard.core import call as calls
from ivrguard.core import step as steps
from ivrguard.core.audit import Entry
from ivrguard.core.flow import Sends
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.guard import webhook
from ivrguard.guard.webhook import Webhook
from ivrguard.phone.exchange import LineError
from ivrguard.stores.memory import MemoryStore
from ivrguard.web import voice

MENU = '<Gather numDigits="1" action="/menu"/><Redirect>/voice</Redirect>'
DOCUMENTS = {
    "/voice": MENU,
    "/menu": "<Redirect>/next</Redirect>",
    "/next": '<Say>Your balance is 42</Say><Gather numDigits="1" action="/wire/start"/>',
    "/wire/start": '<Say>Sent</Say><Enqueue workflowSid="WWx" action="/after"><Task>{}</Task></Enqueue>',
    "/after": f"<Say>Back again</Say>{MENU}",
}
RULES = (
    Rule(Demand("two_factor", within_s=3600, intent="wire"), path="/wire/**"),
    Rule(Demand("two_factor", reverify="one_factor", intent="agent"), transfer=Target("*", "*")),
)
ACTS = ("begin", "account", "wrong", "app", "menu", "wire", "code", "again", "back", "silence", "leave")
"""A whole story: both factors, one of them wrong first, a transfer with a new proof, back to the IVR, the end."""


def plant(patch, name: str, fault: object) -> None:
    """Put `fault` in the place of `name`, in each module that uses it."""
    for module in (steps, demands, calls, admission, webhook):
        if hasattr(module, name):
            patch.setattr(module, name, fault)


async def act(built, line, name):
    """One act of the caller; that he can do it at all is part of the promise."""
    try:
        await _act(built, line, name)
    except LineError as error:
        raise AssertionError(f"{name}: {error}") from error


async def _act(built, line, name):
    match name:
        case "begin":
            await line.until_input()
        case "account":
            await line.press("123456#")
        case "wrong":
            await line.press("000000")
        case "menu" | "wire":
            await line.press("1")
        case "app" | "code" | "again":
            await line.press(await built.right(line))
        case "back":
            await line.dequeued()
            await line.agent_hangs_up()
        case "silence":
            await line.silent()
        case _:
            await line.hang_up()


async def centre(house):
    built = await house(DOCUMENTS, path="/voice", levels=house.FAST, rules=RULES)
    many = Sends(per_account=1000, per_number=1000, per_prefix=1000)  # the story is told often
    factors = {
        name: replace(one, sends=replace(many, per_call=one.sends.per_call))
        for name, one in built.flow.factors.items()
    }
    built.deploy(replace(built.flow, factors=factors))
    return by_hand(built)


@dataclass(frozen=True)
class Outcome:
    """What a call came to: its record, what the IVR got of it, what the caller heard, how many messages went out."""

    events: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]
    requests: tuple[tuple[str, str, str | None], ...]
    heard: tuple[str, ...]
    messages: int


async def outcome(built, line, messages_before=0):
    await built.rig.server.guard.drain()
    entries = [one.entry for one in await built.rig.store.entries(limit=10_000)]
    return Outcome(
        tuple((one.event, one.reason, one.detail) for one in entries if one.call == line.call_sid),
        tuple((got.method, got.path, got.digits) for got in built.ivr.got if got.call == line.call_sid),
        tuple(built.says(line)),
        len(built.rig.carrier.sent) - messages_before,
    )


async def story(built, line):
    """The whole story once; what it came to."""
    before = len(built.rig.carrier.sent)
    for name in ACTS:
        await act(built, line, name)
    return await outcome(built, line, before)


def by_hand(built):
    """What webhooks leave to the sensor is put into the store when `everything` asks, not when a second is over."""
    for task in built.rig.server._tasks:
        if task.get_name() == "sensor":
            task.cancel()
    return built


async def everything(built):
    """All that a webhook could change: values (but what the server signs in its own time), record, what the IVR got, messages."""
    await built.rig.server.guard.drain()
    await built.rig.server.sensor.merge()
    rows = {name: value for name, value in (await built.rows()).items() if not name.startswith("checkpoint:")}
    return rows, await built.rig.store.head(), len(built.ivr.got), len(built.rig.carrier.sent)


async def again(line, number, *, token=None):
    """Send one request of the line again; with another idempotency token, which the provider does not sign."""
    request = line.requests[number]
    if token is not None:
        named = {"I-Twilio-Idempotency-Token": token}
        headers = tuple((name, named.get(name, value)) for name, value in request.headers)
        request = replace(request, headers=headers)
    return await line._wire.repeat(request)


# ── repeated and replayed ────────────────────────────────────────────────────────────────────────────────


async def check_replays(house):
    """After each act of a story every request so far is sent again: nothing changes, the last is answered as before."""
    built = await centre(house)
    line = built.call()
    for name in ACTS:
        await act(built, line, name)
        known = await everything(built)
        last = line.requests[-1].answer
        for token in (None, "0" * 32):
            repeated = await again(line, -1, token=token)
            assert (repeated.status, repeated.body) == (200, last.body), f"{name}: answered otherwise"
        for number in range(len(line.requests)):
            answer = await again(line, number, token=None if number % 2 else "1" * 32)
            assert answer.status == 200
        assert await everything(built) == known, f"after {name}: something changed"
        built.clock.advance(20)
    assert len(line.requests) > len(ACTS)
    built.clock.advance(1200)
    for number in range(len(line.requests)):
        await again(line, number)
    assert await everything(built) == known, "a request sent again after the end changed something"


async def test_every_request_sent_again_at_every_later_time_changes_nothing(house):
    """State, ledgers, record, messages and the IVR are as if each had been sent once."""
    await check_replays(house)


async def check_a_long_call(house):
    """A call of more requests than the guard remembers: the first ones, sent again, are as stale as the last ones."""
    built = by_hand(
        await house({"/voice": MENU, "/menu": MENU}, path="/voice", levels=house.FAST, rules=RULES)
    )
    line = await built.verify(built.call())
    for _ in range(admission.SEEN_MAX + 3):
        await line.press("1")
    known = await everything(built)
    for number in range(len(line.requests)):
        await again(line, number)
    assert await everything(built) == known, "a request that was forgotten was taken for a new one"


async def test_what_is_forgotten_is_stale_by_its_turn(house):
    """Fingerprints are kept for 32 deliveries; beyond that the turn in the link's MAC tells."""
    await check_a_long_call(house)


async def test_a_day_later_a_replay_reaches_neither_judge_nor_ivr(house):
    """When the call's state is swept, its first request begins a call anew, which asks who is calling; no more."""
    built = await centre(house)
    line = built.call()
    await story(built, line)
    built.clock.advance(25 * 3600)
    await built.rig.store.sweep(built.clock(), limit=1000)
    seen, _ = await built.rig.store.head()
    got, sent = len(built.ivr.got), len(built.rig.carrier.sent)
    for number in range(len(line.requests)):
        await again(line, number)
    await built.rig.server.guard.drain()
    assert (len(built.ivr.got), len(built.rig.carrier.sent)) == (got, sent)
    assert {event for event, _ in await built.events(after=seen)} <= {"authz_step_up", "session_ended"}


# ── late and out of order ────────────────────────────────────────────────────────────────────────────────


async def check_late_answers(house):
    """The right answer to a question that is no longer open, or of another call, is worth nothing."""
    built = await centre(house)
    line, other = built.call(), built.call("+15559990000")
    for each in (line, other):
        await act(built, each, "begin")
        await act(built, each, "account")
    late = line.waiting.action
    await line.silent()
    right = await built.right(line)
    known = await everything(built)
    for each in (line, other):
        answer = await each.send(late, {"Digits": right})
        assert "Gather" not in answer.text, "an answer to an old question was taken"
    await other.send(line.waiting.action, {"Digits": right})
    assert await everything(built) == known, "an answer to a question that is not open changed something"
    await line.press(right)
    assert built.asks(line) is None, "the open question takes the same answer"


async def test_an_answer_to_another_question_is_no_answer(house):
    """Each question has a nonce of its own, and each call its own questions."""
    await check_late_answers(house)


async def check_any_disorder(house, *, examples, shrink=True):
    """Whatever is sent again wherever in the story, one or both at once: the story comes to the same."""
    built = await centre(house)
    loop = asyncio.get_running_loop()
    plain = await story(built, built.call())
    phases = [phase for phase in Phase if shrink or phase in (Phase.explicit, Phase.generate)]

    async def live(disorder):
        built.clock.advance(3600)  # so that there are messages left to be sent to this account
        line, before = built.call(), len(built.rig.carrier.sent)
        for name, (twice, numbers) in zip(ACTS, disorder, strict=True):
            line.send_twice = twice
            await act(built, line, name)
            known = [number % len(line.requests) for number in numbers]
            await asyncio.gather(*(again(line, number) for number in known))
        assert await outcome(built, line, before) == plain

    step = st.tuples(st.booleans(), st.lists(st.integers(0, 30), max_size=4))

    @settings(max_examples=examples, phases=phases, database=None)
    @given(st.tuples(*[step] * len(ACTS)))
    def search(disorder):
        asyncio.run_coroutine_threadsafe(live(disorder), loop).result()

    await asyncio.to_thread(search)


async def test_any_disorder_comes_to_the_same_story(house):
    """A property: replays of any requests, several at once, anywhere in the story."""
    await check_any_disorder(house, examples=20 if house.kind == "memory" else 10)


# ── two at once ──────────────────────────────────────────────────────────────────────────────────────────


async def check_twice_at_once(house):
    """Every request goes out twice at the same moment: both get the same answer, and the story is the same."""
    built = await centre(house)
    plain = await story(built, built.call())
    line = built.call()
    line.send_twice = True
    doubled = await story(built, line)
    for request in line.requests:
        assert request.answer.body == request.twin.body, f"{urlsplit(request.url).path}: two answers"
    assert doubled == plain


async def test_two_at_once_are_one(house):
    """One is answered after the other, and the second as the first."""
    await check_twice_at_once(house)


async def check_two_nodes(house):
    """The same request reaches two nodes at the same moment: one does it, the other waits for its answer."""
    built = await centre(house)
    plain = await story(built, built.call())
    exchange = await house.balanced(built, await house.node(built))
    line = exchange.call(built.OWNER, built.rig.flow.numbers[0])
    line.send_twice = True
    doubled = await story(built, line)
    for request in line.requests:
        assert request.answer.body == request.twin.body, f"{urlsplit(request.url).path}: two answers"
    assert doubled == plain


async def test_two_nodes_that_get_it_at_once_are_one(house):
    """Two servers on one store (on one SQLite file: two connections, as of two processes)."""
    await check_two_nodes(house)


# ── planted faults: each must turn its check red ─────────────────────────────────────────────────────────


def with_every_delivery_fresh(patch):
    """A webhook that comes again is taken for a new one."""
    plant(patch, "admit", lambda *_: admission.Admission.FRESH)


def without_memory(patch):
    """Only the last delivery is remembered."""
    remember = admission.remember
    plant(patch, "remember", lambda *args: replace(remember(*args), seen=(), seen_without_turn=()))


def without_turns(patch):
    """The turn in a link is not looked at."""
    admit = admission.admit
    plant(patch, "admit", lambda call, print_, turn: admit(call, print_, None if turn is None else call.turn))


def without_answers_kept(patch):
    """The answer to a delivery is not kept."""
    plant(patch, "answered", lambda call, *_: call)


def with_ends_that_repeat(patch):
    """Each word of the end is a new end."""

    def ended(call, delivery, now_ms):
        if not delivery.over:
            return call, ()
        return replace(call, ended_ms=now_ms), (Entry(now_ms, "session_ended", call.sid, call.ref),)

    patch.setattr(webhook, "ended", ended)
    patch.setattr(guard, "ended", ended)


def with_any_nonce(patch):
    """An answer to whatever question is an answer to the open one."""
    first = Webhook._first_event

    async def lenient(self, *, again):
        if self._hook.nonce is not None and self._call.question is not None:
            self._hook = replace(self._hook, nonce=self._call.question.nonce)
        return await first(self, again=again)

    patch.setattr(Webhook, "_first_event", lenient)


def with_trust_in_the_idempotency_token(patch):
    """A header that the provider does not sign says whether a request is new."""
    hook = voice.Voice._hook

    def trusting(self, signed, nonce):
        made = hook(self, signed, nonce)
        token = signed.request.headers.get("I-Twilio-Idempotency-Token", "")
        return replace(made, fingerprint=made.fingerprint + token)

    patch.setattr(voice.Voice, "_hook", trusting)


def without_waiting_for_the_other_node(patch):
    """A node does again what another one is doing."""

    async def at_once(*_):
        return None

    patch.setattr(guard.Guard, "_finished_elsewhere", at_once)


def with_torn_amendments(patch):
    """The store reads, lets others run, and then writes what it worked out."""
    amend = MemoryStore.amend

    async def torn(self, keys, change):
        values = {key: await self.read(key) for key in keys}
        await asyncio.sleep(0.005)
        return await amend(self, keys, lambda _: change(values))

    patch.setattr(MemoryStore, "amend", torn)


async def any_disorder(house):
    await check_any_disorder(house, examples=20, shrink=False)


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (with_every_delivery_fresh, check_replays),
        (with_every_delivery_fresh, check_twice_at_once),
        (without_memory, check_replays),
        (without_memory, any_disorder),
        (without_turns, check_a_long_call),
        (without_answers_kept, check_replays),
        (with_ends_that_repeat, check_replays),
        (with_any_nonce, check_late_answers),
        (with_trust_in_the_idempotency_token, check_replays),
        (without_waiting_for_the_other_node, check_two_nodes),
        (with_torn_amendments, check_two_nodes),
    ],
    ids=lambda one: one.__name__,
)
async def test_a_planted_fault_turns_it_red(broken, monkeypatch, plant, check):
    """Each piece of code that keeps this promise is taken out once, and the promise's own check fails."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await check(broken)
