"""Codes through Twilio Verify, against a pretend one on the loopback that keeps its rules."""

import asyncio
import logging
import re
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.errors import NotifyFault
from ivrguard.notify.verify import LOCALES, TwilioVerify, locale_of
from ivrguard.phone.rest import error
from ivrguard.phone.rig import Clock
from ivrguard.phone.verify import SERVICE_SID, TEMPLATE_SID, Verify
from ivrguard.ports import Right, Verdict, Wrong

ACCOUNT, TOKEN = "AC" + "0" * 32, "not-the-real-token"
TO = "+18005550142"
NOW_MS = 1_700_000_000_000
CODE = "https://www.twilio.com/docs/api/errors"


@dataclass
class Centre:
    """The pretend Verify, the adapter, and the clock between them."""

    api: Verify
    clock: Clock
    verify: TwilioVerify

    async def start(self, *, again: bool = False, language: str = "en-US", intent: str = "a wire") -> str:
        return await self.verify.start(TO, again=again, intent=intent, language=language, deadline_s=5)

    async def check(self, verification: str | None, digits: str) -> Verdict:
        return await self.verify.check(verification, digits, deadline_s=5)

    @property
    def code(self) -> str:
        """What stands in the last message."""
        return re.findall("[0-9]{4,}", self.api.sent[-1].body)[0]

    @property
    def wrong(self) -> str:
        """A code that is not the one in the last message."""
        return "000000" if self.code != "000000" else "111111"


@pytest.fixture
async def centre() -> AsyncIterator[Centre]:
    clock = Clock(NOW_MS)
    api = Verify(ACCOUNT, TOKEN, clock)
    async with TestServer(api.app()) as server:
        url = str(server.make_url(""))
        adapter = TwilioVerify(
            ACCOUNT, TOKEN, SERVICE_SID, chance=bytes, template_sid=TEMPLATE_SID, api_url=url
        )
        yield Centre(api, clock, adapter)
        await adapter.close()


async def test_a_code_is_sent_and_judged_once(centre: Centre) -> None:
    """The right one is right, once: a verification that is approved is gone."""
    verification = await centre.start()
    assert re.fullmatch("VE[0-9a-f]{32}", verification)
    assert await centre.check(verification, centre.wrong) == Wrong()
    assert await centre.check(verification, centre.code) == Right()
    assert await centre.check(verification, centre.code) == Wrong()


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en-US", "is your code for: a wire."),
        ("es-US", "es su codigo para: a wire."),
        ("fr-FR", "is your code for: a wire."),
        ("tlh", "is your code for: a wire."),
        ("", "is your code for: a wire."),
    ],
)
async def test_the_message_says_the_intent_in_the_callers_language(
    centre: Centre, language: str, said: str
) -> None:
    """By the template; a language that it has not got is asked for without, as Twilio recommends."""
    await centre.start(language=language)
    assert said in centre.api.sent[-1].body
    assert len(centre.api.sent) == 1


async def test_without_a_template_the_service_has_words_of_its_own(centre: Centre) -> None:
    """They do not say the intent."""
    centre.verify._template_sid = ""
    await centre.start(language="es")
    assert centre.api.sent[-1].body.startswith("Tu codigo de verificacion de Example Bank es: ")


async def test_a_new_code_is_another_code_and_ends_the_one_before(centre: Centre) -> None:
    """A code belongs to one call and one intent; `again` sends the same one once more."""
    first = await centre.start()
    old = centre.code
    assert (await centre.start(again=True), centre.code) == (first, old)
    second = await centre.start()
    assert second != first
    assert await centre.check(first, old) == Wrong()
    assert await centre.check(second, centre.code) == Right()


async def test_a_pending_code_that_cannot_be_ended_is_a_fault(centre: Centre) -> None:
    """Otherwise Verify would send the code of another call."""
    await centre.start()
    centre.api.fail_next(503, 20503)
    with pytest.raises(NotifyFault, match="has a fault of its own"):
        await centre.start()
    assert len(centre.api.sent) == 1


async def test_sends_of_one_code_are_bounded_by_the_service(centre: Centre) -> None:
    """Five; the sixth is `too_many_sends`, and after ten minutes there is a new code."""
    await centre.start()
    for _ in range(4):
        await centre.start(again=True)
    with pytest.raises(NotifyFault) as fault:
        await centre.start(again=True)
    assert (fault.value.why, len(centre.api.sent)) == ("too_many_sends", 5)
    centre.clock.advance(600)
    await centre.start(again=True)
    assert len(centre.api.sent) == 6


async def test_checks_of_one_code_are_bounded_by_the_service(centre: Centre) -> None:
    """Five; the sixth is not judged, the right code included."""
    verification = await centre.start()
    assert [await centre.check(verification, centre.wrong) for _ in range(5)] == [Wrong()] * 5
    with pytest.raises(NotifyFault) as fault:
        await centre.check(verification, centre.code)
    assert (fault.value.why, str(fault.value)) == (
        "too_many_checks",
        f"the carrier has judged five guesses of this code and judges no more ({CODE}/60202)",
    )


async def test_what_has_expired_is_wrong(centre: Centre) -> None:
    """Ten minutes after it was sent there is no code, and no fault: the guess counts."""
    verification = await centre.start()
    centre.clock.advance(599)
    assert await centre.check(verification, centre.wrong) == Wrong()
    centre.clock.advance(1)
    assert await centre.check(verification, centre.code) == Wrong()


@pytest.mark.parametrize("digits", ["", "1", "123", "12345678901", "12*456", "١٢٣٤٥٦"])
async def test_what_is_no_code_is_wrong(centre: Centre, digits: str) -> None:
    """Verify refuses it as a parameter; for the caller it is a wrong answer."""
    assert await centre.check(await centre.start(), digits) == Wrong()


async def test_without_a_verification_the_same_request_is_made_about_nothing(centre: Centre) -> None:
    """Nobody learns by asking who exists: one request each way, and `Wrong`."""
    verification = await centre.start()
    before = centre.api.asked
    assert await centre.check(verification, centre.wrong) == Wrong()
    assert await centre.check(None, centre.code) == Wrong()
    assert centre.api.asked - before == 2


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (404, 20404, "account"),
        (400, 60006, "invalid"),
        (400, 60200, "invalid"),
        (400, 60201, "template"),
        (429, 60203, "too_many_sends"),
        (403, 60205, "landline"),
        (400, 60224, "template"),
        (403, 60238, "blocked"),
        (403, 60410, "prefix_blocked"),
        (403, 60412, "blocked"),
        (403, 60605, "country_not_allowed"),
        (401, 20003, "account"),
        (429, 20429, "too_many_requests"),
        (503, 20503, "outage"),
        (400, 60999, "undeliverable"),
    ],
)
async def test_a_refused_code_says_why(
    centre: Centre, caplog: pytest.LogCaptureFixture, status: int, code: int, why: str
) -> None:
    """One word for the record, one sentence for the operator, and nothing of what was asked."""
    caplog.set_level(logging.DEBUG)
    centre.api.fail_next(status, code)
    with pytest.raises(NotifyFault) as fault:
        await centre.start(again=True, language="")
    assert fault.value.why == why
    assert str(fault.value).endswith(f" ({CODE}/{code})")
    assert [secret for secret in (TO, TOKEN, "a wire") if secret in printed(caplog, fault.value)] == []


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [(429, 60202, "too_many_checks"), (503, 20503, "outage"), (401, 20003, "account")],
)
async def test_a_check_that_was_not_judged_is_a_fault(
    centre: Centre, caplog: pytest.LogCaptureFixture, status: int, code: int, why: str
) -> None:
    """And the digits are in no error and no log."""
    caplog.set_level(logging.DEBUG)
    verification = await centre.start()
    centre.api.fail_next(status, code)
    with pytest.raises(NotifyFault) as fault:
        await centre.check(verification, centre.code)
    assert fault.value.why == why
    assert [secret for secret in (TO, TOKEN, centre.code) if secret in printed(caplog, fault.value)] == []


async def test_a_lost_line_and_a_slow_service_are_faults(centre: Centre) -> None:
    """Both for a code that is sent and for one that is checked."""
    centre.api.drop_next()
    with pytest.raises(NotifyFault, match="was not reached"):
        await centre.start()
    verification = await centre.start()
    centre.api.hold = asyncio.Event()
    with pytest.raises(NotifyFault, match="did not answer within") as fault:
        await centre.verify.check(verification, centre.code, deadline_s=0.05)
    assert fault.value.why == "timeout"
    centre.api.hold.set()


async def test_only_a_number_is_asked_about(centre: Centre) -> None:
    """It stands in a URL: what is none is not sent at all."""
    with pytest.raises(NotifyFault) as fault:
        await centre.verify.start("../x", again=False, intent="", language="en", deadline_s=5)
    assert (fault.value.why, centre.api.asked) == ("invalid", 0)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (6, None),
        (4, "the Verify Service makes codes of 4 digits, and the flow asks for 6"),
    ],
)
async def test_a_service_that_does_not_fit_the_flow_is_told(
    centre: Centre, length: int, expected: str | None
) -> None:
    """Before a caller hears it."""
    centre.api.code_length = length
    assert await centre.verify.ready(6, deadline_s=5) == expected


async def test_a_service_that_is_not_there_is_told(centre: Centre) -> None:
    """Like one that cannot be asked."""
    centre.api.fail_next(404, 20404)
    told = await centre.verify.ready(6, deadline_s=5)
    assert told is not None
    assert told.startswith("the carrier knows no such Verify Service in this account")


# ── answers that no Verify should give ───────────────────────────────────────────────────────────────────

OURS, OTHER = "VE" + "a" * 32, "VE" + "b" * 32


@pytest.mark.parametrize(
    ("verification", "answer", "expected"),
    [
        pytest.param(verification, answer, expected, id=name)
        for name, verification, answer, expected in (
            ("approved", OURS, {"sid": OURS, "status": "approved", "valid": False}, Right()),
            ("another one", OURS, {"sid": OTHER, "status": "approved", "valid": True}, "garbled"),
            ("no id", OURS, {"status": "approved"}, "garbled"),
            ("any id approved", None, {"sid": OTHER, "status": "approved"}, "garbled"),
            ("nothing approved", None, {"sid": "VE" + "0" * 32, "status": "approved"}, Wrong()),
            ("valid is legacy", OURS, {"sid": OURS, "status": "pending", "valid": True}, Wrong()),
            ("canceled", OURS, {"sid": OURS, "status": "canceled"}, Wrong()),
            ("expired", OURS, {"sid": OURS, "status": "expired"}, Wrong()),
            ("deleted", OURS, {"sid": OURS, "status": "deleted"}, Wrong()),
            ("failed", OURS, {"sid": OURS, "status": "failed"}, Wrong()),
            ("used up", OURS, {"sid": OURS, "status": "max_attempts_reached"}, "too_many_checks"),
            ("odd status", OURS, {"sid": OURS, "status": "Approved"}, "garbled"),
            ("no status", OURS, {"valid": True}, "garbled"),
            ("status that is none", OURS, {"status": ["approved"]}, "garbled"),
            ("no object", OURS, [], "garbled"),
        )
    ],
)
async def test_only_an_approval_of_this_verification_is_right(
    verification: str | None, answer: object, expected: Verdict | str
) -> None:
    """By `status`, to the letter, and for the id that was asked about; a mock that approves everything lets nobody in."""

    async def answers(_: web.Request) -> web.Response:
        return web.json_response(answer, status=201)

    assert await outcome(answers, "check", verification) == expected


@pytest.mark.parametrize(
    "answer",
    [
        {"sid": OURS, "status": "canceled"},
        {"sid": "VE1", "status": "pending"},
        {"status": "pending"},
        {"sid": OURS},
        {},
    ],
)
async def test_what_was_not_begun_is_a_fault(answer: object) -> None:
    """A code that nobody can check must not be asked for."""

    async def answers(_: web.Request) -> web.Response:
        return web.json_response(answer, status=201)

    assert await outcome(answers, "start", None) == "garbled"


async def test_a_404_without_twilios_code_is_not_a_wrong_answer() -> None:
    """A proxy's page says nothing about a code."""

    async def answers(_: web.Request) -> web.Response:
        return error(404, 0, "Not Found")

    assert await outcome(answers, "check", OURS) == "undeliverable"


async def outcome(answers: object, act: str, verification: str | None) -> Verdict | str:
    """What the adapter makes of a service that answers so: a verdict, or the fault's `why`."""
    app = web.Application()
    app.router.add_post("/{path:.*}", answers)  # type: ignore[arg-type]  # a handler
    async with TestServer(app) as server:
        adapter = TwilioVerify(ACCOUNT, TOKEN, SERVICE_SID, chance=bytes, api_url=str(server.make_url("")))
        try:
            if act == "start":
                return await adapter.start(TO, again=True, intent="", language="", deadline_s=5)
            return await adapter.check(verification, "123456", deadline_s=5)
        except NotifyFault as fault:
            return fault.why
        finally:
            await adapter.close()


# ── languages ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("en", "en"),
        ("en-US", "en"),
        ("en-GB", "en-GB"),
        ("EN-gb", "en-GB"),
        ("en_GB", "en-GB"),
        ("es-US", "es"),
        ("es-419", "es"),
        ("pt-BR", "pt-BR"),
        ("pt-PT", "pt"),
        ("no", "nb"),
        ("fil-PH", "tl"),
        ("zh-TW", "zh-HK"),
        ("zh-Hant-TW", "zh-HK"),
        ("zh-Hans-CN", "zh"),
        ("tlh", None),
        ("", None),
        ("-", None),
    ],
)
def test_a_tag_finds_the_nearest_language(tag: str, expected: str | None) -> None:
    """Subtags are taken off its end until Verify has it (RFC 4647, 3.4); none: it is left to Verify."""
    assert locale_of(tag) == expected


@given(st.text(max_size=20))
def test_only_languages_of_verify_are_asked_for(tag: str) -> None:
    """Whatever an account says: one that it has not got would be a 404."""
    assert locale_of(tag) in {None, *LOCALES}


async def test_no_secret_shows_in_a_repr(centre: Centre) -> None:
    """What is printed by accident gives nothing away."""
    assert TOKEN not in repr(centre.verify) + repr(vars(centre.verify))


def printed(caplog: pytest.LogCaptureFixture, fault: BaseException) -> str:
    """Everything that was logged or would be printed on our side of the line; the server's own log is the carrier's."""
    lines = [each.getMessage() for each in caplog.records if each.name != "aiohttp.access"]
    return "\n".join(lines) + "".join(traceback.format_exception(fault))
