"""
A `<Dial>` of the IVR's that the guard carries out itself: whom it reaches and what it wants of it; and what a conference tells.

The laws of this file:

1. Only what can be carried out whole is: one `<Number>`, `<Client>` or `<Sip>`, or a number as text. Whatever else stands there
   (`UNFIT` names it) stays Twilio's own to carry out.
2. `To` is what Twilio's REST API takes: a client's parameters and a SIP address's headers stand behind a question mark
   (https://www.twilio.com/docs/voice/api/conference-participant-resource#create-a-participant-resource).
3. A conference's callback is believed as far as its form goes, and each parameter stands once
   (https://www.twilio.com/docs/voice/twiml/conference#statuscallback).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from lxml import etree  # type: ignore[attr-defined]  # compiled, without types

from ivrguard.telephony.delivery import Malformed
from ivrguard.telephony.links import resolve

RING_S = 30
RING_S_MIN, RING_S_MAX = 5, 600
"""How long a `<Dial>` rings where it does not say, and what REST takes."""

_NOUNS = frozenset({"Number", "Client", "Sip"})
_CARRIED = {
    # what a bridge carries out, by element; what is not here and not without effect (`_EMPTY`) is unfit
    "Dial": frozenset(
        {"action", "method", "timeout", "callerId", "timeLimit", "hangupOnStar", "answerOnBridge"}
    )
    | {"record", "sequential"},
    "Number": frozenset({"url", "method"}),
    "Client": frozenset({"url", "method"}),
    "Sip": frozenset({"url", "method", "username", "password"}),
}
_WITHOUT_EFFECT = frozenset(
    {"statusCallbackMethod", "amdStatusCallbackMethod", "recordingStatusCallbackMethod"}
)
_SAFE = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
_SIDS = {"CallSid": re.compile(r"CA[0-9a-f]{32}"), "ConferenceSid": re.compile(r"CF[0-9a-f]{32}")}


@dataclass(frozen=True, slots=True)
class Dialling:
    """
    Whom the guard dials and how: `to` as REST takes it, without a token; `kind` as in rules. URLs are absolute, in the IVR's world.

    `action` "": the document goes on after the `<Dial>`. `whisper` "": none of the IVR's own. `user`, `password`: for a SIP address.
    """

    kind: str
    to: str
    ring_s: int
    caller_id: str
    action: str = field(repr=False)
    method: str
    whisper: str = field(repr=False)
    whisper_method: str
    time_limit_s: int | None
    hangup_on_star: bool
    record: bool
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Unfit:
    """It cannot be carried out by the guard: `why` names the element, and the attribute if it is that."""

    why: str


def dialling(rest: bytes, base: str) -> Dialling | Unfit:
    """What stands first in a document of the IVR's that was examined already (`document.Document.rest`), seen from `base`."""
    root = etree.fromstring(rest, _SAFE)
    dial = root[0]
    if dial.tag != "Dial":
        return Unfit(dial.tag)
    nouns = list(dial)
    if len(nouns) > 1 or (nouns and nouns[0].tag not in _NOUNS):
        return Unfit(f"Dial>{nouns[-1].tag}")
    noun = nouns[0] if nouns else None
    for element in filter(lambda each: each is not None, (dial, noun)):
        for name, value in element.items():
            if value.strip() and name not in _CARRIED[element.tag] and name not in _WITHOUT_EFFECT:
                return Unfit(f"{element.tag}@{name}")
    if noun is None:
        return _dialling(dial, "number", (dial.text or "").strip(), {}, base)
    kind = noun.tag.lower()
    to = _named(noun)
    if not to:
        return Unfit("Dial")
    if kind == "client":
        parameters = [
            (each.get("name", ""), each.get("value", "")) for each in noun if each.tag == "Parameter"
        ]
        to = f"client:{to}{_behind(to, parameters)}"
    elif kind == "sip":
        headers = [(each.get("name", ""), each.get("value", "")) for each in noun.iter("Header")]
        to += _behind(to, headers)
    return _dialling(dial, kind, to, dict(noun.attrib), base)


def _dialling(dial: Any, kind: str, to: str, noun: dict[str, str], base: str) -> Dialling | Unfit:
    if not to or (kind == "number" and re.search("[A-Za-z]", to)):
        return Unfit("Dial")
    if kind == "number":
        to = re.sub(r"[\s().\-]", "", to)
    action, whisper = dial.get("action", "").strip(), noun.get("url", "").strip()
    ring = dial.get("timeout", "").strip()
    limit = dial.get("timeLimit", "").strip()
    return Dialling(
        kind=kind,
        to=to,
        ring_s=min(max(int(ring), RING_S_MIN), RING_S_MAX) if ring.isdecimal() else RING_S,
        caller_id=dial.get("callerId", "").strip(),
        action=resolve(base, action) if action else "",
        method=_method(dial.get("method")),
        whisper=resolve(base, whisper) if whisper else "",
        whisper_method=_method(noun.get("method")),
        time_limit_s=int(limit) if limit.isdecimal() else None,
        hangup_on_star=dial.get("hangupOnStar", "").strip() == "true",
        record=dial.get("record", "").strip() not in {"", "false", "do-not-record"},
        user=noun.get("username", ""),
        password=noun.get("password", ""),
    )


def addressed(to: str, name: str, value: str) -> str:
    """The same address, with one parameter more."""
    return f"{to}{_behind(to, [(name, value)])}"


def _behind(to: str, pairs: Sequence[tuple[str, str]]) -> str:
    return f"{'&' if '?' in to else '?'}{urlencode(pairs)}" if pairs else ""


def _named(noun: Any) -> str:
    child = next((each for each in noun if each.tag in {"Identity", "Uri"}), noun)
    return (child.text or "").strip()


def _method(value: str | None) -> str:
    return "GET" if (value or "").strip().upper() == "GET" else "POST"


@dataclass(frozen=True, slots=True)
class RoomEvent:
    """What a conference's callback says: the account, the event's name, the room, and whose leg it is about ("": nobody's)."""

    account_sid: str
    event: str
    conference: str
    call_sid: str


def room_event(params: Sequence[tuple[str, str]]) -> RoomEvent:
    """Read a conference's callback whose signature was right. Raises `Malformed`: `form.many` for what stands twice, or a form's name."""
    given = dict(params)
    if len(given) != len(params):
        raise Malformed("form.many")
    for name, form in _SIDS.items():
        if name in given and not form.fullmatch(given[name]):
            raise Malformed("call_sid.shape")
    return RoomEvent(
        given.get("AccountSid", ""),
        given.get("StatusCallbackEvent", ""),
        given.get("ConferenceSid", ""),
        given.get("CallSid", ""),
    )
