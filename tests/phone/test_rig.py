"""The whole contact centre on loopback: everything real but the provider's network and, if wanted, the clock."""

from dataclasses import replace
from pathlib import Path

import pytest

from ivrguard import flowfile
from ivrguard.core.agents import Agent
from ivrguard.core.assurance import Kind
from ivrguard.guard import sessions
from ivrguard.phone import bank
from ivrguard.phone.heard import HungUp
from ivrguard.phone.rig import (
    ACCOUNT_SID,
    ANY_NUMBER,
    ATTESTED,
    AUTH_TOKEN,
    PUBLIC_URL,
    Clock,
    dialled,
    new_keyring,
    rig,
)
from ivrguard.ports import Account, Credential, Key, Right
from ivrguard.stores.memory import MemoryStore
from ivrguard.web.app import wall_clock_ms

NOW_MS = 1_700_000_000_000
OWNER = "+15551230001"
PIN = "24681357"


@pytest.fixture(scope="module")
def flow():
    loaded = flowfile.load(Path(__file__).parents[2] / "flows" / "bank.yaml")
    assert loaded.flow is not None, loaded.faults
    return loaded.flow


def customer():
    return Account("123456789", (OWNER,), (Credential(Kind.SMS_CODE, number=OWNER),))


def test_a_clock_stands_still_until_it_is_moved():
    """A fixed clock is the test's; it may also jump back."""
    clock = Clock(NOW_MS)
    assert clock() == clock() == NOW_MS
    clock.advance(1.5)
    assert clock() == NOW_MS + 1_500
    clock.advance(-2)
    assert clock() == NOW_MS - 500


def test_a_clock_without_a_time_of_its_own_is_the_machines():
    """`advance` moves it all the same."""
    clock = Clock()
    before = wall_clock_ms()
    assert before <= clock() <= wall_clock_ms()
    clock.advance(3600)
    assert clock() >= before + 3_600_000


def test_fresh_keys_are_fresh_each_time():
    first, second = new_keyring(), new_keyring()
    assert first.derive("x", "y") != second.derive("x", "y")
    assert first.unseal(first.seal(b"held", "purpose"), "purpose") == b"held"


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (("+18005550111",), ("+18005550111",)),
        (("*",), (ANY_NUMBER,)),
        (("+18005550111", "sip:a@b.example"), ("+18005550111", "sip:a@b.example")),
    ],
)
def test_every_flow_can_be_dialled(flow, numbers, expected):
    """A flow for all numbers ("*") has no number of its own, so one is made up."""
    assert expected == dialled(replace(flow, numbers=numbers))


async def test_a_call_goes_from_the_caller_to_the_bank_and_to_an_agent(flow):
    """Guard, bank, carrier and desk are put together: PIN, code, token, receipt."""
    centre_bank, store = bank.Bank(), MemoryStore()
    async with rig(flow, centre_bank.app, store=store, clock=Clock(NOW_MS), hash_threads=1) as centre:
        assert centre.store is store
        account = await centre.enrol(customer(), pin=PIN)
        assert [one.kind for one in account.credentials] == [Kind.PIN, Kind.SMS_CODE]
        key = await centre.desk("ann", "workflow:*")
        line = centre.call(OWNER, attested=True)
        await line.until_input()
        for keys in ("123456789#", PIN, "0"):
            await line.press(keys)
        await line.press(centre.carrier.code_for(OWNER))
        token = str(line.waiting.attributes["ivrguard_token"])

        assert (await centre.redeem(key, token, "CA" + "0" * 32))[0] == 403
        status, receipt = await centre.redeem(key, token)
        assert (status, receipt["call_sid"]) == (201, line.call_sid)
        assert centre.clock() == NOW_MS
        assert {seen.params["StirVerstat"] for seen in centre_bank.seen} == {ATTESTED}
        assert all(seen.signed for seen in centre_bank.seen)


async def test_twilios_other_apis_are_there_for_the_guard(flow):
    """Verify (whose messages land with all the others), Lookup and recordings: each asked through its adapter."""
    async with rig(flow, bank.app, clock=Clock(NOW_MS)) as centre:
        world, call_sid = centre.server.world, "CA" + "0" * 32
        assert None not in {world.verifications, world.numbers, world.recordings}
        verification = await world.verifications.start(
            OWNER, again=False, intent="a wire", language="en-US", deadline_s=5
        )
        assert "for: a wire" in centre.carrier.sent[-1].body
        code = centre.carrier.code_for(OWNER)
        centre.clock.advance(599)
        assert await world.verifications.check(verification, code, deadline_s=5) == Right()

        centre.lookup.forwarded(OWNER, on=True)
        assert (await world.numbers.look_up(OWNER, ["call_forwarding"], deadline_s=5)).forwarded is True

        tape = centre.recordings.begin(call_sid)
        assert await world.recordings.running(ACCOUNT_SID, call_sid, deadline_s=5) == (tape,)
        await world.recordings.pause(ACCOUNT_SID, call_sid, (tape,), deadline_s=5)
        assert not centre.recordings.running(call_sid)
        assert (centre.verify.asked, centre.lookup.asked, centre.recordings.asked) == (3, 1, 2)


async def test_an_account_without_a_pin_can_be_enrolled_and_only_once(flow):
    """The rig shows a mistake of the test's at once."""
    async with rig(flow, bank.app) as centre:
        await centre.enrol(customer())
        assert await centre.store.read(Key("account", "123456789")) == customer()
        with pytest.raises(AssertionError, match="such an account already"):
            await centre.enrol(customer())


async def test_both_ports_answer_and_the_callers_number_is_not_attested_unless_said(flow):
    """Nothing listens where a test would not look for it."""
    async with rig(flow, bank.app) as centre:
        for url, status in ((f"{centre.ops_url}/healthz", 200), (f"{centre.guard_url}/", 403)):
            async with centre.session.post(url) if status == 403 else centre.session.get(url) as response:
                assert response.status == status
        line = centre.call()
        await line.until_input()
        assert "StirVerstat" not in dict(line.requests[0].params)
        await line.hang_up()
        assert isinstance(line.heard[-1], HungUp)


async def test_an_ivr_that_runs_already_keeps_and_a_flow_for_every_number_is_called_by_any(flow):
    """`ivr` may be a URL, `path` its first document, `to` the number; `extra` are further parts of the server."""
    own, keyring = bank.Bank(), new_keyring()
    async with rig(replace(flow, numbers=("*",)), own.app, keyring=keyring) as first:
        extra = {"public_url": "https://guard.example", "upstream_token": AUTH_TOKEN}
        async with rig(flow, first.ivr_url, path="/hours", keyring=keyring, extra=extra) as second:
            assert second.ivr_url == first.ivr_url
            assert second.keyring is keyring
            assert second.flow.upstream.url == f"{first.ivr_url}/hours"
            assert second.call(to=flow.numbers[0]).to == flow.numbers[0]
        line = first.call()
        await line.until_input()
        assert line.to == ANY_NUMBER
        assert line.waiting is not None


async def test_a_number_may_point_at_any_path_of_the_guards(flow):
    """As a second line's voice URL does."""
    async with rig(flow, bank.app) as centre:
        centre.number(flow.numbers[0], "/hours")
        line = centre.call()
        await line.until_input()
        assert line.requests[0].url == f"{PUBLIC_URL}/hours"


async def test_nothing_is_left_of_it_afterwards(flow):
    """The servers are gone when the block ends, also when it ends badly."""
    with pytest.raises(ZeroDivisionError):
        async with rig(flow, bank.app) as centre:
            raise ZeroDivisionError
    assert centre.session.closed


async def test_an_agent_can_be_logged_in_at_once(flow):
    """As he would be after the log-in: his cookie is good for whoever asks the server who he is."""
    async with rig(flow, bank.app) as centre:
        ann = Agent("agent:ann", "Ann", shown_ms=centre.clock())
        secret = await centre.session_of(ann)
        assert await sessions.agent_of(centre.server.world, secret, idle_s=60) == ann
