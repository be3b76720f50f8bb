"""
What a webhook says: the bytes of a form in, checked values out.

The signature joins names and values with nothing between them, folds repeated equal pairs into one, and
carries neither time nor nonce (https://www.twilio.com/docs/usage/security). So one signature fits several
bodies: `Digits=1234` and `Digits1=234` sign alike. The law of this file, which starts where the signature
ends:

1. Each parameter that the guard acts on stands at most once, the required ones exactly once, each in a form of
   its own, in ASCII where it is a code.
2. A name or a value that holds another parameter run together with it is refused.
3. A parameter that is not known is ignored and passed on: Twilio adds new ones without notice.
4. No `Digits` is no answer. It is never the right one.
5. All parameters, blank ones too, keep their order and every character, for the IVR behind the guard.
6. A reason for refusal is one of `REASONS`: never a value, so it may be logged and may label a metric.

Names and values: https://www.twilio.com/docs/voice/twiml#request-parameters , and for the events the pages of
the verbs under https://www.twilio.com/docs/voice/twiml .
"""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain
from urllib.parse import unquote_to_bytes

from ivrguard.core.caller import Address, AddressKind, address_of, attestation_notes, attested_a

BODY_BYTES_MAX = 64 * 1024
PARAMS_MAX = 200
DIGITS_KEYS_MAX = 256
ADDRESS_CHARS_MAX = 512

Params = tuple[tuple[str, str], ...]
"""Name and value of each parameter in the order received, decoded."""

_CALL_SID = r"CA[0-9a-f]{32}"
_STATUSES = "queued|initiated|ringing|in-progress|completed|busy|failed|no-answer|canceled"
_OVER = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
_KEYS = r"[0-9A-D*#]"
_ADDRESS = rf"[^\x00-\x1f\x7f]{{0,{ADDRESS_CHARS_MAX}}}"

# What the guard acts on: name, label, required, form. `hangup` in Digits is the word of <Record> for a caller
# who hung up. From and To are free text to Twilio (`core.caller.address_of` places them) and may be blank (a
# client that dials an application). A blank ParentCallSid is none.
_ACTED_ON = tuple(
    (name, label, required, re.compile(form))
    for name, label, required, form in (
        ("AccountSid", "account_sid", True, r"AC[0-9a-f]{32}"),
        ("CallSid", "call_sid", True, _CALL_SID),
        ("ParentCallSid", "parent_call_sid", False, rf"(?:{_CALL_SID})?"),
        ("From", "from", True, _ADDRESS),
        ("To", "to", True, _ADDRESS),
        ("Direction", "direction", True, r"inbound|outbound-api|outbound-dial"),
        ("CallStatus", "call_status", True, _STATUSES),
        ("Digits", "digits", False, rf"{_KEYS}{{0,{DIGITS_KEYS_MAX}}}|hangup"),
        ("StirVerstat", "stir_verstat", False, r"[A-Za-z-]{0,64}"),
        ("ApiVersion", "api_version", False, r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
    )
)

REASONS = frozenset(
    {
        *("form.long", "form.many", "form.encoding"),
        *("parameter.nameless", "parameter.shifted", "account_sid.foreign"),
        *(f"{label}.shape" for _, label, _, _ in _ACTED_ON),
        *(f"{label}.twice" for _, label, _, _ in _ACTED_ON),
        *(f"{label}.missing" for _, label, required, _ in _ACTED_ON if required),
    }
)
"""Every reason that `Malformed` can carry: few, constant, and free of values."""

# Names that Twilio documents for voice webhooks. Used only to see that nothing has run together.
_DOCUMENTED = frozenset(
    """
    AccountSid ApiVersion CallSid CallStatus CallToken CallerName Called Caller Direction Digits ForwardedFrom
    From ParentCallSid To FromCity FromState FromZip FromCountry ToCity ToState ToZip ToCountry CallerCity
    CallerState CallerZip CallerCountry CalledCity CalledState CalledZip CalledCountry
    StirVerstat StirPassportToken StirStatus SipDomain SipDomainSid SipUsername SipCallId SipSourceIp
    SipResponseCode FinishedOnKey SpeechResult Confidence UnstableSpeechResult Language
    DialCallStatus DialCallSid DialCallDuration DialBridged DialSipCallId DialSipResponseCode
    ReferTransferTarget ReferCallStatus ReferSipResponseCode NotifySipResponseCode
    QueueResult QueueSid QueueTime QueuePosition AvgQueueTime CurrentQueueSize MaxQueueSize
    RecordingUrl RecordingDuration RecordingSid RecordingStatus RecordingChannels RecordingStartTime
    RecordingSource CallDuration Duration Timestamp CallbackSource SequenceNumber AnsweredBy
    MachineDetectionDuration ErrorCode ErrorUrl SessionId SessionStatus SessionDuration HandoffData
    """.split()  # noqa: SIM905 - eighty quoted names, one a line, would be harder to read
)

# A name acted on, run together with a value of its own: `Digits1=234`, `Digit=s1234`, `CallSidCA0123...=`.
_SHIFTED = re.compile(
    rf"(?:AccountSidAC[0-9a-f]{{32}}|(?:Parent)?CallSid{_CALL_SID}|CallStatus(?:{_STATUSES})"
    r"|Direction(?:inbound|outbound-api|outbound-dial)|ApiVersion[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|StirVerstat(?:NULL|(?:No-)?TN-[A-Za-z-]+)|(?:From|To)(?:\+[0-9]{3,15}|sips?:.+|client:.+)"
    rf"|Digits(?:{_KEYS}*|hangup))"
)
# The two that may be absent and matter, run together with what stands before them: `CallerZip=94103Digits1234`.
# Twilio sorts by name before it joins, so the text that was signed between two required names shows them, however
# it is cut into parameters now. Digits stands right before Direction.
_SWALLOWED = (
    ("Digits", re.compile(rf"Digits(?:{_KEYS}+|hangup)\Z"), "CallStatus", "Direction"),
    ("ParentCallSid", re.compile(rf"ParentCallSid{_CALL_SID}"), "From", "To"),
)


class Malformed(Exception):
    """A webhook that is not of the shape that Twilio's have. `reason` is one of `REASONS`, never a value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    One webhook of one leg, as far as the guard acts on it. Made by `read` from checked parameters.

    `digits`: None without the parameter, "" when it is blank; else keys `0-9 A-D * #` without the finish key,
    or the word `hangup`. `finished_on_key`: the key that ended a `<Gather>`, when the provider says it
    (undocumented). `params`: all parameters as received, for the IVR. Numbers and keys stay out of repr.
    """

    call_sid: str
    account_sid: str
    parent_call_sid: str | None
    from_: str = field(repr=False)
    to: str = field(repr=False)
    direction: str
    call_status: str
    digits: str | None = field(repr=False)
    finished_on_key: str | None = field(repr=False)
    stir_verstat: str | None
    params: Params = field(repr=False)

    @property
    def caller(self) -> Address:
        """The person on this leg: `From` when he called us, `To` when we (or a `<Dial>`) called him."""
        return address_of(self.from_ if self.direction == "inbound" else self.to)

    @property
    def dialled(self) -> str:
        """Our own number or address on this leg, as the provider spells it; may be blank."""
        return self.to if self.direction == "inbound" else self.from_

    @property
    def child(self) -> bool:
        """Is this a leg that another leg's `<Dial>` made? Such a leg is not a caller."""
        return self.direction == "outbound-dial" or self.parent_call_sid is not None

    @property
    def attested(self) -> bool:
        """
        Did the carrier vouch in full for this caller's number?

        Only for an inbound call from the phone network: a client may send any parameter it likes with its
        call, and an attestation says nothing of a number that we dialled.
        """
        return self._from_the_phone_network and attested_a(self.stir_verstat)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the attestation says against the caller's number; nothing where there can be none."""
        return attestation_notes(self.stir_verstat) if self._from_the_phone_network else ()

    @property
    def _from_the_phone_network(self) -> bool:
        return self.direction == "inbound" and self.caller.kind is AddressKind.PHONE

    @property
    def over(self) -> bool:
        """Has this leg ended, well or not?"""
        return self.call_status in _OVER


def parse_form(body: bytes) -> Params:
    """
    Decode `application/x-www-form-urlencoded`: UTF-8, blank values kept, nothing trimmed, order kept.

    Raises `Malformed`: `form.long` above `BODY_BYTES_MAX`, `form.many` above `PARAMS_MAX`, `form.encoding` for
    what is not UTF-8. Cost: one split; only what holds an escape is unescaped.
    """
    if len(body) > BODY_BYTES_MAX:
        raise Malformed("form.long")
    if body.count(b"&") >= PARAMS_MAX:
        raise Malformed("form.many")
    try:
        # Before unescaping, as an escaped plus (%2B) is a plus.
        parts = body.decode().replace("+", " ").split("&")
        return tuple([_pair(part) for part in parts if part])
    except UnicodeDecodeError:
        raise Malformed("form.encoding") from None


def parse_query(query: str) -> Params:
    """
    Decode the query of a GET (without its `?`), which is where Twilio then puts its parameters.

    `query` as it came on the wire; bytes outside ASCII may be escaped as lone surrogates, as servers do, and
    are refused unless they are UTF-8. Raises `Malformed` like `parse_form`.
    """
    try:
        body = query.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Malformed("form.encoding") from None
    return parse_form(body)


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    if "%" in part:
        return unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()
    return name, value


def read(params: Sequence[tuple[str, str]], *, accounts: AbstractSet[str] | None = None) -> Delivery:
    """
    Check the parameters of a webhook whose signature was right, and take out what the guard acts on.

    `accounts`: the AccountSids that are ours, or None to leave that to the signature. Raises `Malformed` with
    the first fault met; raises nothing else, whatever the parameters.
    """
    found = dict(params)
    if len(found) != len(params):
        _refuse_doubled(params)
    _refuse_shifted(params, found)
    for name, label, required, form in _ACTED_ON:
        value = found.get(name)
        if value is None:
            if required:
                raise Malformed(f"{label}.missing")
        elif not form.fullmatch(value):
            raise Malformed(f"{label}.shape")
    if accounts is not None and found["AccountSid"] not in accounts:
        raise Malformed("account_sid.foreign")
    return Delivery(
        call_sid=found["CallSid"],
        account_sid=found["AccountSid"],
        parent_call_sid=found.get("ParentCallSid") or None,
        from_=found["From"],
        to=found["To"],
        direction=found["Direction"],
        call_status=found["CallStatus"],
        digits=found.get("Digits"),
        finished_on_key=found.get("FinishedOnKey"),
        stir_verstat=found.get("StirVerstat"),
        params=tuple(params),
    )


def _refuse_doubled(params: Sequence[tuple[str, str]]) -> None:
    """Refuse a second standing of a parameter acted on, also an equal one: the signature folds those."""
    names = [name for name, _ in params]
    for name, label, _, _ in _ACTED_ON:
        if names.count(name) > 1:
            raise Malformed(f"{label}.twice")


def _refuse_shifted(params: Sequence[tuple[str, str]], found: dict[str, str]) -> None:
    """Refuse parameters that sign like others because a boundary between name and value was moved."""
    if not found.keys() <= _DOCUMENTED:
        for name, value in params:
            if not name:
                raise Malformed("parameter.nameless")
            if name not in _DOCUMENTED and _SHIFTED.fullmatch(name + value):
                raise Malformed("parameter.shifted")
    for lost, run_together, after, before in _SWALLOWED:
        if lost in found:
            continue
        between = sorted([param for param in params if after <= param[0] < before])
        if run_together.search("".join(chain.from_iterable(between))):
            between = [param for param in between if not _may_be_new(param[0], lost, found)]
            if run_together.search("".join(chain.from_iterable(between))):
                raise Malformed("parameter.shifted")


def _may_be_new(name: str, lost: str, found: dict[str, str]) -> bool:
    """
    Tell a parameter that is new to us (`CardDigits`) from two that ran together (`CallerZipDigits`).

    A new name is all letters, ends in the lost name, and begins with no documented name, unless that one stands
    in the request as well.
    """
    if not (name.endswith(lost) and name.isascii() and name.isalpha()):
        return False
    return all(known in found for known in _DOCUMENTED if name.startswith(known))
