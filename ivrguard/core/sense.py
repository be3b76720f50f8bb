"""
Attacks that no lock sees, because each account or number alone looks harmless: what is counted, and when it is enough.

The laws of this file:

1. **No answer is kept.** Of a wrong PIN there is a cell, one of `CELLS`, under a key of its window and its flow. The holder
   of the key who tries all PINs learns of a cell which one in 256 of them it may be, of how many accounts about, and of
   none which. A window's sketch is deleted when the window is over, and the next one has other cells.
2. **Bounded.** A window has a fixed number of values, each of a bounded size, whatever an attacker does. What is full
   forgets the lightest, never the heaviest.
3. **Mergeable.** Bits and sets are joined, counts are added: many nodes make one picture, in any order.
4. A count is held against what is usual: what chance puts into a cell, the share of answers that are wrong, the busiest
   window of the week before. What is usual is learned, and no faster than an attacker has patience for: see `SHARE_GROWTH`
   and `PEAK_GROWTH`.
5. Windows do not overlap. So an attack is surely found that makes twice its `need` within `within`, whenever it begins.

Distinct accounts of a cell are estimated from a bitmap (linear counting: Whang, Vander-Zanden, Taylor, A linear-time
probabilistic counting algorithm, ACM TODS 15, 1990); those of a number, and numbers of an account, are counted up to
`TAGS_MAX`.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, log, sqrt

CELLS = 256
BITS = 256
"""Accounts of a cell are told apart by so many bits: enough for some 1,400."""

POPULAR_SHARE = 0.03
"""As many of all wrong answers may be one and the same without anybody spraying: callers' favourite PINs."""

SIGMAS = 6
"""So far from the mean chance leads one cell of 256 in some thousand years of windows."""

BUCKETS = 64
SUBJECTS_MAX = 64
"""Numbers or accounts in a bucket: 4,096 in a window."""

TAGS_MAX = 64
"""As many are told apart of one number or account."""

SHARE_USUAL_PPM = 100_000
"""One answer in ten is taken to be wrong until it is known better."""

SHARE_USUAL_PPM_MAX = 300_000
"""Honest callers never get more wrong than three in ten: what is learned goes no further."""

ANSWERS_MIN = 50
"""A window with fewer answers says nothing about their usual share of wrong ones."""

SHARE_GROWTH, PEAK_GROWTH = 2.0, 1.5
"""A window's share counts as at most twice the usual one for learning, a day's peak as half as much again as the week's."""

LEARNING, LEARNING_HOT = 24, 240
"""The usual share moves by one part in so many with a window, and by a tenth of that with one that raised an alert."""

DAYS = 7
FLOOD_TIMES = 3
"""A flood is three times the busiest window of the last seven days."""

DAY_MS = 24 * 3600 * 1000


class Attack(StrEnum):
    """What is looked for. Its words for people: `SAID`."""

    SPRAY = "spray"
    MANY_NUMBERS = "many_numbers"
    MANY_ACCOUNTS = "many_accounts"
    STUFFING = "stuffing"
    FLOOD = "flood"


SAID = {
    Attack.SPRAY: "the same wrong answer on many accounts",
    Attack.MANY_NUMBERS: "wrong answers on one account from many numbers",
    Attack.MANY_ACCOUNTS: "wrong answers on many accounts from one number",
    Attack.STUFFING: "many more wrong answers than usual",
    Attack.FLOOD: "many more calls than usual",
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """As many within so many seconds raise an alert; of what, and beside what is usual, see the functions."""

    count: int
    within_s: int

    def window(self, now_ms: int) -> int:
        """The number of the window that `now_ms` falls into."""
        return now_ms // (self.within_s * 1000)

    def ends_ms(self, now_ms: int) -> int:
        """When that window is over."""
        return (self.window(now_ms) + 1) * self.within_s * 1000


@dataclass(frozen=True, slots=True)
class Sense:
    """What a flow looks for (None: not for that), and the level that callers need meanwhile (None: none besides)."""

    spray: Threshold | None = Threshold(20, 6 * 3600)
    many_numbers: Threshold | None = Threshold(8, 24 * 3600)
    many_accounts: Threshold | None = Threshold(10, 24 * 3600)
    stuffing: Threshold | None = Threshold(100, 3600)
    flood: Threshold | None = Threshold(300, 60)
    raise_to: str | None = None

    def of(self, attack: Attack) -> Threshold | None:
        """The threshold of this attack; None: it is not looked for."""
        found: Threshold | None = getattr(self, attack.value)
        return found


@dataclass(frozen=True, slots=True)
class Finding:
    """How many there are, and how many raise an alert. `subject`: the account or number that it is about, as records name it."""

    count: int
    need: int
    subject: str = ""


# ── one wrong answer on many accounts ────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Sketch:
    """The accounts that each cell of wrong answers was given to, as bitmaps; () is an empty one."""

    cells: tuple[int, ...] = ()


def cell_of(key: bytes, answer: str) -> int:
    """The cell of a wrong answer. `key`: its window's and flow's."""
    return hmac.digest(key, b"answer/" + answer.encode(), "sha256")[0]


def mark_of(key: bytes, account: str) -> int:
    """The bit of an account, as a bitmap."""
    return 1 << hmac.digest(key, b"account/" + account.encode(), "sha256")[0]


def marked(sketch: Sketch, marks: Iterable[tuple[int, int]]) -> Sketch:
    """The sketch with these (cell, bitmap) joined in."""
    cells = list(sketch.cells) or [0] * CELLS
    for cell, mark in marks:
        cells[cell] |= mark
    return Sketch(tuple(cells))


def _distinct(bitmap: int) -> float:
    free = BITS - bitmap.bit_count()
    return BITS * log(BITS / max(free, 1))


def sprayed(threshold: Threshold, sketch: Sketch, cells: Iterable[int]) -> Finding | None:
    """
    The fullest of these cells, in accounts beyond those that chance puts there, and how many of them raise an alert.

    That is `count`; more where callers' favourite answers alone, or chance, may make as many.
    """
    cells = sorted(set(cells))
    if not cells:
        return None
    every = [_distinct(bitmap) for bitmap in sketch.cells]
    fullest = max(cells, key=lambda cell: every[cell])
    others = sum(every) - every[fullest]
    mean = others / (CELLS - 1)
    need = max(threshold.count, POPULAR_SHARE * others, SIGMAS * sqrt(mean))
    return Finding(round(every[fullest] - mean), ceil(need))


# ── one account from many numbers, one number over many accounts ─────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Subject:
    """An account (or number), as records name it, and tags of the numbers (or accounts) that answered wrong and right there."""

    name: str
    wrong: tuple[int, ...] = ()
    right: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Bucket:
    """Some of a window's subjects, the one that was met last at the end."""

    subjects: tuple[Subject, ...] = ()


def bucket_of(name: str) -> int:
    """Where a subject is filed."""
    return hashlib.sha256(name.encode()).digest()[0] % BUCKETS


def _tag(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[1:3])


def _with(tags: tuple[int, ...], name: str) -> tuple[int, ...]:
    tag = _tag(name)
    return tags if tag in tags or len(tags) >= TAGS_MAX else (*tags, tag)


def met(bucket: Bucket, name: str, other: str, *, right: bool) -> Bucket:
    """The bucket once `other` answered at `name`. A full one forgets who was met with the fewest, and longest ago."""
    known = next((one for one in bucket.subjects if one.name == name), Subject(name))
    others = [one for one in bucket.subjects if one.name != name]
    if right:
        known = replace(known, right=_with(known.right, other))
    else:
        known = replace(known, wrong=_with(known.wrong, other))
    if len(others) >= SUBJECTS_MAX:
        others.remove(min(others, key=lambda one: len(one.wrong) + len(one.right)))
    return Bucket((*others, known))


def spread(threshold: Threshold, bucket: Bucket, names: Iterable[str]) -> Finding | None:
    """
    Of these subjects the one with the most others that answered wrong there and never right; `count` raises an alert.

    Where as many answered right there is nothing to see: a switchboard shows one number for everybody behind it, and a
    company's account has many callers.
    """
    wanted = set(names)
    found = [
        Finding(wrong, max(threshold.count, len(one.right) + 1), one.name)
        for one in bucket.subjects
        if one.name in wanted and (wrong := len(set(one.wrong) - set(one.right)))
    ]
    return max(found, key=lambda one: one.count / one.need, default=None)


# ── more than usual ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Answers:
    """The wrong answers of a window and all that were judged, and what share of them is usual, in parts of a million."""

    window: int = 0
    wrong: int = 0
    judged: int = 0
    usual_ppm: int = SHARE_USUAL_PPM


def answered(tally: Answers, threshold: Threshold, now_ms: int, *, wrong: int, judged: int) -> Answers:
    """The tally with so many more; a new window first learns from the one before."""
    window = threshold.window(now_ms)
    if window > tally.window:
        usual = tally.usual_ppm
        if tally.judged >= ANSWERS_MIN:
            share = min(tally.wrong * 1_000_000 // tally.judged, round(usual * SHARE_GROWTH))
            before = stuffed(threshold, tally)
            slowness = LEARNING if before.count < before.need else LEARNING_HOT
            usual = min(max(1, usual + round((share - usual) / slowness)), SHARE_USUAL_PPM_MAX)
        tally = Answers(window, usual_ppm=usual)
    return replace(tally, wrong=tally.wrong + wrong, judged=tally.judged + judged)


def stuffed(threshold: Threshold, tally: Answers) -> Finding:
    """The wrong answers of this window; `count` more than usual raise an alert, or what chance cannot make."""
    usual = tally.judged * tally.usual_ppm / 1_000_000
    return Finding(tally.wrong, ceil(usual + max(threshold.count, SIGMAS * sqrt(usual))))


@dataclass(frozen=True, slots=True)
class Calls:
    """The new calls of a window, and the busiest windows of the day and of those before it, the latest first."""

    window: int = 0
    count: int = 0
    day: int = 0
    peaks: tuple[int, ...] = (0,)


def called(tally: Calls, threshold: Threshold, now_ms: int, count: int) -> Calls:
    """The tally with so many more calls; a new window first learns from the one before."""
    window, day = threshold.window(now_ms), now_ms // DAY_MS
    if window > tally.window:
        most = max(threshold.count // FLOOD_TIMES, round(max(tally.peaks[1:], default=0) * PEAK_GROWTH))
        today = max(tally.peaks[0], min(tally.count, most))
        peaks = (today, *tally.peaks[1:])
        if day > tally.day:
            peaks = (0, *peaks)[: DAYS + 1]
        tally = Calls(window, 0, day, peaks)
    return replace(tally, count=tally.count + count)


def flooded(threshold: Threshold, tally: Calls) -> Finding:
    """The calls of this window; `count` raise an alert, or three times the busiest window of the last seven days."""
    return Finding(tally.count, max(threshold.count, FLOOD_TIMES * max(tally.peaks)))
