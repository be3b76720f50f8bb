"""
What may stand in flow files: the keys, and the form of what stands under each.

The law of this file: it is the one place where the format's keys, words, patterns and limits are written down (those of
`sense` and `threats` stand in sense.py and threats.py). The reader (tree.py, flow.py, prompts.py) reads by these tables, and schema.py writes the JSON
Schema from them, so an editor and `ivrguard check` cannot know two formats.

Patterns are those that Python and ECMA-262 (which JSON Schema's are) read alike, and match the whole text.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ivrguard.core.assurance import Kind
from ivrguard.core.flow import CODE_VALID_S_MAX, Recording, Sends, Via
from ivrguard.core.lookup import LINE_TYPES, Unknown
from ivrguard.core.rules import DAYS, How

SIZE_BYTES_MAX = 256 * 1024
DEPTH_MAX = 12
NODES_MAX = 20_000
ENTRIES_MAX = 200
"""Rules in a flow, numbers, levels, factors: each list at most so long."""

LANGUAGES_MAX = 20
PROMPT_CHARS_MAX = 600
PATTERN_CHARS_MAX = 200
PATTERN_WILDCARDS_MAX = 4
"""Each one multiplies what a match may cost."""

DAY_S = 86_400
YEAR_S = 365 * DAY_S
TOTP_DIGITS = 6
"""RFC 6238 allows more; the apps that people have show six."""

SENDS_MAX = 1_000
"""The times of so many are kept, for each account, number and country prefix."""


# ── the forms of single values ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from `low` to `high`. `default`: where the key may be left out, and what a fault leaves."""

    low: int
    high: int
    default: int


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration such as `90s`, `10m`, `24h`, `7d`, from `low_s` to `high_s` seconds; `default_s` as in `Number`."""

    low_s: int
    high_s: int
    default_s: int


@dataclass(frozen=True, slots=True)
class Word:
    """A text of which `pattern` matches the whole. `wanted`: what that is, for whoever wrote something else."""

    pattern: str
    wanted: str

    def match(self, text: str) -> re.Match[str] | None:
        """The match of the whole text; None: it has another form."""
        return re.fullmatch(self.pattern, text)

    def accept(self, text: str) -> str | None:
        """The text if it has this form."""
        return text if self.match(text) else None


@dataclass(frozen=True, slots=True)
class Glob(Word):
    """A glob of that form, of at most `PATTERN_CHARS_MAX` characters and `PATTERN_WILDCARDS_MAX` wildcards."""

    def match(self, text: str) -> re.Match[str] | None:
        """The same, bounded in what it may cost."""
        bounded = len(text) <= PATTERN_CHARS_MAX and len(_WILDCARD.findall(text)) <= PATTERN_WILDCARDS_MAX
        return re.fullmatch(self.pattern, text) if bounded else None


_WILDCARD = re.compile(r"\*+|\?")

_UNITS_S: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}
DURATION = Word("[0-9]{1,6}[smhd]", "a duration such as 90s, 10m, 24h, 7d")


def seconds(text: str) -> int | None:
    """A duration in seconds; None: it is none."""
    return int(text[:-1]) * _UNITS_S[text[-1]] if DURATION.match(text) else None


def spoken(duration_s: int) -> str:
    """A duration in the largest unit that fits: 600 is `10m`."""
    unit = next((unit for unit in "dhm" if duration_s and duration_s % _UNITS_S[unit] == 0), "s")
    return f"{duration_s // _UNITS_S[unit]}{unit}"


NAME = Word(
    "[A-Za-z][A-Za-z0-9_-]{0,39}",
    "a name begins with a letter and has letters, digits, `_` and `-`, at most 40",
)
LANGUAGE = Word("[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*", "a language tag such as en-US")
VOICE = Word("[A-Za-z0-9.-]{1,60}", "a voice such as Polly.Joanna")
TIMEZONE = Word("[A-Za-z][A-Za-z0-9_+/-]{0,59}", "a time zone such as Europe/Berlin")
KEY = Word("[0-9]", "one key from 0 to 9, in quotes")
DIALLED_NUMBER = Word(
    r"\+[1-9][0-9]{6,14}|(?:[Ss][Ii][Pp][Ss]?|[Cc]lient):[!-~]+|\*",
    '"+18005550100", sip:name@domain, client:name or "*"',
)
PERSON = Word(r"\+[1-9][0-9]{6,14}|[Ss][Ii][Pp][Ss]?:[!-~]+", 'a number such as "+18005550199"')
UPSTREAM_URL = Word(
    r"https?://[^\s?#@\\/]+(?:/[^\s?#@\\]*)?",
    "an absolute http(s) URL without user, query and fragment, such as https://ivr.example.com/voice",
)
ORIGIN = Word(r"https?://[^\s?#@\\/]+/?", "an origin without path, such as https://media.example.com")
AUDIO = Word(
    r"https?://[^\s?#@\\/]+/[^\s#@\\]*",
    "an https URL without user and fragment, such as https://media.example.com/pin.mp3",
)
WORKSPACE = Word("WS[0-9a-f]{32}", "the SID of a TaskRouter workspace: WS and 32 hex digits")
CHANCE = Word(r"[0-9]*\.?[0-9]+(?:[eE]-[0-9]{1,2})?", "a chance between 0 and 1, such as 0.001")

PATH = Glob(
    r"(?!.*/\.{1,2}(?:/|$))(?!.*%[0-9A-Fa-f]{2})(?!.*\?.*=)(?!.+/$)/[^\s#\\]*",
    "a path from the root, such as /menu or /wire/**, decoded, without query, dot segments and slash at the end",
)
"""Requests have one spelling of their path (telephony/links.py); a rule in another one would never match."""
ONE_PATH = Word(
    r"(?!.*/\.{1,2}(?:/|$))(?!.*%[0-9A-Fa-f]{2})(?!.+/$)/(?!/)[^\s?*#\\]*",
    "one path of your IVR, such as /menu, decoded, without wildcards, query, dot segments and slash at the end",
)
KEYS = Glob("[0-9*#?]+", 'keys, such as "3" or "*"')
DIALLED = Glob(r"\S+", 'a number dialled, such as "+1800*"')
TARGET = Glob("(?!any$).+", 'a name, or "*" for all of them')

_DAY = f"(?:{'|'.join(DAYS)})"
_DAYS = f"{_DAY}(?:-{_DAY})?"
_TIME = "([01][0-9]|2[0-4]):([0-5][0-9])"
HOURS = Word(f"({_DAYS}(?:,{_DAYS})*) {_TIME}-{_TIME}", 'days and times, such as "mon-fri 08:00-18:00"')
SENDS_IN = Word(f"([0-9]{{1,4}}) in ({DURATION.pattern})", 'so many in a time, such as "5 in 1h"')

DIGITS_MIN = Number(1, 32, 1)
DIGITS_MAX = Number(1, 32, 32)
PIN_DIGITS = Number(1, 16, 16)
CODE_DIGITS = Number(1, 10, 6)
TRIES = Number(1, 10, 3)
FAILURES = Number(1, 1_000, 5)
LIFETIME = Number(0, 1_000, 100)
SENDS_PER_CALL = Number(1, 100, Sends().per_call)

CODE_VALID = Duration(30, DAY_S, CODE_VALID_S_MAX)
TOKEN_VALID = Duration(60, DAY_S, 600)
SIM_SWAP = Duration(3600, YEAR_S, YEAR_S)
WITHIN = Duration(1, DAY_S, DAY_S)
FRESH = Duration(0, DAY_S, 0)
FAILURES_WITHIN = Duration(60, YEAR_S, 3600)
LOCK = Duration(1, YEAR_S, DAY_S)


# ── words to choose from, and what they mean ─────────────────────────────────────────────────────────────

BOOL: Mapping[str, bool] = {"true": True, "false": False}
KNOWN_NUMBER: Mapping[str, bool] = {"offer": True, "ignore": False}
KINDS: Mapping[str, Kind] = {kind.value: kind for kind in Kind}
VIAS: Mapping[str, Via] = {via.value: via for via in Via}
FORWARDING: Mapping[str, bool] = {"refuse": True, "ignore": False}
LINES: Mapping[str, str] = {line: line for line in LINE_TYPES}
UNKNOWNS: Mapping[str, Unknown] = {unknown.value: unknown for unknown in Unknown}
ALLOW: Mapping[str, bool] = {"anyone": True}
METHODS: Mapping[str, str] = {"GET": "GET", "POST": "POST"}
HOWS: Mapping[str, How] = {how.value: how for how in How}
BRIDGES: Mapping[str, bool] = {"conference": True}
RECORDINGS: Mapping[str, Recording] = {recording.value: recording for recording in Recording}


# ── keys, by what they stand in ──────────────────────────────────────────────────────────────────────────

FLOW_KEYS = (
    "flow", "numbers", "upstream", "language", "voice", "languages", "timezone", "tries", "token_valid",
    "identify", "factors", "levels", "rules", "default", "sensitive", "pin_change", "recording", "hold_music",
    "workspace", "lockout", "ceiling", "sense", "threats",
)  # fmt: skip
FLOW_NEEDED = {
    "flow": "flow: bank",
    "numbers": 'numbers: ["+18005550100"]',
    "upstream": "upstream: {url: https://ivr.example.com/voice}",
    "identify": "identify: {ask: account_number, digits: {min: 6, max: 12}}",
    "factors": "factors: {pin: {kind: pin, digits: 8}}",
    "levels": "levels: {one_factor: pin}",
    "rules": "rules: [{transfer: any, require: one_factor, reverify: one_factor}]",
    "default": "default: {require: one_factor}",
}
UPSTREAM_KEYS = ("url", "also")
UPSTREAM_NEEDED = {"url": "url: https://ivr.example.com/voice"}
LANGUAGE_KEYS = ("language", "key", "voice")
LANGUAGE_NEEDED = {"language": "language: es-US"}
IDENTIFY_KEYS = ("ask", "digits", "known_number")
IDENTIFY_NEEDED = {"ask": "ask: account_number", "digits": "digits: {min: 6, max: 12}"}
DIGITS_KEYS = ("min", "max")
DIGITS_NEEDED = {"min": "min: 6", "max": "max: 12"}
FACTOR_KEYS: Mapping[Kind, tuple[str, ...]] = {
    Kind.PIN: ("kind", "digits"),
    Kind.SMS_CODE: ("kind", "digits", "valid", "via", "sends", "lookup"),
    Kind.TOTP: ("kind",),
}
FACTOR_NEEDED: Mapping[Kind, Mapping[str, str]] = {
    Kind.PIN: {"kind": "kind: pin", "digits": "digits: 8"},
    Kind.SMS_CODE: {"kind": "kind: sms_code"},
    Kind.TOTP: {"kind": "kind: totp"},
}
SENDS_KEYS = ("per_call", "per_account", "per_number", "per_prefix")
LOOKUP_KEYS = ("sim_swap", "forwarding", "line_types", "unknown")
LEVEL_KEYS = ("any", "all")
CONDITION_KEYS = ("path", "digits", "method", "dialled", "transfer", "hours")
DEMAND_KEYS = ("allow", "require", "within", "intent", "own_code", "reverify", "fresh", "how", "bridge")
REVERIFY_ONLY_KEYS = ("fresh", "how")
"""They have no effect without `reverify`."""
REQUIRE_ONLY_KEYS = ("within", "own_code", "reverify", "fresh", "how", "bridge")
"""They have no effect beside `allow: anyone`."""
PIN_CHANGE_KEYS = ("path", "require", "within", "then")
PIN_CHANGE_NEEDED = {"path": "path: /change-pin", "require": "require: two_factor", "then": "then: /menu"}
CEILING_KEYS = ("guess_chance_per_year",)
CEILING_NEEDED = {"guess_chance_per_year": "guess_chance_per_year: 0.001"}
LOCKOUT_KEYS = ("failures", "within", "lock", "lifetime", "trusted_lane", "caller_number", "on_locked")
CALLER_NUMBER_KEYS = ("failures", "within", "lock")
ON_LOCKED_KEYS = ("dial",)
ON_LOCKED_NEEDED = {"dial": 'dial: "+18005550199"'}
PROMPT_KEYS = ("say", "play")
PROMPT_NEEDED = {"say": "say: Your PIN, please.", "play": "play: https://media.example.com/pin.mp3"}


# ── URLs ─────────────────────────────────────────────────────────────────────────────────────────────────


def origin(url: str) -> str | None:
    """`scheme://host:port` in lower case; None if the URL is not one that may be followed."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return None
    host = parts.hostname or ""
    plain = re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:.]+", host) is not None
    if parts.scheme not in ("http", "https") or not plain or re.search(r"[\s#@\\]", url):
        return None
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def in_clear(url: str) -> bool:
    """Whether the URL goes over the network unencrypted."""
    return urlsplit(url).scheme == "http" and not loopback(url)


def loopback(url: str) -> bool:
    """Whether the URL stays on the machine."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
