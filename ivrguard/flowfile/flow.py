"""
The keys of a flow file -> core/flow.py.

The laws of this file:

1. What is read is what forms.py says may stand there; what it means is the core's.
2. None of the faults told only follows from another one: what cannot be read gets a value that nothing else can be
   wrong about.
3. A key that has no effect is a fault: an admin who wrote it believes in it.

The format is described for admins in flows/README.md.
"""

import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain

from ivrguard.core.assurance import AllOf, AnyOf, Expression, Kind
from ivrguard.core.caller import AddressKind, address_of
from ivrguard.core.check import did_you_mean
from ivrguard.core.flow import (
    Catalogue,
    Factor,
    Flow,
    Identify,
    Locks,
    PinChange,
    Recording,
    Sends,
    Sensitive,
    Upstream,
    Via,
)
from ivrguard.core.lockout import Rule as Lockout
from ivrguard.core.lookup import Lookup, Unknown
from ivrguard.core.rules import DAYS, TARGET_KINDS, Demand, Hours, How, Rule, Target
from ivrguard.flowfile import forms
from ivrguard.flowfile.prompts import catalogue
from ivrguard.flowfile.sense import read_sense
from ivrguard.flowfile.threats import read_phrases
from ivrguard.flowfile.tree import Fields, Node, Reader, Text, quoted

Prompts = Callable[[str], bytes]
"""The prompt file of a language; raises `OSError`."""


def read_flow(reader: Reader, root: Node, prompts: Prompts) -> tuple[Flow, tuple[bytes, ...]]:
    """The flow, as far as it can be read, and the bytes of its prompt files."""
    of = reader.fields(root, forms.FLOW_KEYS, needed=forms.FLOW_NEEDED)
    name = reader.word(of.get("flow"), forms.NAME, "")
    if name:
        reader.claim(reader.spot(("flow",)), f"the name '{name}'")
    language = reader.word(of.get("language"), forms.LANGUAGE, "en-US")
    own, said = catalogue(reader, language, ("language",), prompts)
    others = _languages(reader, of.get("languages"), prompts)
    flow = Flow(
        name=name,
        version="",
        numbers=_numbers(reader, of.get("numbers")),
        upstream=_upstream(reader, of.get("upstream")),
        identify=_identify(reader, of.get("identify")),
        factors=_factors(reader, of.get("factors")),
        levels={
            level: _expression(reader, node)
            for level, node in reader.named(of.get("levels"), "factors, such as {any: [pin, code]}").items()
        },
        rules=tuple(
            _rule(reader, node, position)
            for position, node in enumerate(
                reader.items(of.get("rules"), "rules, such as {path: /hours, allow: anyone}")
            )
        ),
        default=_default(reader, of.get("default")),
        locks=_locks(reader, of.get("lockout")),
        language=language,
        voice=reader.word(of.get("voice"), forms.VOICE, ""),
        timezone=_timezone(reader, of.get("timezone")),
        prompts=own.prompts,
        audio=own.audio,
        languages=tuple(other for other, _ in others),
        tries=reader.number(of.get("tries"), forms.TRIES),
        token_valid_s=reader.duration(of.get("token_valid"), forms.TOKEN_VALID),
        sensitive=_sensitive(reader, of.get("sensitive")),
        ceiling=_ceiling(reader, of.get("ceiling")),
        pin_change=_pin_change(reader, of.get("pin_change")),
        recording=reader.choice(of.get("recording"), forms.RECORDINGS, Recording.IGNORE),
        hold_music=reader.word(of.get("hold_music"), forms.AUDIO, ""),
        workspace=reader.word(of.get("workspace"), forms.WORKSPACE, ""),
        sense=read_sense(reader, of.get("sense")),
        phrases=read_phrases(reader, of.get("threats")),
    )
    return flow, (said, *(data for _, data in others))


def _numbers(reader: Reader, node: Node | None) -> tuple[str, ...]:
    found: list[str] = []
    wanted = forms.DIALLED_NUMBER.wanted
    for item in reader.items(node, wanted):
        number = reader.text(item, f"a number dialled: {wanted}", _dialled, "")
        if number in found:
            reader.fault(item.spot, f"{quoted(number)} stands twice; take one out")
        elif number:
            found.append(number)
            reader.claim(item.spot, f"the number {quoted(number)}")
    return tuple(found)


def _dialled(text: str) -> str | None:
    """The one spelling of an address, as calls are looked up by it."""
    address = address_of(text)
    return "*" if text == "*" else None if address.kind is AddressKind.ANONYMOUS else address.value


def _person(text: str) -> str | None:
    """Where a human can be reached by a `<Dial>` of a number or a SIP address."""
    address = address_of(text)
    return address.value if address.kind in (AddressKind.PHONE, AddressKind.SIP) else None


def _upstream(reader: Reader, node: Node | None) -> Upstream:
    def url_of(text: str) -> str | None:
        return text if forms.UPSTREAM_URL.match(text) and forms.origin(text) else None

    def origin_alone(text: str) -> str | None:
        return forms.origin(text) if forms.ORIGIN.match(text) else None

    of = reader.fields(node, forms.UPSTREAM_KEYS, needed=forms.UPSTREAM_NEEDED)
    url = reader.text(of.get("url"), forms.UPSTREAM_URL.wanted, url_of, "")
    if forms.in_clear(url):
        reader.doubt(
            reader.spot(("upstream", "url")), "what callers key and say would go unencrypted; use https"
        )
    also = reader.items(of["also"], "origins") if "also" in of else []
    return Upstream(url, tuple(reader.text(item, forms.ORIGIN.wanted, origin_alone, "") for item in also))


def _languages(reader: Reader, node: Node | None, prompts: Prompts) -> list[tuple[Catalogue, bytes]]:
    """The other languages, with the bytes of their files. One that cannot be read is a tongue of its own."""
    wanted = 'languages, such as {language: es-US, key: "2"}'
    entries = reader.items(node, wanted, forms.LANGUAGES_MAX) if node is not None else []
    found: list[tuple[Catalogue, bytes]] = []
    for position, entry in enumerate(entries):
        of = reader.fields(entry, forms.LANGUAGE_KEYS, needed=forms.LANGUAGE_NEEDED)
        language = reader.word(of.get("language"), forms.LANGUAGE, "")
        one, said = Catalogue(f"\0{position}", {}), b""
        if language:
            one, said = catalogue(reader, language, ("languages", position, "language"), prompts)
        voice, key = reader.word(of.get("voice"), forms.VOICE, ""), reader.word(of.get("key"), forms.KEY, "")
        found.append((replace(one, voice=voice, key=key), said))
    return found


def _timezone(reader: Reader, node: Node | None) -> str:
    if not isinstance(node, Text):
        return reader.word(node, forms.TIMEZONE, "UTC")
    mend = ""
    if forms.TIMEZONE.match(node.value):
        if _is_timezone(node.value):
            return node.value
        mend = did_you_mean(node.value, tuple(zoneinfo.available_timezones()))
    if not mend.startswith("; did"):  # the list of all of them would help nobody
        mend = "; write one such as Europe/Berlin or UTC"
    reader.fault(node.spot, f"there is no time zone {quoted(node.value)}{mend}")
    return "UTC"


def _is_timezone(name: str) -> bool:
    """Looking at one file takes a hundredth of the time that listing all of them does."""
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # no such file, a folder, or one that holds no time zone
        return False
    return True


def _identify(reader: Reader, node: Node | None) -> Identify:
    of = reader.fields(node, forms.IDENTIFY_KEYS, needed=forms.IDENTIFY_NEEDED)
    digits = reader.fields(of.get("digits"), forms.DIGITS_KEYS, needed=forms.DIGITS_NEEDED)
    return Identify(
        reader.word(of.get("ask"), forms.NAME, ""),
        reader.number(digits.get("min"), forms.DIGITS_MIN),
        reader.number(digits.get("max"), forms.DIGITS_MAX),
        reader.choice(of.get("known_number"), forms.KNOWN_NUMBER, default=False),
    )


# ── factors and levels ───────────────────────────────────────────────────────────────────────────────────


def _factors(reader: Reader, node: Node | None) -> dict[str, Factor]:
    """The factors; one whose kind cannot be read gets a kind that no other one has, so that no fault follows."""
    found = {name: _factor(reader, entry) for name, entry in reader.named(node, "factors").items()}
    free = [kind for kind in Kind if kind not in {factor.kind for factor in found.values() if factor}]
    return {
        name: factor or Factor(free.pop() if free else Kind.PIN, forms.PIN_DIGITS.default)
        for name, factor in found.items()
    }


def _factor(reader: Reader, node: Node) -> Factor | None:
    kind = None
    if isinstance(node, Fields):
        kind = reader.choice(node.of.get("kind"), forms.KINDS, None)
    if kind is None:
        every = dict.fromkeys(chain.from_iterable(forms.FACTOR_KEYS.values()))
        reader.fields(node, tuple(every), needed={"kind": "kind: pin"})
        return None
    of = reader.fields(node, forms.FACTOR_KEYS[kind], needed=forms.FACTOR_NEEDED[kind])
    match kind:
        case Kind.PIN:
            return Factor(kind, reader.number(of.get("digits"), forms.PIN_DIGITS))
        case Kind.TOTP:
            return Factor(kind, forms.TOTP_DIGITS)
        case Kind.SMS_CODE:  # pragma: no branch -- there are no other kinds
            return Factor(
                kind,
                reader.number(of.get("digits"), forms.CODE_DIGITS),
                reader.duration(of.get("valid"), forms.CODE_VALID),
                _sends(reader, of.get("sends")),
                reader.choice(of.get("via"), forms.VIAS, Via.MESSAGES),
                _lookup(reader, of.get("lookup")),
            )


def _sends(reader: Reader, node: Node | None) -> Sends:
    def accept(text: str) -> tuple[int, int] | None:
        match = forms.SENDS_IN.match(text)
        within_s = forms.seconds(match[2]) if match else None
        if match is None or not within_s or within_s > forms.YEAR_S:
            return None
        return (int(match[1]), within_s) if 1 <= int(match[1]) <= forms.SENDS_MAX else None

    usual = Sends()
    of = reader.fields(node, forms.SENDS_KEYS)

    def limit(key: str, default: tuple[int, int]) -> tuple[int, int]:
        return reader.text(of.get(key), forms.SENDS_IN.wanted, accept, default)

    return Sends(
        reader.number(of.get("per_call"), forms.SENDS_PER_CALL),
        *limit("per_account", (usual.per_account, usual.per_account_s)),
        *limit("per_number", (usual.per_number, usual.per_number_s)),
        *limit("per_prefix", (usual.per_prefix, usual.per_prefix_s)),
    )


def _lookup(reader: Reader, node: Node | None) -> Lookup:
    of = reader.fields(node, forms.LOOKUP_KEYS)
    lines = reader.items(of["line_types"], "kinds of line, such as [mobile]") if "line_types" in of else []
    lookup = Lookup(
        reader.duration(of["sim_swap"], forms.SIM_SWAP) if "sim_swap" in of else None,
        reader.choice(of.get("forwarding"), forms.FORWARDING, default=False),
        tuple(reader.choice(line, forms.LINES, "") for line in lines),
        reader.choice(of.get("unknown"), forms.UNKNOWNS, Unknown.WITHHOLD),
    )
    if "unknown" in of and not lookup.wanted():
        reader.fault(of["unknown"].spot, "this has no effect where nothing is looked up; take it out")
    return lookup


def _expression(reader: Reader, node: Node) -> Expression:
    """A factor's name, or `{any: [...]}`, or `{all: [...]}`, nested."""
    wanted = "a factor's name, {any: [...]} or {all: [...]}"
    if not isinstance(node, Fields):
        return reader.text(node, wanted, forms.NAME.accept, None) or AnyOf(())
    of = reader.fields(node, forms.LEVEL_KEYS)
    if len(node.of) != 1:
        reader.fault(node.spot, f"here are {len(node.of)} keys; what is wanted: {wanted}")
    for key, made in (("all", AllOf), ("any", AnyOf)):
        if key in of:
            return made(tuple(_expression(reader, item) for item in reader.items(of[key], wanted)))
    return AnyOf(())


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────


def _rule(reader: Reader, node: Node, position: int) -> Rule:
    """
    A rule. One that cannot be read whole gets a path and a target that nothing has: it neither shadows nor is
    shadowed, and what it asks for is still looked at.
    """
    faults = len(reader.faults)
    of = reader.fields(node, (*forms.CONDITION_KEYS, *forms.DEMAND_KEYS))
    demand = _demand(reader, of, node) if isinstance(node, Fields) else Demand(None)
    rule = Rule(
        demand,
        path=reader.pattern(of.get("path"), forms.PATH),
        digits=reader.pattern(of.get("digits"), forms.KEYS),
        method=reader.choice(of.get("method"), forms.METHODS, None),
        dialled=reader.pattern(of.get("dialled"), forms.DIALLED),
        transfer=_transfer(reader, of.get("transfer")),
        hours=_hours(reader, of.get("hours")),
    )
    if len(reader.faults) == faults and not of.keys() & set(forms.CONDITION_KEYS):
        reader.fault(
            node.spot,
            f"a rule needs a condition ({', '.join(forms.CONDITION_KEYS)}); is this the `default`?",
        )
    if len(reader.faults) == faults:
        return rule
    nowhere = Target("\0", "\0") if {"transfer", "reverify"} & of.keys() else None
    return replace(rule, path=f"\0{position}", transfer=nowhere)


def _default(reader: Reader, node: Node | None) -> Demand:
    of = reader.fields(node, forms.DEMAND_KEYS)
    return _demand(reader, of, node) if isinstance(node, Fields) else Demand(None)


def _demand(reader: Reader, of: Mapping[str, Node], node: Node) -> Demand:
    open_to_all = reader.choice(of.get("allow"), forms.ALLOW, default=False)
    if ("allow" in of) == ("require" in of):
        reader.fault(node.spot, "write either `allow: anyone` or `require: <level>`")
    useless = forms.REQUIRE_ONLY_KEYS if open_to_all else ()
    if "reverify" not in of:
        useless = (*useless, *forms.REVERIFY_ONLY_KEYS)
    for key in dict.fromkeys(useless):
        if key in of:
            why = "beside `allow: anyone`" if open_to_all else "without `reverify`"
            reader.fault(of[key].spot, f"this has no effect {why}; take it out")
    own_code = reader.choice(of.get("own_code"), forms.BOOL, default=False)
    if own_code and "intent" not in of and not open_to_all:
        reader.fault(
            of["own_code"].spot, "a code's message says the `intent`, and there is none here; name one"
        )
    return Demand(
        require=_level(reader, of.get("require")),
        within_s=_within_s(reader, of),
        intent=reader.word(of.get("intent"), forms.NAME, ""),
        reverify=_level(reader, of.get("reverify")),
        fresh_s=reader.duration(of.get("fresh"), forms.FRESH),
        how=reader.choice(of.get("how"), forms.HOWS, How.BEFORE_CONNECT),
        own_code=own_code,
        bridge=reader.choice(of.get("bridge"), forms.BRIDGES, default=False),
    )


def _level(reader: Reader, node: Node | None) -> str | None:
    return reader.text(node, "the name of a level", forms.NAME.accept, None)


def _within_s(reader: Reader, of: Mapping[str, Node]) -> int | None:
    return reader.duration(of["within"], forms.WITHIN) if "within" in of else None


def _transfer(reader: Reader, node: Node | None) -> Target | None:
    wanted = "`any`, or one kind with a name, such as {enqueue: support}"
    if isinstance(node, Fields):
        return _target(reader, node, wanted)
    return reader.text(node, wanted, {"any": Target("*", "*")}.get, None)


def _target(reader: Reader, node: Fields, wanted: str) -> Target | None:
    """One kind of transfer, with a name."""
    of = reader.fields(node, TARGET_KINDS)
    if len(node.of) != 1:
        reader.fault(node.spot, f"here are {len(node.of)} keys; what is wanted: {wanted}")
    names = {kind: reader.pattern(entry, forms.TARGET) for kind, entry in of.items() if kind in TARGET_KINDS}
    return next((Target(kind, name) for kind, name in names.items() if name), None)


def _hours(reader: Reader, node: Node | None) -> Hours | None:
    def accept(text: str) -> Hours | None:
        match = forms.HOURS.match(text)
        if match is None:
            return None
        begin, end = (int(match[at]) * 60 + int(match[at + 1]) for at in (2, 4))
        in_range = begin < 1440 and 0 < end <= 1440 and begin != end
        return Hours(_days(match[1]), begin, end) if in_range else None

    return reader.text(node, forms.HOURS.wanted, accept, None)


def _days(text: str) -> frozenset[int]:
    """`mon-fri,sun` as numbers, Monday 0."""
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(days)


def _sensitive(reader: Reader, node: Node | None) -> tuple[Sensitive, ...]:
    """What is worth protecting. An entry that cannot be read is nothing, and keeps its position."""
    wanted = "a path such as /wire/**, or a transfer such as {enqueue: wire-desk}"
    found: list[Sensitive] = []
    for position, item in enumerate(reader.items(node, wanted)):
        entry: Sensitive | None
        if isinstance(item, Fields):
            entry = _target(reader, item, wanted)
        else:
            entry = reader.text(item, wanted, forms.PATH.accept, None)
        found.append(entry or f"\0{position}")
    return tuple(found)


def _ceiling(reader: Reader, node: Node | None) -> float | None:
    def accept(text: str) -> float | None:
        chance = float(text) if forms.CHANCE.match(text) else 0.0
        return chance if 0 < chance < 1 else None

    if node is None:
        return None
    of = reader.fields(node, forms.CEILING_KEYS, needed=forms.CEILING_NEEDED)
    return reader.text(of.get("guess_chance_per_year"), forms.CHANCE.wanted, accept, None)


def _pin_change(reader: Reader, node: Node | None) -> PinChange | None:
    if node is None:
        return None
    of = reader.fields(node, forms.PIN_CHANGE_KEYS, needed=forms.PIN_CHANGE_NEEDED)
    path, then = (reader.word(of.get(key), forms.ONE_PATH, None) for key in ("path", "then"))
    demand = Demand(_level(reader, of.get("require")), _within_s(reader, of))
    if path is None or then is None or demand.require is None:
        return None
    return PinChange(path, demand, then)


# ── lockout ──────────────────────────────────────────────────────────────────────────────────────────────


def _locks(reader: Reader, node: Node | None) -> Locks:
    usual = Locks()
    of = reader.fields(node, forms.LOCKOUT_KEYS)
    account = _lockout(reader, of, usual.account)
    caller_number = usual.caller_number
    match of.get("caller_number"):
        case Text(value="off"):
            caller_number = None
        case other:
            inner = reader.fields(other, forms.CALLER_NUMBER_KEYS)
            assert caller_number is not None
            caller_number = _lockout(reader, inner, caller_number)
    on_locked = of.get("on_locked")
    dial: str | None = None
    if isinstance(on_locked, Fields):
        number = reader.fields(on_locked, forms.ON_LOCKED_KEYS, needed=forms.ON_LOCKED_NEEDED)
        dial = reader.text(number.get("dial"), forms.PERSON.wanted, _person, None)
    else:
        reader.text(on_locked, 'refuse, or {dial: "+18005550199"}', {"refuse": True}.get, default=True)
    trusted_lane = reader.choice(of.get("trusted_lane"), forms.BOOL, default=usual.trusted_lane)
    return Locks(account, caller_number, trusted_lane, dial)


def _lockout(reader: Reader, of: Mapping[str, Node], usual: Lockout) -> Lockout:
    lock_s = usual.lock_s
    if "lock" in of:
        durations = reader.items(of["lock"], "durations, such as [30m, 2h, 24h]")
        lock_s = tuple(reader.duration(item, forms.LOCK) for item in durations)
    return Lockout(
        reader.number(of.get("failures"), replace(forms.FAILURES, default=usual.failures)),
        reader.duration(of.get("within"), replace(forms.FAILURES_WITHIN, default_s=usual.within_s)),
        lock_s or usual.lock_s,
        reader.number(of.get("lifetime"), replace(forms.LIFETIME, default=usual.lifetime)),
    )
