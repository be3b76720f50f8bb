"""
One webhook of a caller's leg, from the event to the answer: read, step, do, remember.

The laws of this file:

1. A turn is one `amend`: `core.call.step` runs inside it, on the call as it is at that moment.
2. What the world answers to a move goes back in as the next event; at most `ROUNDS_MAX` of them.
3. Every hop to the IVR is a request of its own to the rules: a redirect leads nowhere that a caller may not go.
4. The answer is sealed and kept with the call in the act that ends the webhook, so that the same webhook
   coming again is answered as before.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from ivrguard import log
from ivrguard.core import call as calls
from ivrguard.core import lockout
from ivrguard.core.assurance import Freshness, amr, reached
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call, Event, Step
from ivrguard.core.errors import Busy, Fault, NotifyFault, UpstreamFault
from ivrguard.core.flow import Flow
from ivrguard.core.rules import Target, Visit, decide
from ivrguard.guard import books
from ivrguard.guard.background import Background
from ivrguard.guard.world import Mounted, World
from ivrguard.ports import Challenge, Change, Key, Put, Reply, Request, Right
from ivrguard.telephony import document, twiml
from ivrguard.telephony.delivery import Delivery
from ivrguard.telephony.links import Inward, Kind, Links, Refused, resolve

ROUNDS_MAX = 20
"""Turns in one webhook: three, the IVR's redirects, and what it may ask for; more is a circle."""

REDIRECTS_MAX = 10
"""As many as Twilio itself follows (error 11215)."""

IVR_DEADLINE_S = 10.0
SEND_DEADLINE_S = 4.0
ASSERTION_VALID_S = 60
HOLD_S = 2
GATHER_TIMEOUT_S = 8
INSUFFICIENT = "insufficient_user_authentication"
PARAMETER = re.compile(r"""([A-Za-z_]+)\s*=\s*(?:"([^"\\]*)"|([!#$%&'*+.^`|~\w-]+))""", re.ASCII)
"""A parameter of a challenge: its value is quoted or a token, and a reader takes both (RFC 9110, 11.2)."""
MAX_AGE_DIGITS = 9
FORM = "application/x-www-form-urlencoded"

_ABOUT_THE_CALL = re.compile(
    r"AccountSid|(?:Parent)?CallSid|CallStatus|CallerName|ApiVersion|Direction|ForwardedFrom|Stir[A-Za-z]+"
    r"|Sip(?:Domain(?:Sid)?|Username|CallId|SourceIp|Header_.+)"
    r"|(?:From|To|Caller|Called)(?:City|State|Zip|Country)?"
)
"""
Parameters that come with every request about a call, whatever happened in it
(https://www.twilio.com/docs/voice/twiml#request-parameters).
"""

logger = log.get()


@dataclass(frozen=True, slots=True)
class Hook:
    """
    One webhook of a caller's leg: authenticated, well shaped, not yet looked up.

    `target`: path and query as received. `nonce`: which of the guard's own questions it answers; None when it
    asks something of the IVR.
    """

    delivery: Delivery
    method: str
    target: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...]
    fingerprint: str
    nonce: str | None = None
    content_type: str = FORM


@dataclass(frozen=True, slots=True)
class Answer:
    """TwiML for the caller's leg, and what became of the webhook (a metric's label)."""

    body: bytes = field(repr=False)
    outcome: str


class Conflict(Exception):
    """The call changed between reading and amending: look again."""


def words(mounted: Mounted | None, *names: str) -> bytes:
    """Say these prompts and hang up."""
    if mounted is None:
        return twiml.response(twiml.hangup())
    flow = mounted.flow
    said = [twiml.say(flow.prompts[name], language=flow.language, voice=flow.voice or None) for name in names]
    return twiml.response(*said, twiml.hangup())


@contextmanager
def about(url: str) -> Iterator[None]:
    """What is refused of the document at `url` says so by its path: whoever mends the IVR needs to know."""
    try:
        yield
    except Refused as refused:
        raise refused.at(urlsplit(url).path) from None


def neutral() -> bytes:
    """The answer to what is stale: nothing happens, and nothing is told."""
    return twiml.response(twiml.hangup())


def incoming(hook: Hook, inward: Inward) -> Request:
    """The provider's request as the IVR shall get it: its own URL and method, the same parameters."""
    method, params = inward.method or hook.method, hook.delivery.params
    if hook.method == "POST":
        return Request(method, inward.url, params, hook.body, hook.content_type, hook.headers)
    url, query = _parted(inward.url)
    return Request(method, url, params, query, headers=hook.headers)


def meant(inward: Inward, request: Request) -> Request:
    """`request` at the URL and with the method that the IVR wrote into its document; the same parameters."""
    return replace(request, method=inward.method or request.method, url=inward.url)


def led_on(links: Links, request: Request, reply: Reply) -> tuple[Inward, Request]:
    """
    Where a redirect of the IVR leads, as a request of its own.

    301, 302, 303 make it a GET without what the caller did
    (https://www.twilio.com/docs/usage/troubleshooting/debugging-your-application). Raises `Refused` for an origin
    that is not listed.
    """
    url = resolve(reply.url, reply.location or "")
    parts = urlsplit(links.outward(url, kind=Kind.T, method="GET", turn=0))
    inward = links.inward(f"{parts.path}?{parts.query}")
    if reply.status in {307, 308}:
        return inward, replace(request, url=inward.url)
    kept = tuple(one for one in request.params if _ABOUT_THE_CALL.fullmatch(one[0]))
    return inward, Request("GET", inward.url, kept, urlencode(kept).encode(), headers=request.headers)


def _parted(url: str) -> tuple[str, bytes]:
    """The URL that was asked by GET, and the parameters that the provider put behind its query."""
    start, _, query = url.partition("?")
    pieces = query.split("&")
    names = [piece.partition("=")[0] for piece in pieces]
    own = next((n for n, name in enumerate(names) if _ABOUT_THE_CALL.fullmatch(name)), len(pieces))
    mark = "?" if own else ""
    return f"{start}{mark}{'&'.join(pieces[:own])}", "&".join(pieces[own:]).encode()


def ended(call: Call, delivery: Delivery, now_ms: int) -> tuple[Call, tuple[Entry, ...]]:
    """The call, over if the delivery says so, and the record of that: the first one to say it makes it."""
    if not delivery.over or call.ended_ms is not None:
        return call, ()
    entry = Entry(now_ms, "session_ended", call.sid, call.ref, delivery.call_status)
    return replace(call, ended_ms=now_ms), (entry,)


class Webhook:
    """One webhook being answered. Lives no longer than that; it is where the digits are."""

    def __init__(
        self,
        world: World,
        background: Background,
        hook: Hook,
        mounted: Mounted,
        call: Call,
        *,
        inward: Inward | None,
        new: bool,
    ) -> None:
        self._world = world
        self._background = background
        self._hook = hook
        self._mounted = mounted
        self._inward = inward
        self._flow: Flow = mounted.flow
        self._call = call
        self._new = new
        self._digits = hook.delivery.digits or ""
        self._request: Request | None = None
        self._cookies: str | None = None
        self._carry: document.Carry | None = None
        self._cut_index = 0
        self._hops = 0

    async def run(self, *, again: bool) -> Answer:
        """Answer it. `again`: the call has taken it before, but the answer was lost."""
        event = await self._first_event(again=again)
        if event is None:
            return Answer(neutral(), "stale")
        taken = again
        for _ in range(ROUNDS_MAX):
            step, answer = await self._turn(event, take=not taken)
            taken = True
            if answer is not None:
                return await self._send(step, answer)
            match step.move:
                case calls.Judge() as judge:
                    event = await self._judge(judge)
                case calls.Forward(held, intent):
                    if held:
                        self._request = self._unseal_request(held)
                    event, document_ = await self._forward(intent)
                    if document_ is not None:
                        return await self._finish(event, document_, "forwarded")
                case calls.Transfer(held, leg):
                    event, document_ = await self._connect(held, leg.id)
                    return await self._finish(event, document_, "transfer")
                case _:  # pragma: no cover -- every other move has an answer of its own
                    raise AssertionError(step.move)
        raise UpstreamFault("the IVR leads in a circle")

    # ── read ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _first_event(self, *, again: bool) -> Event | None:
        call, nonce = self._call, self._world.nonce()
        if self._inward is not None:
            self._request = incoming(self._hook, self._inward)
            visit = self._visit(self._inward.path, self._request.method, self._hook.delivery.digits)
            return calls.Arrived(visit, self._seal_request(self._request), nonce)
        question, pending = call.question, call.pending
        if question is not None and question.nonce == self._hook.nonce:
            return await self._answered(question, nonce)
        if pending is not None and (again or pending.nonce == self._hook.nonce):
            return calls.Resumed(nonce)
        return None

    async def _answered(self, question: calls.Question, nonce: str) -> Event:
        if question.held and not self._digits:
            self._digits = self._unseal(question.held, "keys").decode()
        looks = calls.keyed(self._flow, self._call, self._digits)
        found = None
        if looks is calls.Keyed.FITTING and not question.factor:
            found = await self._find(self._digits.removesuffix("#"))
        return calls.Answered(looks, nonce, found)

    async def _find(self, digits: str) -> calls.Found:
        """The account that the keys name. Whether it exists or not: the same look-ups, the same shape."""
        caller = self._call.caller
        if digits == calls.KNOWN_NUMBER_KEY and calls.offers_number(self._flow, self._call):
            account, claimed = await self._world.directory.by_number(caller.value), f"number:{caller.value}"
        else:
            account, claimed = await self._world.directory.by_id(digits), digits
        every = tuple(self._flow.factors)
        name = account.id if account else claimed
        numbers = await self._world.store.read(books.trust_key(name)) or ()
        trusted = lockout.trusts(numbers, caller.value, self._world.clock())
        ref = self._world.keys.pseudonym("account", name)
        if account is None:
            return calls.Found(name, known=False, ref=ref, enrolled=every, trusted=trusted)
        kinds = {credential.kind for credential in account.credentials}
        enrolled = tuple(factor for factor in every if self._flow.factors[factor].kind in kinds)
        return calls.Found(name, known=True, ref=ref, enrolled=enrolled, trusted=trusted)

    def _visit(self, path: str, method: str, digits: str | None, transfer: Target | None = None) -> Visit:
        local = datetime.fromtimestamp(self._world.clock() / 1000, UTC).astimezone(self._mounted.zone)
        minute = local.hour * 60 + local.minute
        return Visit(path, method, self._call.dialled, local.weekday(), minute, digits, transfer)

    def holds(self, inward: Inward, request: Request) -> bool:
        """Whether the call holds now what this request needs, with no question asked."""
        visit = self._visit(inward.path, request.method, dict(request.params).get("Digits"))
        demand, _ = decide(self._flow.rules, self._flow.default, visit)
        return calls.missing(self._flow, self._call, demand, 0, self._world.clock()) == ()

    # ── step ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _turn(
        self, event: Event, *, take: bool, document_: bytes | None = None
    ) -> tuple[Step, bytes | None]:
        """One amendment: the step, and the answer if it is the webhook's last."""
        now = self._world.clock()  # one moment for choosing the keys and for deciding
        keys = self._keys(event, now)
        key, basis = books.call_key(self._call.sid), self._call

        def change(values: books.Values) -> Change[tuple[Step, bytes | None] | None]:
            stored = values[key]
            base = stored if isinstance(stored, Call) else (basis if self._new and take else None)
            if base is None or not self._still(base, basis, take=take):
                return Change(None)
            if take:
                turn = self._inward.turn if self._inward is not None else base.turn
                base = calls.remember(base, self._hook.fingerprint, turn, self._world.node, now)
            base, over = ended(base, self._hook.delivery, now)
            if self._cookies is not None:
                base = replace(base, cookies=self._cookies)
            before = books.books_of(self._flow, self._prospect(base, event), values)
            step = calls.step(self._flow, base, before, event, now)
            answer = document_ if document_ is not None else self._rendered(step)
            step = replace(step, entries=(*over, *step.entries))
            return self._change(step, before, answer, values, now)

        result = await self._world.store.amend(keys, change)
        if result is None:
            raise Conflict
        self._new = False
        self._call = result[0].call
        return result

    def _still(self, stored: Call, basis: Call, *, take: bool) -> bool:
        """Whether the call is where it was when the event was made."""
        here = (stored.turn, stored.account, stored.question, stored.pending)
        return here == (basis.turn, basis.account, basis.question, basis.pending) and (
            take or (stored.last is not None and stored.last.fingerprint == self._hook.fingerprint)
        )

    def _prospect(self, call: Call, event: Event) -> Call:
        """The call whose books this event concerns: after a claim, the one claimed."""
        if isinstance(event, calls.Answered) and event.found is not None:
            return calls.claim(self._flow, call, event.found)
        return call

    def _keys(self, event: Event, now: int) -> list[Key[object]]:
        keys: list[Key[object]] = [books.call_key(self._call.sid)]
        if isinstance(event, calls.Replied):
            return keys
        if isinstance(event, calls.Arrived):
            demand, _ = decide(self._flow.rules, self._flow.default, event.visit)
            need = calls.missing(self._flow, self._call, demand, self._call.turn, now)
            if need == ():
                return keys
        keys.extend(books.account_keys(self._flow, self._prospect(self._call, event)))
        pending = self._call.pending
        if (
            pending is not None
            and pending.what is calls.What.TRANSFER
            and not isinstance(event, calls.Arrived)
        ):
            keys.extend(books.leg_keys(self._world.keys, self._call, event.nonce))
        return keys

    def _change(
        self, step: Step, before: calls.Books, answer: bytes | None, values: books.Values, now: int
    ) -> Change[tuple[Step, bytes | None] | None]:
        call = step.call
        puts = list(books.puts_of(self._flow, call, before, step.books, now))
        if isinstance(step.move, calls.Transfer):
            minted = books.leg_puts(self._world.keys, step.move.leg, values, now)
            if minted is None:
                raise Fault("every whisper code drawn for this transfer is taken; the caller may try again")
            puts.extend(minted)
        if answer is not None:
            call = calls.answered(call, self._hook.fingerprint, self._seal(answer, "answer"))
            step = replace(step, call=call)
        puts.append(Put(books.call_key(call.sid), call, now + books.CALL_KEPT_S * 1000, call.began_ms))
        return Change((step, answer), tuple(puts), step.entries)

    # ── do ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _judge(self, move: calls.Judge) -> Event:
        """Right or wrong. An account that is locked or unknown takes the same look-up and the same work."""
        call, nonce, now = self._call, self._world.nonce(), self._world.clock()
        factor = self._flow.factors[move.factor]
        sent = move.sent
        challenge = None
        if sent is not None:
            challenge = self._challenge(sent)
        try:
            account = await self._world.directory.by_id(call.account)
            credential = account.credential(factor.kind) if account and move.allowed else None
            judge = self._world.judges[factor.kind]
            verdict = await judge.judge(credential, self._digits.removesuffix("#"), challenge, now)
        except Busy:
            return calls.Waits(self._seal(self._digits.encode(), "keys"), nonce)
        except Fault as fault:
            logger.error("judge_fault", reason=fault.reason, detail=str(fault), factor=move.factor)
            return calls.Judged(None, nonce)
        if isinstance(verdict, Right):
            return calls.Judged(True, nonce, verdict.step)
        return calls.Judged(False, nonce)

    def _challenge(self, sent: calls.Sent) -> Challenge:
        digits = self._flow.factors[sent.factor].digits
        call = self._call
        return Challenge(sent.id, call.account, call.sid, sent.intent, digits, sent.at_ms, sent.valid_s)

    async def _forward(self, intent: str) -> tuple[Event, document.Document | None]:
        """One hop to the IVR: its document, or the event that its redirect or its 401 makes."""
        assert self._request is not None
        request = self._request
        cookies = self._unseal(self._call.cookies, "cookies").decode() if self._call.cookies else ""
        reply = await self._world.ivr.fetch(
            request, assertion=self._assertion(intent, request), cookies=cookies, deadline_s=IVR_DEADLINE_S
        )
        if reply.cookies != cookies:
            self._cookies = self._seal(reply.cookies.encode(), "cookies")
        if reply.location is not None:
            return self._redirected(request, reply), None
        more = asked_for_more(reply)
        if more is not None:
            acr_values, max_age_s = more
            held = self._seal_request(request)
            return calls.AskedForMore(acr_values, max_age_s, held, self._world.nonce()), None
        if not 200 <= reply.status < 300:
            raise UpstreamFault(f"the IVR answered {reply.status} to {urlsplit(request.url).path}")
        with about(reply.url):
            read = document.read(reply.body, reply.content_type, reply.url)
        return calls.Replied(self._cut(read, 0)), read

    def _redirected(self, request: Request, reply: Reply) -> Event:
        """A redirect is a new request, to the rules as well."""
        self._hops += 1
        if self._hops > REDIRECTS_MAX:
            raise UpstreamFault(f"the IVR redirected {self._hops} times; {REDIRECTS_MAX} are followed")
        with about(reply.url):
            inward, self._request = led_on(self._mounted.links, request, reply)
        visit = self._visit(inward.path, self._request.method, dict(self._request.params).get("Digits"))
        return calls.Arrived(visit, self._seal_request(self._request), self._world.nonce())

    async def _connect(self, held: str, leg: str) -> tuple[Event, document.Document]:
        """The transfer goes on, with its token; the next protected one in the rest waits its turn."""
        base, body = json.loads(self._unseal(held, "rest"))
        read = document.read(body.encode(), "text/xml", base)
        self._carry = document.Carry(0, books.token_of(self._world.keys, leg), self._url(f"whisper/{leg}"))
        return calls.Replied(self._cut(read, 1)), read

    def _cut(self, read: document.Document, first: int) -> calls.Cut | None:
        """The first protected transfer at or after element `first`: what it wants, and the rest, sealed."""
        for site in read.transfers:
            if site.index < first:
                continue
            visits = [self._visit("", "", None, target) for target in site.targets]
            demands = tuple(decide(self._flow.rules, self._flow.default, visit)[0] for visit in visits)
            wanted = tuple(dict.fromkeys(demand for demand in demands if demand.require is not None))
            if wanted:
                self._cut_index = site.index
                rest = json.dumps([read.base, read.rest(site.index).decode()]).encode()
                queues = tuple(str(target) for target in site.targets)
                carriers = tuple(sorted(read.carriers(site.index)))
                held = self._seal(rest, "rest")
                whispers = self._whispers(read, site.index)
                return calls.Cut(wanted, held, queues, carriers, whispers, self._world.nonce())
        return None

    def _whispers(self, read: document.Document, index: int) -> tuple[tuple[str, str], ...]:
        links, turn = self._mounted.links, self._call.turn
        return tuple(
            (own.target.value, links.outward(own.url, kind=Kind.W, method=own.method, turn=turn))
            for own in read.own_whispers(index)
        )

    async def _finish(self, event: Event, read: document.Document, outcome: str) -> Answer:
        """Rewrite the IVR's document and send it out, remembered."""
        assert isinstance(event, calls.Replied)
        cut = None
        if event.cut is not None:
            cut = document.Cut(self._cut_index, self._url(event.cut.nonce))
        with about(read.base):
            written = read.write(self._mounted.links, turn=self._call.turn, cut=cut, carry=self._carry)
        _, answer = await self._turn(event, take=False, document_=written)
        assert answer is not None
        return Answer(answer, outcome)

    def _rendered(self, step: Step) -> bytes | None:
        """The guard's own words for a move, or None when the move is not the last of this webhook."""
        flow = self._flow
        match step.move:
            case calls.Ask(question, names, digits_max):
                digits = flow.factors[question.factor].digits if question.factor else 0
                said = [self._say(name, digits=str(digits)) for name in names]
                url = self._url(question.nonce)
                return twiml.response(
                    twiml.gather(said, action=url, digits_max=digits_max, timeout_s=GATHER_TIMEOUT_S)
                )
            case calls.Hold(question):
                url = self._url(question.nonce)
                return twiml.response(self._say("hold"), twiml.pause(HOLD_S), twiml.redirect(url))
            case calls.Refuse(name, _, dial):
                end = twiml.dial(dial) if dial else twiml.hangup()
                return twiml.response(self._say(name), end)
            case calls.Rest():
                return neutral()
            case _:
                return None

    def _say(self, name: str, **values: str) -> twiml.Verb:
        flow = self._flow
        text = flow.prompts[name].format(**values) if values else flow.prompts[name]
        return twiml.say(text, language=flow.language, voice=flow.voice or None)

    async def _send(self, step: Step, answer: bytes) -> Answer:
        """Messages that belong to the step, then the answer."""
        move = step.move
        outcome = type(move).__name__.lower()
        if step.warn:
            self._background.start(self._warn())
        if not isinstance(move, calls.Ask) or move.send is None or not move.for_real:
            return Answer(answer, outcome)
        if step.call.ended_ms is not None:  # nobody is there any more to key it
            return Answer(answer, outcome)
        if not step.call.proofs:  # nobody may learn from the time it takes whether there was a message
            self._background.start(self._send_code(move.send))
            return Answer(answer, outcome)
        try:
            await self._send_code(move.send)
        except NotifyFault as fault:
            logger.error("code_not_sent", reason=fault.reason, detail=str(fault))
            event = calls.Undelivered(move.send.factor, self._world.nonce())
            step, instead = await self._turn(event, take=False)
            assert instead is not None
            return await self._send(step, instead)
        return Answer(answer, outcome)

    async def _send_code(self, sent: calls.Sent) -> None:
        flow = self._flow
        account = await self._world.directory.by_id(self._call.account)
        credential = account.credential(flow.factors[sent.factor].kind) if account else None
        if credential is None or not credential.number or self._world.messenger is None:
            raise NotifyFault(
                "no messages can be sent: no sender is configured, or the account has no number"
            )
        code = self._world.codes.code(self._challenge(sent))
        intent = flow.prompts.get(f"intent.{sent.intent}", sent.intent) or flow.prompts["no_intent"]
        text = flow.prompts["sms_text"].format(code=code, intent=intent)
        await self._world.messenger.send(credential.number, text, deadline_s=SEND_DEADLINE_S)

    async def _warn(self) -> None:
        """Right first factor, wrong second: the account's owner is told (design, 5; OWASP)."""
        account = await self._world.directory.by_id(self._call.account)
        if account and account.numbers and self._world.messenger is not None:
            text = self._flow.prompts["sms_warning"]
            await self._world.messenger.send(account.numbers[0], text, deadline_s=SEND_DEADLINE_S)

    # ── remember ─────────────────────────────────────────────────────────────────────────────────────────

    def _url(self, path: str) -> str:
        return f"{self._world.issuer}/.ivrguard/call/{path}"

    def _assertion(self, intent: str, request: Request) -> str:
        call, now = self._call, self._world.clock()
        levels = reached(self._flow.levels, call.proofs, Freshness(), now)
        parts = urlsplit(request.url)
        claims: dict[str, object] = {
            "iss": self._world.issuer,
            "aud": f"{parts.scheme}://{parts.netloc}",
            "acr": levels[0] if levels else "none",
            "amr": list(amr(call.proofs, Freshness(), now)),
            "call_sid": call.sid,
            "intent": intent,
            "jti": self._world.nonce(),
            "iat": now // 1000,
            "exp": now // 1000 + ASSERTION_VALID_S,
        }
        if call.proofs:  # an account that is only claimed is nobody's identity yet
            claims["sub"] = call.account
            claims["auth_time"] = max(proof.at_ms for proof in call.proofs) // 1000
        return self._world.keys.sign(claims, typ="ivrguard-assertion+jwt")

    def _seal(self, plain: bytes, what: str) -> str:
        return self._world.keys.seal(plain, f"{what}/{self._call.sid}")

    def _unseal(self, sealed: str, what: str) -> bytes:
        return self._world.unseal(sealed, f"{what}/{self._call.sid}")

    def _seal_request(self, request: Request) -> str:
        body = request.body.decode("latin-1")
        parts = [request.method, request.url, request.params, body, request.content_type, request.headers]
        return self._seal(json.dumps(parts).encode(), "request")

    def _unseal_request(self, held: str) -> Request:
        method, url, params, body, content_type, headers = json.loads(self._unseal(held, "request"))
        return Request(
            method,
            url,
            tuple((name, value) for name, value in params),
            body.encode("latin-1"),
            content_type,
            tuple((name, value) for name, value in headers),
        )


def asked_for_more(reply: Reply) -> tuple[tuple[str, ...], int | None] | None:
    """The `acr_values` and `max_age` of an RFC 9470 challenge; None if the reply is none."""
    if reply.status != 401 or not reply.challenge:
        return None
    scheme, _, rest = reply.challenge.strip().partition(" ")
    found = {name.lower(): quoted or token for name, quoted, token in PARAMETER.findall(rest)}
    if scheme.lower() != "bearer" or found.get("error") != INSUFFICIENT:
        return None
    max_age = found.get("max_age", "")
    whole = max_age.isascii() and max_age.isdigit() and len(max_age) <= MAX_AGE_DIGITS
    return tuple(found.get("acr_values", "").split()), int(max_age) if whole else None
