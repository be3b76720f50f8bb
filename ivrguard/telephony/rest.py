"""
Twilio's REST API as an IVR asks it through the guard: what a request is about, and which of its URLs mean what.

The laws of this file:

1. What is offered is listed (`READABLE`, `WRITABLE`), and below calls, conferences and queues each resource by itself. Keys,
   tokens, numbers, applications, SIP domains and the account itself are not to be changed here, or a request that goes through
   the guard could lead the next call round it; nor is the account shown, whose resource holds its auth token.
2. A path is read once, and refused if two readers could read it in two ways. So is a parameter that stands twice, or in
   another spelling, and a way to say another method than the request's own.
3. Every URL that a request gives is known by its name and led back as those of TwiML are (telephony/links.py), or
   refused: what Twilio adds without notice fails closed.
4. Errors have Twilio's own shape, so that its clients raise what they always raise
   (https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions), and say what to mend.

Parameters: https://www.twilio.com/docs/voice/api/call-resource , …/conference-resource , …/conference-participant-resource
and …/member-resource ; those of Python's client, 9.13.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote, unquote

from ivrguard.core.rules import Target
from ivrguard.telephony.document import SIP_URI_CHARS_MAX, TOKEN_HEADER, TOKEN_NAME
from ivrguard.telephony.links import Kind, Links, Refused
from ivrguard.telephony.targets import address_of, number_of

Form = tuple[tuple[str, str], ...]

METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})
WRITABLE = frozenset({"Calls", "Conferences", "Queues", "Messages", "Recordings", "Transcriptions"})
READABLE = WRITABLE | frozenset(
    {"Addresses", "Applications", "AvailablePhoneNumbers", "Balance", "IncomingPhoneNumbers", "Notifications"}
    | {"OutgoingCallerIds", "Usage"}
)
"""Resources below an account: what may be changed, and what may be looked at."""

TWIML_CHARS_MAX = 4_000
"""A longer `Twiml` is Twilio's error 32018 (https://www.twilio.com/docs/api/errors/32018)."""

TARGET_CHARS_MAX = 4_096

NOT_AUTHENTICATED, FORBIDDEN, NOT_FOUND, NOT_ALLOWED = 20003, 20403, 20404, 20004
CONFLICT, TOO_MANY, UNAVAILABLE, INVALID = 20409, 20429, 20503, 20001
NOT_A_URL, TWIML_LONG = 21205, 32018
"""Twilio's codes, where it has one of that meaning (https://www.twilio.com/docs/api/errors)."""

_ACCOUNT = re.compile(r"/2010-04-01/Accounts/(AC[0-9a-f]{32})/([!-~]+)")
_CALL_SID = re.compile("CA[0-9a-f]{32}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TREACHEROUS = re.compile(r"[\x00-\x1f\x7f/\\%]")
_ABSOLUTE = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//")
_E164 = re.compile(r"\+?[0-9][0-9\s().\-]*")


class What(StrEnum):
    """What a request is about, as far as the guard acts on it."""

    READ = "read"
    OTHER = "other"
    CREATE = "create"
    UPDATE = "update"
    PART_OF_CALL = "part_of_call"
    MEMBER = "member"
    CONFERENCE = "conference"
    JOIN = "join"
    PARTICIPANT = "participant"


class Unfit(Exception):
    """
    A request that is not made: an answer in Twilio's shape.

    `reason`: a constant for logs, metrics and the record. `message` is for the IVR's developer, and holds nothing that he
    did not send, but for names of levels and targets of his own flow.
    """

    def __init__(self, status: int, code: int, reason: str, message: str) -> None:
        super().__init__(status, code, reason, message)
        self.status = status
        self.code = code
        self.reason = reason
        self.message = message

    def body(self) -> bytes:
        """The JSON of it."""
        more = f"https://www.twilio.com/docs/api/errors/{self.code}"
        said = {"code": self.code, "message": self.message, "more_info": more, "status": self.status}
        return json.dumps(said).encode()


@dataclass(frozen=True, slots=True)
class Asked:
    """
    A request: its method, the account in its path, what it is about.

    `parts`: the path below the account, each part decoded, without `.json` at the end. `target`: the path from `/2010-04-01`
    on, written anew from what was read, and the query as it came.
    """

    method: str
    account_sid: str
    what: What
    parts: tuple[str, ...]
    target: str = field(repr=False)  # labels and names of conferences may name people


def asked(method: str, target: str) -> Asked:
    """What a request is about. `target`: path and query as received, below the guard's own prefix. Raises `Unfit`."""
    if method not in METHODS:
        raise Unfit(405, NOT_ALLOWED, "method", f"{method[:10]} is not offered here: use GET, POST or DELETE")
    path, _, query = target.partition("?")
    found = _ACCOUNT.fullmatch(path)
    if found is None or len(target) > TARGET_CHARS_MAX:
        raise Unfit(
            404, NOT_FOUND, "path", "the guard offers what is below /2010-04-01/Accounts/{AccountSid}/"
        )
    parts = [_part(piece) for piece in found[2].split("/")]
    written = "/".join(quote(part, safe="") for part in parts)
    last, dot, suffix = parts[-1].rpartition(".")
    if dot and suffix == "json":
        parts[-1] = last
    elif method in {"POST", "DELETE"}:
        raise Unfit(
            404, NOT_FOUND, "path", "what changes anything ends in .json here, as in Twilio's clients"
        )
    offered = READABLE if method in {"GET", "HEAD"} else WRITABLE
    if parts[0] not in offered:
        raise Unfit(
            403,
            FORBIDDEN,
            "resource",
            f"{method} {parts[0][:40]} is not offered through the guard: ask Twilio itself, with a key that may do this alone",
        )
    if re.search(r"(?:^|&)_?(?:x-http-)?method", unquote(query), re.IGNORECASE):
        raise Unfit(400, INVALID, "override", "say the method in the request itself")
    what = _what(method, tuple(parts))
    if what not in {What.READ, What.OTHER} and query and method == "POST":
        raise Unfit(400, INVALID, "query", "parameters belong into the form, not behind the path")
    mark = f"?{query}" if query else ""
    return Asked(method, found[1], what, tuple(parts), f"/2010-04-01/Accounts/{found[1]}/{written}{mark}")


def _part(piece: str) -> str:
    if _BAD_ESCAPE.search(piece):
        raise Unfit(404, NOT_FOUND, "path", "a part of the path is not escaped as it should be")
    try:
        part = unquote(piece, errors="strict")
    except UnicodeDecodeError:
        part = ""
    if part in {"", ".", ".."} or _TREACHEROUS.search(part):
        raise Unfit(404, NOT_FOUND, "path", "a part of the path is empty, or holds what has two readings")
    return part


def _what(method: str, parts: tuple[str, ...]) -> What:
    if method in {"GET", "HEAD"}:
        return What.READ
    match parts:
        case ("Calls",) if method == "POST":
            return What.CREATE
        case ("Calls", sid) if _CALL_SID.fullmatch(sid):
            return What.UPDATE if method == "POST" else What.OTHER
        case ("Calls", sid, _, *_) if _CALL_SID.fullmatch(sid):
            return What.PART_OF_CALL if method == "POST" else What.OTHER
        case ("Conferences", _) if method == "POST":
            return What.CONFERENCE
        case ("Conferences", _, "Participants") if method == "POST":
            return What.JOIN
        case ("Conferences", _, "Participants", _):
            return What.PARTICIPANT if method == "POST" else What.OTHER
        case ("Conferences", _, "Recordings", _) | ("Queues",) | ("Queues", _):
            return What.OTHER
        case ("Queues", _, "Members", sid) if method == "POST" and _CALL_SID.fullmatch(sid):
            return What.MEMBER
        case ("Queues", _, "Members", _):
            raise Unfit(
                403,
                FORBIDDEN,
                "member",
                "name the call that is to leave the queue by its SID: CA and 32 hex digits",
            )
        case ("Messages" | "Recordings" | "Transcriptions", *_):
            return What.OTHER
        case _:
            raise Unfit(404, NOT_FOUND, "path", "the guard knows no such resource")


# ── the form ─────────────────────────────────────────────────────────────────────────────────────────────

_GET, _POST = "GET", "POST"
_URLS: Mapping[What, Mapping[str, tuple[Kind, str, str]]] = {
    # request: {parameter: (what answers there, the parameter with its method, that method's default)}
    What.CREATE: {
        "Url": (Kind.T, "Method", _POST),
        "FallbackUrl": (Kind.T, "FallbackMethod", _POST),
        "StatusCallback": (Kind.S, "StatusCallbackMethod", _POST),
        "RecordingStatusCallback": (Kind.S, "RecordingStatusCallbackMethod", _POST),
        "AsyncAmdStatusCallback": (Kind.S, "AsyncAmdStatusCallbackMethod", _POST),
    },
    What.UPDATE: {
        "Url": (Kind.T, "Method", _POST),
        "FallbackUrl": (Kind.T, "FallbackMethod", _POST),
        "StatusCallback": (Kind.S, "StatusCallbackMethod", _POST),
    },
    What.PART_OF_CALL: {
        "StatusCallback": (Kind.S, "StatusCallbackMethod", _POST),
        "StatusCallbackUrl": (Kind.S, "StatusCallbackMethod", _POST),
        "RecordingStatusCallback": (Kind.S, "RecordingStatusCallbackMethod", _POST),
    },
    What.MEMBER: {"Url": (Kind.T, "Method", _POST)},
    What.CONFERENCE: {"AnnounceUrl": (Kind.Q, "AnnounceMethod", _POST)},
    What.JOIN: {
        "StatusCallback": (Kind.S, "StatusCallbackMethod", _POST),
        "RecordingStatusCallback": (Kind.S, "RecordingStatusCallbackMethod", _POST),
        "ConferenceStatusCallback": (Kind.S, "ConferenceStatusCallbackMethod", _POST),
        "ConferenceRecordingStatusCallback": (Kind.S, "ConferenceRecordingStatusCallbackMethod", _POST),
        "AmdStatusCallback": (Kind.S, "AmdStatusCallbackMethod", _POST),
        "WaitUrl": (Kind.Q, "WaitMethod", _POST),
    },
    What.PARTICIPANT: {
        "HoldUrl": (Kind.Q, "HoldMethod", _GET),
        "AnnounceUrl": (Kind.Q, "AnnounceMethod", _POST),
        "WaitUrl": (Kind.Q, "WaitMethod", _POST),
    },
}
"""Methods' defaults: the pages of the resources; of `HoldMethod` it is GET."""

_WITH_TWIML = frozenset({What.CREATE, What.UPDATE})
_ONCE = frozenset({"To", "From", "Twiml", "ApplicationSid", "Status"}) | {
    name for urls in _URLS.values() for url, (_, method, _) in urls.items() for name in (url, method)
}
_LOWERED = {name.lower(): name for name in _ONCE}


def well_formed(form: Form) -> dict[str, str]:
    """The parameters that the guard acts on. Raises `Unfit` for one that stands twice, or in another spelling."""
    found: dict[str, str] = {}
    for name, value in form:
        spelled = _LOWERED.get(name.strip().lower())
        if name.lstrip("_").lower() in {"method", "x-http-method-override"} and name != "Method":
            raise Unfit(400, INVALID, "override", "say the method in the request itself")
        if spelled is None:
            continue
        if spelled != name:
            raise Unfit(400, INVALID, "spelling", f"write the parameter as {spelled}")
        if name in found:
            raise Unfit(400, INVALID, "twice", f"{name} stands twice")
        found[name] = value
    return found


def leads(what: What, form: Form) -> bool:
    """Whether a request gives any URL or document at all."""
    return any(
        name == "Twiml" or _ABSOLUTE.match(value) or (name in _URLS[what] and value.strip())
        for name, value in form
    )


def rewritten(what: What, form: Form, links: Links, *, turn: int, leg: Kind = Kind.T) -> Form:
    """
    The form with every URL in it led back to the guard. `leg`: who hears what a T link leads to; W: a callee.

    Raises `Unfit` for a URL that leads to an origin that is not listed, or that stands where nobody knows what it does.
    """
    known = _URLS[what]
    methods = {method: default for _, method, default in known.values()}
    given = dict(form)
    if "Twiml" in given and what not in _WITH_TWIML:
        raise Unfit(
            400, INVALID, "twiml.here", "a Twiml is given when a call is placed or changed, and not here"
        )
    out: list[tuple[str, str]] = []
    asked_for: set[str] = set()
    for name, value in form:
        if name in methods:
            continue  # written behind the URL that it belongs to
        if name in known and value.strip():
            kind, method_name, default = known[name]
            method = _method(given.get(method_name, default))
            kind = leg if kind is Kind.T else kind
            out.append((name, _led_back(links, name, value.strip(), kind, method, turn)))
            if method_name not in asked_for:
                asked_for.add(method_name)
                out.append((method_name, _POST))
        elif name not in known and _ABSOLUTE.match(value):
            out.append((name, _unknown(what, links, name, value.strip(), turn)))
        else:
            out.append((name, value))
    return tuple(out)


def _method(value: str) -> str:
    return _GET if value.strip().upper() == _GET else _POST


def _led_back(links: Links, name: str, url: str, kind: Kind, method: str, turn: int) -> str:
    if not re.match("https?://", url, re.IGNORECASE):
        raise Unfit(400, NOT_A_URL, "url", f"{name} is not a URL that begins with https://")
    try:
        return links.outward(url, kind=kind, method=method, turn=turn)
    except Refused as refused:
        raise unlisted(name, refused) from None


def unlisted(name: str, refused: Refused) -> Unfit:
    """The answer to a URL, or a document, that cannot be led back."""
    mend = "; list the origin under `upstream.also` of the flow" if refused.reason == "link.origin" else ""
    return Unfit(400, NOT_A_URL, refused.reason, f"{name}: {refused}{mend}")


def _unknown(what: What, links: Links, name: str, url: str, turn: int) -> str:
    if what is What.PART_OF_CALL and url[:2].lower() == "ws":
        if links.allowed_socket(url):
            return url
        raise unlisted(name, Refused("link.origin"))
    if "callback" in name.lower():
        return _led_back(links, name, url, Kind.S, _POST, turn)
    raise Unfit(400, INVALID, "link.unknown", f"the guard does not know what the URL in {name[:40]} does")


# ── who is dialled ───────────────────────────────────────────────────────────────────────────────────────


def target_of(to: str) -> Target:
    """Whom the `To` of a participant names, as a transfer's target (core/rules.py)."""
    scheme, _, rest = to.partition(":")
    match scheme.lower():
        case "client":
            return Target("client", rest.partition("?")[0])
        case "app":
            return Target("application", rest.partition("?")[0])
        case "sip" | "sips":
            return Target("sip", address_of(to))
        case "whatsapp":
            return Target("whatsapp", number_of(rest))
        case _:
            return Target("number", number_of(to)) if _E164.fullmatch(to) else Target("unknown", to)


def carrier_of(target: Target) -> str:
    """How a token travels to him: see `document.Document.carriers`."""
    return {"client": "parameter", "application": "parameter", "sip": "sip"}.get(target.kind, "call")


def carrying(to: str, target: Target, token: str) -> str:
    """
    `To` with the token where the callee's side reads it: a client's custom parameter, a SIP header; else as it is
    (https://www.twilio.com/docs/voice/how-share-information-between-your-applications). Raises `Unfit` if it gets too long.
    """
    carrier = carrier_of(target)
    if carrier == "call":
        return to
    name = TOKEN_HEADER if carrier == "sip" else TOKEN_NAME
    address, _, query = to.partition("?")
    kept = [each for each in query.split("&") if each and each.partition("=")[0].lower() != name.lower()]
    written = f"{address}?{'&'.join((*kept, f'{name}={quote(token)}'))}"
    if carrier == "sip" and len(written) > SIP_URI_CHARS_MAX:
        raise Unfit(
            400, INVALID, "sip.length", f"To has no room for a token: {SIP_URI_CHARS_MAX} characters are all"
        )
    return written


def replaced(form: Sequence[tuple[str, str]], name: str, value: str) -> Form:
    """The form with another value in this parameter."""
    return tuple((each, value if each == name else before) for each, before in form)
