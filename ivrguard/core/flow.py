"""
A flow: what an admin wrote, as values.

The law of this file: values and what they are called, nothing else. The file's syntax, types and places are the
flowfile package's business; what is wrong with a flow is core/check.py's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ivrguard.core.assurance import Expression, Kind
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.lookup import Lookup
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.core.sense import Sense

Place = tuple[str | int, ...]

PIN_DIGITS_MIN = 4
PIN_DIGITS_NIST = 8
CODE_DIGITS_MIN = 6
CODE_VALID_S_MAX = 600
"""NIST SP 800-63B-4, 3.1.3: out-of-band codes of at least 6 digits, at most 10 minutes."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The IVR: the URL of its first document, and the other origins that its documents may point to."""

    url: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identify:
    """
    How a caller says which account: `digits_min` to `digits_max` keys; the number on file may be offered.

    `ask`: what those keys are, in the admin's word; as it is spoken: `ask.<word>` in the prompts.
    """

    ask: str
    digits_min: int
    digits_max: int
    offer_known_number: bool = False


@dataclass(frozen=True, slots=True)
class Sends:
    """
    How many codes may be sent: per call; per account, number and country prefix within so many seconds.

    A code is a cost and a nuisance, and traffic to one country's numbers is what those who profit from it pump
    (https://www.twilio.com/docs/verify/preventing-toll-fraud).
    """

    per_call: int = 2
    per_account: int = 5
    per_account_s: int = 3600
    per_number: int = 10
    per_number_s: int = 24 * 3600
    per_prefix: int = 300
    per_prefix_s: int = 3600


class Via(StrEnum):
    """Who makes, sends and judges a code: we, by a text message, or Twilio Verify."""

    MESSAGES = "messages"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Factor:
    """
    A factor as this flow uses it. `digits`: how many keys an answer has. `valid_s`: how long a code lives.

    `lookup`: what a number must be like for a code to be sent to it.
    """

    kind: Kind
    digits: int
    valid_s: int = CODE_VALID_S_MAX
    sends: Sends = Sends()
    via: Via = Via.MESSAGES
    lookup: Lookup = Lookup()


@dataclass(frozen=True, slots=True)
class Locks:
    """The lockout rules: per account, factor and lane; per caller number; and what a refused caller gets."""

    account: Lockout = Lockout(failures=5, within_s=3600, lock_s=(1800, 7200, 86400), lifetime=100)
    caller_number: Lockout | None = Lockout(failures=20, within_s=3600, lock_s=(3600,))
    trusted_lane: bool = True
    on_locked_dial: str | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """
    What the guard says in one language: `prompts`, key -> words, complete; `audio`, key -> the URL played instead.

    `key`: what a caller keys at the first question to get it; "": it is not offered, but an account may have it.
    """

    language: str
    prompts: Mapping[str, str]
    voice: str = ""
    audio: Mapping[str, str] = field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True, slots=True)
class PinChange:
    """
    Where a caller may change his PIN: the guard answers `path` itself once `demand` holds, then the call goes on at `then`.

    Both are paths of the IVR's, canonical (core/rules.py).
    """

    path: str
    demand: Demand
    then: str


class Recording(StrEnum):
    """What becomes of the provider's recordings of a call while a secret is keyed."""

    IGNORE = "ignore"
    PAUSE = "pause"
    """Paused where it can be; where it cannot, the question is asked all the same."""
    MUST_PAUSE = "must_pause"
    """Where a recording cannot be paused, no secret is asked for and the call is refused."""


Sensitive = str | Target
"""What an admin says is worth protecting: a path's glob, or a transfer's."""


@dataclass(frozen=True, slots=True)
class Flow:
    """
    One flow, whole and frozen. `version` is a hash of the content of its files: calls keep theirs. `files`: what it was
    read from, as text: its own file under "", that of each language under its tag.

    `numbers`: dialled numbers, `sip:`/`client:` addresses or "*". `language`, `voice`, `prompts` and `audio` are its
    own catalogue, `languages` the others. `tries`: answers not accepted in one question before the call is refused.
    `token_valid_s`: how long an agent has to redeem a token. `ceiling`: the most chance of a break in a year that
    `check` lets pass. `sensitive`: what must not fall to the default or be open to anyone. `phrases`: what is a threat when
    a caller says it, as core/incidents.py's `words_of` has it. `hold_music`: the URL of what is heard while somebody waits in
    a room of the guard's; "": the provider's own. `workspace`: TaskRouter's, whose tasks say which conference a caller is in; "": none is asked.
    """

    name: str
    version: str
    numbers: tuple[str, ...]
    upstream: Upstream
    identify: Identify
    factors: Mapping[str, Factor]
    levels: Mapping[str, Expression]
    rules: tuple[Rule, ...]
    default: Demand
    locks: Locks = Locks()
    language: str = "en-US"
    voice: str = ""
    timezone: str = "UTC"
    prompts: Mapping[str, str] = field(default_factory=dict)
    audio: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[Catalogue, ...] = ()
    tries: int = 3
    token_valid_s: int = 600
    sensitive: tuple[Sensitive, ...] = ()
    ceiling: float | None = None
    pin_change: PinChange | None = None
    recording: Recording = Recording.IGNORE
    hold_music: str = ""
    workspace: str = ""
    sense: Sense = Sense()
    phrases: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def kinds(self) -> Mapping[str, Kind]:
        """The kind of each factor, by name."""
        return {name: factor.kind for name, factor in self.factors.items()}

    def catalogue(self, language: str = "") -> Catalogue:
        """What is said in `language`: that very tag, or the same tongue of another country, or the flow's own."""
        own = Catalogue(self.language, self.prompts, self.voice, self.audio)
        every = (own, *self.languages)
        tongue = language.partition("-")[0]
        exact = (one for one in every if one.language == language)
        close = (one for one in every if one.language.partition("-")[0] == tongue)
        return next(exact, None) or next(close, own)


@dataclass(frozen=True, slots=True)
class Finding:
    """
    A fault (`error`) or a doubt (not `error`), with the mend in its words.

    `place`: the path of keys and positions into the file; the flowfile package turns it into line and column.
    """

    place: Place
    message: str
    error: bool = True


PROMPTS: tuple[str, ...] = (
    "identify",
    "identify.short",
    "identify_or_known",
    "identify_or_known.short",
    "choose_language",
    "pin",
    "pin.short",
    "sms_code",
    "sms_code.short",
    "totp",
    "totp.short",
    "another_code",
    "other_factor",
    "again",
    "not_heard",
    "mistyped",
    "hold",
    "refused",
    "goodbye",
    "unavailable",
    "not_in_service",
    "whisper",
    "sms_text",
    "sms_read_back",
    "read_back_intent",
    "no_intent",
    "sms_warning",
    "new_pin",
    "new_pin_again",
    "new_pin_differs",
    "new_pin_weak",
    "pin_changed",
    "sms_pin_changed",
)
"""
Every prompt that a catalogue must have. `intent.NAME` may be added: an intent as it is spoken; and `ask.NAME` must be,
for what the flow asks for (`Identify.ask`).

`X.short` is what `X` is from the second time in a call on.
"""

PLACEHOLDERS: Mapping[str, tuple[str, ...]] = {
    "identify": ("ask",),
    "identify.short": ("ask",),
    "identify_or_known": ("ask",),
    "identify_or_known.short": ("ask",),
    "choose_language": ("key",),
    "pin": ("digits",),
    "pin.short": ("digits",),
    "sms_code": ("digits",),
    "sms_code.short": ("digits",),
    "totp": ("digits",),
    "totp.short": ("digits",),
    "another_code": ("key",),
    "other_factor": ("key",),
    "new_pin": ("digits",),
    "whisper": ("code",),
    "sms_text": ("code", "intent"),
    "sms_read_back": ("code", "intent"),
    "read_back_intent": ("intent",),
}
"""
What is filled in where, by prompt: `{ask}` which number, `{digits}` how many keys, `{key}` which one, `{intent}`, `{code}`.
"""

PLACEHOLDERS_NEEDED: Mapping[str, str] = {
    "choose_language": "key",
    "another_code": "key",
    "other_factor": "key",
    "whisper": "code",
    "sms_text": "code",
    "sms_read_back": "code",
}
"""Prompts that are of no use without one of them."""

WRITTEN: frozenset[str] = frozenset(
    {"sms_text", "sms_read_back", "read_back_intent", "sms_warning", "sms_pin_changed", "no_intent"}
)
"""Prompts that are written in messages: they have no audio."""
