"""What is known of a number, from a pretend Twilio Lookup on the loopback: each package by itself, or a fault."""

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ivrguard.core.errors import NotifyFault
from ivrguard.core.lookup import Lookup as Wanted
from ivrguard.core.lookup import NumberFacts
from ivrguard.notify import lookup as ours
from ivrguard.notify.lookup import KEPT_S, TwilioLookup
from ivrguard.phone.lookup import LONG_AGO_MS, Lookup
from ivrguard.phone.rig import Clock

ACCOUNT, TOKEN = "AC" + "0" * 32, "not-the-real-token"
NUMBER = "+18005550142"
ALL = Wanted(sim_swap_s=1, forwarding=True, line_types=("mobile",)).wanted()
SWAPPED_MS = 1_700_000_000_000
HOUR_S = 3600


@pytest.fixture
def clock() -> Clock:
    return Clock(SWAPPED_MS)


@pytest.fixture
async def served(clock: Clock) -> AsyncIterator[tuple[Lookup, TwilioLookup]]:
    """The pretend API and the adapter that asks it."""
    api = Lookup(ACCOUNT, TOKEN)
    async with TestServer(api.app()) as server:
        adapter = TwilioLookup(ACCOUNT, TOKEN, clock=clock, api_url=str(server.make_url("")))
        yield api, adapter
        await adapter.close()


Served = tuple[Lookup, TwilioLookup]


async def test_the_facts_of_a_usual_number(served: Served) -> None:
    """Every package that core asks for by name."""
    api, adapter = served
    facts = await adapter.look_up(NUMBER, ALL, deadline_s=5)
    assert facts == NumberFacts(
        swapped=False,
        swapped_ms=LONG_AGO_MS,
        swapped_period_s=48 * HOUR_S,
        forwarded=False,
        line_type="mobile",
    )
    assert api.asked_for == ["sim_swap,call_forwarding,line_type_intelligence"]


async def test_only_what_is_wanted_is_asked_for(served: Served) -> None:
    """Each package is billed; what was not asked for is not known."""
    api, adapter = served
    assert await adapter.look_up(NUMBER, ["call_forwarding"], deadline_s=5) == NumberFacts(forwarded=False)
    assert api.asked_for == ["call_forwarding"]


async def test_a_sim_that_changed_hands(served: Served, clock: Clock) -> None:
    """With the carrier's date, or with its word alone that it was in the period."""
    api, adapter = served
    api.swapped(NUMBER, at_ms=SWAPPED_MS, in_period=True, period="PT15282H33M44S")
    period_s = 15282 * HOUR_S + 33 * 60 + 44
    assert await adapter.look_up(NUMBER, ["sim_swap"], deadline_s=5) == NumberFacts(
        True, SWAPPED_MS, period_s
    )
    api.swapped(NUMBER, at_ms=None, in_period=True)
    clock.advance(KEPT_S)
    assert await adapter.look_up(NUMBER, ["sim_swap"], deadline_s=5) == NumberFacts(True, None, 48 * HOUR_S)


async def test_each_package_fails_by_itself(served: Served) -> None:
    """60620: the carrier did not say. Its facts are None, those of the others stand, and it is not asked again."""
    api, adapter = served
    api.fails(NUMBER, "sim_swap", 60620)
    api.forwarded(NUMBER, on=True)
    api.line(NUMBER, "nonFixedVoip")
    facts = await adapter.look_up(NUMBER, ALL, deadline_s=5)
    assert facts == NumberFacts(forwarded=True, line_type="nonFixedVoip")
    assert api.asked == 1


async def test_what_was_said_is_not_paid_for_twice_in_a_call(served: Served, clock: Clock) -> None:
    """
    For five minutes: the same packages about the same number, also when the carrier left them incomplete. Then it is
    asked again, and after a clock that jumped back as well.
    """
    api, adapter = served
    api.fails(NUMBER, "sim_swap", 60620)
    for seconds, asked in ((0, 1), (KEPT_S - 1, 1), (1, 2), (0, 2), (-1, 3)):
        clock.advance(seconds)
        assert await adapter.look_up(NUMBER, ["sim_swap"], deadline_s=5) == NumberFacts()
        assert api.asked == asked, seconds
    for number, packages in ((NUMBER, ALL), ("+18005550143", ["sim_swap"])):
        await adapter.look_up(number, packages, deadline_s=5)
    assert api.asked == 5


async def test_a_fault_is_not_kept(served: Served) -> None:
    """The next code may go out."""
    api, adapter = served
    api.fail_next(500, 20500)
    with pytest.raises(NotifyFault):
        await adapter.look_up(NUMBER, ["call_forwarding"], deadline_s=5)
    assert await adapter.look_up(NUMBER, ["call_forwarding"], deadline_s=5) == NumberFacts(forwarded=False)


async def test_what_is_kept_is_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for first goes, and is asked for again."""
    monkeypatch.setattr(ours, "KEPT_MAX", 2)
    api, adapter = served
    numbers = [f"+1800555014{n}" for n in range(3)]
    for number in (*numbers, *reversed(numbers[1:]), numbers[0]):
        await adapter.look_up(number, ["sim_swap"], deadline_s=5)
    assert api.asked == 4
    assert len(adapter._kept) == 2


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((60606, 60620), "account"),
        ((60620, 60611), "too_many_requests"),
        ((60616, 60616), "too_many_requests"),
        ((60620, 60620), NumberFacts()),
        (([60606], "60606"), NumberFacts()),
        ((60606, None), NumberFacts(forwarded=False)),
    ],
)
async def test_the_operator_hears_of_packages_that_he_can_mend(
    served: Served, codes: tuple[object, object], expected: NumberFacts | str
) -> None:
    """If nothing could be had at all; what one package did say is worth more than the fault of another."""
    api, adapter = served
    for package, code in zip(("sim_swap", "call_forwarding"), codes, strict=True):
        if code is not None:
            api.fails(NUMBER, package, code)  # type: ignore[arg-type]  # nonsense, too
    try:
        assert await adapter.look_up(NUMBER, ["sim_swap", "call_forwarding"], deadline_s=5) == expected
    except NotifyFault as fault:
        assert fault.why == expected  # noqa: PT017 - one table for facts and faults


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (404, 20404, "invalid"),
        (401, 20003, "account"),
        (429, 20429, "too_many_requests"),
        (500, 20500, "outage"),
        (400, 60600, "undeliverable"),
    ],
)
async def test_a_refused_lookup_is_a_fault_without_the_number(
    served: Served, caplog: pytest.LogCaptureFixture, status: int, code: int, why: str
) -> None:
    """One word for the record, one sentence for the operator."""
    caplog.set_level(logging.DEBUG)
    api, adapter = served
    api.fail_next(status, code)
    with pytest.raises(NotifyFault) as fault:
        await adapter.look_up(NUMBER, ALL, deadline_s=5)
    assert fault.value.why == why
    assert str(fault.value).endswith(f" (https://www.twilio.com/docs/api/errors/{code})")
    assert [secret for secret in (NUMBER, NUMBER[1:], TOKEN) if secret in printed(caplog, fault.value)] == []


async def test_a_lost_line_and_a_slow_service_are_faults(served: Served) -> None:
    """The guard then does what the flow says about what nobody knows."""
    api, adapter = served
    for _ in range(2):  # what only reads is asked again at once
        api.drop_next()
    with pytest.raises(NotifyFault, match="was not reached"):
        await adapter.look_up(NUMBER, ALL, deadline_s=5)
    api.hold = asyncio.Event()
    with pytest.raises(NotifyFault) as fault:
        await adapter.look_up(NUMBER, ALL, deadline_s=0.05)
    assert fault.value.why == "timeout"
    api.hold.set()


async def test_only_a_number_is_asked_about(served: Served) -> None:
    """It stands in a URL: what is none is not sent at all."""
    api, adapter = served
    with pytest.raises(NotifyFault) as fault:
        await adapter.look_up("+1800/../x", ALL, deadline_s=5)
    assert (fault.value.why, api.asked) == ("invalid", 0)


SWAP = {"last_sim_swap_date": "2023-11-14T22:13:20Z", "swapped_period": "PT48H", "swapped_in_period": True}


def swap(**changes: object) -> dict[str, object]:
    return {"sim_swap": {"last_sim_swap": SWAP | changes, "error_code": None}}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (swap(), NumberFacts(True, SWAPPED_MS, 48 * HOUR_S)),
        (
            swap(last_sim_swap_date="2023-11-14T22:13:20.322Z"),
            NumberFacts(True, SWAPPED_MS + 322, 48 * HOUR_S),
        ),
        (swap(last_sim_swap_date="2023-11-14T23:13:20+01:00"), NumberFacts(True, SWAPPED_MS, 48 * HOUR_S)),
        (swap(last_sim_swap_date="2023-11-14T22:13:20"), NumberFacts(True, SWAPPED_MS, 48 * HOUR_S)),
        (swap(last_sim_swap_date="lately"), NumberFacts(True, None, 48 * HOUR_S)),
        (swap(last_sim_swap_date=5), NumberFacts(True, None, 48 * HOUR_S)),
        (swap(swapped_in_period="true"), NumberFacts(None, SWAPPED_MS, 48 * HOUR_S)),
        (swap(swapped_period="P7D"), NumberFacts(True, SWAPPED_MS, 7 * 24 * HOUR_S)),
        (swap(swapped_period="P1W"), NumberFacts(True, SWAPPED_MS, 7 * 24 * HOUR_S)),
        (swap(swapped_period="P1Y"), NumberFacts(True, SWAPPED_MS, 0)),
        (swap(swapped_period=None), NumberFacts(True, SWAPPED_MS, 0)),
        ({"sim_swap": {"last_sim_swap": SWAP, "error_code": 60620}}, NumberFacts()),
        ({"sim_swap": {"last_sim_swap": None, "error_code": None}}, NumberFacts()),
        ({"sim_swap": "yes"}, NumberFacts()),
        ({"call_forwarding": {"call_forwarding_enabled": True}}, NumberFacts(forwarded=True)),
        ({"call_forwarding": {"call_forwarding_status": "on"}}, NumberFacts()),
        ({"line_type_intelligence": {"type": "satellite"}}, NumberFacts()),
        ({"line_type_intelligence": {"type": None}}, NumberFacts()),
        ({"phone_number": "+18005550199"}, "garbled"),
        ({"phone_number": None}, "garbled"),
        ([], "garbled"),
        (None, "garbled"),
    ],
)
async def test_what_is_said_in_another_way_or_is_nonsense(said: object, expected: NumberFacts | str) -> None:
    """What cannot be read is not known; an answer about another number is none."""

    async def answers(_: web.Request) -> web.Response:
        return web.json_response({"phone_number": NUMBER} | said if isinstance(said, dict) else said)

    app = web.Application()
    app.router.add_get("/{path:.*}", answers)
    async with TestServer(app) as server:
        adapter = TwilioLookup(ACCOUNT, TOKEN, clock=lambda: 0, api_url=str(server.make_url("")))
        try:
            assert await adapter.look_up(NUMBER, ALL, deadline_s=5) == expected
        except NotifyFault as fault:
            assert fault.why == expected  # noqa: PT017 - one table for facts and faults
        await adapter.close()


async def test_a_date_without_a_zone_is_utc_wherever_the_guard_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIM that was swapped an hour ago in Tokyo's time was not swapped nine hours ago."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert ours._instant_ms("2023-11-14T22:13:20") == SWAPPED_MS
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_no_secret_shows_in_a_repr(served: Served) -> None:
    """What is printed by accident gives nothing away."""
    assert TOKEN not in repr(served[1]) + repr(vars(served[1]))


def printed(caplog: pytest.LogCaptureFixture, fault: BaseException) -> str:
    """Everything that was logged or would be printed on our side of the line; the server's own log is the carrier's."""
    lines = [each.getMessage() for each in caplog.records if each.name != "aiohttp.access"]
    return "\n".join(lines) + "".join(traceback.format_exception(fault))
