"""Rows of single parts, in this process: reading a webhook and its signature, rewriting a document."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from urllib.parse import parse_qsl

from bench.load import ACCOUNT_SID, FIELDS, TOKEN, Poster, call_sid
from bench.rows import Row
from bench.servers import DOCUMENT, PUBLIC
from lxml import etree
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from ivrguard.telephony import delivery, document
from ivrguard.telephony.links import Links
from ivrguard.telephony.signature import Verifier

TIMES = 400
IVR = "https://ivr.example/voice"


def seconds(work: Callable[[], object]) -> float:
    """How long one of `TIMES` takes."""
    began = time.perf_counter()
    for _ in range(TIMES):
        work()
    return (time.perf_counter() - began) / TIMES


def side_by_side(
    rounds: int, ours: Callable[[], object], theirs: Callable[[], object]
) -> tuple[list[float], list[float]]:
    """Microseconds of both, in turn."""
    pairs = [(seconds(ours) * 1e6, seconds(theirs) * 1e6) for _ in range(rounds)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def rows(rounds: int) -> Iterator[Row]:
    """Both rows."""
    head, _, body = Poster(PUBLIC, "guard.example").request("/", call_sid(1)).partition(b"\r\n\r\n")
    signature = next(line for line in head.decode().split("\r\n") if line.startswith("X-Twilio")).partition(
        ": "
    )[2]
    verifier = Verifier(PUBLIC, {ACCOUNT_SID: (TOKEN.decode(),)})
    validator = RequestValidator(TOKEN.decode())

    def ours() -> bool:
        params = delivery.parse_form(body)
        return verifier.verify(
            target="/", params=params, body=body, signature=signature, account_sid=ACCOUNT_SID
        )

    def twilios() -> bool:
        form = MultiDict(parse_qsl(body.decode(), keep_blank_values=True))
        return bool(validator.validate(f"{PUBLIC}/", form, signature))

    assert ours()
    assert twilios()
    mine, other = side_by_side(rounds, ours, twilios)
    yield Row.of(
        "form parse and signature, 18 parameters; times as fast",
        "`parse_qsl` + twilio's validator; microseconds swapped",
        other,
        mine,
        3.0,
        5.0,
    )

    links = Links(PUBLIC, IVR, (), b"k" * 32)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    source = DOCUMENT.encode()

    def rewritten() -> bytes:
        return document.read(source, "text/xml", IVR).write(links, turn=1)

    def hardened() -> bytes:
        root = etree.fromstring(source, parser)
        for element in root.iter():
            for name in ("action", "recordingStatusCallback"):
                if name in element.attrib:
                    element.set(name, PUBLIC + element.get(name))
            if element.tag in {"Redirect", "Play"}:
                element.text = PUBLIC + (element.text or "")
        written: bytes = etree.tostring(root, encoding="UTF-8", xml_declaration=True)
        return written

    turns = count()

    def never_seen() -> bytes:
        said = source.replace(b"Goodbye", b"Number %d" % next(turns))
        return document.read(said, "text/xml", IVR).write(links, turn=1)

    assert never_seen().count(b"_ivrguard=") == rewritten().count(b"_ivrguard=")
    mine, other = side_by_side(rounds, never_seen, hardened)
    yield Row.of(
        "rewriting a 16-element document whose text was never seen before, 7 links, each with a MAC; microseconds",
        "hardened lxml parse, rewrite, write",
        mine,
        other,
        1.3,
        1.0,
        most=True,
    )
    mine, other = side_by_side(rounds, rewritten, hardened)
    yield Row.of(
        "the same document again, as an IVR says it to the next caller; microseconds",
        "hardened lxml parse, rewrite, write",
        mine,
        other,
        1.3,
        1.0,
        most=True,
    )
    assert len(FIELDS) == 17
