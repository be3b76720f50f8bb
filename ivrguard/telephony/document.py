"""
The IVR's TwiML: read once, looked through for transfers, written again with every URL led back.

The laws kept here:

1. What is sent to Twilio is written from the tree that was examined, never copied from the IVR's
   bytes; so nobody can smuggle past this reader what another reader would see.
2. No DTD, no entities, nothing fetched; at most 64 kB, 2,000 elements, 16 levels deep. Twilio's own
   limit for a document is 64 kB (https://www.twilio.com/docs/api/errors/11750).
3. Content types as Twilio takes them (https://www.twilio.com/docs/voice/twiml#request-parameters):
   `text/xml`, `application/xml`, `text/html` are TwiML; `text/plain` is TwiML if it is valid and read
   aloud if not; `audio/*` is played; anything else, or none, is refused.
4. Every URL that TwiML defines is made absolute against the document's final URL and sent through
   `Links`, also the ones Twilio supplies itself when an attribute is missing: `action` of Gather and
   Record, and the text of an empty Redirect, are the current document
   (https://www.twilio.com/docs/voice/twiml/gather, .../record, .../redirect). The guard is always
   asked by POST, so that nothing a caller keys stands in a URL; the method the IVR wants is kept in
   the link. Media stay GET.
5. What TwiML does not define yet fails closed. An attribute that nobody knows and that holds an
   absolute URL is led back as well: as a notice if its name holds `callback`, as media if it is
   `src`, as a gated link otherwise; so is an unknown element whose text is an absolute URL. A relative
   one leads back by itself, because it is resolved against the guard's URL. Values of Parameter,
   Config, Header and Task are data and stay. Attributes in a foreign XML namespace mean nothing to
   Twilio and are dropped; elements in one are refused.
6. Transfers are found wherever they stand. A transfer verb or noun in a place where Twilio does not
   run it is refused rather than guessed at.

Which attribute holds what: https://www.twilio.com/docs/voice/twiml and the pages of each verb.
"""

import copy
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from lxml import etree  # type: ignore[attr-defined]  # compiled, without types

from ivrguard.core.rules import Target
from ivrguard.telephony.links import Kind, Links, Refused, resolve
from ivrguard.telephony.targets import address_of, number_of
from ivrguard.telephony.template import Blanks, Template

DOCUMENT_BYTES_MAX = 64 * 1024
DOCUMENTS_KEPT_MAX = 256
KEPT_BYTES_MAX = 8 * 1024
"""Documents that are known when they come again, and how large one may be: 30 MB of trees at most."""
ELEMENTS_MAX = 2_000
DEPTH_MAX = 16
SIP_URI_CHARS_MAX = 254  # "less than 255": https://www.twilio.com/docs/api/errors/13251
TOKEN_NAME = "ivrguard_token"  # noqa: S105  (the name of a field, not a secret)
TOKEN_HEADER = "X-Ivrguard-Token"  # noqa: S105  (the same)
_HEADER_FIELD = f"{TOKEN_HEADER.lower()}="

_Element = Any  # lxml ships no types

_T, _W, _Q, _S, _M = Kind.T, Kind.W, Kind.Q, Kind.S, Kind.M

_STATUS = {"statusCallback": (_S, "statusCallbackMethod")}
_RECORDING = {"recordingStatusCallback": (_S, "recordingStatusCallbackMethod")}
_ACTION = {"action": (_T, "method")}
_SCREEN = {"url": (_W, "method"), **_STATUS}
_ANSWERED = {**_SCREEN, "amdStatusCallback": (_S, "amdStatusCallbackMethod")}
_SOCKET: tuple[None, None] = (None, None)

_LINKS: dict[str, dict[str, tuple[Kind | None, str | None]]] = {
    # element: {attribute: (what answers there, the attribute with its method)}
    "Gather": {**_ACTION, "partialResultCallback": (_S, "partialResultCallbackMethod")},
    "Record": {**_ACTION, **_RECORDING, "transcribeCallback": (_S, None)},
    "Dial": {**_ACTION, **_RECORDING, "referUrl": (_T, "referMethod")},
    "Number": {**_ANSWERED},
    "Client": {**_SCREEN},
    "Sip": {**_ANSWERED},
    "WhatsApp": {**_SCREEN},
    "Application": {**_SCREEN},
    "Conference": {
        "waitUrl": (_Q, "waitMethod"),
        **_STATUS,
        **_RECORDING,
        "eventCallbackUrl": (_S, None),
    },
    "Queue": {"url": (_Q, "method")},  # heard by the queued caller (docs/voice/twiml/queue), not a callee
    "Enqueue": {**_ACTION, "waitUrl": (_Q, "waitUrlMethod")},
    "Refer": {**_ACTION},
    "Connect": {**_ACTION},
    "Start": {**_ACTION},
    "Pay": {**_ACTION, **_STATUS},
    "Sms": {**_ACTION, **_STATUS},
    "Stream": {"url": _SOCKET, **_STATUS},
    "ConversationRelay": {"url": _SOCKET},
    "VirtualAgent": {**_STATUS},
    "Conversation": {"url": (_T, "method"), **_STATUS, **_RECORDING},
    "Siprec": {**_STATUS},
    "Transcription": {"statusCallbackUrl": (_S, "statusCallbackMethod")},
    "Recording": {**_RECORDING},
}
_NO_LINKS: dict[str, tuple[Kind | None, str | None]] = {}
_SUPPLIED = frozenset({"Gather", "Record"})  # Twilio supplies a missing action here
_DATA = frozenset({"Parameter", "Config", "Header", "Task"})
_TEXTS = frozenset(  # elements whose own text is no link, or one that is known
    {*_LINKS, *_DATA, "Response", "Say", "Play", "Redirect", "Pause", "Hangup", "Reject", "Leave"}
    | {"Echo", "Prompt", "Stop", "Language", "Identity", "ApplicationSid", "Uri", "Headers", "Sim"}
    | {"Room", "Autopilot", "AiSession", "ConversationRelaySession", "Assistant"}
    | {"break", "emphasis", "lang", "p", "phoneme", "prosody", "s", "say-as", "sub", "w"}
)
_WHOLLY_TEXT = frozenset({"Redirect", "Play"})
_KEPT_XML_NAMES = frozenset(f"{{http://www.w3.org/XML/1998/namespace}}{name}" for name in ("lang", "space"))

_PLACES = {  # where Twilio runs what can reach a person; anywhere else it is refused
    "Response": frozenset[str](),
    **dict.fromkeys(("Dial", "Enqueue", "Refer", "Connect"), frozenset({"Response"})),
    **dict.fromkeys(
        ("Number", "Client", "Conference", "WhatsApp", "Application", "Sim"), frozenset({"Dial"})
    ),
    "Sip": frozenset({"Dial", "Refer"}),
    "Queue": frozenset({"Dial", "Response"}),
    "Conversation": frozenset({"Connect"}),
    "Room": frozenset({"Connect"}),
}
_TRANSFERS = frozenset({"Dial", "Enqueue", "Queue", "Refer", "Connect"})
_NOUNS = frozenset(tag for tag, places in _PLACES.items() if "Dial" in places)
CARRIERS = {  # how a token can travel to a target of this kind, see `Document.carriers`
    "workflow": "task",
    "client": "parameter",
    "application": "parameter",
    "sip": "sip",
    "refer": "sip",
    "number": "whisper",
    "whatsapp": "whisper",
}
_MACHINES = frozenset(  # what Connect can lead to that is no person
    {"Stream", "ConversationRelay", "ConversationRelaySession", "VirtualAgent", "Autopilot"}
    | {"AiSession", "Assistant"}
)

_SAFE = {
    **dict.fromkeys(("resolve_entities", "load_dtd", "dtd_validation", "huge_tree", "recover"), False),
    **dict.fromkeys(("no_network", "remove_comments", "remove_pis"), True),
}
_AS_DECLARED = etree.XMLParser(**_SAFE)
_AS_UTF_8 = etree.XMLParser(encoding="utf-8", **_SAFE)
_TOO_DEEP = etree.XPath("boolean(" + "/*" * (DEPTH_MAX + 1) + ")")
_TYPES = frozenset({"text/xml", "application/xml", "text/html", "text/plain"})
_CHARSETS = frozenset({"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16"})
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s;"']+)""", re.IGNORECASE)
_ABSOLUTE = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//")
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Site:
    """A transfer: `index` among the Response's elements, and everyone it may reach."""

    index: int
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """Write what comes before the verb at `index`, then a Redirect to `url` (the guard's own)."""

    index: int
    url: str


@dataclass(frozen=True, slots=True)
class Carry:
    """Put a hand-over token into the transfer at `index`; `whisper_url` is the guard's own."""

    index: int
    token: str = field(repr=False)
    whisper_url: str


@dataclass(frozen=True, slots=True)
class Whisper:
    """The IVR's own whisper for one target: absolute URL in the IVR's world, GET or POST."""

    target: Target
    url: str = field(repr=False)  # its query is the IVR's own affair
    method: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Document:
    """
    A TwiML document of the IVR, examined and unchanged.

    `base` is the URL it came from, after redirects. `transfers` are in document order.
    """

    _root: _Element
    base: str
    transfers: tuple[Site, ...]
    _written: dict[Kind, tuple[Links, Template | None] | None] = field(default_factory=dict, init=False)

    def write(
        self,
        links: Links,
        *,
        turn: int,
        leg: Kind = Kind.T,
        cut: Cut | None = None,
        carry: Carry | None = None,
    ) -> bytes:
        """
        Return the document for Twilio: UTF-8 TwiML in which every link leads back to the guard.

        `leg` is who hears it: T the caller, W a callee before the bridge (its links stay whispers),
        Q a caller who waits (Redirect stays in the wait loop; what a Gather or Record there leads to
        is gated). With both, `carry` comes before `cut`. Raises Refused: `link.*` with element and
        attribute, `document.transfer_here` for a transfer on a leg that may not make one,
        `document.size`, and what `carry` may meet: `task.json`, `sip.length`.
        """
        if leg not in {Kind.T, Kind.W, Kind.Q}:
            raise ValueError(f"nobody hears a document of kind {leg!r}")
        if self.transfers and leg is not Kind.T:
            raise Refused("document.transfer_here", self._root[self.transfers[0].index].tag)
        written = self._filled(links, turn, leg) if cut is None and carry is None else None
        if written is None:
            root = copy.deepcopy(self._root)
            if cut is not None:
                del root[cut.index :]
            _Rewriting(links, turn, leg, self.base).rewrite(root)
            if carry is not None:
                _carry(root[carry.index], carry)
            if cut is not None:
                etree.SubElement(root, "Redirect", method="POST").text = cut.url
            written = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
        if len(written) > DOCUMENT_BYTES_MAX:
            raise Refused("document.size")
        return written

    def _filled(self, links: Links, turn: int, leg: Kind) -> bytes | None:
        """What is written for the second time and on is filled in; None when it must be rewritten."""
        if leg not in self._written:
            self._written[leg] = None
            return None
        kept = self._written[leg]
        with suppress(Refused):  # rewriting says where
            if kept is None or kept[0] is not links:
                root, blanks = copy.deepcopy(self._root), Blanks(links)
                _Rewriting(blanks, 0, leg, self.base).rewrite(root)
                kept = links, blanks.template(etree.tostring(root, encoding="UTF-8", xml_declaration=True))
                self._written[leg] = kept
            return kept[1].filled(turn) if kept[1] is not None else None
        return None

    def rest(self, index: int) -> bytes:
        """
        Return the verb at `index` and all after it as a document of its own, links as the IVR wrote them.

        `read(rest, "text/xml", base)` with this document's `base` takes it again.
        """
        root = copy.deepcopy(self._root)
        del root[:index]
        root.text = None
        rest: bytes = etree.tostring(root, encoding="UTF-8")
        return rest

    def carriers(self, index: int) -> frozenset[str]:
        """
        Return how a token can travel with the transfer at `index`.

        `task` (TaskRouter attributes), `parameter` (a client's or an application's), `sip` (a
        header), `whisper` (spoken on the callee's phone), or `call`: nothing can be carried, the
        desk redeems by CallSid.
        """
        return frozenset(CARRIERS.get(each.kind, "call") for each in self._site(index).targets)

    def own_whispers(self, index: int) -> tuple[Whisper, ...]:
        """
        Return the whispers that the IVR itself wants for phone numbers in the transfer at `index`.

        `carry` puts the guard's whisper in their place; these are to be played after it. A whisper
        request names its number in `To`.
        """
        return tuple(
            Whisper(_noun(each), resolve(self.base, each.get("url")), _method(each.get("method")))
            for each in self._root[index]
            if each.tag in {"Number", "WhatsApp"} and each.get("url", "").strip()
        )

    def _site(self, index: int) -> Site:
        return next(each for each in self.transfers if each.index == index)


def read(body: bytes, content_type: str | None, base: str) -> Document:
    """
    Return the IVR's answer as a document.

    `content_type` is the header as received; `base` is the absolute URL that answered, after
    redirects. Raises Refused: `content_type`, `document.empty`, `document.size`,
    `document.charset`, `document.parse`, `document.root`, `document.dtd`, `document.depth`,
    `document.elements`, `document.namespace`, `document.nesting`.
    """
    return (_read_before if len(body) <= KEPT_BYTES_MAX else _read)(body, content_type, base)


def _read(body: bytes, content_type: str | None, base: str) -> Document:
    media, charset = _content(content_type)
    if media.startswith("audio/"):
        return _made("Play", base, base)
    if len(body) > DOCUMENT_BYTES_MAX:
        raise Refused("document.size")
    if not body or body.isspace():
        raise Refused("document.empty")
    try:
        root = _parsed(body, charset)
    except Refused as refusal:
        if media == "text/plain" and refusal.reason in {"document.parse", "document.root"}:
            return _made("Say", _NOT_IN_XML.sub("", body.decode(charset or "utf-8", "replace")).strip(), base)
        raise
    return Document(root, base, _survey(root))


_read_before = lru_cache(DOCUMENTS_KEPT_MAX)(_read)


@lru_cache(64)
def _content(header: str | None) -> tuple[str, str | None]:
    """Return the media type and the charset that a Content-Type names; refuse what Twilio refuses."""
    media = (header or "").partition(";")[0].strip().lower()
    if media not in _TYPES and not media.startswith("audio/"):
        raise Refused("content_type", media if re.fullmatch(r"[a-z0-9.+/\-]{1,80}", media) else "?")
    named = _CHARSET.search(header or "")
    charset = named[1].lower() if named else None
    if charset is not None and charset not in _CHARSETS:
        raise Refused("document.charset")
    return media, charset


def _made(verb: str, text: str, base: str) -> Document:
    root = etree.Element("Response")
    etree.SubElement(root, verb).text = text
    return Document(root, base, ())


def _parsed(body: bytes, charset: str | None) -> _Element:
    """Return the root of a TwiML document; the charset of the header wins (RFC 7303, 3)."""
    parser = _AS_DECLARED if charset is None else _AS_UTF_8
    try:
        if charset not in {None, "utf-8", "us-ascii"}:
            body = body.decode(charset).encode()
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, UnicodeDecodeError):
        raise Refused("document.parse") from None
    if root.getroottree().docinfo.doctype:
        raise Refused("document.dtd")
    if root.tag != "Response":
        raise Refused("document.root")
    return root


def _survey(root: _Element) -> tuple[Site, ...]:
    """Check the shape of a document and return its transfers."""
    if _TOO_DEEP(root):
        raise Refused("document.depth")
    elements = list(root.iter())
    if len(elements) > ELEMENTS_MAX:
        raise Refused("document.elements")
    for element in elements:
        tag = element.tag
        if tag[0] == "{":
            raise Refused("document.namespace", etree.QName(tag).localname)
        if tag in _PLACES:
            parent = element.getparent()
            if parent is not None and parent.tag not in _PLACES[tag]:
                raise Refused("document.nesting", f"{parent.tag}>{tag}")
        elif tag in _WHOLLY_TEXT and len(element):
            raise Refused("document.nesting", f"{tag}>{element[0].tag}")
    return tuple(
        Site(index, targets)
        for index, verb in enumerate(root)
        if verb.tag in _TRANSFERS and (targets := _targets(verb))
    )


def _targets(verb: _Element) -> tuple[Target, ...]:
    """Return everyone that a transfer verb may connect the caller to."""
    match verb.tag:
        case "Dial":
            return _dialled(verb)
        case "Enqueue":
            workflow, name = verb.get("workflowSid", "").strip(), _own_text(verb)
            queue = (Target("enqueue", name),) if name or not workflow else ()
            return ((Target("workflow", workflow),) if workflow else ()) + queue
        case "Queue":
            return (_noun(verb),)
        case "Refer":
            addresses = tuple(
                Target("refer", address_of(_said(each, "Uri"))) for each in verb if each.tag == "Sip"
            )
            return addresses or (Target("unknown", ""),)
        case _:  # Connect
            return tuple(_noun(each) for each in verb if each.tag not in _MACHINES)


def _dialled(dial: _Element) -> tuple[Target, ...]:
    nouns = tuple(_noun(each) for each in dial)
    text = _own_text(dial)
    if any(each.tag in _NOUNS for each in dial):
        if any(map(str.isdigit, text)):  # a number beside a noun: nobody says which one is dialled
            raise Refused("document.nesting", "Dial>text")
    elif text:
        return (Target("number", number_of(text)), *nouns)
    return nouns or (Target("unknown", ""),)


def _noun(element: _Element) -> Target:
    """Return whom a noun of Dial or Connect names; `unknown` with the element's name otherwise."""
    match element.tag:
        case "Number" | "Sim" | "WhatsApp" as tag:
            return Target(tag.lower(), number_of(_all_text(element)))
        case "Conference" | "Queue" | "Room" as tag:
            return Target(tag.lower(), _all_text(element))
        case "Client":
            return Target("client", _said(element, "Identity"))
        case "Application":
            return Target("application", _said(element, "ApplicationSid"))
        case "Sip":
            return Target("sip", address_of(_said(element, "Uri")))
        case "Conversation":
            return Target("conversation", element.get("serviceInstanceSid", "") or _all_text(element))
        case tag:
            return Target("unknown", tag)


def _all_text(element: _Element) -> str:
    return ("".join(element.itertext()) if len(element) else element.text or "").strip()


def _own_text(element: _Element) -> str:
    return "".join([(element.text or "").strip(), *((each.tail or "").strip() for each in element)])


def _said(element: _Element, child: str) -> str:
    """Return what an element names in a child of its own, or as plain text."""
    named = next((each for each in element if each.tag == child), None)
    return _own_text(element) if named is None else _all_text(named)


def _method(value: str | None) -> str:
    """Return GET or POST; POST is Twilio's default everywhere in TwiML."""
    return "GET" if value is not None and value.strip().upper() == "GET" else "POST"


@dataclass(frozen=True, slots=True)
class _Rewriting:
    """One pass over one copy of a document."""

    links: Links | Blanks
    turn: int
    leg: Kind
    base: str

    def rewrite(self, root: _Element) -> None:
        for element in root.iter():
            tag, name = element.tag, ""
            known = _LINKS.get(tag, _NO_LINKS)
            try:
                for name, value in element.items():
                    if name in known:
                        self._known(element, name, value, *known[name])
                    elif name[0] == "{" or "//" in value:
                        self._unknown(element, name, value)
                name = ""
                if tag == "Redirect":
                    method = _method(element.get("method"))
                    element.text = self._led_back(element.text or "", self._on_leg(_T, tag), method)
                    element.set("method", "POST")
                elif tag == "Play":
                    if text := (element.text or "").strip():
                        element.text = self._led_back(text, _M, "GET")
                elif tag in _SUPPLIED:
                    if not element.get("action", "").strip():
                        self._known(element, "action", self.base, _T, "method")
                elif tag not in _TEXTS and element.text and _ABSOLUTE.match(element.text):
                    element.text = self._led_back(element.text, self._on_leg(_T, tag), "POST")
            except Refused as refusal:
                raise refusal.at(f"{tag}@{name}" if name else tag) from None

    def _known(
        self, element: _Element, name: str, value: str, kind: Kind | None, method_name: str | None
    ) -> None:
        if not value.strip():
            return  # no URL, or silence, or the current document: which is the guard's
        if kind is None:
            element.set(name, self._socket(value))
            return
        method = "POST" if method_name is None else _method(element.get(method_name))
        element.set(name, self._led_back(value, self._on_leg(kind, element.tag), method))
        if method_name is not None:
            element.set(method_name, "POST")

    def _unknown(self, element: _Element, name: str, value: str) -> None:
        if name[0] == "{":
            if name not in _KEPT_XML_NAMES:
                del element.attrib[name]
        elif element.tag not in _DATA and _ABSOLUTE.match(value):
            lowered = name.lower()
            if value.lstrip()[:2].lower() == "ws":
                element.set(name, self._socket(value))
            elif lowered == "src":
                element.set(name, self._led_back(value, _M, "GET"))
            else:
                kind = _S if "callback" in lowered else self._on_leg(_T, element.tag)
                element.set(name, self._led_back(value, kind, "POST"))

    def _on_leg(self, kind: Kind, tag: str) -> Kind:
        if kind is _T and (self.leg is _W or (self.leg is _Q and tag == "Redirect")):
            return self.leg
        return kind

    def _led_back(self, reference: str, kind: Kind, method: str) -> str:
        return self.links.outward(resolve(self.base, reference), kind=kind, method=method, turn=self.turn)

    def _socket(self, url: str) -> str:
        url = url.strip()
        if not self.links.allowed_socket(url):
            raise Refused("link.origin")
        return url


def _carry(verb: _Element, carry: Carry) -> None:
    """Put the token where the callee's side can read it, on every target that can carry one."""
    if verb.tag == "Enqueue":
        if verb.get("workflowSid", "").strip():
            _into_task(verb, carry.token)
        return
    if verb.tag == "Dial" and not any(each.tag in _NOUNS for each in verb):
        _as_child(verb, "Number")
    for noun in verb:
        if noun.tag == "Sip":
            _into_uri(noun, carry.token)
        elif noun.tag in {"Number", "WhatsApp"}:
            noun.set("url", carry.whisper_url)
            noun.set("method", "POST")
        elif noun.tag in {"Client", "Application"}:
            _as_child(noun, "Identity" if noun.tag == "Client" else "ApplicationSid")
            etree.SubElement(noun, "Parameter", name=TOKEN_NAME, value=carry.token)


def _as_child(element: _Element, child: str) -> None:
    """Turn an element's plain text into the child that means the same, unless it has one."""
    text = _own_text(element)
    if not text or element.find(child) is not None:
        return
    element.text = None
    for each in element:
        each.tail = None
    named = etree.Element(child)
    named.text = text
    element.insert(0, named)


def _into_task(enqueue: _Element, token: str) -> None:
    for task in enqueue.findall("Task") or [etree.SubElement(enqueue, "Task")]:
        try:
            attributes = json.loads(_all_text(task) or "{}")
            if not isinstance(attributes, dict):
                raise Refused("task.json", "Enqueue>Task")
            written = json.dumps({**attributes, TOKEN_NAME: token}, allow_nan=False, separators=(",", ":"))
        except (ValueError, RecursionError):
            raise Refused("task.json", "Enqueue>Task") from None
        del task[:]
        task.text = written


def _into_uri(sip: _Element, token: str) -> None:
    """Add the token as a header of the SIP URI (https://www.twilio.com/docs/voice/twiml/sip)."""
    named = sip.find("Uri")
    holder = sip if named is None else named
    address, _, headers = _own_text(holder).partition("?")
    kept = [each for each in headers.split("&") if each and not each.lower().startswith(_HEADER_FIELD)]
    uri = f"{address}?{'&'.join((*kept, f'{TOKEN_HEADER}={token}'))}"
    if len(uri) > SIP_URI_CHARS_MAX:
        raise Refused("sip.length", "Sip")
    for each in holder:
        each.tail = None
    holder.text = uri
