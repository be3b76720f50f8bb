"""
The IVR's documents: read, looked through, written with every link led back.

Judges that are not the code under test: the standard library's XML reader (another parser than the
one in use) and the twilio library's own list of attributes.

A folder of real TwiML documents can be given in IVRGUARD_TWIML_CORPUS, or lie in `shared/` beside the checkout;
each `*.xml` of it goes through the same checks as the documents written here.
"""

import inspect
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml import TwiML, lower_camel, voice_response

from ivrguard.core.rules import Target
from ivrguard.telephony import document as module
from ivrguard.telephony.document import (
    DOCUMENT_BYTES_MAX,
    ELEMENTS_MAX,
    Carry,
    Cut,
    Document,
    Site,
    Whisper,
    read,
)
from ivrguard.telephony.links import Kind, Links, Refused

KEY = bytes(range(32))
GUARD = "https://guard.test"
BASE = "https://ivr.example.com/app/voice?line=1"
CURRENT = BASE
LINKS = Links(
    GUARD, "https://ivr.example.com/app/voice", ["https://cdn.example.com", "wss://iva.example.com"], KEY
)


def twiml(inner: str) -> bytes:
    return f"<Response>{inner}</Response>".encode()


def taken(inner: str, base: str = BASE) -> Document:
    return read(twiml(inner), "text/xml", base)


def written(inner: str, **options: object) -> ET.Element:
    return ET.fromstring(taken(inner).write(LINKS, turn=3, **options))


def refusal(action: Callable[..., object], *args: object, **kwargs: object) -> str:
    with pytest.raises(Refused) as raised:
        action(*args, **kwargs)
    return str(raised.value)


def stands_for(link: str, links: Links = LINKS) -> str:
    """Return a guard link as `<kind> <method> <IVR's URL>#fragment`."""
    assert link.startswith(f"{GUARD}/")
    target, mark, fragment = link.removeprefix(GUARD).partition("#")
    back = links.inward(target)
    assert back.turn == 3
    return f"{back.kind} {back.method} {back.url}{mark}{fragment}"


# ---------------------------------------------------------------- documents: one for each thing there is

OWN = {
    "say": "<Say voice='alice'>Hello &amp; <lang xml:lang='fr-FR'>bonjour</lang> &lt;you&gt;</Say>",
    "gather": "<Gather action='/menu?a=1&amp;b=%2B' numDigits='1' partialResultCallback='p' "
    "partialResultCallbackMethod='GET'><Say>one</Say><Play>menu.mp3</Play><Pause length='2'/></Gather>"
    "<Redirect method='GET'>\n   ../again?Digits=TIMEOUT\n  </Redirect>",
    "gather on itself": "<Gather method='GET'/><Gather action=''/><Redirect/>",
    "record": "<Record action='rec#rc=2&amp;rp=all' recordingStatusCallback='/s' transcribeCallback='/t'/>"
    "<Record method='get' maxLength='5'/>",
    "dial text": "<Dial action='/done' method='GET' referUrl='/refer' referMethod='GET' timeout='9' "
    "recordingStatusCallback='/r' recordingStatusCallbackMethod='GET'>+1 (555) 010-0199</Dial><Say>x</Say>",
    "dial nouns": "<Dial sequential='true'><Number url='whisper?m=' statusCallback='/s' amdStatusCallback='/a' "
    "amdStatusCallbackMethod='GET'>+15550100</Number><Client url='/w' method='GET' statusCallback='/s'>joe"
    "</Client><Sip url='/w' statusCallback='/s' amdStatusCallback='/a' username='u' password='p'>sip:a@b.c"
    "?x=1</Sip><WhatsApp url='/w' statusCallback='/s'>+15550101</WhatsApp><Sim>DE1</Sim></Dial>",
    "dial application": "<Dial><Application url='/w' statusCallback='/s' copyParentTo='true'>"
    "<ApplicationSid>AP1</ApplicationSid><Parameter name='u' value='https://elsewhere.example/1'/>"
    "</Application></Dial>",
    "conference": "<Dial><Conference waitUrl='/wait' waitMethod='GET' statusCallback='/s' "
    "recordingStatusCallback='/r' eventCallbackUrl='/e' beep='false'> Room 1 </Conference></Dial>",
    "conference in silence": "<Dial><Conference waitUrl=''>Room</Conference></Dial>",
    "queues": "<Dial><Queue url='connect.xml' method='GET'>support</Queue></Dial><Queue url='/u'>x</Queue>",
    "enqueue": "<Enqueue action='left' waitUrl='wait.xml' waitUrlMethod='GET'>support</Enqueue><Say>x</Say>",
    "enqueue task": "<Enqueue workflowSid='WW1' action='/a'><Task priority='3'>{\"n\": 1}</Task></Enqueue>",
    "refer": "<Refer action='/after' method='GET'><Sip>sip:alice@pbx.example</Sip></Refer>",
    "relay": "<Connect action='/ended'><ConversationRelay url='wss://iva.example.com/talk?x=1' "
    "welcomeGreeting='Hi'><Language code='en-US'/><Parameter name='a' value='b'/></ConversationRelay></Connect>",
    "streams": "<Start action='/s'><Stream url=' wss://iva.example.com/in ' statusCallback='/s'/></Start>"
    "<Connect><Stream url='wss://cdn.example.com/in'/></Connect><Stop><Stream name='n'/></Stop>",
    "conversation": "<Connect action='/a'><Conversation url='/u' statusCallback='/s' "
    "recordingStatusCallback='/r' serviceInstanceSid='IS1'/></Connect>",
    "room": "<Connect><Room participantIdentity='me'>DailyStandup</Room></Connect>",
    "agents": "<Connect action='/a'><VirtualAgent connectorName='c' statusCallback='/s'><Config name='n' "
    "value='https://elsewhere.example'/></VirtualAgent></Connect><Connect><Autopilot>UA1</Autopilot></Connect>",
    "listening": "<Start><Siprec statusCallback='/s'/><Transcription statusCallbackUrl='/t' "
    "statusCallbackMethod='GET'/><Recording recordingStatusCallback='/r'/></Start>",
    "pay": "<Pay action='/paid' statusCallback='/s' statusCallbackMethod='GET' chargeAmount='1'><Prompt "
    "for='security-code'><Play>https://cdn.example.com/code.mp3</Play></Prompt></Pay>",
    "sms": "<Sms action='/sent' statusCallback='/s'>see https://elsewhere.example</Sms>",
    "plain": "<Pause/><Echo/><Leave/><Reject reason='busy'/><Hangup><Parameter name='r' value='v'/></Hangup>",
    "keys": "<Play digits='ww1'/><Play/>",
    "unknown": "before<Ninja sword='always' length='a//b'>x</Ninja><Say Voice='a' newAttribute='false'>y</Say>after",
}


BESIDE = Path(__file__).resolve().parents[3] / "shared" / "twiml_corpus"
FOLDER = Path(os.environ.get("IVRGUARD_TWIML_CORPUS", BESIDE))


def corpus() -> dict[str, bytes]:
    """Return the documents of this file, and of the folder of real ones if there is one."""
    documents = {name: twiml(inner) for name, inner in OWN.items()}
    documents.update((each.name, each.read_bytes()) for each in sorted(FOLDER.glob("*.xml")))
    return documents


CORPUS = corpus()


def test_the_real_documents_are_here() -> None:
    """The 197 real documents go through as well, wherever they are to be had."""
    if not FOLDER.is_dir():
        pytest.skip(f"no real TwiML documents in {FOLDER}; set IVRGUARD_TWIML_CORPUS to a folder of them")

    assert len(CORPUS) >= 197


ORIGIN = re.compile(rb"""(?:https?|wss?)://[^/"'<>\s?#]+""")
LISTED = sorted({each.decode() for body in CORPUS.values() for each in ORIGIN.findall(body)})
EVERYWHERE = Links(GUARD, "https://ivr.example.com/app/voice", LISTED, KEY)


def url_names() -> frozenset[str]:
    """Return each attribute that the twilio library gives a URL: `action`, `...Url`, `...Callback`."""
    names = set()
    for _, kind in inspect.getmembers(voice_response, inspect.isclass):
        if issubclass(kind, TwiML):
            for _, method in inspect.getmembers(kind, inspect.isfunction):
                names.update(map(lower_camel, inspect.signature(method).parameters))
    return frozenset(each for each in names if re.search(r"(?:action|[uU]rl|Callback)$", each)) - {"sipUrl"}


URL_NAMES = url_names()


def test_the_library_names_the_attributes_that_are_followed():
    """The judge is awake: it knows the attributes of Twilio's pages."""
    known = {
        "action",
        "url",
        "waitUrl",
        "referUrl",
        "statusCallback",
        "statusCallbackUrl",
        "eventCallbackUrl",
    }
    known |= {"partialResultCallback", "recordingStatusCallback", "transcribeCallback", "amdStatusCallback"}
    assert known == URL_NAMES


DATA = {"Parameter", "Config", "Header", "Task", "Say", "Sms"}


def round_the_guard(document: bytes, links: Links) -> list[str]:
    """Return each URL of a written document that does not lead back to the guard: there are none."""
    leaks = []
    for element in ET.fromstring(document).iter():
        places = {f"{element.tag}@{name}": value for name, value in element.items()}
        places[element.tag] = element.text or ""
        for place, value in places.items():
            named = place in {"Redirect", "Play"} or place.rpartition("@")[2] in URL_NAMES
            absolute = re.match(r"\s*([a-z]+:)?//", value, re.IGNORECASE)
            if element.tag in DATA and not named:
                continue
            if (named and value) or absolute:
                try:
                    if not links.allowed_socket(value):
                        stands_for(value, links)
                except (AssertionError, Refused):
                    leaks.append(f"{place} {value}")
        if element.tag in {"Gather", "Record"} and not element.get("action"):
            leaks.append(f"{element.tag} without action")
        if element.tag == "Redirect" and not element.text:
            leaks.append("Redirect without text")
    return leaks


def normal(url: str) -> str:
    """Return a URL as a client asks for it: lower-case host, at least a slash."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if not slash and "?" in host:
        host, _, query = host.partition("?")
        return f"{scheme}://{host}/?{query}"
    return f"{scheme}://{host}/{path}"


def same_meaning(before: bytes, after: bytes, links: Links, kinds: set[str]) -> None:
    """Compare two documents element by element; a link means what `inward` says it stands for."""

    def reference(text: str) -> str:
        url, mark, fragment = text.strip().partition("#")
        return f"{normal(urljoin(BASE, url))}{mark}{fragment}"

    def compare(one: ET.Element, two: ET.Element) -> None:
        assert (one.tag, [each.tag for each in one]) == (two.tag, [each.tag for each in two])
        added = set(two.keys()) - set(one.keys())
        assert all(each == "method" or each.endswith("Method") or each == "action" for each in added)
        for name, value in two.items():
            mine = one.get(name, "")
            if value.startswith(GUARD):
                kind, method, url = stands_for(value, links).split(" ", 2)
                verb = {"action": "method", "url": "method", "referUrl": "referMethod", "waitUrl": "wait"}
                asked = next((one.get(each) for each in method_names(name, verb) if one.get(each)), "POST")
                assert (asked.upper(), reference(mine)) == (method, url)
                kinds.add(kind)
            elif name == "method" or name.endswith("Method"):
                assert value in {"POST", mine}
            else:
                assert mine.strip() == value.strip()
        assert (one.tail or "").strip() == (two.tail or "").strip()
        mine, text = (one.text or "").strip(), (two.text or "").strip()
        if one.tag == "Play" and mine:
            assert f"m GET {reference(mine)}" == stands_for(text, links)
        elif one.tag == "Redirect":
            assert f"t {one.get('method', 'POST').upper()} {reference(mine)}" == stands_for(text, links)
        else:
            assert mine == text
        for first, second in zip(one, two, strict=True):
            compare(first, second)

    def method_names(name: str, verb: dict[str, str]) -> Iterator[str]:
        if name in {"transcribeCallback", "eventCallbackUrl"}:
            return
        if name == "waitUrl":
            yield from ("waitMethod", "waitUrlMethod")
        elif name == "statusCallbackUrl":
            yield "statusCallbackMethod"
        else:
            yield verb.get(name, f"{name}Method")

    compare(ET.fromstring(before), ET.fromstring(after))


@pytest.mark.parametrize("name", CORPUS)
def test_every_document_goes_through_with_its_meaning(name: str):
    """Same elements, attributes and texts; each link comes back as the IVR meant it; none goes round."""
    after = read(CORPUS[name], "text/xml", BASE).write(EVERYWHERE, turn=3)
    assert round_the_guard(after, EVERYWHERE) == []
    same_meaning(CORPUS[name], after, EVERYWHERE, set())


def test_the_documents_show_every_kind_of_link():
    """The documents above are worth the name: each kind occurs, and every attribute of the library's."""
    kinds: set[str] = set()
    names: set[str] = set()
    for inner in OWN.values():
        same_meaning(twiml(inner), taken(inner).write(EVERYWHERE, turn=3), EVERYWHERE, kinds)
        names |= {name for each in ET.fromstring(twiml(inner)).iter() for name, _ in each.items()}
    assert {"t", "w", "q", "s"} == kinds
    assert set() == URL_NAMES - names


LEADS_ELSEWHERE = re.compile(
    rb"(?:(?:action|[uU]rl|Callback)=[\"']|<(?:Play|Redirect)\b[^<>]*>)\s*(?:https?|wss?)://"
)


@pytest.mark.parametrize("name", CORPUS)
def test_with_nothing_listed_only_documents_of_one_origin_pass(name: str):
    """Each document that points to another origin is refused for it, and no other is refused."""
    alone = Links(GUARD, "https://alone.test/app/voice", [], KEY)
    document = read(CORPUS[name], "text/xml", "https://alone.test/app/voice")
    if LEADS_ELSEWHERE.search(CORPUS[name]):
        assert refusal(document.write, alone, turn=3).startswith("link.origin: ")
    else:
        assert round_the_guard(document.write(alone, turn=3), alone) == []


LEADING = sorted(
    (tag, name) for tag, names in module._LINKS.items() for name, (kind, _) in names.items() if kind
)


@pytest.mark.parametrize(("tag", "name"), LEADING)
def test_the_check_would_see_a_forgotten_attribute(tag: str, name: str, monkeypatch: pytest.MonkeyPatch):
    """The planted fault: take one attribute out of the table, and a document above goes round the guard."""
    fewer = {key: value for key, value in module._LINKS[tag].items() if key != name}
    monkeypatch.setitem(module._LINKS, tag, fewer)
    monkeypatch.setattr(module, "_read_before", module._read)  # nothing that was written rightly before
    assert any(round_the_guard(taken(inner).write(LINKS, turn=3), LINKS) for inner in OWN.values())


# ---------------------------------------------------------------- what comes in


def heard(body: bytes, content_type: str | None) -> str:
    """Return what the caller hears of an answer, as one line."""
    root = ET.fromstring(read(body, content_type, BASE).write(LINKS, turn=3))
    return " ".join(f"{each.tag}:{each.text or ''}" for each in root)


@pytest.mark.parametrize("content_type", ["text/xml", "application/xml", "text/html", "text/plain"])
@pytest.mark.parametrize("charset", ["", "; charset=utf-8", ' ; Charset="UTF-8"', "; charset=us-ascii"])
def test_twiml_comes_under_four_types(content_type: str, charset: str):
    """The types that Twilio takes as TwiML; text/plain too, when it is valid."""
    assert heard(twiml("<Say>Hi</Say>"), content_type.upper() + charset) == "Say:Hi"


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"Hello there", "text/plain", "Say:Hello there"),
        (b"  5 < 6 & \x00\x07so on ", "text/plain", "Say:5 < 6 & so on"),
        (b"<Hello/>", "text/plain; charset=utf-8", "Say:<Hello/>"),
        (b"<Response><Say>", "text/plain", "Say:<Response><Say>"),
        ("Grüezi".encode("latin-1"), "text/plain; charset=iso-8859-1", "Say:Grüezi"),
        ("Grüezi".encode("latin-1"), "text/plain", "Say:Gr\ufffdezi"),
        (
            "<Response><Say>Grüezi</Say></Response>".encode("latin-1"),
            "text/xml;charset=ISO-8859-1",
            "Say:Grüezi",
        ),
        ("<Response><Say>Zoë</Say></Response>".encode("utf-16"), "text/xml; charset=utf-16", "Say:Zoë"),
        ("<Response><Say>Zoë</Say></Response>".encode("utf-16"), "text/xml", "Say:Zoë"),
        (
            "<?xml version='1.0' encoding='ISO-8859-1'?><Response><Say>Zoë</Say></Response>".encode(
                "latin-1"
            ),
            "text/xml",
            "Say:Zoë",
        ),
        (
            "<?xml version='1.0' encoding='ISO-8859-1'?><Response><Say>Zoë</Say></Response>".encode(),
            "text/xml; charset=utf-8",
            "Say:Zoë",
        ),
        (b"\xef\xbb\xbf<Response><Say>BOM</Say></Response>", "text/xml", "Say:BOM"),
        (b"<Response><Say><![CDATA[<b>]]></Say></Response>", "text/xml", "Say:<b>"),
        (b"<Response/>", "text/xml", ""),
    ],
)
def test_what_is_heard(body: bytes, content_type: str, expected: str):
    """Plain text that is no TwiML is read aloud; the header's charset goes before the declaration."""
    assert expected == heard(body, content_type)


def test_audio_is_played_from_where_it_came():
    """An audio answer of any size is a Play of its own URL, through the guard."""
    root = ET.fromstring(read(b"RIFF" * 100_000, "audio/x-wav", BASE).write(LINKS, turn=3))
    assert [each.tag for each in root] == ["Play"]
    assert stands_for(root[0].text or "") == f"m GET {BASE}"


BOMB = b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
BILLION = b"<!DOCTYPE r [" + b"".join(
    b'<!ENTITY e%d "%s">' % (each, (b"&e%d;" % (each - 1)) * 10 if each else b"ha") for each in range(12)
)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"<Response/>", None, "content_type: ?"),
        (b"<Response/>", "", "content_type: ?"),
        (b"<Response/>", "application/json; a=b", "content_type: application/json"),
        (b"<Response/>", "image/png", "content_type: image/png"),
        (b"<Response/>", "te xt\n", "content_type: ?"),
        (b"<Response/>", "text/xml; charset=utf-7", "document.charset"),
        (b"<Response/>", "text/plain; charset=zlib", "document.charset"),
        (b"", "text/xml", "document.empty"),
        (b" \r\n\t", "text/plain", "document.empty"),
        (b"hello", "text/xml", "document.parse"),
        (b"<html><body><p>404</body></html>", "text/html", "document.parse"),
        (b"<html><body/></html>", "text/html", "document.root"),
        (b"<response/>", "text/xml", "document.root"),
        (b"<Response xmlns='urn:x'/>", "text/xml", "document.root"),
        (b"<Response><Say>", "text/xml", "document.parse"),
        (b"<Response/><Response/>", "text/xml", "document.parse"),
        (b"<Response><Say>&nbsp;</Say></Response>", "text/xml", "document.parse"),
        (b"<Response><Say>\xff</Say></Response>", "text/xml", "document.parse"),
        (b"<Response><Say>\xff</Say></Response>", "text/xml; charset=utf-8", "document.parse"),
        (b"\xff\xfe<", "text/xml; charset=utf-16", "document.parse"),
        (b"<Response><x:Say/></Response>", "text/xml", "document.parse"),
        (b"<!DOCTYPE Response><Response/>", "text/xml", "document.dtd"),
        (b"<!DOCTYPE Response><Response/>", "text/plain", "document.dtd"),
        (b"<!DOCTYPE Response SYSTEM 'http://evil.example/x.dtd'><Response/>", "text/xml", "document.dtd"),
        (BOMB + b"<Response a='&b;'>&b;</Response>", "text/xml", "document.dtd"),
        (
            b"<!DOCTYPE r [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><Response>&x;</Response>",
            "text/xml",
            "document.dtd",
        ),
        ("<!DOCTYPE Response><Response/>".encode("utf-16"), "text/xml", "document.dtd"),
        (
            b"<Response xmlns:x='urn:x'><x:Dial>+1555</x:Dial></Response>",
            "text/xml",
            "document.namespace: Dial",
        ),
        (b"<Response><Dial xmlns='urn:x'>+1555</Dial></Response>", "text/xml", "document.namespace: Dial"),
    ],
)
def test_what_cannot_be_taken_is_refused(body: bytes, content_type: str | None, reason: str):
    """Twilio's own refusals, and everything that two readers might read in two ways."""
    assert reason == refusal(read, body, content_type, BASE)


def test_entities_neither_grow_nor_take_long():
    """A billion laughs, in content or in an attribute, are refused at once."""
    started = time.monotonic()
    for body in (b"]><Response>&e11;</Response>", b"]><Response a='&e11;'/>"):
        assert refusal(read, BILLION + body, "text/xml", BASE) in {"document.parse", "document.dtd"}
    assert time.monotonic() - started < 1


def test_limits_of_size():
    """64 kB, 2,000 elements and 16 levels go; one more of each does not."""
    frame = len(twiml("<Say></Say>"))
    fits = twiml(f"<Say>{'a' * (DOCUMENT_BYTES_MAX - frame)}</Say>")
    assert len(fits) == DOCUMENT_BYTES_MAX
    assert read(fits, "text/xml", BASE).transfers == ()
    assert refusal(read, fits + b" ", "text/xml", BASE) == "document.size"
    assert taken("<Hangup/>" * (ELEMENTS_MAX - 1)).transfers == ()
    assert refusal(taken, "<Hangup/>" * ELEMENTS_MAX) == "document.elements"
    assert taken("<p>" * 15 + "</p>" * 15).transfers == ()
    assert refusal(taken, "<p>" * 16 + "</p>" * 16) == "document.depth"
    assert refusal(taken, "<p>" * 300 + "</p>" * 300) == "document.parse"


def test_what_grows_over_the_limit_by_its_links_is_refused():
    """Twilio takes 64 kB from us as well."""
    assert refusal(written, "<Gather/>" * 1_000) == "document.size"


def test_comments_and_instructions_are_gone():
    """What a comment hides or splits is neither seen by Twilio nor missed by us."""
    document = taken("<?php x ?><!-- <Dial>+1</Dial> --><Dial>+1555<!-- -->010<?y?>0199</Dial>")
    assert document.transfers == (Site(0, (Target("number", "+15550100199"),)),)
    assert document.write(LINKS, turn=3).endswith(b"<Response><Dial>+15550100199</Dial></Response>")


def test_a_document_shows_nothing_in_its_repr():
    """What is said to the caller is his own affair."""
    shown = repr(taken("<Say>Your balance is 12</Say>")) + repr(Carry(0, "SECRET", "/w"))
    assert "12" not in shown
    assert "SECRET" not in shown


# ---------------------------------------------------------------- transfers

ADDRESS = "sip:a:pw@PBX.example;transport=tls?X-Name=me&amp;X-At=x@y"


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<Say>x</Say><Hangup/>", []),
        ("<Dial>+1 (555) 010-0199</Dial>", [(0, "number +15550100199")]),
        ("<Dial> 1-800-FLOWERS </Dial>", [(0, "number 1-800-FLOWERS")]),
        ("<Dial><Number>415.123.4567</Number></Dial>", [(0, "number 4151234567")]),
        ("<Dial><Client> joey </Client></Dial>", [(0, "client joey")]),
        ("<Dial><Client>no<Identity> alice </Identity></Client></Dial>", [(0, "client alice")]),
        ("<Dial><Client/></Dial>", [(0, "client ")]),
        (f"<Dial><Sip>\n{ADDRESS}\n</Sip></Dial>", [(0, "sip sip:a@pbx.example")]),
        ("<Dial><Sip>kate@Example.com</Sip></Dial>", [(0, "sip sip:kate@example.com")]),
        ("<Dial><Sip>SIPS:Kate@x</Sip></Dial>", [(0, "sip sips:Kate@x")]),
        ("<Dial><Sip>sip:pbx.example:5061;x=y</Sip></Dial>", [(0, "sip sip:pbx.example:5061")]),
        (
            "<Dial><Sip><Uri>sip:a@b</Uri><Headers><Header name='n'/></Headers></Sip></Dial>",
            [(0, "sip sip:a@b")],
        ),
        ("<Dial><Conference> My room </Conference></Dial>", [(0, "conference My room")]),
        ("<Dial><Queue>support</Queue></Dial>", [(0, "queue support")]),
        ("<Dial><WhatsApp>+1 555</WhatsApp></Dial>", [(0, "whatsapp +1555")]),
        ("<Dial><WhatsApp>whatsapp:+1555</WhatsApp></Dial>", [(0, "whatsapp whatsapp:+1555")]),
        ("<Dial><Application>AP1</Application></Dial>", [(0, "application AP1")]),
        (
            "<Dial><Application><ApplicationSid>AP2</ApplicationSid></Application></Dial>",
            [(0, "application AP2")],
        ),
        ("<Dial><Sim>DE1</Sim></Dial>", [(0, "sim DE1")]),
        ("<Dial><Number>1</Number><Client>b</Client></Dial>", [(0, "number 1, client b")]),
        ("<Dial>'<Number>1</Number>'</Dial>", [(0, "number 1")]),
        ("<Dial/>", [(0, "unknown ")]),
        ("<Dial><Ninja/></Dial>", [(0, "unknown Ninja")]),
        ("<Dial>+1555<Ninja/></Dial>", [(0, "number +1555, unknown Ninja")]),
        ("<Dial>+1 <Ninja/>555</Dial>", [(0, "number +1555, unknown Ninja")]),
        ("<Dial><Number>1</Number><Ninja/></Dial>", [(0, "number 1, unknown Ninja")]),
        ("<Enqueue> support </Enqueue>", [(0, "enqueue support")]),
        ("<Enqueue/>", [(0, "enqueue ")]),
        ("<Enqueue workflowSid='WW1'/>", [(0, "workflow WW1")]),
        ("<Enqueue workflowSid='WW1'>x<Task>{}</Task></Enqueue>", [(0, "workflow WW1, enqueue x")]),
        ("<Enqueue workflowSid=' '>x</Enqueue>", [(0, "enqueue x")]),
        ("<Queue>x</Queue>", [(0, "queue x")]),
        ("<Refer><Sip>alice@pbx</Sip></Refer>", [(0, "refer sip:alice@pbx")]),
        ("<Refer/>", [(0, "unknown ")]),
        ("<Connect><Room>r</Room></Connect>", [(0, "room r")]),
        (
            "<Connect><Conversation serviceInstanceSid='IS1'>x</Conversation></Connect>",
            [(0, "conversation IS1")],
        ),
        ("<Connect><Conversation>x</Conversation></Connect>", [(0, "conversation x")]),
        ("<Connect><Novelty/></Connect>", [(0, "unknown Novelty")]),
        ("<Connect/><Connect><Stream/></Connect><Connect><VirtualAgent/></Connect>", []),
        ("<Connect><ConversationRelay/></Connect><Connect><AiSession/></Connect>", []),
        ("<Gather/><Say/><Dial>1</Dial><Enqueue>q</Enqueue>", [(2, "number 1"), (3, "enqueue q")]),
        ("<Hangup/><Refer><Sip>a@b</Sip></Refer>", [(1, "refer sip:a@b")]),
    ],
)
def test_transfers_are_found_wherever_they_stand(inner: str, expected: list[tuple[int, str]]):
    """Every verb and noun that can reach a person, also behind a Gather; what nobody knows is `unknown`."""
    found = [
        (site.index, ", ".join(f"{each.kind} {each.value}" for each in site.targets))
        for site in taken(inner).transfers
    ]
    assert expected == found


@pytest.mark.parametrize(
    ("inner", "detail"),
    [
        ("<Gather><Dial>+1</Dial></Gather>", "Gather>Dial"),
        ("<Say><Enqueue>x</Enqueue></Say>", "Say>Enqueue"),
        ("<Prompt><Refer/></Prompt>", "Prompt>Refer"),
        ("<Start><Connect/></Start>", "Start>Connect"),
        ("<Ninja><Dial/></Ninja>", "Ninja>Dial"),
        ("<Number>+1</Number>", "Response>Number"),
        ("<Connect><Client>x</Client></Connect>", "Connect>Client"),
        ("<Sip>a@b</Sip>", "Response>Sip"),
        ("<Gather><Queue>x</Queue></Gather>", "Gather>Queue"),
        ("<Dial><Conversation/></Dial>", "Dial>Conversation"),
        ("<Room>r</Room>", "Response>Room"),
        ("<Response><Dial/></Response>", "Response>Response"),
        ("<Redirect>/a<Say/></Redirect>", "Redirect>Say"),
        ("<Play>/a<b/></Play>", "Play>b"),
        ("<Dial>+15550100<Number>+15550101</Number></Dial>", "Dial>text"),
    ],
)
def test_a_transfer_where_twilio_runs_none_is_refused(inner: str, detail: str):
    """Rather refused than guessed at."""
    assert f"document.nesting: {detail}" == refusal(taken, inner)


# ---------------------------------------------------------------- links, place by place


@pytest.mark.parametrize(
    ("inner", "path", "attribute", "expected"),
    [
        ("<Gather action='next'/>", "Gather", "action", "t POST https://ivr.example.com/app/next"),
        ("<Gather action='next' method='GET'/>", "Gather", "action", "t GET https://ivr.example.com/app/next"),
        ("<Gather/>", "Gather", "action", f"t POST {CURRENT}"),
        ("<Gather action=' ' method='get'/>", "Gather", "action", f"t GET {CURRENT}"),
        ("<Record method='PUT'/>", "Record", "action", f"t POST {CURRENT}"),
        ("<Redirect/>", "Redirect", "", f"t POST {CURRENT}"),
        ("<Redirect method='GET'> ?a=1 </Redirect>", "Redirect", "", "t GET https://ivr.example.com/app/voice?a=1"),
        ("<Redirect>//cdn.example.com</Redirect>", "Redirect", "", "t POST https://cdn.example.com/"),
        ("<Dial action='/d#rc=2'>1</Dial>", "Dial", "action", "t POST https://ivr.example.com/d#rc=2"),
        ("<Dial referUrl='/r' referMethod='GET'>1</Dial>", "Dial", "referUrl", "t GET https://ivr.example.com/r"),
        ("<Dial><Number url='w'>1</Number></Dial>", "Dial/Number", "url", "w POST https://ivr.example.com/app/w"),
        ("<Dial><Conference waitUrl='/w'>c</Conference></Dial>", "Dial/Conference", "waitUrl",
         "q POST https://ivr.example.com/w"),
        ("<Enqueue waitUrl='/w' waitUrlMethod='GET'>e</Enqueue>", "Enqueue", "waitUrl", "q GET https://ivr.example.com/w"),
        ("<Dial><Queue url='/w'>c</Queue></Dial>", "Dial/Queue", "url", "q POST https://ivr.example.com/w"),
        ("<Queue url='/w' method='GET'>c</Queue>", "Queue", "url", "q GET https://ivr.example.com/w"),
        ("<Start><Transcription statusCallbackUrl='/s' statusCallbackMethod='GET'/></Start>", "Start/Transcription",
         "statusCallbackUrl", "s GET https://ivr.example.com/s"),
        ("<Record transcribeCallback='/t' method='GET'/>", "Record", "transcribeCallback", "s POST https://ivr.example.com/t"),
        ("<Play>a.mp3</Play>", "Play", "", "m GET https://ivr.example.com/app/a.mp3"),
        ("<Connect><Conversation url='/c'/></Connect>", "Connect/Conversation", "url", "t POST https://ivr.example.com/c"),
        # what nobody knows yet
        ("<Dial newUrl='https://cdn.example.com/n'>1</Dial>", "Dial", "newUrl", "t POST https://cdn.example.com/n"),
        ("<Dial wherever=' //cdn.example.com/n'>1</Dial>", "Dial", "wherever", "t POST https://cdn.example.com/n"),
        ("<Gather newCallbackUrl='https://cdn.example.com/n'/>", "Gather", "newCallbackUrl", "s POST https://cdn.example.com/n"),
        ("<Say><audio src='https://cdn.example.com/a.mp3'/></Say>", "Say/audio", "src", "m GET https://cdn.example.com/a.mp3"),
        ("<Novelty>https://cdn.example.com/n</Novelty>", "Novelty", "", "t POST https://cdn.example.com/n"),
    ],
)  # fmt: skip
def test_each_link_is_led_back_with_its_method(inner: str, path: str, attribute: str, expected: str):
    """Absolute, kind and method inside, POST outside; what Twilio would supply is written down."""
    element = written(inner).find(path)
    assert element is not None
    link = element.get(attribute) if attribute else element.text
    assert expected == stands_for(link or "")
    assert {"POST"} >= {value for name, value in element.items() if name.lower().endswith("method")} - {"GET"}


@pytest.mark.parametrize(
    "inner",
    [
        '<Dial><Conference waitUrl="">c</Conference></Dial>',
        '<Dial action=""><Queue url="" method="GET">q</Queue></Dial>',
        "<Play/>",
        '<Play digits="ww1"> </Play>',
        '<Connect><Stream url=""/></Connect>',
        '<Say voice="x" newUrl="relative">https://elsewhere.example</Say>',
        '<Hangup><Parameter name="u" value="https://elsewhere.example"/></Hangup>',
        "<Novelty>relative</Novelty>",
        '<Say xml:lang="de" xml:space="preserve"> x </Say>',
    ],
)
def test_what_is_no_link_stays(inner: str):
    """Silence, keys, data, spoken text, and relative values that lead to the guard by themselves."""
    assert taken(inner).write(LINKS, turn=3).endswith(twiml(inner))


def test_foreign_names_mean_nothing_and_go():
    """Attributes in another XML namespace are no TwiML."""
    root = written(
        '<Say xmlns:xsi="urn:x" xsi:loc="https://elsewhere.example" xml:base="https://e.example">x</Say>'
    )
    assert root[0].items() == []


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<Redirect>https://evil.example/x?secret=1</Redirect>", "link.origin: Redirect evil.example"),
        ("<Play>http://evil.example/a.mp3</Play>", "link.origin: Play evil.example"),
        ("<Gather action='//evil.example'/>", "link.origin: Gather@action evil.example"),
        ("<Gather action='ftp://ivr.example.com/x'/>", "link.origin: Gather@action ftp:"),
        (
            "<Dial><Number url='https://u@ivr.example.com/'>1</Number></Dial>",
            "link.origin: Number@url ivr.example.com",
        ),
        ("<Redirect>/.ivrguard/call/x</Redirect>", "link.origin: Redirect ivr.example.com"),
        ("<Redirect>../.ivrguard/call/x</Redirect>", "link.origin: Redirect ivr.example.com"),
        ("<Redirect>/a%2Fb</Redirect>", "link.path: Redirect"),
        ("<Redirect>/\\evil.example</Redirect>", "link.origin: Redirect ivr.example.com"),
        ("<Redirect>/a&#10;b</Redirect>", "link.origin: Redirect ivr.example.com"),
        ("<Redirect>/a?_ivrguard=tp.1.x</Redirect>", "link.mac: Redirect ivr.example.com"),
        ("<Connect><Stream url='wss://evil.example/in'/></Connect>", "link.origin: Stream@url"),
        ("<Connect><ConversationRelay url='/in'/></Connect>", "link.origin: ConversationRelay@url"),
        ("<Dial newUrl='https://evil.example'>1</Dial>", "link.origin: Dial@newUrl evil.example"),
        ("<Dial new='wss://evil.example'>1</Dial>", "link.origin: Dial@new"),
        ("<Say><audio src='https://evil.example/a'/></Say>", "link.origin: audio@src evil.example"),
        ("<Novelty>https://evil.example</Novelty>", "link.origin: Novelty evil.example"),
    ],
)
def test_links_that_lead_away_are_refused_with_their_place(inner: str, expected: str):
    """The operator reads element, attribute and host; never a query."""
    assert expected == refusal(written, inner)


def test_an_unknown_socket_to_a_listed_host_stays():
    """The same rule as for the sockets that are known."""
    assert written("<Dial new='wss://iva.example.com/x'>1</Dial>")[0].get("new") == "wss://iva.example.com/x"


@pytest.mark.parametrize(
    ("leg", "inner", "kinds"),
    [
        (Kind.T, "<Gather action='/a' partialResultCallback='/p'/><Redirect>/r</Redirect>", "t s t"),
        (Kind.W, "<Gather action='/a' partialResultCallback='/p'/><Redirect>/r</Redirect>", "w s w"),
        (Kind.W, "<Gather/><Redirect/><Play>/p</Play>", "w w m"),
        (Kind.W, "<Novelty newUrl='https://cdn.example.com'>https://cdn.example.com</Novelty>", "w w"),
        (Kind.Q, "<Gather/><Record/><Redirect/><Play>/p</Play>", "t t q m"),
        (Kind.Q, "<Pay action='/a'/><Connect action='/b'><Stream/></Connect>", "t t"),
    ],
)
def test_what_a_leg_follows_stays_on_the_leg(leg: Kind, inner: str, kinds: str):
    """A callee's links stay whispers; a wait loop stays one, but what is keyed there is gated."""
    root = ET.fromstring(taken(inner).write(LINKS, turn=3, leg=leg))
    links = [value for each in root.iter() for value in (*each.attrib.values(), each.text or "")]
    assert kinds.split() == [stands_for(each)[0] for each in links if each.startswith(GUARD)]


@pytest.mark.parametrize("leg", [Kind.W, Kind.Q])
@pytest.mark.parametrize(
    "inner", ["<Dial>1</Dial>", "<Say/><Enqueue>q</Enqueue>", "<Connect><Room>r</Room></Connect>"]
)
def test_no_transfer_from_a_whisper_or_a_wait_loop(leg: Kind, inner: str):
    """These legs are not gated, so nothing may be connected from them."""
    assert refusal(written, inner, leg=leg).startswith("document.transfer_here: ")


@pytest.mark.parametrize("leg", [Kind.S, Kind.M])
def test_nobody_hears_a_notices_reply(leg: Kind):
    """A reply to a status callback or a piece of media is never a document."""
    with pytest.raises(ValueError, match="nobody hears"):
        written("<Say>x</Say>", leg=leg)


def test_a_document_from_another_listed_origin_stays_there():
    """Relative links are resolved against the document's own URL, after redirects."""
    document = taken("<Redirect>next</Redirect>", "https://cdn.example.com/ivr/start")
    root = ET.fromstring(document.write(LINKS, turn=3))
    assert stands_for(root[0].text or "") == "t POST https://cdn.example.com/ivr/next"


# ---------------------------------------------------------------- cut and rest

WHOLE = "a<Say>1</Say>b<Gather action='x'/><Dial action='/d'>+1</Dial>c<Say>2</Say><Redirect>y</Redirect>d"


def test_a_cut_document_leads_to_the_guard_in_place_of_the_transfer():
    """What stands before is said; then the guard goes on, whatever stood there."""
    url = f"{GUARD}/.ivrguard/call/hand-over?a=1&b=2"
    root = written(WHOLE, cut=Cut(2, url))
    assert [each.tag for each in root] == ["Say", "Gather", "Redirect"]
    assert (root[2].text, root[2].attrib) == (url, {"method": "POST"})
    assert taken(WHOLE).rest(2) == (
        b'<Response><Dial action="/d">+1</Dial>c<Say>2</Say><Redirect>y</Redirect>d</Response>'
    )


def test_what_is_cut_off_is_not_judged_yet():
    """A link behind the cut is looked at when the rest is written."""
    whole = "<Say>1</Say><Dial>1</Dial><Redirect>https://evil.example</Redirect>"
    assert len(written(whole, cut=Cut(1, GUARD))) == 2
    rest = read(taken(whole).rest(1), "text/xml", BASE)
    assert refusal(rest.write, LINKS, turn=3) == "link.origin: Redirect evil.example"


def test_a_document_can_be_written_again():
    """Writing changes nothing in the document: cut, whole, and cut again."""
    document = taken(WHOLE)
    first = document.write(LINKS, turn=3, cut=Cut(2, GUARD), carry=None)
    whole = document.write(LINKS, turn=3)
    assert first != whole
    assert (first, whole) == (document.write(LINKS, turn=3, cut=Cut(2, GUARD)), document.write(LINKS, turn=3))


# ---------------------------------------------------------------- carrying a token

TOKEN = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
WHISPER = f"{GUARD}/.ivrguard/call/whisper?t=1"


def carried(inner: str, index: int = 0) -> str:
    """Return the verb at `index` as it is written with the token in it."""
    body = taken(inner).write(LINKS, turn=3, carry=Carry(index, TOKEN, WHISPER))
    return ET.tostring(ET.fromstring(body)[index], encoding="unicode")


PARAMETER = f'<Parameter name="ivrguard_token" value="{TOKEN}" />'
IN_CLIENT = f"<Dial><Client><Identity>joe</Identity>%s{PARAMETER}</Client></Dial>"
IN_URI = f"X-Ivrguard-Token={TOKEN}"
IN_WHISPER = f'url="{WHISPER}" method="POST"'
IN_TASK = f'{{"ivrguard_token":"{TOKEN}"}}'
SIM = "<Sim>DE1</Sim>"
HEADERS = '<Headers><Header name="X-A" value="1" /></Headers>'


@pytest.mark.parametrize(
    ("inner", "carriers", "expected"),
    [
        ("<Dial><Client>joe</Client></Dial>", {"parameter"}, IN_CLIENT % ""),
        (
            '<Dial><Client><Identity>joe</Identity><Parameter name="a" value="b" /></Client></Dial>',
            {"parameter"},
            IN_CLIENT % '<Parameter name="a" value="b" />',
        ),
        (
            '<Dial><Client> joe <Parameter name="a" value="b" /> </Client></Dial>',
            {"parameter"},
            IN_CLIENT % '<Parameter name="a" value="b" />',
        ),
        (
            "<Dial><Application>AP1</Application></Dial>",
            {"parameter"},
            f"<Dial><Application><ApplicationSid>AP1</ApplicationSid>{PARAMETER}</Application></Dial>",
        ),
        ("<Dial><Sip>sip:a@b.c</Sip></Dial>", {"sip"}, f"<Dial><Sip>sip:a@b.c?{IN_URI}</Sip></Dial>"),
        (
            "<Dial><Sip>\n sip:a@b.c;transport=tls?X-A=%26&amp;x-ivrguard-token=old \n</Sip></Dial>",
            {"sip"},
            f"<Dial><Sip>sip:a@b.c;transport=tls?X-A=%26&amp;{IN_URI}</Sip></Dial>",
        ),
        (
            f'<Dial><Sip> <Uri p="1"> sip:a@b.c? </Uri> {HEADERS}</Sip></Dial>',
            {"sip"},
            f'<Dial><Sip> <Uri p="1">sip:a@b.c?{IN_URI}</Uri> {HEADERS}</Sip></Dial>',
        ),
        (
            f"<Dial><Sip>sip:a@b.c{HEADERS} </Sip></Dial>",
            {"sip"},
            f"<Dial><Sip>sip:a@b.c?{IN_URI}{HEADERS}</Sip></Dial>",
        ),
        ("<Refer><Sip>al@pbx</Sip></Refer>", {"sip"}, f"<Refer><Sip>al@pbx?{IN_URI}</Sip></Refer>"),
        ("<Refer />", {"call"}, "<Refer />"),
        (
            '<Dial timeout="9">+1 555<Ninja/></Dial>',
            {"whisper", "call"},
            f'<Dial timeout="9"><Number {IN_WHISPER}>+1 555</Number><Ninja /></Dial>',
        ),
        (
            f'<Dial><Number sendDigits="1">+1</Number><WhatsApp>+2</WhatsApp>{SIM}</Dial>',
            {"whisper", "call"},
            f'<Dial><Number sendDigits="1" {IN_WHISPER}>+1</Number><WhatsApp {IN_WHISPER}>+2</WhatsApp>{SIM}</Dial>',
        ),
        (
            '<Dial><Number url="/mine" method="GET">+1</Number></Dial>',
            {"whisper"},
            f"<Dial><Number {IN_WHISPER}>+1</Number></Dial>",
        ),
        ("<Dial><Conference>c</Conference></Dial>", {"call"}, "<Dial><Conference>c</Conference></Dial>"),
        ("<Dial><Queue>q</Queue></Dial>", {"call"}, "<Dial><Queue>q</Queue></Dial>"),
        ("<Dial/>", {"call"}, "<Dial />"),
        ("<Enqueue>support</Enqueue>", {"call"}, "<Enqueue>support</Enqueue>"),
        ("<Queue>q</Queue>", {"call"}, "<Queue>q</Queue>"),
        ("<Connect><Room>r</Room></Connect>", {"call"}, "<Connect><Room>r</Room></Connect>"),
        (
            '<Enqueue workflowSid="WW1"/>',
            {"task"},
            f'<Enqueue workflowSid="WW1"><Task>{IN_TASK}</Task></Enqueue>',
        ),
        (
            '<Enqueue workflowSid="WW1"><Task priority="2"> </Task></Enqueue>',
            {"task"},
            f'<Enqueue workflowSid="WW1"><Task priority="2">{IN_TASK}</Task></Enqueue>',
        ),
    ],
)
def test_a_token_travels_where_the_callee_can_read_it(inner: str, carriers: set[str], expected: str):
    """Task attributes, a client's parameter, a SIP header, a whisper; otherwise only the call itself."""
    assert carriers == taken(inner).carriers(0)
    assert expected == carried(inner)


def test_only_the_transfer_in_question_carries():
    """The one at the index, not its neighbours; a later one may be cut off at the same time."""
    inner = "<Dial><Client>a</Client></Dial><Dial><Client>b</Client></Dial><Dial><Client>c</Client></Dial>"
    root = written(inner, carry=Carry(1, TOKEN, WHISPER), cut=Cut(2, GUARD))
    assert [len(each.findall("Client/Parameter")) for each in root] == [0, 1, 0]
    assert taken("<Say/><Dial><Sip>a@b</Sip></Dial>").carriers(1) == {"sip"}


TASK = (
    '{"a": 1.5, "n": 12345678901234567890, "é\\u0000\\ud800": [null, {"b": "<&>"}], "ivrguard_token": "old"}'
)


def test_a_task_keeps_its_attributes():
    """The whole object stays; a token of an earlier leg is replaced."""
    escaped = TASK.replace("&", "&amp;").replace("<", "&lt;")
    body = carried(f"<Enqueue workflowSid='WW1'><Task>{escaped}</Task></Enqueue>")
    assert {**json.loads(TASK), "ivrguard_token": TOKEN} == json.loads(ET.fromstring(body)[0].text or "")


@pytest.mark.parametrize(
    "task", ["foo", "[1]", "1", '"x"', "{", "null", '{"a": NaN}', '{"a": 1e999}', "[" * 40_000]
)
def test_a_task_that_is_no_json_object_cannot_carry(task: str):
    """TaskRouter would refuse it too; nothing of its text is shown."""
    assert (
        refusal(carried, f"<Enqueue workflowSid='WW1'><Task>{task}</Task></Enqueue>")
        == "task.json: Enqueue>Task"
    )


def test_a_sip_uri_has_a_limit():
    """Less than 255 characters with the token, or the transfer is refused."""
    room = 254 - len(f"sip:@b?X-Ivrguard-Token={TOKEN}")
    assert TOKEN in carried(f"<Dial><Sip>sip:{'a' * room}@b</Sip></Dial>")
    assert refusal(carried, f"<Dial><Sip>sip:{'a' * (room + 1)}@b</Sip></Dial>") == "sip.length: Sip"


def test_the_ivrs_own_whispers_are_remembered():
    """Absolute, with their method and the number they are for; and they must be listed as any link."""
    inner = (
        "<Say/><Dial>"
        "<Number url='w?m=' method='GET'>+1 5</Number><Number url=' '>+2</Number><Number>+3</Number>"
        "<WhatsApp url='/w'>+4</WhatsApp><Client url='/c'>joe</Client></Dial>"
    )
    expected = (
        Whisper(Target("number", "+15"), "https://ivr.example.com/app/w?m=", "GET"),
        Whisper(Target("whatsapp", "+4"), "https://ivr.example.com/w", "POST"),
    )
    assert expected == taken(inner).own_whispers(1)
    assert taken("<Dial>+1</Dial>").own_whispers(0) == ()
    assert refusal(carried, "<Dial><Number url='https://evil.example'>+1</Number></Dial>") == (
        "link.origin: Number@url evil.example"
    )


# ---------------------------------------------------------------- promises

REFERENCES = st.sampled_from(
    ["", " next ", "/a/b?x=%2B&y[0]=", "../up#rc=2", "?q", "//cdn.example.com/x", "https://cdn.example.com",
     "https://ivr.example.com/app/voice?line=1", "http://guard.test/menu", "https://guard.test/menu?a=1"]
)  # fmt: skip
ELSEWHERE = st.sampled_from(
    ["https://evil.example/x", "//evil.example", "http://ivr.example.com:81/", "https://a@cdn.example.com"]
)
METHODS = st.sampled_from(["GET", "POST", "get"])
NESTED = {
    "Gather": ["Say", "Play"],
    "Dial": ["Number", "Client", "Sip", "Conference", "Queue", "WhatsApp", "Application"],
    "Connect": ["Conversation", "Room", "VirtualAgent"],
    "Start": ["Siprec", "Transcription", "Recording"],
    "Refer": ["Sip"],
}
VERBS = [
    "Say",
    "Play",
    "Redirect",
    "Gather",
    "Record",
    "Dial",
    "Enqueue",
    "Refer",
    "Connect",
    "Start",
    "Pay",
    "Sms",
]


@st.composite
def elements(draw: st.DrawFn, references: st.SearchStrategy[str], tags: list[str]) -> ET.Element:
    tag = draw(st.sampled_from(tags))
    element = ET.Element(tag)
    for name, (_, method) in module._LINKS.get(tag, {}).items():
        if draw(st.booleans()):
            element.set(name, draw(references))
        if method and draw(st.booleans()):
            element.set(method, draw(METHODS))
    if tag in {"Redirect", "Play"}:
        element.text = draw(references)
    elif tag not in NESTED:
        element.text = draw(st.sampled_from(["", "x", "<&>", "+15550100"]))
    for _ in range(draw(st.integers(0, 2)) if tag in NESTED else 0):
        element.append(draw(elements(references, NESTED[tag])))
    return element


@st.composite
def documents(draw: st.DrawFn, references: st.SearchStrategy[str]) -> bytes:
    root = ET.Element("Response")
    root.extend(draw(st.lists(elements(references, VERBS), max_size=5)))
    return ET.tostring(root)


@given(documents(REFERENCES))
def test_no_document_leads_round_the_guard(body: bytes):
    """Promise: whatever verbs and links a document has, every link leads back."""
    assert round_the_guard(read(body, "text/xml", BASE).write(LINKS, turn=3), LINKS) == []


@given(documents(REFERENCES | ELSEWHERE))
def test_a_document_passes_only_if_all_its_links_are_listed(body: bytes):
    """Promise: one link to elsewhere refuses the document; without one it passes."""
    values = [
        value for each in ET.fromstring(body).iter() for value in (*each.attrib.values(), each.text or "")
    ]
    bad = any("evil" in each or ":81" in each or "a@cdn" in each for each in values)
    document = read(body, "text/xml", BASE)
    if bad:
        assert refusal(document.write, LINKS, turn=3).startswith("link.origin: ")
    else:
        document.write(LINKS, turn=3)


@given(documents(REFERENCES), st.data())
def test_what_is_cut_and_the_rest_are_the_whole(body: bytes, data: st.DataObject):
    """Promise: the part before the cut and the rest, read again, are the whole document."""
    document = read(body, "text/xml", BASE)
    whole = list(ET.fromstring(document.write(LINKS, turn=3)))
    index = data.draw(st.integers(0, len(whole)))
    before = list(ET.fromstring(document.write(LINKS, turn=3, cut=Cut(index, GUARD))))
    assert before.pop().text == GUARD
    rest = read(document.rest(index), "text/xml", BASE)
    after = list(ET.fromstring(rest.write(LINKS, turn=3)))
    assert [ET.tostring(each) for each in whole] == [ET.tostring(each) for each in before + after]
    expected = [(each.index - index, each.targets) for each in document.transfers if each.index >= index]
    assert expected == [(each.index, each.targets) for each in rest.transfers]


@given(documents(REFERENCES), st.data())
def test_a_carried_token_changes_nothing_else(body: bytes, data: st.DataObject):
    """Promise: the other verbs are written as without a token, and the token stands where it was promised."""
    document = read(body, "text/xml", BASE)
    if not document.transfers:
        return
    site = data.draw(st.sampled_from(document.transfers))
    plain = list(ET.fromstring(document.write(LINKS, turn=3)))
    carrying = list(ET.fromstring(document.write(LINKS, turn=3, carry=Carry(site.index, TOKEN, WHISPER))))
    shown = ET.tostring(carrying.pop(site.index), encoding="unicode")
    plain.pop(site.index)
    assert [ET.tostring(each) for each in plain] == [ET.tostring(each) for each in carrying]
    assert (TOKEN in shown or WHISPER in shown) == bool(document.carriers(site.index) - {"call"})


@given(st.binary(max_size=200) | st.text("<>/Response Dial&;![CDATA]?xml=\"'", max_size=80).map(str.encode))
def test_no_body_makes_it_stumble(body: bytes):
    """Promise: any bytes under any type are taken or refused, and what is taken leads nowhere else."""
    for content_type in (
        "text/xml",
        "text/plain",
        "text/plain; charset=utf-16",
        "text/html; charset=latin-1",
    ):
        try:
            after = read(body, content_type, BASE).write(LINKS, turn=3)
        except Refused:
            continue
        assert round_the_guard(after, LINKS) == []
