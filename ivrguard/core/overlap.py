"""
What two rules have in common: whether one takes all that the other does, and something that both take.

The laws of this file:

1. The globs are those of core/rules.py (`glob` for paths, `name_glob` for names), to the letter: each becomes a small
   automaton with a state for each place in it.
2. `shadows`, `covers_path` and `covers_name` say yes only where it is so. A pair of globs that takes more than
   `STATES_MAX` states to walk gets a no.
3. `shared_path` and `shared_name` are exact: the text that they return is taken by both, and None means that there
   is none. Paths on the IVR's own origin and those elsewhere (`//host/…`) have nothing in common.

The method is the textbook's: the intersection of two regular languages is the product of their automata, and
inclusion is walked with sets of states (Hopcroft, Motwani, Ullman, 4.2 and 2.3).
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from ivrguard.core.flow import Sensitive
from ivrguard.core.rules import Rule, Target, glob, name_glob

PATTERNS_CACHED_MAX = 4_096
STATES_MAX = 1_000
"""A walk of so many steps takes some 30 ms; patterns that people write take a few dozen steps."""

_ANY = "any"
_SEGMENT = "segment"
"""On an edge: any character; any but a slash. Else it is the character itself."""

_OTHER = "x"
"""Stands for a character that neither glob names: they treat all of those alike."""

_OWN = ("/", _SEGMENT)
_ELSEWHERE = ("/", "/")
_NAMED = (_ANY,)
"""What texts begin with: paths here and elsewhere; a name has at least one character."""

_WILD = re.compile(r"[*?]")
_PIECE = re.compile(r"(/\*\*/|/\*\*$|\*\*|\*|\?)")
_SHORT = {"/**/": "/", "/**": "", "**": "", "*": "", "?": "\ue000"}
_LONG = {"/**/": "/\ue000/", "/**": "/\ue000", "**": "\ue000/\ue000", "*": "\ue000", "?": "\ue000"}
"""What may stand for a wildcard: nothing, or a character that no glob names."""


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────


def hidden(rules: Sequence[Rule]) -> Iterator[tuple[int, int]]:
    """
    Each rule that an earlier one hides, and the first that does.

    Only those earlier ones are looked at that begin with what it begins with: most pairs of 200 rules have nothing
    in common.
    """
    known: dict[tuple[bool, str], list[int]] = {}
    for position, rule in enumerate(rules):
        is_transfer, begins = rule.transfer is not None, _begins(rule)
        near = [known.get((is_transfer, begins[:count]), ()) for count in range(len(begins) + 1)]
        candidates = sorted(chain.from_iterable(near))
        hidden_by = next((at for at in candidates if shadows(rules[at], rule)), None)
        if hidden_by is not None:
            yield position, hidden_by
        known.setdefault((is_transfer, begins), []).append(position)


def _begins(rule: Rule) -> str:
    """What every path, or transfer, begins with that the rule matches."""
    if rule.transfer is None:
        return prefix(rule.path or "")
    return prefix(rule.transfer.value)


def shadows(earlier: Rule, later: Rule) -> bool:
    """Whether `earlier` surely matches all that `later` does: each of its conditions is at least as wide."""
    if (earlier.transfer is None) != (later.transfer is None):
        return False
    if earlier.method not in (None, later.method) or earlier.hours not in (None, later.hours):
        return False
    if earlier.transfer is not None and later.transfer is not None:
        pairs = ((earlier.transfer.kind, later.transfer.kind), (earlier.transfer.value, later.transfer.value))
        if not all(covers_name(wide, narrow) for wide, narrow in pairs):
            return False
    return (
        _text_covers(earlier.digits, later.digits)
        and _path_covers(earlier.path, later.path)
        # Every visit has a number dialled; few have digits.
        and _text_covers(earlier.dialled, later.dialled or "**")
    )


def _path_covers(wide: str | None, narrow: str | None) -> bool:
    """Whether a rule's path covers another's: one on the IVR's own origin never covers one elsewhere (`//host/…`)."""
    if wide is None or narrow is None:
        return wide is None
    return wide.startswith("//") == narrow.startswith("//") and covers_path(wide, narrow)


def _text_covers(wide: str | None, narrow: str | None) -> bool:
    """The same for digits and numbers dialled; None: anything or nothing."""
    return wide is None or (narrow is not None and covers_path(wide, narrow))


def is_unconditional(rule: Rule) -> bool:
    """Whether the rule asks for nothing but a path or a transfer."""
    others = (rule.digits, rule.method, rule.hours)
    return others == (None, None, None) and rule.dialled in (None, "**")


def covers_target(wide: Target, narrow: Target) -> bool:
    """Whether a transfer's pair of globs takes all that another takes."""
    return covers_name(wide.kind, narrow.kind) and covers_name(wide.value, narrow.value)


def in_common(rule: Rule, entry: Sensitive) -> str | None:
    """Something that the entry means and the rule may match; None: there is nothing."""
    if isinstance(entry, Target):
        if rule.transfer is None:
            return None
        kind = shared_name(rule.transfer.kind, entry.kind)
        value = shared_name(rule.transfer.value, entry.value)
        return None if kind is None or value is None else str(Target(kind, value))
    if rule.transfer is not None:
        return None
    return shared_path(entry, entry if rule.path is None else rule.path)


def covers_entry(rule: Rule, entry: Sensitive) -> bool:
    """Whether the rule matches wherever the entry does; they have something in common."""
    if not is_unconditional(rule):
        return False
    if isinstance(entry, Target):
        return rule.path is None and rule.transfer is not None and covers_target(rule.transfer, entry)
    return rule.path is None or covers_path(rule.path, entry)


# ── globs ────────────────────────────────────────────────────────────────────────────────────────────────


def covers_path(wide: str, narrow: str) -> bool:
    """Whether the path glob `wide` takes every path that `narrow` takes. Also for digits and numbers dialled."""
    return _covers(wide, narrow, _of_path, glob)


def covers_name(wide: str, narrow: str) -> bool:
    """The same for globs of names."""
    return _covers(wide, narrow, _of_name, name_glob)


def shared_path(one: str, other: str) -> str | None:
    """A path that both path globs take; None: there is none."""
    if one.startswith("//") != other.startswith("//"):
        return None
    return _shared(_of_path(one), _of_path(other), _ELSEWHERE if one.startswith("//") else _OWN)


def shared_name(one: str, other: str) -> str | None:
    """A name that both globs take; None: there is none."""
    return _shared(_of_name(one), _of_name(other), _NAMED)


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def prefix(pattern: str) -> str:
    """What every text begins with that a glob takes: all of it up to the first wildcard."""
    stem = _WILD.split(pattern, maxsplit=1)[0]
    return stem if stem == pattern else stem.removesuffix("/")


# ── automata ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Automaton:
    """
    `edges` by state: what is read, and the state after it. State 0 is the first; `ends`: where a text may end.

    `loops`: states on the way of every text that read anything and stay, so that what an earlier state takes, they
    take too. `prefix`: what every text begins with.
    """

    edges: tuple[tuple[tuple[str, int], ...], ...]
    ends: frozenset[int]
    loops: tuple[int, ...]
    prefix: str


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def _of_path(pattern: str) -> _Automaton:
    """The automaton of `glob(pattern)`, built along the same pieces."""
    edges: list[list[tuple[str, int]]] = [[]]
    ends: set[int] = set()
    loops: list[int] = []
    at, rest = 0, pattern
    while rest:
        if rest == "/**":
            edges[at].append(("/", len(edges)))
            ends.add(at)
            at, rest = len(edges), ""
            edges.append([(_ANY, at)])
            loops.append(at)
        elif rest.startswith("/**/"):
            start, inside = len(edges), len(edges) + 1
            edges[at].append(("/", start))
            edges.append([("/", start), (_ANY, inside)])
            edges.append([("/", start), (_ANY, inside)])
            at, rest = start, rest[4:]
        elif rest.startswith("**"):
            edges[at].append((_ANY, at))
            loops.append(at)
            rest = rest[2:]
        elif rest[0] == "*":
            edges[at].append((_SEGMENT, at))
            rest = rest[1:]
        else:
            edges[at].append((_SEGMENT if rest[0] == "?" else rest[0], len(edges)))
            at, rest = len(edges), rest[1:]
            edges.append([])
    return _Automaton(tuple(map(tuple, edges)), frozenset((*ends, at)), tuple(loops), prefix(pattern))


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def _of_name(pattern: str) -> _Automaton:
    """The automaton of `name_glob(pattern)`."""
    edges: list[list[tuple[str, int]]] = [[]]
    loops: list[int] = []
    for sign in pattern:
        at = len(edges) - 1
        if sign == "*":
            edges[at].append((_ANY, at))
            loops.append(at)
        else:
            edges[at].append((_ANY if sign == "?" else sign, at + 1))
            edges.append([])
    ends = frozenset((len(edges) - 1,))
    return _Automaton(tuple(map(tuple, edges)), ends, tuple(loops), prefix(pattern))


def _both(one: str, other: str) -> str | None:
    """What an edge reads that stands for two; None: nothing."""
    if other in (one, _ANY):
        return one
    if one == _ANY:
        return other
    if _SEGMENT in (one, other):
        sign = one if other == _SEGMENT else other
        return sign if sign != "/" else None
    return None


def _shared(one: _Automaton, other: _Automaton, begin: tuple[str, ...]) -> str | None:
    """The shortest text that both take and that begins so."""
    if not (one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)):
        return None
    least = 2 if begin == _ELSEWHERE else 1
    first = (0, 0, 0)
    seen, waiting = {first}, deque([(first, "")])
    while waiting:
        (here, there, depth), text = waiting.popleft()
        if depth >= least and here in one.ends and there in other.ends:
            return text
        allowed = begin[depth] if depth < len(begin) else _ANY
        for mine, here_next in one.edges[here]:
            for yours, there_next in other.edges[there]:
                pair = _both(mine, yours)
                sign = None if pair is None else _both(pair, allowed)
                after = (here_next, there_next, min(depth + 1, len(begin)))
                if sign is not None and after not in seen:
                    seen.add(after)
                    waiting.append((after, text + (sign if len(sign) == 1 else _OTHER)))
    return None


def _covers(
    wide: str, narrow: str, automaton: Callable[[str], _Automaton], regex: Callable[[str], re.Pattern[str]]
) -> bool:
    if wide == narrow:
        return True
    if not prefix(narrow).startswith(prefix(wide)):
        return False
    form = regex(wide)
    if any(form.fullmatch(text) is None for text in _samples(narrow, regex)):
        return False
    return _WILD.search(narrow) is None or _includes(automaton(wide), automaton(narrow))


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def _samples(pattern: str, regex: Callable[[str], re.Pattern[str]]) -> tuple[str, ...]:
    """
    Texts that the glob takes: all of its wildcards short, all of them long.

    A walk that would end with a no nearly always ends here, at a fraction of its cost.
    """
    pieces = _PIECE.split(pattern)
    texts = ("".join(of.get(piece, piece) for piece in pieces) for of in (_SHORT, _LONG))
    return tuple(text for text in texts if regex(pattern).fullmatch(text))


def _includes(wide: _Automaton, narrow: _Automaton) -> bool:
    """Whether `wide` takes every text that `narrow` takes; no where that is too long a walk."""
    first = (0, frozenset((0,)))
    seen, waiting = {first}, [first]
    while waiting:
        if len(seen) > STATES_MAX:
            return False
        state, states = waiting.pop()
        if state in narrow.ends and not states & wide.ends:
            return False
        named = {sign for at in states for sign, _ in wide.edges[at] if len(sign) == 1}
        for sign, state_next in narrow.edges[state]:
            for read in (sign,) if len(sign) == 1 else (named | {"/", _SEGMENT}):
                if _both(sign, read) is None:
                    continue
                reached = {to for at in states for edge, to in wide.edges[at] if _reads(edge, read)}
                floor = max((loop for loop in wide.loops if loop in reached), default=0)
                after = (state_next, frozenset(at for at in reached if at >= floor))
                if after not in seen:
                    seen.add(after)
                    waiting.append(after)
    return True


def _reads(edge: str, sign: str) -> bool:
    """Whether an edge reads this character; `_SEGMENT` is one that no edge names."""
    return edge in (sign, _ANY) or (edge == _SEGMENT and sign != "/")
