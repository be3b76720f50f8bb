"""
Promise 4. **A token works once**: in its own call, for its own purpose, for an agent of its own queue, before it
expires, while the caller is on the line and the account is not locked.

Five ways a token travels: a task's attributes, a client's parameter, a SIP header, a code whispered to a plain
telephone, and the CallSid itself for a plain queue. Whatever is wrong with what a desk presents, it gets one and the
same answer, and the record one entry with the reason.
"""

import asyncio
import re
from dataclasses import dataclass, replace

import pytest

from ivrguard.core import handoff
from ivrguard.core.assurance import AllOf, AnyOf
from ivrguard.core.flow import Locks
from ivrguard.core.handoff import Spoiled
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.guard import Guard, held
from ivrguard.guard import desk as desks
from ivrguard.phone.heard import Asked, Bridged, Dialled, Queued
from ivrguard.stores.memory import MemoryStore
from ivrguard.web.agents import api

APP = {"one_factor": AnyOf(("app",)), "two_factor": AllOf(("app", "code"))}
AGENTS = (Rule(Demand("one_factor", intent="agent"), transfer=Target("*", "*")),)
LOCKS = Locks(account=Lockout(failures=3, within_s=3600, lock_s=(1800,)), caller_number=None)

WAYS = {
    # how the token travels: the transfer, and its queue as rules and desks name it
    "task": (
        '<Enqueue workflowSid="WWx" action="/again"><Task>{"kind":"voice"}</Task></Enqueue>',
        "workflow:WWx",
    ),
    "parameter": ('<Dial action="/again"><Client>ada</Client></Dial>', "client:ada"),
    "sip": (
        '<Dial action="/again"><Sip>sip:desk@pbx.example?X-Reason=menu</Sip></Dial>',
        "sip:sip:desk@pbx.example",
    ),
    "whisper": ('<Dial action="/again"><Number>+18005550143</Number></Dial>', "number:+18005550143"),
    "call": ('<Enqueue action="/again">agents</Enqueue>', "enqueue:agents"),
}


def token_heard(line):
    """The token as the agent's side gets it."""
    for event in reversed(line.heard):
        match event:
            case Queued(workflow=""):
                return line.call_sid
            case Queued():
                return str(event.attributes["ivrguard_token"])
            case Dialled(targets, _, _, whispered) if whispered:
                return re.sub(r"\D", "", whispered[0].partition("code is")[2])
            case Dialled(targets):
                named = {name.lower(): value for name, value in targets[0].parameters}
                return named.get("ivrguard_token") or named["x-ivrguard-token"]
            case _:
                continue
    raise LookupError("nobody was given a token")


@dataclass
class Handed:
    """A caller who is being handed over, the token, and a desk of the right queue."""

    built: object
    line: object
    token: str
    key: str
    call_sid: str | None = None

    async def present(self):
        """What the agents' API answers: status, body, and the headers that say something."""
        body = {"token": self.token} | ({"call_sid": self.call_sid} if self.call_sid else {})
        async with self.built.rig.session.post(
            f"{self.built.rig.guard_url}/.ivrguard/agent/v1/redemptions",
            json=body,
            headers={"Authorization": f"Bearer {self.key}"},
        ) as response:
            kept = {name: value for name, value in response.headers.items() if name != "Date"}
            return response.status, await response.read(), kept


async def centre(house, way):
    """A house whose first document is a transfer of this kind."""
    document, _ = WAYS[way]
    documents = {"/voice": document, "/again": document}
    return await house(documents, path="/voice", levels=APP, rules=AGENTS, locks=LOCKS)


async def handed_over(built, way):
    """A call that proves itself and is handed over, and a desk of that queue."""
    line = await built.verify(built.call())
    assert isinstance(line.waiting, Queued | Bridged), line.heard
    key = await built.rig.desk(f"desk-{len(built.ivr.got)}", WAYS[way][1])
    return Handed(built, line, token_heard(line), key)


# ── what spoils a token: each changes what is presented, or the world around it ──────────────────────────


async def forged(handed):
    handed.token = {26: "0" * 26, 8: "13572468"}.get(len(handed.token), "CA" + "0" * 32)


async def of_no_form(handed):
    handed.token = "let-me-in-please"


async def spent(handed):
    status, _, _ = await handed.present()
    assert status == 201


async def expired(handed):
    handed.built.clock.advance(600)


async def of_another_call(handed):
    other = await handed.built.verify(handed.built.call("+15559990000"))
    handed.call_sid = other.call_sid


async def for_another_queue(handed):
    handed.key = await handed.built.rig.desk("next-door", "workflow:WWother", "enqueue:other", "client:bob")


async def of_an_ended_call(handed):
    await handed.line.hang_up()


async def of_a_locked_account(handed):
    for number in range(3):
        line = handed.built.call(f"+1555888000{number}")
        await line.until_input()
        for keys in ("123456#", "000000"):
            if isinstance(line.waiting, Asked):
                await line.press(keys)


async def superseded(handed):
    if isinstance(handed.line.waiting, Queued):
        await handed.line.dequeued()
    await handed.line.agent_hangs_up()


async def at_a_locked_desk(handed):
    own = handed.token
    for _ in range(20):
        handed.token = "0" * 26
        await handed.present()
    handed.token = own


SPOILS = {
    forged: Spoiled.FORGED,
    of_no_form: Spoiled.FORGED,
    spent: Spoiled.SPENT,
    expired: Spoiled.EXPIRED,
    of_another_call: Spoiled.OTHER_CALL,
    for_another_queue: Spoiled.OTHER_QUEUE,
    of_an_ended_call: Spoiled.ENDED,
    superseded: Spoiled.SUPERSEDED,
    at_a_locked_desk: Spoiled.DESK_LOCKED,
    of_a_locked_account: Spoiled.LOCKED,  # the last one: the account stays locked
}

STILL_GOOD = {forged, of_no_form, of_another_call, for_another_queue}
"""After these the same token is still worth something to the right desk."""


async def check_spoiled_tokens(house, way, spoils=SPOILS):
    """Each spoiled token gets the same answer, to the byte, and one audit entry that says what was wrong."""
    built = await centre(house, way)
    answers = set()
    for spoil, reason in spoils.items():
        if way == "call" and spoil is superseded:
            continue  # the CallSid names the newest hand-over of the call
        handed = await handed_over(built, way)
        own = replace(handed)
        await spoil(handed)
        seen, _ = await built.rig.store.head()
        status, body, headers = await handed.present()
        assert status == 403, f"{spoil.__name__}: answered {status}"
        answers.add((body, tuple(sorted(headers.items()))))
        events = await built.events(after=seen)
        event = "authn_token_reuse" if reason is Spoiled.SPENT else "authn_token_refused"
        assert events == [(event, reason)], f"{spoil.__name__}: on record is {events}"
        if spoil in STILL_GOOD:
            status, _, _ = await own.present()
            assert status == 201, f"{spoil.__name__}: spoiled the token for its own desk too"
    assert len(answers) == 1, f"the answers differ: {answers}"
    assert next(iter(answers))[0] == b'{"error":"invalid_token"}'


@pytest.mark.parametrize("way", WAYS)
async def test_a_spoiled_token_is_worth_nothing(house, way):
    """Ten ways to spoil a token times five ways it travels: one answer."""
    await check_spoiled_tokens(house, way)


@pytest.mark.parametrize("way", WAYS)
async def test_a_good_token_buys_one_receipt(house, way):
    """The right desk gets who is calling, what was proved, how long ago, and for what; and it is on record."""
    built = await centre(house, way)
    handed = await handed_over(built, way)
    seen, _ = await built.rig.store.head()
    built.clock.advance(7)
    status, answered = await built.rig.redeem(handed.key, handed.token.lower(), handed.line.call_sid)
    if way == "call":  # a CallSid is no token: it has one spelling
        status, answered = await built.rig.redeem(handed.key, handed.token, handed.line.call_sid)
        assert (await built.events(after=seen))[0] == ("authn_token_refused", "forged")
        seen += 1
    assert status == 201
    expected = {"account": "123456", "acr": "one_factor", "amr": ["otp"], "age_s": 7, "intent": "agent"}
    assert {name: answered[name] for name in expected} == expected
    assert answered["call_sid"] == handed.line.call_sid
    assert await built.events(after=seen) == [("authn_token_redeemed", "right")]


async def check_race(house, way):
    """Ten desks of the queue redeem one token at once, on two nodes: one of them succeeds."""
    built = await centre(house, way)
    node = await house.node(built)
    handed = await handed_over(built, way)
    keys = [await built.rig.desk(f"desk-{number}", WAYS[way][1]) for number in range(10)]
    seen, _ = await built.rig.store.head()
    answers = await asyncio.gather(
        *((built.rig, node)[number % 2].redeem(key, handed.token) for number, key in enumerate(keys))
    )
    statuses = sorted(status for status, _ in answers)
    assert statuses == [201] + [403] * 9, f"answered {statuses}"
    events = sorted(await built.events(after=seen))
    assert events == [("authn_token_redeemed", "right")] + [("authn_token_reuse", "spent")] * 9


@pytest.mark.parametrize("way", ["task", "whisper", "call"])
async def test_ten_desks_at_once_and_one_succeeds(house, way):
    """Leg, call and ledgers change in one act."""
    await check_race(house, way)


async def check_passed_on(house):
    """An agent passes the caller on: ten desks of that queue redeem at once, on two nodes, and one succeeds; no other token does."""
    built = await centre(house, "task")
    node = await house.node(built)
    handed = await handed_over(built, "task")
    keys = [await built.rig.desk(f"next-{number}", "workflow:WWnext") for number in range(10)]
    assert (await handed.present())[0] == 201
    first, last = [await passed_on(built.rig, handed) for _ in range(2)]
    seen, _ = await built.rig.store.head()
    answers = await asyncio.gather(
        built.rig.redeem(keys[0], first),
        built.rig.redeem(handed.key, last),
        *((built.rig, node)[number % 2].redeem(key, last) for number, key in enumerate(keys)),
    )
    statuses = sorted(status for status, _ in answers)
    assert statuses == [201] + [403] * 11, f"answered {statuses}"
    reasons = sorted(reason for _, reason in await built.events(after=seen))
    assert reasons == ["other_queue", "right", *["spent"] * 9, "superseded"]
    assert await passed_on(built.rig, handed) is None, "who passed him on passes him on again"
    url = f"{built.rig.guard_url}/.ivrguard/agent/v1/calls/{handed.line.call_sid}"
    async with built.rig.session.get(url, headers={"Authorization": f"Bearer {handed.key}"}) as response:
        assert response.status == 404, "who passed him on sees him still"


async def passed_on(rig, handed):
    """The token of a passing on by the desk that holds the caller; None: it does not."""
    async with rig.session.post(
        f"{rig.guard_url}/.ivrguard/agent/v1/calls/{handed.line.call_sid}/transfers",
        json={"queue": "workflow:WWnext"},
        headers={"Authorization": f"Bearer {handed.key}"},
    ) as response:
        return (await response.json()).get("token")


async def test_a_caller_who_is_passed_on_is_in_one_agents_hands(house):
    """A new token for the next queue, once; the old hand-over ends with it."""
    await check_passed_on(house)


async def test_an_unknown_or_revoked_desk_gets_nothing(house):
    """A key that was never given, or was taken back: the same 401, and the token is still good."""
    built = await centre(house, "task")
    handed = await handed_over(built, "task")
    own = replace(handed)
    answers = set()
    handed.key = await built.rig.desk("former", WAYS["task"][1])
    assert await desks.revoke(built.rig.store, "former", now_ms=built.clock()) == 1
    seen, _ = await built.rig.store.head()
    for key in (handed.key, "a-key-of-nobody", ""):
        handed.key = key
        status, body, _ = await handed.present()
        answers.add((status, body))
    assert answers == {(401, b'{"error":"invalid_client"}')}
    assert await built.events(after=seen) == []
    status, _, _ = await own.present()
    assert status == 201


# ── who hears a whispered code ───────────────────────────────────────────────────────────────────────────


async def check_ears(house):
    """The code is heard on the agent's leg, before the two are joined, until it is redeemed; and nowhere else."""
    built = await centre(house, "whisper")
    handed = await handed_over(built, "whisper")
    other = await handed_over(built, "whisper")
    spelled = " ".join(handed.token)
    leg = handed.line.legs[0]
    url = next(request.url for request in leg.requests if "/call/whisper/" in request.url)
    assert spelled not in " ".join(built.says(handed.line)), "the caller heard the code"
    for who, ears in {
        "the caller's leg": handed.line,
        "another caller's leg": other.line,
        "the agent's leg of another call": other.line.legs[0],
    }.items():
        assert spelled not in (await ears.send(url)).text, f"{who} was told the code"
    assert spelled in (await leg.send(url)).text
    status, _, _ = await handed.present()
    assert status == 201
    assert spelled not in (await leg.send(url)).text, "a code that was redeemed is told again"


async def test_a_whispered_code_is_for_the_agents_ears(house):
    """The guard's whisper answers to a leg of that very call only."""
    await check_ears(house)


# ── planted faults: each must turn its check red ─────────────────────────────────────────────────────────


def skips(reason):
    """`_spoiled` does not look at one of the reasons (and finds the others as before)."""

    def plant(patch):
        spoiled = handoff._spoiled

        def blind(leg, holder, desk, call_sid, account_locked, desk_locked, now_ms):
            found = spoiled(leg, holder, desk, call_sid, account_locked, desk_locked, now_ms)
            return None if found is reason else found

        patch.setattr(handoff, "_spoiled", blind)

    plant.__name__ = f"skips_{reason}"
    return plant


def with_answers_that_differ(patch):
    """The API tells a desk which of its tries this was."""
    written, told = api.written, []

    def telling(answer):
        told.append(answer.status)
        return written(replace(answer, headers={"X-Try": str(len(told))}) if answer.status == 403 else answer)

    patch.setattr(api, "written", telling)


def without_record(patch):
    """Nothing about redemptions goes on record."""
    amend = MemoryStore.amend

    async def silent(self, keys, change):
        about_a_desk = any(key.id.startswith("desk/") for key in keys)
        quiet = lambda values: replace(change(values), entries=())  # noqa: E731 -- one line beside its use
        return await amend(self, keys, quiet if about_a_desk else change)

    patch.setattr(MemoryStore, "amend", silent)


def with_torn_amendments(patch):
    """The store reads, lets others run, and then writes what it worked out."""
    amend = MemoryStore.amend

    async def torn(self, keys, change):
        values = {key: await self.read(key) for key in keys}
        await asyncio.sleep(0.002)
        return await amend(self, keys, lambda _: change(values))

    patch.setattr(MemoryStore, "amend", torn)


def with_a_call_in_two_hands(patch):
    """Who passed a caller on holds him for ever."""
    patch.setattr(held, "in_hands", lambda _: 0)


def with_whispers_for_any_ear(patch):
    """The whisper does not look at whose leg asks."""
    whisper = Guard.whisper

    async def told(self, leg_id, delivery, *more):
        leg = await self.world.store.read(desks.books.leg_key(leg_id))
        return await whisper(self, leg_id, replace(delivery, parent_call_sid=leg.call), *more)

    patch.setattr(Guard, "whisper", told)


def one(spoil):
    """The check for one way to spoil a token."""

    async def check(house):
        await check_spoiled_tokens(house, "task", {spoil: SPOILS[spoil]})

    check.__name__ = spoil.__name__
    return check


async def two_answers(house):
    await check_spoiled_tokens(house, "task", {forged: Spoiled.FORGED, expired: Spoiled.EXPIRED})


async def race(house):
    await check_race(house, "task")


@pytest.mark.parametrize(
    ("plant", "check"),
    [
        (skips(Spoiled.SPENT), one(spent)),
        (skips(Spoiled.SPENT), race),
        (skips(Spoiled.SPENT), check_passed_on),
        (with_a_call_in_two_hands, check_passed_on),
        (skips(Spoiled.EXPIRED), one(expired)),
        (skips(Spoiled.OTHER_CALL), one(of_another_call)),
        (skips(Spoiled.OTHER_QUEUE), one(for_another_queue)),
        (skips(Spoiled.ENDED), one(of_an_ended_call)),
        (skips(Spoiled.SUPERSEDED), one(superseded)),
        (skips(Spoiled.LOCKED), one(of_a_locked_account)),
        (skips(Spoiled.DESK_LOCKED), one(at_a_locked_desk)),
        (with_answers_that_differ, two_answers),
        (without_record, one(forged)),
        (with_torn_amendments, race),
        (with_whispers_for_any_ear, check_ears),
    ],
    ids=lambda one: one.__name__,
)
async def test_a_planted_fault_turns_it_red(broken, monkeypatch, plant, check):
    """Each piece of code that keeps this promise is taken out once, and the promise's own check fails."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await check(broken)
