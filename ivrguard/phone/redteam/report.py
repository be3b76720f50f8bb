"""
What a raid found, for people and for programs.

Laws of this file
 1. Every attack has its line, also one that was not tried, which says why.
 2. What was let through stands with the line of the flow and the mend.
 3. What the owner felt is told in his terms: as before, more questions, other words, not let in.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ivrguard.core.flow import Flow, Place
from ivrguard.phone.redteam.attack import Outcome, Verdict
from ivrguard.phone.redteam.ground import Hole, Honest

SIGNS: Mapping[Verdict, str] = {Verdict.HELD: "✓", Verdict.LET_THROUGH: "✗", Verdict.NOT_TRIED: "–"}
STYLES: Mapping[Verdict, str] = {
    Verdict.HELD: "green",
    Verdict.LET_THROUGH: "bold red",
    Verdict.NOT_TRIED: "dim",
}
NAME_CHARS, VERDICT_CHARS, FELT_CHARS = 28, 12, 18
HEAD = f"  {'attack':{NAME_CHARS}}{'':{VERDICT_CHARS}}{'own phone':{FELT_CHARS}}{'another phone':{FELT_CHARS}}tried"

Where = Callable[[Place], str]
"""The file, line, column and key of a place in the flow."""


@dataclass(frozen=True, slots=True)
class Told:
    """One line of the report, and the style that it has on a terminal."""

    text: str
    style: str = ""


def felt(honest: Honest) -> str:
    """What the owner noticed of the attack, on one of his phones."""
    before, after = honest.before, honest.after
    if not before.got_in:
        return "not in before"
    if not after.got_in:
        return "not let in"
    more = after.questions - before.questions
    if more:
        return f"{more:+} question{'s' if abs(more) > 1 else ''}"
    return "as before" if honest.same else "other words"


def lines(outcome: Outcome, where: Where) -> Iterator[Told]:
    """The outcome of one attack: its line, and below it what was let through."""
    verdict = outcome.verdict
    style = STYLES[verdict]
    head = f"{SIGNS[verdict]} {outcome.attack.name:{NAME_CHARS}}{verdict:{VERDICT_CHARS}}"
    if verdict is Verdict.NOT_TRIED:
        yield Told(f"{head}{outcome.why}", style)
        return
    owner = "".join(f"{felt(honest):{FELT_CHARS}}" for honest in outcome.felt)
    tried = "; ".join(f"{what}: {count:,}" for what, count in outcome.tried)
    yield Told(f"{head}{owner}{tried}", style)
    for hole in outcome.holes:
        yield Told(f"    {hole.what}", "bold")
        yield Told(f"    {_mend(hole, where)}")
    for note in outcome.notes:
        yield Told(f"    note: {note}", "dim")


def _mend(hole: Hole, where: Where) -> str:
    return hole.mend if hole.place is None else f"{where(hole.place)}: {hole.mend}"


def summary(outcomes: Sequence[Outcome], seconds: float) -> Told:
    """The last line."""
    count = {verdict: sum(one.verdict is verdict for one in outcomes) for verdict in Verdict}
    through = count[Verdict.LET_THROUGH]
    many = "1 attack" if len(outcomes) == 1 else f"{len(outcomes)} attacks"
    text = f"{many}: {count[Verdict.HELD]} held, {through} let through, {count[Verdict.NOT_TRIED]} not tried"
    own = [one.felt[0] for one in outcomes if one.felt]
    served = sum(honest.after.got_in for honest in own)
    text += f"; the owner got in from his own phone after {served} of {len(own)} ({seconds:.0f} s)"
    return Told(text, STYLES[Verdict.LET_THROUGH if through else Verdict.HELD])


def record(flow: Flow, outcomes: Sequence[Outcome], seed: int, where: Where) -> dict[str, object]:
    """All of it for programs."""
    return {
        "flow": flow.name,
        "version": flow.version,
        "seed": seed,
        "let_through": sum(one.verdict is Verdict.LET_THROUGH for one in outcomes),
        "not_tried": sum(one.verdict is Verdict.NOT_TRIED for one in outcomes),
        "seconds": round(sum(one.seconds for one in outcomes), 3),
        "attacks": [_recorded(one, where) for one in outcomes],
    }


def _recorded(one: Outcome, where: Where) -> dict[str, object]:
    return {
        "attack": one.attack.name,
        "says": one.attack.says,
        "source": one.attack.source,
        "verdict": one.verdict.value,
        "why_not_tried": one.why,
        "tried": dict(one.tried),
        "let_through": [
            {
                "what": hole.what,
                "where": where(hole.place) if hole.place is not None else None,
                "mend": hole.mend,
            }
            for hole in one.holes
        ],
        "notes": list(one.notes),
        "felt": [
            {
                "phone": honest.phone,
                "felt": felt(honest),
                "got_in": [honest.before.got_in, honest.after.got_in],
                "questions": [honest.before.questions, honest.after.questions],
                "same_words": honest.before.words == honest.after.words,
            }
            for honest in one.felt
        ],
        "seconds": round(one.seconds, 3),
    }
