"""A pretend Twilio: it calls a webhook server over real HTTP and carries out the TwiML it gets back.

Laws of this file
 1. What Twilio documents decides, and nothing else: each rule below names its page. It knows nothing of
    the guard; it would drive any webhook server.
 2. Nothing sleeps. Speech, pauses and timeouts move a clock of the call's own (`Line.elapsed_s`); only
    `pace`, when given, may turn that into real waiting. Real time limits only HTTP.
 3. A line moves only when somebody acts: each act (`press`, `silent`, `hang_up`, ...) runs the documents
    until the next time a person is needed, or until the call is over. There is no background task. To lead a
    call elsewhere by REST (`lead`) is an act as well, the only one that may come while another one runs.
 4. Everything sent is kept (`Line.requests`), everything heard is kept (`Line.heard`), in order.

The documents: the verbs and their requests, https://www.twilio.com/docs/voice/twiml ; gathering keys,
https://www.twilio.com/docs/voice/twiml/gather ; dialling and whispers,
https://www.twilio.com/docs/voice/twiml/dial ; queues, https://www.twilio.com/docs/voice/twiml/enqueue ;
recording, https://www.twilio.com/docs/voice/twiml/record ; machines,
https://www.twilio.com/docs/voice/twiml/connect/conversationrelay ; what happens on failure,
https://www.twilio.com/docs/usage/security/availability-reliability . The HTTP is in `wire`, the reading of
documents in `twiml`, the events in `heard`.
"""

import asyncio
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Literal, Protocol
from urllib.parse import quote
from uuid import uuid4
from xml.etree.ElementTree import Element

import aiohttp

from ivrguard.phone import twiml
from ivrguard.phone.heard import (
    HANGS_UP,
    AgentBehaviour,
    Asked,
    Bridged,
    Connected,
    Dialled,
    Event,
    Failed,
    HungUp,
    Pairs,
    Paused,
    Person,
    Played,
    Queued,
    Recorded,
    Recording,
    Referred,
    Said,
    Script,
    Target,
    Waiting,
    Warned,
)
from ivrguard.phone.wire import HTTP_DEADLINE_S, Account, Answer, FetchError, Request, Wire

DOCUMENTS_UNASKED_MAX = 50
"""Documents run without anybody being asked anything; more is a loop, and a fault of the test."""
WAIT_ROUNDS = 2
"""How often the wait document of a queue is fetched before the line rests there."""
WORDS_PER_SECOND = 2.5
"""How fast a voice reads."""
RING_S = 4.0
APOLOGY = "We are sorry, an application error has occurred. Goodbye."

_IN_A_QUEUE = twiml.PROMPTS | {"Hangup", "Redirect", "Leave", "Gather"}
_NOT_IN_A_WHISPER = frozenset({"Dial", "Enqueue", "Refer", "Connect"})
_WITHOUT_A_LEG = frozenset({"conference", "queue"})


class LineError(RuntimeError):
    """The test asks for what a telephone cannot do: keys that nobody waits for, or documents without end."""


def _place(prefix: str, number: str) -> Pairs:
    """The four geographic parameters of a party.

    An American number has all four, a toll-free one blanks (which are sent, and signed), others have
    blanks too; a client or a SIP address has none.
    """
    if not number.startswith("+"):
        return ()
    toll_free = re.match(r"\+18(00|33|44|55|66|77|88)", number)
    if number.startswith("+1") and not toll_free:
        values = ("SAN FRANCISCO", "CA", "94105", "US")
    else:
        values = ("", "", "", "US" if toll_free else "")
    return tuple(
        zip((f"{prefix}{part}" for part in ("City", "State", "Zip", "Country")), values, strict=True)
    )


def _sid(prefix: str) -> str:
    return prefix + uuid4().hex


@dataclass(frozen=True, slots=True)
class Number:
    """A telephone number of the account, with its webhooks."""

    e164: str
    voice_url: str
    method: str = "POST"
    fallback_url: str | None = None
    status_callback: str | None = None


class Room(Protocol):
    """A conference, as the lines in it see it."""

    async def joined(self, line: "Line", target: Target) -> None:
        """The line is in it from now on, with the attributes of this `<Conference>`."""

    async def left(self, line: "Line") -> None:
        """The line is in it no longer."""


class Exchange:
    """One Twilio account: its numbers, the people who can be dialled, and the calls.

    `session`, `deadline_s`, `routes`: see `Account`, which is kept as `account` (its token may be rotated
    there). `pace`: awaited whenever the clock of a call moves, with the seconds.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        account_sid: str,
        auth_token: str,
        *,
        deadline_s: float = HTTP_DEADLINE_S,
        routes: Mapping[str, str] | None = None,
        pace: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.account = Account(session, account_sid, auth_token, deadline_s, routes or {})
        self.pace = pace
        self.agents: dict[str, AgentBehaviour] = {}
        """By the name that is dialled: number, client identity, SIP address, room or queue."""
        self.otherwise = AgentBehaviour()
        """Everybody else."""
        self.opened: Callable[[Line], None] = lambda _: None
        """Told of every leg, before anything is sent for it."""
        self.room: Callable[[Target], Room | None] = lambda _: None
        """The conference that a `<Conference>` names, where somebody keeps them (`phone/conferences.py`)."""
        self._numbers: dict[str, Number] = {}

    def number(
        self,
        e164: str,
        voice_url: str,
        method: str = "POST",
        fallback_url: str | None = None,
        status_callback: str | None = None,
    ) -> Number:
        """Configure a number of the account (again: it is replaced)."""
        self._numbers[e164] = Number(e164, voice_url, method, fallback_url, status_callback)
        return self._numbers[e164]

    def owns(self, e164: str) -> bool:
        """Whether the number is one of the account."""
        return e164 in self._numbers

    def call(
        self,
        from_: str,
        to: str,
        *,
        stir_verstat: str | None = None,
        direction: Literal["inbound", "outbound-api"] = "inbound",
        extra_params: Mapping[str, str] | None = None,
    ) -> "Line":
        """A call that has not begun: the first act on the line begins it.

        Inbound calls run the webhooks of the number dialled, outbound-api calls those of `from_`.
        `extra_params` go with every request (SipDomain, ForwardedFrom, CallerName ...).
        Raises `LookupError` when the number is not of this account.
        """
        ours = to if direction == "inbound" else from_
        if not self.owns(ours):
            raise LookupError(f"the account has no number {ours}")
        number = self._numbers[ours]
        extra = tuple((extra_params or {}).items())
        if stir_verstat is not None:
            extra += (("StirVerstat", stir_verstat),)
        return Line(
            self,
            from_=from_,
            to=to,
            direction=direction,
            first=("voice", number.method, number.voice_url),
            extra=extra,
            fallback_url=number.fallback_url,
            status=StatusTo(number.status_callback),
        )


@dataclass(frozen=True, slots=True)
class Course:
    """Where a live call is led: a URL that is asked for TwiML, or TwiML itself, in which nothing is relative."""

    url: str = ""
    method: str = "POST"
    document: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StatusTo:
    """Where the progress of a leg is told, and which of its events."""

    url: str | None
    method: str = "POST"
    events: frozenset[str] = frozenset({"completed"})


@dataclass(frozen=True, slots=True)
class _Exit:
    """What is asked for once the caller comes back from a bridge, a queue or a machine."""

    action: str | None
    method: str
    event: Pairs
    leg: "Line | None" = None
    since_s: float = 0.0
    room: Room | None = None


@dataclass(slots=True)
class _Document:
    """A document that runs: the URL that its own are relative to, and the verbs that are left."""

    base: str
    todo: deque[Element] = field(default_factory=deque)


@dataclass(slots=True)
class _Queue:
    """The queue the caller is in, with the wait document that runs there."""

    queued: Queued
    action: str | None
    method: str
    wait_method: str
    since_s: float
    rounds_left: int
    document: _Document
    sid: str = field(default_factory=lambda: _sid("QU"))


class Line:
    """One leg of a call, from the ear and the keypad of the person on it.

    `heard`: everything that happened to that ear, in order. `requests`: everything sent for this leg.
    `waiting`: what the line rests in, `None` before it begins and once it is `over`. `legs`: the legs it
    dialled. `elapsed_s`: the call's own clock. `status`: as in CallStatus. `send_twice`: every request goes
    out twice at the same moment; the answer to the first counts, the other is kept as its `twin`.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        from_: str,
        to: str,
        direction: str,
        first: tuple[str, str, str],
        extra: Pairs = (),
        fallback_url: str | None = None,
        status: StatusTo,
        parent: "Line | None" = None,
    ) -> None:
        self.exchange = exchange
        self.call_sid = _sid("CA")
        self.from_, self.to, self.direction, self.parent = from_, to, direction, parent
        self.status = "ringing" if direction == "inbound" else "in-progress"
        self.elapsed_s = 0.0
        self.heard: list[Event] = []
        self.legs: list[Line] = []
        self.waiting: Waiting | None = None
        self.over = False
        self.accepted = False
        """On a callee's leg: the whisper ran to its end, so the two are to be connected."""
        self.listener: Callable[[Event], Awaitable[str]] | None = None
        self.fallback_url = fallback_url
        self.status_to = status
        self._wire = Wire(exchange.account)
        self._first = first
        self._extra = extra
        self._moving = asyncio.Lock()
        self._led: Course | None = None
        self._times_led = 0
        self._begun = False
        self._documents_unasked = 0
        self._main = _Document(first[2])
        self._queue: _Queue | None = None
        self._exit: _Exit | None = None
        self._early = ""
        self._sequence = 0
        exchange.opened(self)

    @property
    def requests(self) -> list[Request]:
        """Everything sent for this leg, in order, each attempt and each redirect by itself."""
        return self._wire.requests

    @property
    def send_twice(self) -> bool:
        """Whether every request goes out twice at the same moment."""
        return self._wire.twice

    @send_twice.setter
    def send_twice(self, twice: bool) -> None:
        self._wire.twice = twice

    # ---- acts -------------------------------------------------------------------------------------------

    async def until_input(self) -> Asked | None:
        """Begin the call if it has not begun; the Gather that waits now, if one does."""
        await self._begin()
        return self.waiting if isinstance(self.waiting, Asked) else None

    async def press(self, keys: str) -> None:
        """Key `keys` (0-9 * # A-D) into the Gather that waits, or end the recording that runs.

        Without a finish key and short of `numDigits`, the timeout submits what there is.
        Raises `LineError` when nobody waits for keys.
        """
        await self._begin()
        if not re.fullmatch(r"[0-9*#A-D]*", keys, re.ASCII):
            raise LineError("a keypad has 0 to 9, * and # (and A to D)")
        if isinstance(self.waiting, Recording):
            await self.speak("", seconds=1, then=keys[:1])
            return
        asked = self._take_asked()
        await self._keyed(asked, keys)
        await self._go_on()

    async def speak(self, words: str, *, seconds: int = 2, then: str = "") -> None:
        """Say something: recognised by a Gather that listens for speech, kept by a recording.

        `then` is the key that ends the recording ("": silence does). A Gather for keys alone hears nothing.
        """
        await self._begin()
        if isinstance(self.waiting, Recording):
            recording, self.waiting, self._documents_unasked = self.waiting, None, 0
            await self._advance(seconds + (0 if then else recording.timeout_s))
            await self._recorded(recording, seconds, then)
        else:
            asked = self._take_asked()
            if "speech" in asked.input.split():
                await self._advance(seconds)
                await self._follow(
                    asked.method, asked.action, (("SpeechResult", words), ("Confidence", "0.95"))
                )
            else:
                await self._keyed(asked, "")
        await self._go_on()

    async def silent(self) -> None:
        """Do nothing until the Gather or the recording times out, or for one more round of a queue."""
        await self._begin()
        if isinstance(self.waiting, Recording):
            # "If Twilio receives an empty recording, it does not request the action": the next verb follows.
            await self._advance(self.waiting.timeout_s)
            self.waiting = None
        elif isinstance(self.waiting, Queued) and self._queue is not None:
            self._queue.rounds_left = 1
            self.waiting = None
        else:
            await self._keyed(self._take_asked(), "")
        self._documents_unasked = 0
        await self._go_on()

    async def hang_up(self) -> None:
        """The caller leaves. Whatever the line rested in tells its action, whose answer means nothing."""
        await self._begin()
        if self.over:
            raise LineError("the call is over already")
        await self._leave("caller", "completed")

    async def dequeued(self, agent: str = "agent") -> None:
        """An agent takes the caller out of the queue: the line rests in `Bridged`."""
        if self._queue is None:
            raise LineError("the caller is in no queue")
        self._exit = self._queue_exit("bridged")
        self._queue = None
        await self._bridge(agent)

    async def agent_hangs_up(self) -> None:
        """The other party of a bridge leaves; the caller's documents go on."""
        if self._exit is None:
            raise LineError("the caller talks to nobody")
        await self._alone()
        await self._go_on()

    async def relay_ends(
        self,
        handoff_data: str | None = None,
        *,
        session_status: Literal["ended", "failed"] = "ended",
        error_code: int = 39001,
        seconds: int = 10,
    ) -> None:
        """The machine of `<Connect>` ends: `handoff_data` as it sent it, or a failure.

        The action tells SessionId, SessionStatus, SessionDuration and HandoffData or ErrorCode. Without an
        action the next verb follows, and a failure ends the call.
        """
        if not isinstance(self.waiting, Connected):
            raise LineError("the caller talks to no machine")
        connected, self.waiting, self._documents_unasked = self.waiting, None, 0
        await self._advance(seconds)
        event: Pairs = (
            ("SessionId", _sid("VX")),
            ("SessionStatus", session_status),
            ("SessionDuration", str(seconds)),
        )
        if session_status == "failed":
            event += (("ErrorCode", str(error_code)), ("ErrorMessage", "the session failed"))
        elif handoff_data is not None:
            event += (("HandoffData", handoff_data),)
        if connected.action is None and session_status == "failed":
            await self._end("error", "failed")
        await self._come_back(_Exit(connected.action, connected.method, event))
        await self._go_on()

    async def converse(self, person: Person) -> None:
        """Let a person have the line until it is over or rests where keys mean nothing (queue, bridge)."""
        self.listener = person.hears
        await self._begin()
        while isinstance(self.waiting, Asked | Recording):
            asked = self.waiting
            keys = await person.keys(asked)
            if self.waiting is not asked:
                continue  # led elsewhere meanwhile: these keys are lost
            if keys is HANGS_UP:
                await self.hang_up()
            elif keys is None:
                await self.silent()
            else:
                await self.press(keys)

    # ---- off the path -----------------------------------------------------------------------------------

    async def repeat(self, n: int = -1) -> Answer:
        """Send the n-th request again byte for byte, signature and all; the answer is not carried out."""
        return await self._wire.repeat(self.requests[n])

    async def send(self, url: str, event: Mapping[str, str] | None = None, method: str = "POST") -> Answer:
        """A signed request of this call to any URL; the answer, of whatever status, is not carried out.

        Raises `FetchError` when there is no answer.
        """
        pairs = tuple((event or {}).items())
        try:
            return (await self._wire.fetch("test", method, url, self._standard, pairs))[1]
        except FetchError as failure:
            if failure.answer is None:
                raise
            return failure.answer

    # ---- what REST does with it -------------------------------------------------------------------------

    async def lead(self, course: Course) -> None:
        """Lead the call to another document at once; what runs is cut off, and what is under way is dropped.

        A Gather, a recording and a machine ask for no action; a queue tells its own (QueueResult `redirected`,
        `redirected-from-bridged`), whose answer means nothing. A `<Dial>` asks for no action, and the leg that it
        dialled ends, for the document that held it is gone. When that leg is led away, it goes on in its own
        document and the caller comes back from the Dial: the action has no DialCallDuration then
        (https://www.twilio.com/docs/voice/api/call-resource#update-a-call-resource).
        Inside a verb that takes no real time the verb is finished first.
        """
        self._begun = True
        self._led = course
        self._times_led += 1
        await self._go_on()

    async def break_off(self, status: str) -> None:
        """End the call with this status; as when its person hangs up, but nobody did."""
        await self._leave("document", status)
        if self.parent is not None:
            await self.parent.lost(self)

    async def lost(self, leg: "Line") -> None:
        """The leg that the caller talked to is over, or was led away."""
        await self._released(lambda exit_: exit_.leg is leg)

    async def put_out(self, room: Room) -> None:
        """Out of the conference, to the action of its `<Dial>` or the next verb."""
        await self._released(lambda exit_: exit_.room is room)

    async def _released(self, from_this: Callable[[_Exit], bool]) -> None:
        """The line comes back from this bridge, if it is in it; what runs on the line is finished first."""

        def is_in_it() -> bool:
            return self._exit is not None and from_this(self._exit)

        if not is_in_it():
            return
        async with self._moving:
            if is_in_it():
                await self._alone()
        await self._go_on()

    async def hears_aside(self, method: str, url: str) -> None:
        """The prompts of a document beside that which runs, once: hold music, an announcement."""
        try:
            document = await self._document("wait", method, url, ())
        except FetchError as failure:
            await self._tell(Failed(failure.code, failure.url))
            return
        for prompt in document.todo:
            if prompt.tag in twiml.PROMPTS | {twiml.SOUND}:
                await self._prompt(prompt, document.base)

    # ---- what the leg's parent does with it --------------------------------------------------------------

    async def whisper(self, person: Person) -> bool:
        """Run the whisper on this callee's leg; whether the two are to be connected after it."""
        await self.converse(person)
        return self.accepted

    async def ended(self, status: str) -> None:
        """The leg is over, as its parent sees it."""
        if not self.over:
            await self._end("document", status)

    async def report(self, progress: str, status: str) -> None:
        """Tell the progress of the leg to those who asked for it; the answer means nothing."""
        self.status = status
        if self.status_to.url is None or progress not in self.status_to.events:
            return
        event: Pairs = (("CallbackSource", "call-progress-events"), ("SequenceNumber", str(self._sequence)))
        self._sequence += 1
        if progress == "completed":
            event += (("CallDuration", str(ceil(self.elapsed_s))),)
        await self._notify(self.status_to.method, self.status_to.url, event)

    # ---- running documents -------------------------------------------------------------------------------

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            purpose, method, url = self._first
            await self._follow(method, url, purpose=purpose)
            await self._go_on()

    async def _go_on(self) -> None:
        """Carry out verbs until a person is needed, the whisper has ended, or the call is over."""
        async with self._moving:
            while not self.over and (self._led is not None or (self.waiting is None and not self.accepted)):
                if self._led is not None:
                    await self._turn()
                else:
                    await self._step()
            self.waiting = None if self.over else self.waiting

    async def _step(self) -> None:
        """The next verb; where there is none, what the end of a document means."""
        document = self._queue.document if self._queue else self._main
        if document.todo:
            await self._act(document.todo.popleft(), document.base)
        elif self._queue is not None:
            await self._wait_round(self._queue)
        elif self._whispers:
            self.accepted = True
        else:
            await self._end("document", "completed")

    async def _turn(self) -> None:
        """Leave what the line is in, and go where it is led."""
        assert self._led is not None
        course, self._led = self._led, None
        waiting, self.waiting, self.accepted, self._documents_unasked = self.waiting, None, False, 0
        exit_ = self._queue_exit("redirected") if self._queue is not None else self._exit
        self._queue = self._exit = None
        if isinstance(waiting, Bridged) and exit_ is not None and exit_.event[0][0] == "QueueResult":
            exit_ = replace(exit_, event=(("QueueResult", "redirected-from-bridged"), *exit_.event[1:]))
        if exit_ is not None and exit_.event[0][0] == "DialCallStatus":
            exit_ = replace(exit_, action=None)
        await self._tell_exit(exit_)
        if self.parent is not None:
            await self.parent.lost(self)
        await self._follow(course.method, course.url, document=course.document)

    async def _act(self, verb: Element, base: str) -> None:
        """One verb. What is unknown, or may not stand here, is ignored with warning 12200."""
        tag = verb.tag
        if (self._queue is not None and tag not in _IN_A_QUEUE) or (
            self._whispers and tag in _NOT_IN_A_WHISPER
        ):
            await self._tell(Warned(12200, tag))
            return
        match tag:
            case "Say" | "Play" | "Pause":
                await self._prompt(verb, base)
            case "Gather":
                await self._gather(verb, base)
            case "Redirect":
                await self._follow(twiml.method(verb), twiml.resolve(base, twiml.words(verb)))
            case "Record":
                await self._record(verb, base)
            case "Dial":
                await self._dial(verb, base)
            case "Enqueue":
                await self._enqueue(verb, base)
            case "Refer":
                await self._refer(verb, base)
            case "Connect":
                await self._connect(verb, base)
            case "Hangup":
                await self._end("document", "completed")
            case "Reject":
                refused = "busy" if verb.get("reason") == "busy" else "no-answer"
                await self._end("document", refused if self.status == "ringing" else "completed")
            case "Leave":
                await self._leave_queue()
            case "Sms":
                pass  # a message to somebody else, in the middle of the call
            case str() if tag == twiml.SOUND:
                self._pick_up()
                await self._tell(Played(base))
            case _:
                await self._tell(Warned(12200, tag))

    async def _follow(
        self,
        method: str,
        url: str,
        event: Pairs = (),
        purpose: str = "document",
        *,
        document: str | None = None,
    ) -> None:
        """Fetch a document and put it in place of the one that runs (in a queue: of the wait document).

        `document`: it is here already. One that arrives when the call was led elsewhere, or is over, is dropped.
        On failure the number's fallback URL is asked at once, with ErrorCode and ErrorUrl; without one, or
        when that fails too, an error message is played and the call ends.
        """
        self._documents_unasked += 1
        if self._documents_unasked > DOCUMENTS_UNASKED_MAX:
            raise LineError(f"more than {DOCUMENTS_UNASKED_MAX} documents without asking the caller anything")
        times_led = self._times_led
        try:
            if document is None:
                fetched = await self._document(purpose, method, url, event)
            else:
                fetched = _Document("", deque(twiml.verbs("", Answer(200, "text/xml", document.encode()))))
        except FetchError as failure:
            if self._is_elsewhere(times_led):
                return
            await self._tell(Failed(failure.code, failure.url))
            if self._queue is not None:  # the queue goes on in silence
                self._queue.rounds_left, self._queue.document = 0, _Document(url)
                return
            fallen = await self._fallback(failure)
            if fallen is None:
                await self._tell(Said(APOLOGY))
                await self._end("error", "failed" if self.status == "ringing" else "completed")
                return
            fetched = fallen
        if self._is_elsewhere(times_led):
            return
        if self._queue is not None:
            self._queue.document = fetched
        else:
            self._main = fetched

    def _is_elsewhere(self, times_led: int) -> bool:
        """Whether the call was led away since, or is over."""
        return self.over or self._times_led != times_led

    @property
    def _whispers(self) -> bool:
        """Whether this is a callee's leg that was not led away: its document is its whisper."""
        return self.parent is not None and not self._times_led

    async def _fallback(self, failure: FetchError) -> _Document | None:
        if self.fallback_url is None:
            return None
        event = (("ErrorCode", str(failure.code)), ("ErrorUrl", failure.url))
        try:
            return await self._document("fallback", "POST", self.fallback_url, event)
        except FetchError as again:
            await self._tell(Failed(again.code, again.url))
            return None

    async def _document(self, purpose: str, method: str, url: str, event: Pairs) -> _Document:
        final, answer = await self._wire.fetch(purpose, method, url, self._standard, event)
        return _Document(final, deque(twiml.verbs(final, answer)))

    async def _notify(self, method: str, url: str, event: Pairs) -> None:
        """A request whose answer means nothing."""
        try:
            await self._wire.fetch("callback", method, url, self._standard, event)
        except FetchError as failure:
            await self._tell(Warned(failure.code, failure.url))

    def _standard(self, method: str) -> Pairs:
        """The parameters that every request about this leg carries, with their older doubles."""
        pairs: Pairs = (
            ("CallSid", self.call_sid),
            ("AccountSid", self.exchange.account.account_sid),
            ("From", self.from_),
            ("To", self.to),
            ("Caller", self.from_),
            ("Called", self.to),
            ("CallStatus", self.status),
            ("ApiVersion", "2010-04-01"),
            ("Direction", self.direction),
        )
        for prefix, party in (
            ("From", self.from_),
            ("Caller", self.from_),
            ("To", self.to),
            ("Called", self.to),
        ):
            pairs += _place(prefix, party)
        pairs += self._extra
        if self.parent is not None:
            pairs += (("ParentCallSid", self.parent.call_sid),)
        if method == "POST" and self.direction == "inbound":
            # Sent only when the webhook's method is POST: URL-encoded JSON.
            token = {
                "parentCallInfoToken": f"eyJhbGciOiJFUzI1NiJ9.{self.call_sid}",
                "identityHeaderTokens": [],
            }
            pairs += (("CallToken", quote(json.dumps(token))),)
        return pairs

    # ---- verbs -------------------------------------------------------------------------------------------

    async def _tell(self, event: Event) -> str:
        """Let the person on the line hear something; the keys that he presses over it."""
        self.heard.append(event)
        return await self.listener(event) if self.listener else ""

    async def _advance(self, seconds: float) -> None:
        self.elapsed_s += seconds
        if self.exchange.pace is not None:
            await self.exchange.pace(seconds)

    def _pick_up(self) -> None:
        """Say, Play, Record, Dial, Gather and Enqueue answer a ringing call; Pause and Redirect do not."""
        if self.status == "ringing":
            self.status = "in-progress"

    async def _prompt(self, verb: Element, base: str) -> str:
        """Say, Play or Pause; the keys that were pressed over it, which cut it short."""
        match verb.tag:
            case "Pause":
                seconds = twiml.seconds(verb, "length", 1.0)
                keys = await self._tell(Paused(seconds))
            case "Say":
                self._pick_up()
                text = twiml.words(verb)
                seconds = len(text.split()) / WORDS_PER_SECOND
                keys = await self._tell(Said(text, verb.get("language", "en-US")))
            case _:
                self._pick_up()
                seconds = 2.0
                keys = await self._play(twiml.words(verb), base)
        await self._advance(0 if keys else seconds)
        return keys

    async def _play(self, reference: str, base: str) -> str:
        """Fetch the sound; one that cannot be had is a warning. Without a URL it sends tones (`digits`)."""
        if not reference:
            return ""
        url = twiml.resolve(base, reference)
        try:
            _, answer = await self._wire.fetch("media", "GET", url, lambda _: ())
        except FetchError as failure:
            await self._tell(Warned(failure.code, failure.url))
            return await self._tell(Played(url, failure.status))
        return await self._tell(Played(url, answer.status))

    async def _gather(self, verb: Element, base: str) -> None:
        self._pick_up()
        early = ""
        for child in verb:
            if child.tag not in twiml.PROMPTS:
                await self._tell(Warned(12200, f"{child.tag} in Gather"))
                continue
            early = await self._prompt(child, base)
            if early:
                break
        asked = twiml.asked(verb, base)
        early += await self._tell(asked)
        self._documents_unasked = 0
        self.waiting, self._early = asked, early
        if asked.collect(early)[2]:
            await self._keyed(self._take_asked(), "")

    def _take_asked(self) -> Asked:
        if not isinstance(self.waiting, Asked):
            where = "the call is over" if self.over else f"the line rests in {self.waiting!r}"
            raise LineError(f"nobody waits for keys or words: {where}")
        asked, self.waiting, self._documents_unasked = self.waiting, None, 0
        return asked

    async def _keyed(self, asked: Asked, keys: str) -> None:
        """Submit what was keyed, or fall through.

        No key, or a bare finish key, is no input: no webhook unless actionOnEmptyResult, and the next verb
        follows. `FinishedOnKey` and `msg` are not documented, but seen in the field.
        """
        keys, self._early = self._early + keys, ""
        if "dtmf" not in asked.input.split():
            keys = ""
        digits, finish, at_once = asked.collect(keys)
        if not at_once:
            await self._advance(asked.timeout_s)
        if digits or asked.action_on_empty:
            event = (("Digits", digits), ("FinishedOnKey", finish), ("msg", "Gather End"))
            await self._follow(asked.method, asked.action, event)

    async def _record(self, verb: Element, base: str) -> None:
        self._pick_up()
        self.waiting = Recording(
            action=twiml.absolute(base, verb, "action") or base,
            method=twiml.method(verb),
            finish_on_key=verb.get("finishOnKey", "1234567890*#"),
            timeout_s=twiml.seconds(verb, "timeout", 5.0),
            callback=twiml.absolute(base, verb, "recordingStatusCallback"),
        )
        await self._tell(self.waiting)

    async def _recorded(self, recording: Recording, seconds: int, ended_by: str) -> None:
        if ended_by != "hangup" and ended_by not in recording.finish_on_key:
            ended_by = ""
        sid = _sid("RE")
        url = (
            f"https://api.twilio.com/2010-04-01/Accounts/{self.exchange.account.account_sid}/Recordings/{sid}"
        )
        await self._tell(Recorded(url, seconds, ended_by))
        made: Pairs = (("RecordingUrl", url), ("RecordingSid", sid), ("RecordingDuration", str(seconds)))
        event = (*made, ("Digits", ended_by))
        if ended_by == "hangup":
            await self._notify(recording.method, recording.action, event)
        else:
            await self._follow(recording.method, recording.action, event)
        if recording.callback is not None:
            status = (("RecordingStatus", "completed"), ("RecordingSource", "RecordVerb"))
            await self._notify("POST", recording.callback, (*made, *status))

    async def _dial(self, verb: Element, base: str) -> None:
        """Ring the targets in turn until one is connected.

        The callee's whisper runs first; one that hangs up there leaves `completed` with DialBridged=false.
        """
        if verb.get("answerOnBridge", "false") != "true":
            self._pick_up()
        targets = tuple(twiml.target(noun, base) for noun in verb if noun.tag in twiml.NOUNS)
        number = (verb.text or "").strip()
        if number:
            targets = (Target("number", number), *targets)
        status, bridged, leg, agent = "failed", False, None, ""
        behaviour = self.exchange.otherwise
        for target in targets:
            agent = target.name
            behaviour = self.exchange.agents.get(agent, self.exchange.otherwise)
            status, bridged, leg = await self._ring(target, behaviour, verb)
            if bridged:
                break
        if self.over:  # broken off while it rang
            if leg is not None:
                await leg.ended("completed")
            return
        whispered = tuple(each.text for each in leg.heard if isinstance(each, Said)) if leg else ()
        await self._tell(Dialled(targets, status, bridged, whispered))
        event: Pairs = (("DialCallStatus", status), ("DialBridged", str(bridged).lower()))
        room = self.exchange.room(target) if bridged and leg is None else None
        exit_ = _Exit(
            twiml.absolute(base, verb, "action"), twiml.method(verb), event, leg, self.elapsed_s, room
        )
        if not bridged:
            await self._come_back(exit_)
            return
        self._pick_up()
        self._exit = exit_
        if room is not None:
            await room.joined(self, target)
            if self._exit is not exit_:
                return  # broken off meanwhile
        await self._bridge(agent)
        if behaviour.talk_s is not None:
            await self._advance(behaviour.talk_s)
            if self._exit is not exit_ or self._led is not None:
                return  # broken off or led away meanwhile
            if behaviour.leaves == "caller":
                await self.hang_up()
            else:
                await self._alone()

    async def _ring(
        self, target: Target, behaviour: AgentBehaviour, verb: Element
    ) -> tuple[str, bool, "Line | None"]:
        """Ring one target: its DialCallStatus, whether the two are connected, and its leg."""
        if target.kind in _WITHOUT_A_LEG:
            if target.wait_url is not None:  # what a conference plays until somebody joins, once
                await self.hears_aside(target.wait_method, target.wait_url)
            if behaviour.does != "answer":
                return behaviour.does, False, None
            return ("answered" if target.kind == "conference" else "completed"), True, None
        leg = Line(
            self.exchange,
            from_=verb.get("callerId", self.from_),
            to=target.address,
            direction="outbound-dial",
            first=("whisper", target.whisper_method, target.whisper_url or ""),
            status=StatusTo(target.status_callback, target.status_method, target.status_events),
            parent=self,
        )
        self.legs.append(leg)
        await leg.report("initiated", "initiated")
        await leg.report("ringing", "ringing")
        if behaviour.does != "answer":
            await self._advance(
                twiml.seconds(verb, "timeout", 30.0) if behaviour.does == "no-answer" else RING_S
            )
            await leg.ended(behaviour.does)
            return behaviour.does, False, leg
        await self._advance(RING_S)
        await leg.report("answered", "in-progress")
        accepted = True
        if target.whisper_url is not None:
            accepted = await leg.whisper(behaviour.person or Script(*behaviour.keys))
            self.elapsed_s += leg.elapsed_s  # its own clock was paced already
        return "completed", accepted, leg

    async def _bridge(self, agent: str) -> None:
        self.waiting = Bridged(agent)
        await self._tell(self.waiting)

    async def _alone(self) -> None:
        """The other party of the bridge has left."""
        assert self._exit is not None
        left, self._exit, self.waiting, self._documents_unasked = self._exit, None, None, 0
        await self._come_back(left)

    async def _come_back(self, exit_: _Exit) -> None:
        """The caller is alone again: the action if there is one, otherwise the next verb."""
        event = await self._exit_event(exit_)
        if exit_.action is not None and not self.over:
            await self._follow(exit_.method, exit_.action, event)

    async def _tell_exit(self, exit_: _Exit | None) -> None:
        """The caller has left: the action is told, and its answer means nothing."""
        if exit_ is not None:
            event = await self._exit_event(exit_)
            if exit_.action is not None:
                await self._notify(exit_.method, exit_.action, event)

    async def _exit_event(self, exit_: _Exit) -> Pairs:
        """The parameters of the action, once the other leg is over.

        DialCallSid and DialCallDuration are not sent for a conference, the latter also not for a leg led away.
        """
        if exit_.room is not None:
            await exit_.room.left(self)
        if exit_.leg is None:
            return exit_.event
        if exit_.leg._times_led:  # noqa: SLF001 - a line like this one
            return (*exit_.event, ("DialCallSid", exit_.leg.call_sid))
        seconds = ceil(self.elapsed_s - exit_.since_s)
        exit_.leg.elapsed_s += seconds
        await exit_.leg.ended("completed")
        return (*exit_.event, ("DialCallSid", exit_.leg.call_sid), ("DialCallDuration", str(seconds)))

    def _exit_of_leaving(self, waiting: Waiting | None) -> _Exit | None:
        """What is told when the caller hangs up where the line rests."""
        exit_, self._exit = self._exit, None
        if isinstance(waiting, Connected):
            event = (("SessionId", _sid("VX")), ("SessionStatus", "completed"), ("SessionDuration", "1"))
            return _Exit(waiting.action, waiting.method, event)
        return self._queue_exit("hangup") if self._queue is not None else exit_

    # ---- queues ------------------------------------------------------------------------------------------

    async def _enqueue(self, verb: Element, base: str) -> None:
        self._pick_up()
        task = verb.find("Task")
        wait_url = verb.get("waitUrl", "").strip()
        queued = Queued(
            name=(verb.text or "").strip(),
            workflow=verb.get("workflowSid", ""),
            task=twiml.words(task) if task is not None else "",
            wait_url=twiml.resolve(base, wait_url) if wait_url else "",
        )
        self._queue = _Queue(
            queued=queued,
            action=twiml.absolute(base, verb, "action"),
            method=twiml.method(verb),
            wait_method=twiml.method(verb, "waitUrlMethod"),
            since_s=self.elapsed_s,
            rounds_left=WAIT_ROUNDS,
            document=_Document(base),
        )
        await self._tell(queued)

    async def _wait_round(self, queue: _Queue) -> None:
        """The wait document again, until its rounds are used up; then the line rests in the queue."""
        if not queue.queued.wait_url or queue.rounds_left == 0:
            self.waiting = queue.queued
            return
        queue.rounds_left -= 1
        event = (
            ("QueuePosition", "1"),
            ("QueueSid", queue.sid),
            ("QueueTime", str(ceil(self.elapsed_s - queue.since_s))),
            ("AvgQueueTime", "0"),
            ("CurrentQueueSize", "1"),
            ("MaxQueueSize", "100"),
        )
        await self._follow(queue.wait_method, queue.queued.wait_url, event, purpose="wait")

    def _queue_exit(self, result: str) -> _Exit:
        assert self._queue is not None
        queue = self._queue
        waited = str(ceil(self.elapsed_s - queue.since_s))
        event = (("QueueResult", result), ("QueueSid", queue.sid), ("QueueTime", waited))
        return _Exit(queue.action, queue.method, event)

    async def _leave_queue(self) -> None:
        """`<Leave>`: out of the queue, to its action or the next verb. Outside a queue it does nothing."""
        if self._queue is not None:
            exit_ = self._queue_exit("leave")
            self._queue = None
            await self._come_back(exit_)

    # ---- handing over ------------------------------------------------------------------------------------

    async def _refer(self, verb: Element, base: str) -> None:
        """`<Refer><Sip>`: the other exchange takes the call; names of its parameters are not confirmed."""
        await self._tell(Referred(" ".join(twiml.words(noun) for noun in verb)))
        event = (("ReferCallStatus", "completed"), ("ReferSipResponseCode", "202"))
        await self._come_back(_Exit(twiml.absolute(base, verb, "action"), twiml.method(verb), event))

    async def _connect(self, verb: Element, base: str) -> None:
        self._pick_up()
        noun = next(iter(verb), verb)
        self.waiting = Connected(
            noun=noun.tag,
            url=noun.get("url", "").strip(),
            parameters=twiml.named_values(noun.findall("Parameter")),
            action=twiml.absolute(base, verb, "action"),
            method=twiml.method(verb),
        )
        await self._tell(self.waiting)

    # ---- the end -----------------------------------------------------------------------------------------

    async def _leave(self, by: Literal["caller", "document"], status: str) -> None:
        """Whatever the line rests in tells its action, whose answer means nothing."""
        waiting, self.waiting, self.status = self.waiting, None, status
        if isinstance(waiting, Recording):
            await self._recorded(waiting, 1, "hangup")
        else:
            await self._tell_exit(self._exit_of_leaving(waiting))
        await self._end(by, status)

    async def _end(self, by: Literal["caller", "document", "error"], status: str) -> None:
        self.over, self.waiting, self._queue = True, None, None
        await self._tell(HungUp(by))
        await self.report("completed", status)
