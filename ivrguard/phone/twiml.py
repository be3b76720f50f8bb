"""TwiML, read: from an answer to verbs, and from a verb's attributes to plain values.

Laws of this file
 1. Names are case-sensitive, comments are allowed, URLs may be padded with blanks
    (https://www.twilio.com/docs/voice/twiml).
 2. URLs are relative to the *final* URL of the document that they stand in, HTTP redirects followed
    (https://www.twilio.com/docs/voice/twiml/redirect).
 3. What cannot be run is a `FetchError` with Twilio's code: 12100 no TwiML, 12300 no or a foreign content
    type, 11750 more than 64 kB (https://www.twilio.com/docs/api/errors/11750).
"""

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, urljoin
from xml.etree.ElementTree import Element, ParseError, XMLParser

from ivrguard.phone.heard import Asked, Pairs, Target
from ivrguard.phone.wire import DOCUMENT_BYTES_MAX, Answer, FetchError

_XML_TYPES = frozenset({"text/xml", "application/xml", "text/html"})
PROMPTS = frozenset({"Say", "Play", "Pause"})
"""What may stand inside a Gather."""
# Whether `url` is TwiML for the callee's leg before the two are connected. That of `<Queue>` is for the leg of
# the caller who waits in it, `<Application>` names another account's documents.
NOUNS = {
    "Number": True,
    "Client": True,
    "Sip": True,
    "WhatsApp": True,
    "Sim": False,
    "Conference": False,
    "Queue": False,
    "Application": False,
}
SOUND = "sound that came in place of a document"
"""The tag of the only verb of an answer that was audio itself."""


def _parse(body: bytes) -> Element | None:
    """The `<Response>` in `body`, or nothing. Comments are dropped; names are case-sensitive."""
    parser = XMLParser()  # noqa: S314 - reads what a test's own server wrote; expat bounds entity growth
    try:
        parser.feed(body)
        root = parser.close()
    except ParseError:
        return None
    return root if root.tag == "Response" else None


def verbs(url: str, answer: Answer) -> list[Element]:
    """The verbs of an answer, by its content type.

    XML and HTML are TwiML; plain text is TwiML if it is valid and is read aloud otherwise; audio is played;
    a missing or other type is error 12300 (https://www.twilio.com/docs/voice/twiml).
    """
    if answer.content_type is None:
        raise FetchError(12300, url, answer)
    kind = answer.content_type.partition(";")[0].strip().lower()
    if kind.startswith("audio/"):
        return [Element(SOUND)]
    if len(answer.body) > DOCUMENT_BYTES_MAX:
        raise FetchError(11750, url, answer)
    if kind != "text/plain" and kind not in _XML_TYPES:
        raise FetchError(12300, url, answer)
    root = _parse(answer.body)
    if root is not None:
        return list(root)
    if kind == "text/plain":
        spoken = Element("Say")
        spoken.text = answer.text
        return [spoken]
    raise FetchError(12100, url, answer)


def readable(verbs_in_it: str) -> bool:
    """Whether this, as the content of a document, is one that can be run."""
    return _parse(f"<Response>{verbs_in_it}</Response>".encode()) is not None


def words(element: Element) -> str:
    """The text inside, marks dropped, blanks collapsed."""
    return " ".join("".join(element.itertext()).split())


def method(element: Element, name: str = "method") -> str:
    """An HTTP method attribute: POST unless it says GET."""
    return "GET" if element.get(name, "POST").upper() == "GET" else "POST"


def resolve(base: str, reference: str) -> str:
    """A URL relative to its document; one that is none stays as it is, and fails when it is fetched."""
    try:
        return urljoin(base, reference.strip())
    except ValueError:
        return reference


def absolute(base: str, element: Element, name: str) -> str | None:
    """A URL attribute, relative to its document; `None` when absent."""
    given = element.get(name)
    return None if given is None else resolve(base, given)


def seconds(element: Element, name: str, default: float) -> float:
    """A duration attribute; the default when it is absent or not a number (`auto`)."""
    given = element.get(name, "")
    return float(given) if re.fullmatch(r"\d+(\.\d+)?", given, re.ASCII) else default


def asked(verb: Element, base: str) -> Asked:
    """A Gather's attributes; without `action` it is this same document again."""
    digits = verb.get("numDigits", "")
    return Asked(
        action=absolute(base, verb, "action") or base,
        method=method(verb),
        num_digits=int(digits) if digits.isdigit() else None,
        finish_on_key=verb.get("finishOnKey", "#"),
        timeout_s=seconds(verb, "timeout", 5.0),
        input=verb.get("input", "dtmf"),
        action_on_empty=verb.get("actionOnEmptyResult", "false") == "true",
    )


def named_values(elements: Iterable[Element]) -> Pairs:
    """`<Parameter>` and `<Header>`: their names and values."""
    return tuple((each.get("name", ""), each.get("value", "")) for each in elements)


def target(noun: Element, base: str) -> Target:
    """One noun of `<Dial>`: https://www.twilio.com/docs/voice/twiml/dial."""
    named = next((each for each in noun if each.tag in {"Identity", "Uri", "ApplicationSid"}), noun)
    name = (named.text or "").strip()
    parameters = named_values(each for each in noun.iter() if each.tag in {"Parameter", "Header"})
    if noun.tag == "Sip":  # headers may stand in the address: sip:a@b?X-One=1&X-Two=2
        name, _, query = name.partition("?")
        parameters += tuple(parse_qsl(query))
    wait_url = noun.get("waitUrl", "").strip()
    return Target(
        kind=noun.tag.lower(),
        name=name,
        parameters=parameters,
        whisper_url=absolute(base, noun, "url") if NOUNS[noun.tag] else None,
        whisper_method=method(noun),
        wait_url=resolve(base, wait_url) if wait_url else None,
        wait_method=method(noun, "waitMethod"),
        status_callback=absolute(base, noun, "statusCallback"),
        status_method=method(noun, "statusCallbackMethod"),
        status_events=frozenset(noun.get("statusCallbackEvent", "completed").split()),
        attributes=tuple(noun.items()) if noun.tag == "Conference" else (),
    )
