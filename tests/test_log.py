"""The log: declared fields in their forms, one line an event; secrets planted anywhere never come out."""

import ast
import base64
import io
import json
import logging
import math
import os
import re
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ivrguard import log
from ivrguard.core.errors import StoreFault, UpstreamFault

CALL = "CA0123456789abcdef0123456789abcdef"
ACCOUNT = "acc_abcdefgh234567ab"
MASK = log.MASK


def token(header):
    """A signed token with this header, as it looks."""
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{head}.{'eyJzZXEiOjd9' * 4}.{'x' * 86}"


CHECKPOINT = token({"alg": "EdDSA", "kid": "s1", "typ": "ivrguard-checkpoint+jwt"})
RECEIPT = token({"alg": "EdDSA", "kid": "s1", "typ": "ivrguard-receipt+jwt"})


class Written:
    """What came out: lines as they are, and read as JSON."""

    def __init__(self):
        self.stream = io.BytesIO()

    @property
    def text(self):
        return self.stream.getvalue().decode()

    @property
    def lines(self):
        return [json.loads(line) for line in self.text.splitlines()]

    def only(self):
        """The one line, without what is in all of them."""
        [line] = self.lines
        return {key: value for key, value in line.items() if key not in {"time", "level", "event"}}

    def clear(self):
        self.stream.seek(0)
        self.stream.truncate()


@pytest.fixture
def written():
    """The log, set up to be looked at; afterwards everything is as before."""
    root, found = logging.root, Written()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    log.configure("debug", found.stream)
    yield found
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers = handlers
    root.setLevel(level)


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_event_is_one_line_of_json(written):
    """When, how serious, what; then the fields."""
    log.get().warning("refused", reason="signature", status=403)
    [line] = written.lines

    assert {key: value for key, value in line.items() if key != "time"} == {
        "level": "warning",
        "event": "refused",
        "reason": "signature",
        "status": 403,
    }
    assert line["time"].endswith("Z")
    assert list(line) == ["time", "level", "event", "reason", "status"]


def test_no_value_can_begin_another_line(written):
    """Line ends of every kind, and signs that turn the direction of reading, become blanks."""
    log.get().info("a\nb", detail='x\r\n{"level":"error"}\u2028\u2029\u202e\x00\x85\ud800y', reason="\n\n")

    assert len(written.text.splitlines()) == 1
    assert written.lines[0]["event"] == "a b"
    assert written.only() == {"detail": 'x {"level":"error"} y', "reason": " "}


def test_long_texts_are_cut_between_words(written):
    """No half of a token is left where the cut is."""
    token = "A2" * 13
    log.get().info(
        "x", detail="word " * 239 + "ab " + token, hint="ok " * 99 + "zz" + " end", reason="y" * 5_000
    )
    found = written.only()

    assert all(len(text) <= log.TEXT_CHARS_MAX for text in found.values())
    assert found["reason"] == "…"
    assert "A2" not in written.text


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("warning", ["warning", "error", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_levels(written, level, expected):
    """What is less serious than the level is not written. A second `configure` reaches loggers in use."""
    logger = log.get()
    logger.info("before")
    written.clear()
    log.configure(level, written.stream)
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, name)("x")

    assert [line["level"] for line in written.lines] == expected


def test_without_a_stream_it_goes_to_standard_error(written, capfdbinary):
    """Where platforms collect it."""
    log.configure()
    log.get().info("hello")

    out, err = capfdbinary.readouterr()
    assert (out, json.loads(err)["event"]) == (b"", "hello")


def unread():
    """A pipe that nobody reads from any more."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb")


def full():
    """A disk that is full."""
    return Path("/dev/full").open("wb")


@pytest.mark.parametrize("opened", [unread, full])
def test_a_log_that_cannot_be_written_keeps_nobody_from_an_answer(written, opened):
    """However much is said; and what is said elsewhere afterwards comes out."""
    stream = opened()
    log.configure("debug", stream)
    for _ in range(100):
        log.get().error("x", detail="of some length " * 20)
    with pytest.raises(OSError):
        stream.close()  # it was not because all went well
    stream.raw.close()

    log.configure("debug", written.stream)
    log.get().info("here")
    assert [line["event"] for line in written.lines] == ["here"]


def test_a_context_is_in_every_line_written_in_it(written):
    """Call and request, so that a call's lines can be put together; afterwards they are gone."""
    request = log.request_id(bytes(range(8)))
    with log.context(call=CALL, request=request):
        log.get().info("inside", reason="x")
    log.get().info("outside")

    assert request == "req_0001020304050607"
    inside, outside = written.lines
    assert (inside["call"], inside["request"], inside["reason"]) == (CALL, request, "x")
    assert "call" not in outside


# ── fields ───────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_not_declared_is_dropped_by_name(written):
    """An allow-list: a new field must be thought about before it can come out."""
    log.get().info("x", pin="12345678", Digits="1", **{"4111111111111111": "x", "a b": 1}, reason="y")

    assert written.only() == {"reason": "y", "dropped": ["pin", MASK]}


def logged_by_our_code():
    """Every event that the code logs, and the names of what it says with it."""
    for source in sorted(Path(log.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger."):
                yield source.name, ast.unparse(node.args[0]), {each.arg for each in node.keywords}


def test_what_our_code_says_is_declared():
    """A field that is not would be dropped where an operator needs it; nobody would see it missing."""
    found = list(logged_by_our_code())
    assert len(found) > 50
    undeclared = [(*place, names - {*log.FIELDS, "exc_info"}) for *place, names in found]
    assert [each for each in undeclared if each[-1]] == []


def test_an_alert_is_named(written):
    """Flow, attack and the moment are told; anything else in its place is not."""
    log.get().warning("attack_suspected", alert="bank/spray/1790000000000/raised", attack="spray", need=20)
    log.get().warning("attack_suspected", alert="bank/24681357", attack="spray", need=20)

    first, second = written.lines
    assert (first["alert"], first["attack"], first["need"]) == (
        "bank/spray/1790000000000/raised",
        "spray",
        20,
    )
    assert second["alert"] == MASK


def test_names_of_the_log_itself_cannot_be_used_for_values(written):
    """`error`, `trace`, `logger` and so on are made here and nowhere else."""
    log.get().info(
        "x", error="12345678", trace=["12345678"], at="a:1", logger="l", _record="12345678", timestamp="t"
    )

    assert written.only() == {"dropped": ["at", "error", "logger", "trace"]}
    assert written.lines[0]["time"] != "t"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("call", CALL, CALL),
        ("call", "CA12345678", MASK),
        ("parent", CALL, CALL),
        ("request", "req_0123456789abcdef", "req_0123456789abcdef"),
        ("request", "0123456789abcdef", MASK),
        ("account", ACCOUNT, ACCOUNT),
        ("account", "12345678", MASK),
        ("account", "alice", MASK),
        ("version", "0123456789abcdef", "0123456789abcdef"),
        ("version", "4111111111111111", MASK),
        ("node", "f123456789abcdef", "f123456789abcdef"),
        ("caller", "+15551230001", f"+1555{MASK}0001"),
        ("caller", "+4930123456", f"+4930{MASK}3456"),
        ("caller", "+1234567", MASK),
        ("caller", "5551230001", MASK),
        ("caller", "sip:alice@example.com", MASK),
        ("dialled", "+18005550100", f"+1800{MASK}0100"),
        ("code", "11200", "11200"),
        ("code", "1234", MASK),
        ("code", 11200, MASK),
        ("checkpoint", CHECKPOINT, CHECKPOINT),
        ("checkpoint", RECEIPT, MASK),
        ("checkpoint", f"{CHECKPOINT} {RECEIPT}", MASK),
        ("checkpoint", CHECKPOINT.replace("eyJ", "%%%", 1), MASK),
        ("checkpoint", f"{'A' * 40}.{'B' * 40}.{'C' * 86}", MASK),
        ("checkpoint", 7, MASK),
        ("detail", CHECKPOINT, f"{MASK}.{MASK}.{MASK}"),
        ("host", "127.0.0.1", "127.0.0.1"),
        ("host", "::1", "::1"),
        ("host", "2001:db8::1", "2001:db8::1"),
        ("host", "ivr.bank.example", "ivr.bank.example"),
        ("host", "12345678", MASK),
        ("host", 5, MASK),
        ("status", 200, 200),
        ("status", "200", MASK),
        ("duration_ms", 1.23456, 1.235),
        ("duration_ms", 4111111111111111, MASK),
        ("duration_ms", math.inf, MASK),
        ("duration_ms", math.nan, MASK),
        ("known", True, True),
        ("reason", None, MASK),
        ("reason", b"12", MASK),
        ("reason", ["12"], MASK),
        ("reason", {"a": 1}, MASK),
    ],
)
def test_each_field_has_its_form(written, name, value, expected):
    """What has another form comes out as a mask, so that one sees that there was something."""
    log.get().info("x", **{name: value})

    assert written.only() == {name: expected}


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "the IVR did not answer within 10 s",
        "64 kB is the limit; 3 of 5 tries",
        "document.entity: no DTD in <Response>",
        "flows/bank.yaml: rules[1].require",
        "not_the_callers_leg",
        "/.ivrguard/agent/v1/redemptions",
        "upstream.content_type application/octet-stream",
        "ClientConnectorCertificateError",
        "ServerDisconnectedError: see the IVR's own log",
        "no flow has this number or name: see `numbers` in the flow files",
    ],
)
def test_plain_words_come_out_as_they_are(text):
    """What our own code says can be read."""
    assert text == log.scrub(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pin 1234", f"pin {MASK}"),
        ("1 2 3 4", MASK),
        ("1-2-3-4-5", MASK),
        ("1, 2, 3, 4", MASK),
        ("12.34.56", MASK),
        ("١٢٣٤ and １２３４", f"{MASK} and {MASK}"),
        ("call +15551230001 now", f"call {MASK} now"),
        ("a123 b123", "a123 b123"),
        ("card 4111 1111 1111 1111.", f"card {MASK}."),
        ("2025-11-22T10:30", f"{MASK}T{MASK}"),
        (f"call {CALL}", f"call {MASK}"),
        ("token ABCDEFGHJKMNPQRSTVWX012345", f"token {MASK}"),
        ("token ABCDEFGHJKMNPQRSTVWXYZABCD", f"token {MASK}"),
        ("token abcdefghjkmnpqrstvwxyzabcd", f"token {MASK}"),
        ("token AbCdEfGhIjKlMnOpQrStUvWx", f"token {MASK}"),
        ("key q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=", f"key {MASK}"),
        ("key q83v/jRWeJCr+e8SNFZ4/KvN7xI0V/iQq83v/jRWeJA=", f"key {MASK}"),
        ("Bearer eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJnIn0x.c2lnbmF0dXJlIGhlcmU", f"Bearer {MASK}.{MASK}.{MASK}"),
        ("k1=0123456789abcdef", MASK),
        ("https://ivr.example/voice?Digits=12&x=y", "https://ivr.example/voice"),
        ("see https://user:pass@ivr.example/a#rc=2 there", "see https://ivr.example/a there"),
        ("wss://ivr.example/1234/x", f"wss://ivr.example/{MASK}/x"),
    ],
)
def test_digits_tokens_and_queries_do_not_come_out(text, expected):
    """However they are spaced, in whatever digits they are written."""
    assert expected == log.scrub(text)


# ── exceptions ───────────────────────────────────────────────────────────────────────────────────────────


def raising(error):
    """Raises in a function of its own, so that there is a place."""
    raise error


def test_an_exception_is_its_class_and_its_places(written):
    """Its text may hold what a caller keyed; its place in the code is what mends it."""
    digits = "12345678"
    try:
        raising(ValueError(f"bad digits {digits} from Jane"))
    except ValueError:
        log.get().exception("bug")
    found = written.only()

    assert found["error"] == "ValueError"
    assert "detail" not in found
    assert [place.split(":")[0] for place in found["trace"]] == ["/".join(__file__.split("/")[-3:])] * 2
    assert [place.split(" ")[1] for place in found["trace"]] == [
        "test_an_exception_is_its_class_and_its_places",
        "raising",
    ]
    assert digits not in written.text
    assert "Jane" not in written.text


def test_a_fault_of_ours_speaks(written):
    """Its text names what to mend and holds no secret; it is scrubbed all the same. Causes are named."""
    try:
        try:
            raising(ConnectionResetError("12345678"))
        except ConnectionResetError as error:
            raise UpstreamFault("the IVR hung up after 12345678") from error
    except UpstreamFault:
        log.get().exception("fault")
    found = written.only()

    assert (found["error"], found["detail"]) == ("UpstreamFault", f"the IVR hung up after {MASK}")
    assert found["causes"] == ["ConnectionResetError"]


def test_causes_are_followed_a_little_and_groups_are_opened(written):
    """`from None` is respected; a chain has an end."""
    chain = ValueError()
    for _ in range(9):
        chain.__context__, chain = None, _caused(chain)
    log.get().error("a", exc_info=chain)
    silent = KeyError("12345678")
    silent.__context__, silent.__suppress_context__ = ValueError(), True
    log.get().error("b", exc_info=silent)
    log.get().error("c", exc_info=ExceptionGroup("12345678", [OSError(), StoreFault("x")]))
    a, b, c = written.lines

    assert a["causes"] == ["TypeError"] * log.CAUSES_MAX
    assert "causes" not in b
    assert (c["error"], c["causes"]) == ("ExceptionGroup", ["OSError", "StoreFault"])
    assert "12345678" not in written.text


def _caused(cause):
    error = TypeError()
    error.__cause__ = cause
    return error


def test_deep_traces_keep_their_end(written):
    """The last places are where it happened."""

    def deeper(depth):
        return deeper(depth - 1) if depth else raising(RecursionError())

    try:
        deeper(100)
    except RecursionError:
        log.get().exception("deep")
    trace = written.only()["trace"]

    assert len(trace) == log.FRAMES_MAX
    assert trace[-1].endswith(" raising")


@pytest.mark.parametrize("exc_info", [None, False, True, (None, None, None), "yes"])
def test_an_exception_that_is_none(written, exc_info):
    """Libraries say `exc_info=True` where nothing was raised."""
    log.get().error("x", exc_info=exc_info)

    assert written.only() == {}


@pytest.mark.parametrize(
    "form", [lambda error: error, lambda error: (type(error), error, None)], ids=["itself", "triple"]
)
def test_an_exception_that_is_handed_over(written, form):
    """In each of the forms that logging knows."""
    log.get().error("x", exc_info=form(KeyError("12345678")))

    assert written.only() == {"error": "KeyError", "trace": []}


# ── libraries ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_library_logs_comes_out_as_its_template(written):
    """Aiohttp's errors are in the same log, without what it filled in."""
    logging.getLogger("aiohttp.server").error(
        "Error handling request from %s", "203.0.113.7", exc_info=ValueError("12345678")
    )
    [line] = written.lines

    assert (line["level"], line["event"], line["logger"]) == ("error", "library", "aiohttp.server")
    assert (line["detail"], line["error"]) == ("Error handling request from %s", "ValueError")
    assert line["at"].split(":")[0] == "/".join(__file__.split("/")[-3:])
    assert "203" not in written.text


@pytest.mark.parametrize("message", ["Task for Jane with 12345678 was destroyed", ValueError("Jane")])
def test_a_library_message_without_a_template_is_left_out(written, message):
    """It may have been put together from anything."""
    logging.getLogger("asyncio").critical(message)

    assert set(written.only()) == {"logger", "at"}
    assert "Jane" not in written.text


def test_a_library_template_that_is_no_text_is_left_out(written):
    """Whatever was handed over as one."""
    record = logging.LogRecord("lib", logging.ERROR, "f.py", 1, ValueError("Jane"), ("x",), None)
    logging.root.handlers[0].emit(record)

    assert set(written.only()) == {"logger", "at"}


def test_libraries_are_heard_from_warning_on_and_in_our_levels(written):
    """What they chat about is not our log; levels of their own become the next lower one of ours."""
    logger = logging.getLogger("lib")
    for level in (5, 10, 20, 30, 35, 45, 60):
        logger.log(level, "x")

    assert [line["level"] for line in written.lines] == ["warning", "warning", "error", "critical"]


def test_a_record_below_all_levels_is_still_one_of_ours(written):
    """A handler may be handed anything."""
    logging.root.handlers[0].emit(logging.LogRecord("lib", 1, "f.py", 1, "x", None, None))

    assert [line["level"] for line in written.lines] == ["debug"]


# ── canaries: planted everywhere, found nowhere ──────────────────────────────────────────────────────────

DIGITS = ["4821", "482193", "48219375", "482193750614", "+4821", "4 8 2 1 9 3", "٤٨٢١٩٣"]
TOKENS = [
    "K7Q2M4X9T1B8N5C3V6Z0H2J4P8",  # a transfer's token: 26 characters
    "9f8e7d6c5b4a39281706f5e4d3c2b1a0",  # an auth token: 32 hex digits
    "dGhpcyBpcyBhIDMyLWJ5dGUga2V5IGZvciB0ZXN0cyE=",  # a key in base64
    "eyJhbGciOiJFZERTQSIsInR5cCI6InJlY2VpcHQrand0In0.eyJpc3MiOiJodHRwczovL2d1YXJkIn0.c2ln",
]


@pytest.mark.parametrize("canary", [*DIGITS, *TOKENS])
def test_a_canary_in_any_field_never_comes_out(written, canary):
    """In each declared field, in others, in the event, the context, an exception, and a library's record."""
    logger = log.get()
    for name in log.FIELDS:
        for text in (canary, f"before {canary} after", f"x={canary}&y", f'"{canary}"', f"({canary})"):
            logger.info("x", **{name: text})
    logger.info(canary, **{"token": canary, canary: "x"})
    logger.info("%s", canary)
    with log.context(call=canary, request=canary, account=canary):
        logger.info("x")
    for error in (ValueError(canary), UpstreamFault(canary), ExceptionGroup(canary, [OSError(canary)])):
        logger.error("x", exc_info=error)
    logging.getLogger("lib").error("got %s", canary)
    logging.getLogger("lib").error(f"got {canary}")  # noqa: G004 -- as libraries do
    logging.getLogger(canary).error("got %s", 1)

    said = re.sub('"time":"[^"]*"', "", written.text)  # which may have any four digits
    assert canary not in said
    assert max(map(len, _common_parts(canary, said)), default=0) < 10


def _common_parts(canary, text):
    """The parts of a long canary, cut at what parts words, that came out."""
    parts = canary.replace("=", ".").split(".") if len(canary) > 20 else []
    return [part for part in parts if part in text]


@given(digits=st.text("0123456789", min_size=4, max_size=16), around=st.tuples(st.text(), st.text()))
def test_digits_never_come_out_of_a_text(digits, around):
    """Whatever stands around them."""
    assert digits not in log.scrub(f"{around[0]} {digits} {around[1]}")


@given(text=st.text() | st.text("0123456789abcXYZ /:.?@#=-_+\n", max_size=200))
def test_any_text_becomes_one_line_without_a_row_of_digits(text):
    """And never an exception."""
    found = log.scrub(text)

    assert len(found.splitlines()) <= 1
    assert len(found) <= log.TEXT_CHARS_MAX
    assert not any(found[at : at + 4].isdecimal() for at in range(len(found) - 3))
