"""
The log: JSON lines, configured once; secrets cannot pass.

1. **An allow-list.** Only the fields of `FIELDS` come out, each in its own form. A field that is not declared
   is dropped, and its name stands in `dropped`; a value that does not have its field's form comes out as `•••`.
2. **No digits, no tokens.** In texts, four digits or more in a row (however they are spaced) and everything
   that looks like a key or a token are masked, wherever they came from. Phone numbers keep their beginning and
   their end. Accounts appear under their pseudonym only.
3. **No text of an exception**, unless it is a `Fault` of ours, whose texts hold no secret: only class, causes and
   the places in the code. The same for what libraries log (aiohttp, asyncio): their templates, not what they
   filled in.
4. One event is one line: no value can begin another (OWASP Logging Cheat Sheet,
   https://cheatsheetseries.owasp.org/cheatsheets/Logging_Cheat_Sheet.html).
5. A log that cannot be written (its disk is full, whoever reads it has died) loses its lines, and keeps nobody from an answer.

`time` is the moment of writing, for reading along; it decides nothing. What was decided, and when, is the audit
record's business (core/audit.py). structlog with orjson and bytes is the fastest of the ways to write such a
line (https://www.structlog.org/en/stable/performance.html).
"""

import base64
import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from contextvars import ContextVar, Token
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, cast

import orjson
import structlog

from ivrguard.core.errors import Fault

TEXT_CHARS_MAX = 300
TEXT_LOOKED_AT_CHARS_MAX = 1_200
NUMBER_MAX = 999_999
FRAMES_MAX = 30
CAUSES_MAX = 4
DROPPED_NAMES_MAX = 16
MASK = "•••"
CHECKPOINT_TYP = "ivrguard-checkpoint+jwt"
"""The type of the one kind of token that is written out: it is signed, says nothing secret, and opens nothing."""

_LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

# ── masking ──────────────────────────────────────────────────────────────────────────────────────────────

_PLAIN = re.compile(r"[a-z]{1,15}(?:[_ ][a-z]{1,15}){0,5}")
"""Words of ours, such as most events and reasons: nothing below finds anything in them."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_URL = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/@]*@)?([^\s?#]*)[?#]?\S*")
_DIGITS = re.compile(r"\+?\d(?:[\s.,/_:-]{0,3}\d){3,}")
_RUN = re.compile(r"[A-Za-z0-9+/=_-]{16,}")
_PIECE = re.compile(r"[A-Za-z0-9+=_-]{16,}")
_ONE_CASE = re.compile(r"[A-Z0-9]{20,}|[a-z0-9]{20,}")
_CLASS_NAME = re.compile(r"(?:[A-Z]+[a-z]+)+(?:Error|Exception|Fault|Warning|Timeout|Disconnected)")
_SAID_NUMBER = re.compile(r"\+[1-9][0-9]{9,14}")


def scrub(text: str) -> str:
    """`text` as one line of at most `TEXT_CHARS_MAX` characters, without digits, tokens, or queries of URLs."""
    if _PLAIN.fullmatch(text):
        return text
    if len(text) > TEXT_LOOKED_AT_CHARS_MAX:  # cut between words, so that no half of a token is left
        text = text[: text.rfind(" ", 0, TEXT_LOOKED_AT_CHARS_MAX) + 1] + "…"
    line = _UNPRINTABLE.sub(" ", text)
    line = _URL.sub(r"\1\2", line)
    line = _RUN.sub(_without_tokens, line)
    line = _DIGITS.sub(MASK, line)
    return line if len(line) <= TEXT_CHARS_MAX else line[: TEXT_CHARS_MAX - 1] + "…"


def _without_tokens(match: re.Match[str]) -> str:
    """Mask what is a key or a token by its looks: long, and no word, no path, no name of a class."""
    run = match[0]
    kinds = sum(re.search(kind, run) is not None for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    if len(run) >= 24 and kinds == 3:
        return MASK
    return _PIECE.sub(lambda piece: MASK if _is_token(piece[0]) else piece[0], run)


def _is_token(piece: str) -> bool:
    if re.search("[0-9]", piece) or _ONE_CASE.search(piece):
        return True
    return re.search("[A-Za-z]{20,}", piece) is not None and not _CLASS_NAME.fullmatch(piece)


# ── fields and their forms ───────────────────────────────────────────────────────────────────────────────

Form = Callable[[object], object]
"""Makes of a value what may come out; `MASK` if it does not have the form."""


def _text(value: object) -> object:
    return scrub(value) if isinstance(value, str) else MASK


def _number(value: object) -> object:
    """A count, a status, a duration. Digits that somebody keyed are texts everywhere in this house."""
    if isinstance(value, int):
        return value if abs(value) <= NUMBER_MAX else MASK
    if isinstance(value, float):
        return round(value, 3) if abs(value) <= NUMBER_MAX else MASK
    return MASK


def _shape(pattern: str) -> Form:
    form = re.compile(pattern)

    def of(value: object) -> object:
        return value if isinstance(value, str) and form.fullmatch(value) else MASK

    return of


def _phone(value: object) -> object:
    """`+1555•••0001`: enough to recognise a number that one knows."""
    if isinstance(value, str) and _SAID_NUMBER.fullmatch(value):
        return f"{value[:5]}{MASK}{value[-4:]}"
    return MASK


def _host(value: object) -> object:
    """An address to listen on or to connect to."""
    if isinstance(value, str) and re.fullmatch(
        r"(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}", value
    ):
        return value
    return _text(value)


_CALL = _shape("CA[0-9a-f]{32}")
_HASH = _shape("(?=.*[a-f])[0-9a-f]{16}")
_ALERT = _shape(
    "[A-Za-z0-9_-]{1,64}/[a-z_]{1,32}/[0-9]{13}(?:/raised|/over)?"
    "|threat/(?:CA|TH)[0-9a-f]{32}/[a-z]{1,16}/[0-9]{13}"
    "|insider/[0-9a-f]{16}/[a-z_]{1,16}/[0-9]{13}/(?:raised|over)"
)
"""An alert's name, of flow, attack and when it was raised; a notice's, with what it tells of it; of a threat's, which and what."""


def is_checkpoint(text: str) -> bool:
    """Whether a text has the form of a signed checkpoint of the record, and of no other token: its header says which."""
    if not re.fullmatch(r"[\w-]{20,400}\.[\w-]{20,1000}\.[\w-]{86}", text, re.ASCII):
        return False
    head = text.partition(".")[0]
    with suppress(ValueError, KeyError, TypeError):
        return bool(
            orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["typ"] == CHECKPOINT_TYP
        )
    return False


def _checkpoint(value: object) -> object:
    return value if isinstance(value, str) and is_checkpoint(value) else MASK


FIELDS: Mapping[str, Form] = {
    "call": _CALL,
    "parent": _CALL,
    "request": _shape("req_[0-9a-f]{16}"),
    "traceparent": _shape("00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]"),
    "account": _shape("[a-z]{3}_[a-z2-7]{16}"),
    "caller": _phone,
    "dialled": _phone,
    "version": _HASH,
    "node": _HASH,
    "code": _shape("[1-6][0-9]{4}"),
    "checkpoint": _checkpoint,
    "alert": _ALERT,
    "host": _host,
    **dict.fromkeys(
        (
            "reason", "detail", "hint", "flow", "factor", "kind", "lane", "level_wanted", "intent", "queue",
            "outcome", "move", "path", "method", "element", "attribute", "file", "key", "variable", "desk",
            "signal", "task", "flows", "attack", "to", "why", "errand",
        ),
        _text,
    ),
    **dict.fromkeys(
        (
            "status", "port", "ops_port", "duration_ms", "age_s", "deadline_s", "waiting", "attempt", "count",
            "limit", "size_bytes", "line", "column", "turn", "flying", "known", "right", "number", "worker", "deaths", "exit_status",
            "need",
        ),
        _number,
    ),
}  # fmt: skip
"""
Every field that may come out, with its form. `code` is one of the provider's error codes; `account` and `node`
are not names that mean anything outside; `request` is made by `request_id`.
"""

_Fields = MutableMapping[str, Any]


def _allowed(_logger: object, _method: str, fields: _Fields) -> _Fields:
    """The last processor but one: what is declared, in its form; where an exception came from; what was dropped."""
    out: dict[str, object] = {
        "time": fields.pop("timestamp"),
        "level": fields.pop("level"),
        "event": _text(fields.pop("event", "")),
    }
    error = _exception(fields.pop("exc_info", None))
    record = fields.pop(_RECORD, None)
    dropped: list[str] = []
    for name, value in fields.items():
        if name in FIELDS:
            out[name] = FIELDS[name](value)
        else:
            dropped.append(name if re.fullmatch("[a-z_]{1,32}", name) else MASK)
    if isinstance(record, logging.LogRecord):
        out.update(_library(record))
    if error is not None:
        out.update(_told(error))
    if dropped:
        out["dropped"] = sorted(set(dropped))[:DROPPED_NAMES_MAX]
    return out


def _exception(exc_info: object) -> BaseException | None:
    """The exception of `exc_info`, in each of the forms that logging knows."""
    match exc_info:
        case BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case None | False | (None, None, None):
            return None
        case _:
            return sys.exc_info()[1]


def _told(error: BaseException) -> dict[str, object]:
    """What may be said of an exception: class, causes and places in the code; the words of our own faults."""
    out: dict[str, object] = {"error": type(error).__name__}
    if isinstance(error, Fault):
        out["detail"] = scrub(str(error))
    causes = [*getattr(error, "exceptions", ())][:CAUSES_MAX]
    cause = _cause(error)
    while cause is not None and len(causes) < CAUSES_MAX:
        causes.append(cause)
        cause = _cause(cause)
    if causes:
        out["causes"] = [type(one).__name__ for one in causes]
    out["trace"] = _places(error.__traceback__)
    return out


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _places(trace: TracebackType | None) -> list[str]:
    """`ivrguard/guard/webhook.py:120 step`, outermost first: no source lines, no values."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(trace)][-FRAMES_MAX:]
    return [f"{_shortened(code.co_filename)}:{line} {code.co_name}" for code, line in frames]


def _shortened(path: str) -> str:
    """The last parts of a file's path: whose file it is, not where it is installed."""
    return "/".join(path.replace("\\", "/").rsplit("/", 3)[-3:])


# ── what libraries log ───────────────────────────────────────────────────────────────────────────────────

_RECORD = "_record"


def _library(record: logging.LogRecord) -> dict[str, object]:
    """
    What may be said of a library's record: its logger, its place, and the template of its message.

    A message without arguments may have been put together from anything (asyncio does so), so it is left out.
    """
    out: dict[str, object] = {
        "logger": scrub(record.name),
        "at": f"{_shortened(record.pathname)}:{record.lineno}",
    }
    if record.args and isinstance(record.msg, str):
        out["detail"] = scrub(record.msg)
    return out


class _Libraries(logging.Handler):
    """Leads records of the standard library's logging into the one log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as an event `library`."""
        level = max(one for one in _LEVELS.values() if one <= max(record.levelno, logging.DEBUG))
        get().log(level, "library", exc_info=record.exc_info, **{_RECORD: record})


# ── the door ─────────────────────────────────────────────────────────────────────────────────────────────


class _Stream:
    """Where lines go: law 5."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, line: bytes) -> None:
        """Write, if it can be."""
        with suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        """Have the system take it, if it does."""
        with suppress(OSError):
            self._stream.flush()


def configure(level: str = "info", stream: BinaryIO | None = None) -> None:
    """
    Set the log up: `level` and worse, to `stream` (standard error if None). Calling it again starts anew.

    Levels: debug, info, warning, error, critical. Libraries are heard from warning on.
    """
    least = _LEVELS[level]
    written = _Stream(stream if stream is not None else sys.stderr.buffer)
    structlog.configure(
        processors=[
            _with_context,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _allowed,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", written)),
        cache_logger_on_first_use=False,  # so that a second `configure` reaches loggers that are in use
    )
    logging.basicConfig(handlers=[_Libraries()], level=max(least, logging.WARNING), force=True)


def get() -> structlog.typing.FilteringBoundLogger:
    """The logger. It may be taken before `configure` and does then as it says."""
    return cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class context:  # noqa: N801 -- read as a verb: `with log.context(call=sid)`
    """Fields for every line written inside, in this task and those it starts: `call`, `request`."""

    __slots__ = ("_fields", "_token")

    def __init__(self, **fields: str) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token: Token[Mapping[str, str]] = _CONTEXT.set({**_CONTEXT.get(), **self._fields})

    def __exit__(self, *_: object) -> None:
        _CONTEXT.reset(self._token)


_CONTEXT: ContextVar[Mapping[str, str]] = ContextVar("ivrguard_log", default=MappingProxyType({}))


def _with_context(_logger: object, _method: str, fields: _Fields) -> _Fields:
    """What the line says itself comes before what was said around it."""
    return {**_CONTEXT.get(), **fields}


def request_id(chance: bytes) -> str:
    """A name for one request in the log, from 8 bytes of chance."""
    return f"req_{chance[:8].hex():0>16}"
