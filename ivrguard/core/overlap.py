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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import merge
from typing import NamedTuple

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

_METHODS = ("GET", "POST")
"""The provider asks by one of these (flowfile/forms.py)."""

_WILD = re.compile(r"[*?]")
_PATH_PIECE = re.compile(r"(/\*\*/|/\*\*$|\*\*|\*|\?)")
_NAME_PIECE = re.compile(r"(\*|\?)")
_SHORT = {"/**/": "/", "/**": "", "**": "", "*": "", "?": "\ue000"}
_LONG = {"/**/": "/\ue000/", "/**": "/\ue000", "**": "\ue000/\ue000", "*": "\ue000", "?": "\ue000"}
"""What may stand for a wildcard: nothing, or a character that no glob names."""


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────


def hidden(rules: Sequence[Rule]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """
    Each rule that earlier ones hide, and those: the first that does, or two that do together, one for each method.

    Only those earlier ones are looked at that begin with what it begins with, and whose literals stand in what it
    takes: most pairs of 200 rules have nothing in common.
    """
    known: dict[tuple[bool, str], list[tuple[int, Sequence[str]]]] = {}
    for position, rule in enumerate(rules):
        is_transfer = rule.transfer is not None
        looks = _look("**" if rule.path is None else rule.path, _PATH_PIECE)
        if rule.transfer is not None:
            looks = _look(rule.transfer.value, _NAME_PIECE)
        begins = looks.literals[0]
        near = [
            found for count in range(len(begins) + 1) if (found := known.get((is_transfer, begins[:count])))
        ]
        text = looks.texts[0]
        hiding = _hiding(rules, rule, (at for at, literals in merge(*near) if _may_take(literals, text)))
        if hiding:
            yield position, hiding
        known.setdefault((is_transfer, begins), []).append((position, looks.literals))


def _hiding(rules: Sequence[Rule], rule: Rule, candidates: Iterable[int]) -> tuple[int, ...]:
    by_method: dict[str, int] = {}
    for at in candidates:
        method = rules[at].method
        if method in by_method or (rule.method and method not in (None, rule.method)):
            continue
        if not _shadows_otherwise(rules[at], rule):
            continue
        if method is None or method == rule.method:
            return (at,)
        by_method[method] = at
        if len(by_method) == len(_METHODS):
            return tuple(by_method.values())
    return ()


def shadows(earlier: Rule, later: Rule) -> bool:
    """Whether `earlier` surely matches all that `later` does: each of its conditions is at least as wide."""
    return earlier.method in (None, later.method) and _shadows_otherwise(earlier, later)


def _shadows_otherwise(earlier: Rule, later: Rule) -> bool:
    """The same but for their methods."""
    if (earlier.transfer is None) != (later.transfer is None) or earlier.hours not in (None, later.hours):
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
    """Whether the rule matches wherever the entry does."""
    if not is_unconditional(rule):
        return False
    if isinstance(entry, Target):
        return rule.path is None and rule.transfer is not None and covers_target(rule.transfer, entry)
    return rule.transfer is None and _path_covers(rule.path, entry)


# ── globs ────────────────────────────────────────────────────────────────────────────────────────────────


def covers_path(wide: str, narrow: str) -> bool:
    """Whether the path glob `wide` takes every path that `narrow` takes. Also for digits and numbers dialled."""
    return _covers(wide, narrow, _PATH_PIECE, _of_path, glob)


def covers_name(wide: str, narrow: str) -> bool:
    """The same for globs of names."""
    return _covers(wide, narrow, _NAME_PIECE, _of_name, name_glob)


def shared_path(one: str, other: str) -> str | None:
    """A path that both path globs take; None: there is none."""
    if one.startswith("//") != other.startswith("//") or _apart(one, other):
        return None
    return _shared(_of_path(one), _of_path(other), _ELSEWHERE if one.startswith("//") else _OWN)


def _apart(one: str, other: str) -> bool:
    """Whether two words that differ stand at one place: nothing need be walked then."""
    pairs = zip(_words(one), _words(other), strict=False)
    return any(mine and yours and mine != yours for mine, yours in pairs)


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def _words(pattern: str) -> tuple[str, ...]:
    """The segments of a path's glob up to its first `**`, "" for each with a wildcard: theirs is one place each."""
    sure = pattern.partition("**")[0].split("/")
    return tuple("" if _WILD.search(word) else word for word in (sure if "**" not in pattern else sure[:-1]))


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
    take too. `prefix` and `suffix`: what every text begins and ends with. Sets of states have a bit for each.
    """

    edges: tuple[tuple[tuple[str, int], ...], ...]
    ends: int
    loops: int
    prefix: str
    suffix: str


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def _of_path(pattern: str) -> _Automaton:
    """The automaton of `glob(pattern)`, built along the same pieces."""
    edges: list[list[tuple[str, int]]] = [[]]
    ends = loops = at = 0
    for piece in _PATH_PIECE.split(pattern):
        match piece:
            case "/**":
                ends |= 1 << at
                edges[at].append(("/", len(edges)))
                at = len(edges)
                edges.append([(_ANY, at)])
                loops |= 1 << at
            case "/**/":
                start, inside = len(edges), len(edges) + 1
                edges[at].append(("/", start))
                edges += [[("/", start), (_ANY, inside)], [("/", start), (_ANY, inside)]]
                at = start
            case "**":
                edges[at].append((_ANY, at))
                loops |= 1 << at
            case "*":
                edges[at].append((_SEGMENT, at))
            case _:
                for sign in piece:
                    edges[at].append((_SEGMENT if piece == "?" else sign, len(edges)))
                    at = len(edges)
                    edges.append([])
    return _Automaton(
        tuple(map(tuple, edges)),
        ends | 1 << at,
        loops,
        prefix(pattern),
        _look(pattern, _PATH_PIECE).literals[-1],
    )


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def _of_name(pattern: str) -> _Automaton:
    """The automaton of `name_glob(pattern)`."""
    edges: list[list[tuple[str, int]]] = [[]]
    loops = 0
    for sign in pattern:
        at = len(edges) - 1
        if sign == "*":
            edges[at].append((_ANY, at))
            loops |= 1 << at
        else:
            edges[at].append((_ANY if sign == "?" else sign, at + 1))
            edges.append([])
    ends = 1 << (len(edges) - 1)
    return _Automaton(
        tuple(map(tuple, edges)), ends, loops, prefix(pattern), _look(pattern, _NAME_PIECE).literals[-1]
    )


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
    if not (one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix)):
        return None
    least = 2 if begin == _ELSEWHERE else 1
    first = (0, 0, 0)
    seen, waiting = {first}, deque([(first, "")])
    while waiting:
        (here, there, depth), text = waiting.popleft()
        if depth >= least and one.ends >> here & 1 and other.ends >> there & 1:
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
    wide: str,
    narrow: str,
    pieces: re.Pattern[str],
    automaton: Callable[[str], _Automaton],
    regex: Callable[[str], re.Pattern[str]],
) -> bool:
    if wide == narrow:
        return True
    literals, (short, long_) = _look(wide, pieces).literals, _look(narrow, pieces).texts
    if not (_may_take(literals, short) and _may_take(literals, long_)):
        return False
    form = regex(wide)
    if not (form.fullmatch(short) and form.fullmatch(long_)):
        return False
    return _WILD.search(narrow) is None or _includes(automaton(wide), automaton(narrow))


class _Look(NamedTuple):
    """
    What can be seen of a glob without walking it: `literals`, what stands between its wildcards; `texts` that it takes.

    The texts have all of the wildcards short, or all of them long. A walk that would end with a no nearly always ends
    at them, at a fraction of its cost.
    """

    literals: tuple[str, ...]
    texts: tuple[str, str]


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def _look(pattern: str, pieces: re.Pattern[str]) -> _Look:
    found = pieces.split(pattern)
    short, long_ = ("".join(of.get(piece, piece) for piece in found) for of in (_SHORT, _LONG))
    return _Look(tuple(found[::2]), (short, long_))


def _may_take(literals: Sequence[str], text: str) -> bool:
    """Whether literals stand in a text in their order, as in all that a glob of them takes."""
    if not text.endswith(literals[-1]):
        return False
    if len(literals) == 1:
        return text == literals[0]
    at = 0
    for literal in literals:
        at = text.find(literal, at)
        if at < 0:
            return False
        at += len(literal)
    return True


def _includes(wide: _Automaton, narrow: _Automaton) -> bool:
    """
    Whether `wide` takes every text that `narrow` takes; no where that is too long a walk.

    A set of states is a number, with a bit for each. `_SEGMENT` is read for every character that no edge names.
    """
    first = (0, 1)
    seen, waiting = {first}, [first]
    while waiting:
        if len(seen) > STATES_MAX:
            return False
        state, states = waiting.pop()
        if narrow.ends >> state & 1 and not states & wide.ends:
            return False
        edges = [edge for at in range(states.bit_length()) if states >> at & 1 for edge in wide.edges[at]]
        for sign, state_next in narrow.edges[state]:
            for read in (sign,) if len(sign) == 1 else {"/", _SEGMENT, *(edge for edge, _ in edges)} - {_ANY}:
                if read == "/" and sign == _SEGMENT:
                    continue
                reached = 0
                for edge, to in edges:
                    if edge in (read, _ANY) or (edge == _SEGMENT and read != "/"):
                        reached |= 1 << to
                floor = (reached & wide.loops).bit_length() - 1
                after = (state_next, reached >> floor << floor if floor > 0 else reached)
                if after not in seen:
                    seen.add(after)
                    waiting.append(after)
    return True
