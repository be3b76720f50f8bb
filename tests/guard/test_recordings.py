"""
Recordings stand still while a secret is keyed, whatever dies, fails or comes twice.

The provider is a set of recordings in this file, which knows what would be heard in each; over sockets and in Twilio's
shapes it is tried in tests/notify.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from ivrguard.core.errors import NotifyFault
from ivrguard.core.flow import PinChange, Recording
from ivrguard.core.rules import Demand
from ivrguard.directory.local import LocalDirectory
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import recordings

ACCOUNT = "123456789"
PIN = "24681357"
WRONG = "11112229"


@dataclass
class Tapes:
    """
    Recordings of one call: SID -> "in-progress", "paused" or "completed".

    `fault` is met by each request, `faults` by the requests of these names; `asked` has their names in order. `dies`:
    which one (the first is 0) is done and then takes the process with it.
    """

    now: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fault: NotifyFault | None = None
    faults: Sequence[str] = ("running", "pause", "resume")
    dies: int | None = None
    crash: type[Exception] = Exception

    def _meet(self, name: str) -> None:
        self.asked.append(name)
        if self.fault is not None and name in self.faults:
            raise self.fault

    def _die(self) -> None:
        if self.dies is not None and len(self.asked) == self.dies + 1:
            self.dies = None
            raise self.crash

    async def running(self, account_sid: str, call_sid: str, *, deadline_s: float) -> tuple[str, ...]:
        self._meet("running")
        self._die()
        return tuple(name for name, status in self.now.items() if status == "in-progress")

    async def pause(
        self, account_sid: str, call_sid: str, recordings: Sequence[str], *, deadline_s: float
    ) -> None:
        self._meet("pause")
        self.now |= dict.fromkeys(recordings, "paused")
        self._die()

    async def resume(
        self, account_sid: str, call_sid: str, recordings: Sequence[str], *, deadline_s: float
    ) -> None:
        self._meet("resume")
        self.now |= {name: "in-progress" for name in recordings if self.now[name] == "paused"}
        self._die()


@pytest.fixture
def taped(centre, crash):
    """A centre whose flow pauses recordings, with one that runs, and one that the IVR has paused for its own reasons."""
    tapes = Tapes({"RE1": "in-progress", "RE2": "paused"}, crash=crash)

    def made(recording: Recording = Recording.PAUSE, **world: object) -> Tapes:
        centre.having(recording=recording)
        for name in "ab":
            centre.node(name, **{"recordings": tapes, **world})
        return tapes

    return made


async def asked_for_pin(centre):
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    return line


async def test_they_stand_still_from_the_question_to_the_ivr(centre, taped):
    """An account number is no secret. Only what the guard paused goes on: what the IVR paused stays so."""
    tapes = taped()
    line = centre.line()
    for keys, expected in ((None, "in-progress"), (f"{ACCOUNT}#", "paused"), (WRONG, "paused")):
        await (line.dial() if keys is None else line.press(keys))
        assert tapes.now == {"RE1": expected, "RE2": "paused"}

    await line.press(PIN)

    assert line.outcome == "forwarded"
    assert tapes.now == {"RE1": "in-progress", "RE2": "paused"}
    assert (await centre.stored(line)).paused == ()


async def test_pausing_tells_nobody_of_a_code_that_the_carrier_has_not_taken(centre, taped, monkeypatch):
    """What is kept with the call before a recording is paused is no answer yet, where a code is still to be taken."""
    tapes = taped()
    line, send, found = await centre.verified(), centre.texts.send, []

    async def looking(*args: object, **named: object) -> None:
        call = await centre.stored(line)
        found.append((call.paused, call.last.answer, tapes.now["RE1"]))
        await send(*args, **named)

    monkeypatch.setattr(centre.texts, "send", looking)
    await line.press("3")

    assert line.outcome == "ask"
    assert found == [(("RE1",), "", "paused")]
    assert (await centre.stored(line)).last.answer != ""


async def test_what_begins_between_two_questions_is_paused_at_the_second(centre, taped):
    """By REST, say. Both go on afterwards."""
    tapes = taped()
    line = await asked_for_pin(centre)
    tapes.now["RE3"] = "in-progress"

    await line.press(WRONG)
    assert tapes.now == {"RE1": "paused", "RE2": "paused", "RE3": "paused"}

    await line.press(PIN)
    assert tapes.now == {"RE1": "in-progress", "RE2": "paused", "RE3": "in-progress"}


async def test_a_call_that_nobody_records_costs_one_request_a_question(centre, taped):
    """And none when the IVR goes on; a flow that says nothing of recordings costs none at all."""
    tapes = taped()
    tapes.now.clear()
    line = await asked_for_pin(centre)
    await line.press(PIN)
    assert tapes.asked == ["running"]

    centre.nodes.clear()
    taped(Recording.IGNORE)
    await centre.verified()
    assert tapes.asked == ["running"]


async def test_they_are_listed_once_in_a_webhook(centre, taped, keys):
    """A code that cannot be sent leads to a second question, for an app, in the same answer."""
    directory = LocalDirectory(centre.store.store, keys)
    account, app = await directory.find(ACCOUNT), TotpJudge(keys).enrol("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    both = replace(account, credentials=(*account.credentials, app))
    await directory.replace(both, now_ms=centre.clock(), by="test")
    tapes = taped()
    line = await centre.verified()
    del tapes.asked[:]
    centre.texts.fault = NotifyFault("down")

    await line.press("3")

    assert "authenticator app" in line.said
    assert tapes.asked.count("running") == 1


async def test_a_new_pin_is_a_secret_too(centre, taped):
    """Both times that it is keyed, and although nothing was asked for before."""

    class Pins:
        async def change(self, *_: object, now_ms: int) -> bool:
            return True

    centre.having(pin_change=PinChange("/change-pin", Demand("one_factor"), "/voice"))
    tapes = taped(pins=Pins())
    line = await centre.verified()
    assert tapes.now["RE1"] == "in-progress"

    await line.post("/change-pin")
    for keys in ("86420975", "86420975"):
        assert tapes.now["RE1"] == "paused"
        await line.press(keys)
    assert "in force" in line.said
    await line.go_on()

    assert tapes.now["RE1"] == "in-progress"


async def test_somebody_who_is_dialled_is_recorded(centre, taped):
    """A locked caller goes to a human: the guard has nothing more to ask."""
    centre.having(locks=replace(centre.flow.locks, on_locked_dial="+18005550143"))
    tapes = taped()
    for _ in range(2):
        tapes.now["RE1"] = "in-progress"
        line = await asked_for_pin(centre)
        for _ in range(3):
            await line.press(WRONG)

    assert line.verbs[-1] == "Dial"
    assert tapes.now["RE1"] == "in-progress"


async def test_a_caller_who_hangs_up_leaves_nothing_to_do(centre, taped):
    """The provider ends his recordings with the call: nothing is let go on, and nothing asked for."""
    tapes = taped()
    line = await asked_for_pin(centre)
    tapes.now["RE1"] = "completed"
    del tapes.asked[:]

    await centre.node().status(line.delivery(status="completed"))
    await line.post(line.action, "", status="completed")

    assert tapes.now["RE1"] == "completed"
    assert "pause" not in tapes.asked


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────

DOWN = NotifyFault("down", why="outage")


@pytest.mark.parametrize("name", ["running", "pause", "nobody set it up"])
@pytest.mark.parametrize(
    ("recording", "said", "ended"),
    [(Recording.PAUSE, "8 digit PIN", []), (Recording.MUST_PAUSE, "cannot take your call", ["recorded"])],
)
async def test_what_a_recording_that_runs_on_means(centre, taped, logged, name, recording, said, ended):
    """The flow's word: ask all the same, or not at all. The operator is told either way."""
    tapes = taped(recording, **({"recordings": None} if name.startswith("nobody") else {}))
    tapes.fault, tapes.faults = DOWN, (name,)

    line = await asked_for_pin(centre)

    assert said in line.said
    assert await centre.events("authz_fail") == ended
    [told] = [one for one in logged if one["log_level"] == "error"]
    why = "not_set_up" if name.startswith("nobody") else "outage"
    assert (told["event"], told["why"]) == ("recording_not_paused", why)


@pytest.mark.parametrize("recording", [Recording.PAUSE, Recording.MUST_PAUSE])
async def test_with_nothing_in_the_way_both_ask(centre, taped, logged, recording):
    tapes = taped(recording)
    line = await asked_for_pin(centre)
    assert "8 digit PIN" in line.said
    assert (tapes.now["RE1"], logged) == ("paused", [])


async def test_what_stays_paused_is_tried_again_with_the_next_document(centre, taped, logged):
    """Nobody is refused for it, as what is missing on a tape is no secret; and the call still knows it."""
    tapes = taped(Recording.MUST_PAUSE)
    line = await asked_for_pin(centre)
    tapes.fault = DOWN
    await line.press(PIN)
    assert (line.outcome, tapes.now["RE1"]) == ("forwarded", "paused")
    assert [one["event"] for one in logged if one["log_level"] == "error"] == ["recording_not_resumed"]

    tapes.fault = None
    await line.press("1")

    assert tapes.now["RE1"] == "in-progress"


async def test_an_ivr_that_fails_leaves_the_call_knowing_what_is_paused(centre, taped):
    """The caller hears an apology; Twilio's retry, or the fallback, is another chance."""
    tapes = taped()
    line = await asked_for_pin(centre)
    page = centre.ivr.pages["/voice"]
    centre.ivr.pages["/voice"] = OSError("down")
    with pytest.raises(OSError, match="down"):
        await line.press(PIN)
    assert (await centre.stored(line)).paused == ("RE1",)

    centre.ivr.pages["/voice"] = page
    await line.again()

    assert (line.outcome, tapes.now["RE1"]) == ("forwarded", "in-progress")


# ── a process that dies, and the other one ───────────────────────────────────────────────────────────────


async def lived(centre, tapes, crash, *, keys: Sequence[str | None]) -> int:
    """
    A call, each webhook of which Twilio repeats on the other node when it got no answer; how often it got none.

    Whenever a question for a secret reaches the caller, the recording stands still.
    """
    line, lost = centre.line(), 0
    for key in keys:
        try:
            await (line.dial() if key is None else line.press(key))
        except crash:
            lost += 1
            centre.store.live()
            await line.again("b")
        if "PIN" in line.said or "texted" in line.said:
            assert tapes.now["RE1"] == "paused", key
    assert "Main menu" in line.said
    return lost


CALL = (None, f"{ACCOUNT}#", WRONG, PIN)


ACTS = 8
"""What such a call does to the store."""


@pytest.mark.parametrize("late", [False, True], ids=["before the act", "after it"])
@pytest.mark.parametrize("acts", range(ACTS))
async def test_wherever_the_store_s_process_dies(centre, taped, crash, monkeypatch, acts, late):
    """At each act of the call: no secret is keyed on tape, and in the end what ran runs again, and only that."""
    monkeypatch.setattr("ivrguard.guard.UNFINISHED_POLL_S", 0.0)
    tapes = taped(Recording.MUST_PAUSE)
    centre.store.dies, centre.store.late = acts, late

    assert await lived(centre, tapes, crash, keys=CALL) == 1
    assert tapes.now == {"RE1": "in-progress", "RE2": "paused"}


async def test_those_are_all_its_acts(centre, taped, crash):
    """So the table above leaves none out."""
    tapes = taped(Recording.MUST_PAUSE)
    centre.store.acts = 0
    assert await lived(centre, tapes, crash, keys=CALL) == 0
    assert (centre.store.acts, len(tapes.asked)) == (ACTS, REQUESTS)


REQUESTS = 4


@pytest.mark.parametrize("request_", range(REQUESTS))
async def test_wherever_it_dies_between_provider_and_store(centre, taped, crash, monkeypatch, request_):
    """After each request that the provider has done: listed, paused, listed again, resumed."""
    monkeypatch.setattr("ivrguard.guard.UNFINISHED_POLL_S", 0.0)
    tapes = taped(Recording.MUST_PAUSE)
    tapes.dies = request_

    assert await lived(centre, tapes, crash, keys=CALL) == 1
    assert tapes.now == {"RE1": "in-progress", "RE2": "paused"}


async def test_a_question_goes_out_a_second_time_only_when_all_stands_still(centre, taped):
    """A repeated webhook is answered as before; a recording that began meanwhile is paused first, or the call ends."""
    tapes = taped(Recording.MUST_PAUSE)
    line = await asked_for_pin(centre)
    asked = line.body
    tapes.now["RE3"] = "in-progress"

    await line.again("b")
    assert (line.body, line.outcome, tapes.now["RE3"]) == (asked, "repeated", "paused")

    tapes.fault = DOWN
    await line.again()
    assert "cannot take your call" in line.said
    assert await centre.events("authz_fail") == ["recorded"]


async def test_what_was_not_remembered_is_not_paused(centre, taped):
    """Planted fault: pausing first and remembering afterwards would leave a tape silent after a crash."""
    tapes = taped()
    line = await asked_for_pin(centre)

    async def forgets(_: tuple[str, ...]) -> None:
        raise OSError("full")

    tapes.now["RE1"] = "in-progress"
    with pytest.raises(OSError, match="full"):
        await recordings.quieted(centre.node().world, await centre.stored(line), forgets)
    assert tapes.now["RE1"] == "in-progress"
