"""
The JSON Schema of flow files and of prompt files: editors complete and check by it.

The laws of this file:

1. Keys, words, patterns and limits are those of forms.py and the core, by which files are read. Only what each key
   says is written here.
2. What the schema refuses, `ivrguard check` refuses too, in a file with the usual quotes: none around numbers and
   `true`, some around telephone numbers and globs. What is not about two places of the file at once and can be told
   by a pattern, the schema refuses as `check` does.
3. Every key says what it is for, with its unit, its default and an example.

JSON Schema 2020-12 (https://json-schema.org/draft/2020-12).
"""

from ivrguard.core.assurance import Kind
from ivrguard.core.check import WITHIN_S_MIN
from ivrguard.core.flow import (
    CODE_DIGITS_MIN,
    CODE_VALID_S_MAX,
    PIN_DIGITS_MIN,
    PLACEHOLDERS,
    PLACEHOLDERS_NEEDED,
    PROMPTS,
    Locks,
    Recording,
    Sends,
    Via,
)
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.lookup import Unknown
from ivrguard.core.rules import TARGET_KINDS, How
from ivrguard.flowfile import forms, sense, shapes, threats
from ivrguard.flowfile.forms import Duration, spoken
from ivrguard.flowfile.prompts import ASK, INTENT, SAID, may_play
from ivrguard.flowfile.shapes import Json

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FLOW_ID = "urn:ivrguard:schema:flow"
PROMPTS_ID = "urn:ivrguard:schema:prompts"


def schema() -> Json:
    """The schema of a flow file (flows/*.yaml)."""
    return {
        "$schema": DIALECT,
        "$id": FLOW_ID,
        "title": "A flow of ivrguard",
        "description": "What needs which level of proof, and what a level is made of. See flows/README.md.",
        **shapes.fields(forms.FLOW_KEYS, {**_line(), **_proofs(), **_decisions()}, forms.FLOW_NEEDED),
        "$defs": {"level": _level(), "target": _target()},
    }


def prompts_schema() -> Json:
    """The schema of a prompt file (flows/prompts/*.yaml)."""
    own = {
        INTENT: "what the caller is about to do, as it is spoken",
        ASK: "which number he is asked for, as it is spoken",
    }
    return {
        "$schema": DIALECT,
        "$id": PROMPTS_ID,
        "title": "What ivrguard says in one language",
        "description": "One text a key, or {say: text, play: URL}. See flows/README.md.",
        **shapes.fields(PROMPTS, {name: _prompt(name) for name in PROMPTS}, PROMPTS),
        "patternProperties": {
            f"^{family.replace('.', '[.]')}{forms.NAME.pattern}$": _text(family, says)
            for family, says in own.items()
        },
    }


# ── the line: numbers, the IVR, languages, accounts ──────────────────────────────────────────────────────


def _line() -> dict[str, Json]:
    number, origin = shapes.word(forms.DIALLED_NUMBER), shapes.word(forms.ORIGIN)
    upstream = {
        "url": shapes.key(
            shapes.word(forms.UPSTREAM_URL),
            "Your IVR's first document; its path is mirrored, like every other path of that host",
            example="https://ivr.bank.example/voice",
        ),
        "also": shapes.key(
            shapes.items(origin),
            "Other origins that your IVR's documents may point to; none, where it is left out",
            example=["https://media.bank.example"],
        ),
    }
    digits = {
        "min": shapes.key(shapes.number(forms.DIGITS_MIN), "The fewest keys of an account number", example=6),
        "max": shapes.key(shapes.number(forms.DIGITS_MAX), "The most keys of an account number", example=12),
    }
    identify = {
        "ask": shapes.key(
            shapes.word(forms.NAME),
            "What a caller keys to say whose account it is, in one word; as it is spoken: ask.<word> in the prompts",
            example="account_number",
        ),
        "digits": shapes.key(
            shapes.fields(forms.DIGITS_KEYS, digits, forms.DIGITS_NEEDED),
            "How many keys that has",
            example={"min": 6, "max": 12},
        ),
        "known_number": shapes.key(
            shapes.choice(forms.KNOWN_NUMBER),
            "`offer`: key 1 takes the account of the number that the call comes from; it proves nothing",
            default="ignore",
            example="offer",
        ),
    }
    return {
        "flow": shapes.key(
            shapes.word(forms.NAME),
            "The flow's name; a letter, then letters, digits, _ and -",
            example="bank",
        ),
        "numbers": shapes.key(
            shapes.items(number),
            'The numbers dialled that this flow answers: E.164, sip:name@domain, client:name; "*" for all others',
            example=["+18005550100"],
        ),
        "upstream": shapes.key(
            shapes.fields(forms.UPSTREAM_KEYS, upstream, forms.UPSTREAM_NEEDED),
            "Your IVR",
            example={"url": "https://ivr.bank.example/voice"},
        ),
        **_languages(),
        "timezone": shapes.key(
            shapes.word(forms.TIMEZONE), "The clock of `hours`", default="UTC", example="America/New_York"
        ),
        "tries": shapes.key(
            shapes.number(forms.TRIES),
            "Answers in one question that are not accepted before the call is refused",
            default=forms.TRIES.default,
            example=3,
        ),
        "token_valid": shapes.duration(
            forms.TOKEN_VALID,
            "How long an agent has to redeem a token",
            default=spoken(forms.TOKEN_VALID.default_s),
            example="10m",
        ),
        "identify": shapes.key(
            shapes.fields(forms.IDENTIFY_KEYS, identify, forms.IDENTIFY_NEEDED),
            "How a caller says which account he calls about",
            example={"ask": "account_number", "digits": {"min": 6, "max": 12}},
        ),
    }


def _languages() -> dict[str, Json]:
    tag, voice = shapes.word(forms.LANGUAGE), shapes.word(forms.VOICE)
    one = {
        "language": shapes.key(tag, "Its words: prompts/<language>.yaml, complete", example="es-US"),
        "key": shapes.key(
            shapes.phone_keys(forms.KEY, 9),
            "What a caller keys at the first question to get it; none: only accounts have it",
            example="2",
        ),
        "voice": shapes.key(
            voice, "The voice that says them; the provider's own by default", example="Polly.Lupe"
        ),
    }
    return {
        "language": shapes.key(
            tag, "The guard's own words: prompts/<language>.yaml", default="en-US", example="en-US"
        ),
        "voice": shapes.key(
            voice, "The voice that says them; the provider's own by default", example="Polly.Joanna"
        ),
        "languages": shapes.key(
            shapes.items(shapes.fields(forms.LANGUAGE_KEYS, one, forms.LANGUAGE_NEEDED), forms.LANGUAGES_MAX),
            "The other languages that callers may have; none, where it is left out",
            example=[{"language": "es-US", "key": "2"}],
        ),
    }


# ── proofs: factors, levels, locks ───────────────────────────────────────────────────────────────────────


def _proofs() -> dict[str, Json]:
    return {
        "factors": shapes.key(
            {**shapes.named({"anyOf": [_factor(kind) for kind in Kind]}), "minProperties": 1},
            "What a caller can prove himself with: one of each kind, under a name of yours",
            example={"pin": {"kind": "pin", "digits": 8}},
        ),
        "levels": shapes.key(
            shapes.named({"$ref": "#/$defs/level"}),
            "What a level is made of: a factor, {any: [...]} or {all: [...]}; your IVR is told the names",
            example={"two_factor": {"all": ["pin", "code"]}},
        ),
        "lockout": _lockout(),
        "ceiling": shapes.key(
            shapes.fields(
                forms.CEILING_KEYS,
                {
                    "guess_chance_per_year": shapes.key(
                        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                        "The most chance that the best attacker may have of breaking one account in a year",
                        example=0.001,
                    )
                },
                forms.CEILING_NEEDED,
            ),
            "A flow whose worst case is above it is refused; without it none is",
            example={"guess_chance_per_year": 0.001},
        ),
        "recording": shapes.key(
            shapes.choice(forms.RECORDINGS),
            "The provider's recordings while a secret is keyed. `pause`: paused where they can be; `must_pause`: "
            "where they cannot, the call is refused",
            default=Recording.IGNORE.value,
            example="pause",
        ),
        "hold_music": shapes.key(
            shapes.word(forms.AUDIO),
            "What is heard while somebody waits in a conference of the guard's; the provider's own, where it is left out",
            example="https://media.bank.example/waiting.mp3",
        ),
        "workspace": shapes.key(
            shapes.word(forms.WORKSPACE),
            "TaskRouter's workspace: callers whom it connects with a worker in a conference, as Flex does, can be led aside from it to the "
            "keypad. Left out: they cannot",
            example="WS0123456789abcdef0123456789abcdef",
        ),
    }


def _level() -> Json:
    more = shapes.items({"$ref": "#/$defs/level"})
    either = (
        shapes.fields(
            ("any",), {"any": shapes.key(more, "One of these will do", example=["code", "app"])}, ("any",)
        ),
        shapes.fields(
            ("all",), {"all": shapes.key(more, "All of these are needed", example=["pin", "code"])}, ("all",)
        ),
    )
    return {"anyOf": [{**shapes.word(forms.NAME), "description": "A factor's name."}, *either]}


def _factor(kind: Kind) -> Json:
    says = {
        Kind.PIN: "Something known: digits that the account's owner has learnt by heart",
        Kind.SMS_CODE: "Something held: a code by text message to the number on file",
        Kind.TOTP: "Something held: the code of an authenticator app, always 6 digits",
    }
    of = {"kind": shapes.key({"const": kind.value}, says[kind], example=kind.value)}
    if kind is Kind.PIN:
        form = shapes.number(forms.PIN_DIGITS, PIN_DIGITS_MIN)
        of["digits"] = shapes.key(form, "How many digits PINs have; NIST SP 800-63B-4 asks for 8", example=8)
    if kind is Kind.SMS_CODE:
        of |= _code()
    return shapes.fields(forms.FACTOR_KEYS[kind], of, forms.FACTOR_NEEDED[kind])


def _code() -> dict[str, Json]:
    valid = Duration(forms.CODE_VALID.low_s, CODE_VALID_S_MAX, forms.CODE_VALID.default_s)
    return {
        "digits": shapes.key(
            shapes.number(forms.CODE_DIGITS, CODE_DIGITS_MIN),
            "How many digits codes have",
            default=forms.CODE_DIGITS.default,
            example=6,
        ),
        "valid": shapes.duration(
            valid,
            "How long a code works; 10m is the most that NIST allows, and what Verify's codes have",
            default=spoken(valid.default_s),
            example="10m",
        ),
        "via": shapes.key(
            shapes.choice(forms.VIAS),
            "Who makes, sends and judges codes: `messages`: the guard, by text message; `verify`: Twilio Verify",
            default=Via.MESSAGES.value,
            example="verify",
        ),
        "sends": _sends(),
        "lookup": _lookup(),
    }


def _sends() -> Json:
    usual = Sends()

    def limit(says: str, count: int, within_s: int, example: str) -> Json:
        return shapes.key(
            shapes.word(forms.SENDS_IN),
            f"{says}: a number up to {forms.SENDS_MAX}, `in`, and a duration",
            default=f"{count} in {spoken(within_s)}",
            example=example,
        )

    of = {
        "per_call": shapes.key(
            shapes.number(forms.SENDS_PER_CALL),
            "How many codes are sent in one call; Verify sends 5 at most",
            default=usual.per_call,
            example=2,
        ),
        "per_account": limit(
            "How many are sent to one account", usual.per_account, usual.per_account_s, "5 in 1h"
        ),
        "per_number": limit(
            "How many are sent to one number", usual.per_number, usual.per_number_s, "10 in 24h"
        ),
        "per_prefix": limit(
            "How many are sent to one country's numbers", usual.per_prefix, usual.per_prefix_s, "300 in 1h"
        ),
    }
    return shapes.key(
        shapes.fields(forms.SENDS_KEYS, of), "How many codes may be sent", example={"per_call": 2}
    )


def _lookup() -> Json:
    wanted = [key for key in forms.LOOKUP_KEYS if key != "unknown"]
    of = {
        "sim_swap": shapes.duration(
            forms.SIM_SWAP, "No code goes to a number whose SIM changed hands so lately", example="72h"
        ),
        "forwarding": shapes.key(
            shapes.choice(forms.FORWARDING),
            "`refuse`: no code goes to a number whose calls are forwarded",
            default="ignore",
            example="refuse",
        ),
        "line_types": shapes.key(
            shapes.items(shapes.choice(forms.LINES)),
            "Codes go to such lines only; any, where it is left out",
            example=["mobile"],
        ),
        "unknown": shapes.key(
            shapes.choice(forms.UNKNOWNS),
            "What becomes of the code when nobody can say",
            default=Unknown.WITHHOLD.value,
            example="withhold",
        ),
    }
    form = {
        **shapes.fields(forms.LOOKUP_KEYS, of),
        "dependentSchemas": {"unknown": {"anyOf": shapes.one_of_keys(wanted)}},
    }
    return shapes.key(
        form,
        "What a number must be like (Twilio Lookup) for a code to be sent to it; without it nothing is asked",
        example={"sim_swap": "72h"},
    )


def _lockout() -> Json:
    usual = Locks()
    assert usual.caller_number is not None
    number = shapes.fields(forms.CALLER_NUMBER_KEYS, _counts(usual.caller_number))
    human = {"dial": shapes.key(shapes.word(forms.PERSON), "Who takes the call", example="+18005550199")}
    of = {
        **_counts(usual.account),
        "lifetime": shapes.key(
            shapes.number(forms.LIFETIME),
            "Wrong answers in a row, however slowly, that disable the factor; 0: never; NIST allows 100",
            default=usual.account.lifetime,
            example=100,
        ),
        "trusted_lane": shapes.key(
            shapes.choice(forms.BOOL.keys()),
            "Whether a number that verified before, and is attested, has a count of its own",
            default=usual.trusted_lane,
            example=True,
        ),
        "caller_number": shapes.key(
            {"anyOf": [{"const": "off"}, number]},
            "The same per number that calls, over all accounts; `off` for none",
            default={
                "failures": usual.caller_number.failures,
                "within": spoken(usual.caller_number.within_s),
                "lock": [spoken(lock_s) for lock_s in usual.caller_number.lock_s],
            },
            example={"failures": 20, "within": "1h", "lock": ["1h"]},
        ),
        "on_locked": shapes.key(
            {
                "anyOf": [
                    {"const": "refuse"},
                    shapes.fields(forms.ON_LOCKED_KEYS, human, forms.ON_LOCKED_NEEDED),
                ]
            },
            "What a locked caller gets: nothing, or a human who is told that nothing was verified",
            default="refuse",
            example={"dial": "+18005550199"},
        ),
    }
    return shapes.key(
        shapes.fields(forms.LOCKOUT_KEYS, of), "How many wrong answers are too many", example={"failures": 5}
    )


def _counts(usual: Lockout) -> dict[str, Json]:
    return {
        "failures": shapes.key(
            shapes.number(forms.FAILURES), "So many wrong answers", default=usual.failures, example=5
        ),
        "within": shapes.duration(
            forms.FAILURES_WITHIN, "In this time", default=spoken(usual.within_s), example="1h"
        ),
        "lock": shapes.key(
            shapes.items(shapes.duration(forms.LOCK, "A lock", example="30m")),
            "Lock for so long: the first time, the second, every further time",
            default=[spoken(lock_s) for lock_s in usual.lock_s],
            example=["30m", "2h", "24h"],
        ),
    }


# ── decisions: rules ─────────────────────────────────────────────────────────────────────────────────────


def _decisions() -> dict[str, Json]:
    late = ("reverify", *forms.REVERIFY_ONLY_KEYS, "bridge")
    early = [key for key in forms.DEMAND_KEYS if key not in late]
    default = shapes.fields(early, {key: form for key, form in _demand().items() if key in early})
    path = shapes.word(forms.PATH)
    return {
        "rules": shapes.key(
            shapes.items(_rule()),
            "What needs which level: the first rule that matches decides",
            example=[{"path": "/wire/**", "require": "two_factor", "within": "5m"}],
        ),
        "default": shapes.key(
            {**default, **_either(), **_own_code()},
            "What everything needs that no rule names",
            example={"require": "one_factor"},
        ),
        "sensitive": shapes.key(
            shapes.items({"anyOf": [path, {"$ref": "#/$defs/target"}]}),
            "Paths and transfers that a rule must protect with something known and something held; "
            "none, where it is left out",
            example=["/wire/**", {"enqueue": "wire-desk"}],
        ),
        "pin_change": _pin_change(),
        "sense": sense.shape(),
        "threats": threats.shape(),
    }


def _either() -> Json:
    """Either `allow` or `require`; beside `allow` much has no effect."""
    useless = dict.fromkeys(forms.REQUIRE_ONLY_KEYS, False)
    return {
        "oneOf": shapes.one_of_keys(("allow", "require")),
        "dependentSchemas": {"allow": {"properties": useless}},
    }


def _own_code() -> Json:
    """A code of its own is one for an intent."""
    own_code = shapes.key({"const": True}, "A code for this intent alone: name the `intent`", example=True)
    wanted = {"properties": {"own_code": own_code}, "required": ["own_code"]}
    return {"if": wanted, "then": {"required": ["intent"]}}


def _demand() -> dict[str, Json]:
    level = shapes.word(forms.NAME)
    return {
        "allow": shapes.key(
            shapes.choice(forms.ALLOW),
            "Nothing needs to be proved; either this or `require`",
            example="anyone",
        ),
        "require": shapes.key(level, "The level that must be held", example="two_factor"),
        "within": shapes.duration(
            Duration(WITHIN_S_MIN, forms.WITHIN.high_s, forms.WITHIN.default_s),
            "Proofs older than this do not count; for the whole call, where it is left out",
            example="5m",
        ),
        "intent": shapes.key(
            shapes.word(forms.NAME),
            "What the caller is about to do, in one word; as it is spoken: intent.<word> in the prompts",
            example="wire",
        ),
        "own_code": shapes.key(
            shapes.choice(forms.BOOL.keys()),
            "Whether a code by message counts only if its message said this `intent`, and not one that was sent for "
            "something else in the same call",
            default=False,
            example=True,
        ),
        "reverify": shapes.key(
            level,
            "Transfers only: a level to be proved by proofs made after the transfer was asked for",
            example="one_factor",
        ),
        "fresh": shapes.duration(
            forms.FRESH,
            "Proofs younger than this count as made for this transfer",
            default=spoken(forms.FRESH.default_s),
            example="30s",
        ),
        "how": shapes.key(
            shapes.choice(forms.HOWS),
            "When: before the agent's phone rings",
            default=How.BEFORE_CONNECT.value,
            example="before_connect",
        ),
        "bridge": shapes.key(
            shapes.choice(forms.BRIDGES),
            "Transfers to one number, client or SIP address only: the guard joins caller and agent in a conference, "
            "so that the agent can have the caller led aside to the keypad and back",
            example="conference",
        ),
    }


def _rule() -> Json:
    conditions = {
        "path": shapes.key(
            shapes.word(forms.PATH),
            "The path asked for; *: anything but a slash, **: anything, ?: one character",
            example="/wire/**",
        ),
        "digits": shapes.key(
            shapes.phone_keys(forms.KEYS), "The keys that the caller pressed for your IVR", example="3"
        ),
        "method": shapes.key(shapes.choice(forms.METHODS), "The method of the request", example="POST"),
        "dialled": shapes.key(
            shapes.word(forms.DIALLED), "The number dialled; wildcards as in `path`", example="+1800*"
        ),
        "transfer": shapes.key(
            {"anyOf": [{"const": "any"}, {"$ref": "#/$defs/target"}]},
            "Any transfer, or one kind with a name",
            example={"enqueue": "support"},
        ),
        "hours": shapes.key(
            shapes.word(forms.HOURS),
            "Days and times of the week in the flow's `timezone`, the end excluded",
            example="mon-fri 08:00-18:00",
        ),
    }
    only_with = {key: ["reverify"] for key in forms.REVERIFY_ONLY_KEYS}
    return {
        **shapes.fields((*forms.CONDITION_KEYS, *forms.DEMAND_KEYS), {**conditions, **_demand()}),
        **_either(),
        **_own_code(),
        "anyOf": shapes.one_of_keys(forms.CONDITION_KEYS),
        "dependentRequired": {
            **only_with,
            "reverify": ["require", "transfer"],
            "bridge": ["require", "transfer"],
        },
    }


def _target() -> Json:
    name = shapes.word(forms.TARGET)
    of = {
        kind: shapes.key(name, f'{kind}: a name, or "*" for all of them', example="*")
        for kind in TARGET_KINDS
    }
    return {
        "description": "One kind of transfer, with a name; in names, * matches everything.",
        **shapes.fields(TARGET_KINDS, of),
        "minProperties": 1,
        "maxProperties": 1,
    }


def _pin_change() -> Json:
    path, demand = shapes.word(forms.ONE_PATH), _demand()
    of = {
        "path": shapes.key(
            path, "The guard answers this path itself, by asking for a new PIN", example="/change-pin"
        ),
        "require": demand["require"],
        "within": demand["within"],
        "then": shapes.key(path, "Where the call goes on in your IVR", example="/menu"),
    }
    return shapes.key(
        shapes.fields(forms.PIN_CHANGE_KEYS, of, forms.PIN_CHANGE_NEEDED),
        "Where a caller may change his PIN; nowhere, where it is left out",
        example={"path": "/change-pin", "require": "two_factor", "within": "5m", "then": "/menu"},
    )


# ── prompts ──────────────────────────────────────────────────────────────────────────────────────────────


def _prompt(name: str) -> Json:
    long = name.removesuffix(".short")
    says = SAID[long] if name == long else f"{SAID[long]}: from the second time in a call on"
    text = _text(name, says)
    if not may_play(name):
        return text
    of = {
        "say": {**text, "description": "The words, as they are without audio."},
        "play": shapes.key(
            shapes.word(forms.AUDIO),
            "Audio that is played instead, by https",
            example="https://media.bank.example/pin.mp3",
        ),
    }
    both = shapes.fields(forms.PROMPT_KEYS, of, forms.PROMPT_NEEDED)
    return {"description": text["description"], "anyOf": [text, both]}


def _text(name: str, says: str) -> Json:
    """The words of a prompt: nothing in braces but what is filled in there, and that where it is needed."""
    known = PLACEHOLDERS.get(name, ())
    needed = PLACEHOLDERS_NEEDED.get(name)
    filled = "".join(f"|\\{{{one}\\}}" for one in known)
    shown = f" Filled in: {', '.join(f'{{{one}}}' for one in known)}." if known else ""
    found: Json = {
        "description": f"{says[0].upper()}{says[1:]}.{shown}",
        "type": "string",
        "minLength": 1,
        "maxLength": forms.PROMPT_CHARS_MAX,
        "pattern": f"^(?:[^{{}}]{filled})*$",
    }
    return {**found, "allOf": [{"pattern": f"\\{{{needed}\\}}"}]} if needed else found
