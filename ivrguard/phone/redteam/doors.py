"""
Attacks that use what the flow itself says: open doors, one stolen secret, an unattended telephone.

Laws of this file
 1. Here the guard does as it is told. What gets through is the flow's own rule, and it is named with its line.
 2. What a flow calls open is open. What it does not name must not be; and what it calls `sensitive`, or asks two kinds
    of factors for, must not fall to one stolen secret, nor to a proof that has grown old.
"""

from xml.sax.saxutils import escape

from ivrguard.core.assurance import CATEGORY, ways
from ivrguard.core.flow import Flow, Place, Sensitive
from ivrguard.core.rules import Target, glob, name_glob
from ivrguard.flowfile import read
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.goals import Goal, protected, unnamed
from ivrguard.phone.redteam.ground import Ground, Stuck
from ivrguard.phone.redteam.guessing import unprotected
from ivrguard.phone.rig import dialled

UNATTENDED_S = 15 * 60
"""PCI DSS 4.0.1, 8.2.8: who was idle for so long proves himself again."""
ALWAYS_ASKED_S = 60
"""A proof that old is another moment's, at a hand-over."""
NEVER_FACTORS = ("voice", "caller_id", "question", "date_of_birth", "email")


def _named(place: Place) -> str:
    return f"rules[{place[1]}]" if place[0] == "rules" else "default"


async def _open_doors(ground: Ground) -> None:
    """A stranger who proves nothing asks for paths and people that no line of the flow names, on each of its numbers."""
    for goal, place in unnamed(ground.flow, ground.clock()):
        for number in dialled(ground.flow):
            if not number.startswith("+"):
                continue
            for knows in (
                (),
                *([(name,) for name in ground.flow.factors] if goal.demand.require is None else []),
            ):
                line = ground.call(to=number)
                ground.tried["doors tried"] += 1
                there = await ground.to(line, goal, knows=knows) == "there"
                await ground.leave(line)
                if there:
                    proved = f"with '{knows[0]}' alone" if knows else "with nothing proved"
                    ground.through(
                        f"{goal} was reached {proved}: {_named(place)} opens what no rule names to anyone",
                        place,
                        "open what is harmless by its own rule, and write `default: {require: …}` for the rest",
                    )
                    break


def _sensitive(flow: Flow, goal: Goal) -> bool:
    return any(_speaks_of(one, goal) for one in flow.sensitive)


def _speaks_of(sensitive: Sensitive, goal: Goal) -> bool:
    if not isinstance(sensitive, Target):
        return goal.target is None and glob(sensitive).fullmatch(goal.path) is not None
    pairs = ((sensitive.kind, goal.target.kind), (sensitive.value, goal.target.value)) if goal.target else ()
    return bool(pairs) and all(name_glob(pattern).fullmatch(value) for pattern, value in pairs)


def _kinds(flow: Flow, goal: Goal) -> int:
    """The fewest kinds of factor (known, held) with which the goal can be had."""
    kinds = flow.kinds()
    every = ways(flow.levels[goal.demand.require]) if goal.demand.require is not None else ()
    return min((len({CATEGORY[kinds[name]] for name in way}) for way in every), default=0)


async def _one_secret(ground: Ground) -> None:
    """With one stolen secret (the PIN; a code that was intercepted; the app), go for everything that is protected."""
    flow, now_ms = ground.flow, ground.clock()
    every = protected(flow, now_ms)
    two = any(_kinds(flow, goal) > 1 for goal in every)
    easiest: dict[str, Goal] = {}
    for goal in every:
        if goal.demand.intent:
            held = easiest.setdefault(goal.demand.intent, goal)
            easiest[goal.demand.intent] = min(held, goal, key=lambda one: _kinds(flow, one))
    reached: dict[Goal, str] = {}
    for factor in flow.factors:
        for goal in every:
            line = ground.call()
            ground.tried["doors tried"] += 1
            if await ground.to(line, goal, knows=(factor,)) == "there":
                reached.setdefault(goal, factor)
            await ground.leave(line)
    for goal, factor in reached.items():
        _judge_reached(ground, goal, factor, every, two=two)


def _judge_reached(ground: Ground, goal: Goal, factor: str, every: tuple[Goal, ...], *, two: bool) -> None:
    flow = ground.flow
    mend = f"write a level that wants two kinds there, such as {{all: [pin, code]}} ({_named(goal.place)})"
    if _sensitive(flow, goal):
        ground.through(f"{goal}, which the flow calls sensitive, fell to '{factor}' alone", goal.place, mend)
    elif not two:
        ground.through(
            f"nothing in the flow wants two kinds of factor: {goal} fell to '{factor}' alone",
            goal.place,
            mend,
        )
    elif any(
        _kinds(flow, other) > 1
        for other in every
        if goal.demand.intent and other.demand.intent == goal.demand.intent
    ):
        ground.through(
            f"{goal} fell to '{factor}' alone, while other rules want two kinds for '{goal.demand.intent}'",
            goal.place,
            mend,
        )
    elif goal.demand.intent and goal.target is None and _agents_want_more(flow, every):
        ground.through(
            f"{goal} ('{goal.demand.intent}') fell to '{factor}' alone, while any agent wants two kinds",
            goal.place,
            mend,
        )
    else:
        ground.notes.append(f"'{factor}' alone opens {goal}, as {_named(goal.place)} says")


def _agents_want_more(flow: Flow, every: tuple[Goal, ...]) -> bool:
    agents = [one for one in every if one.target is not None]
    return bool(agents) and all(_kinds(flow, one) > 1 for one in agents)


async def _unattended(ground: Ground) -> None:
    """Take over a call whose caller proved everything, and wait; then go for what is worth it."""
    for goal in (one for one in protected(ground.flow, ground.clock()) if one.target is None):
        if not _sensitive(ground.flow, goal) and not (goal.demand.intent and _kinds(ground.flow, goal) > 1):
            continue
        waits = (
            f'<Gather numDigits="1" action="{escape(goal.path)}"><Say>path {escape(goal.path)}</Say></Gather>'
        )
        ground.ivr.answers(goal.path, waits)
        line = await ground.there(goal)
        ground.clock.advance(UNATTENDED_S)
        since = len(line.heard)
        await line.press(goal.digits[:1] or "1")
        ground.tried["calls taken over"] += 1
        if ground.reached(line, goal, since):
            ground.through(
                f"{goal} was reached by proofs that were {UNATTENDED_S // 60} minutes old",
                (*goal.place, "within"),
                "write `within: 5m` (PSD2 RTS, article 4; PCI DSS 4.0.1, 8.2.8: 15 minutes at most)",
            )
        await ground.leave(line)


async def _handed_on(ground: Ground) -> None:
    """Take over a call whose caller proved everything, and have it handed to an agent."""
    path = next((one for one in reversed(protected(ground.flow, ground.clock())) if one.path), None)
    for goal in (one for one in protected(ground.flow, ground.clock()) if one.target is not None):
        line = await ground.there(path if path is not None else goal)
        if not await ground.at_the_ivr(line):
            raise Stuck("there is no way from one place to an agent: the flow protects transfers alone")
        ground.clock.advance(ALWAYS_ASKED_S)
        ground.tried["calls taken over"] += 1
        if await ground.to(line, goal) == "there":
            ground.through(
                f"{goal} was connected with nothing proved anew",
                (*goal.place, "reverify"),
                f"write `reverify: {goal.demand.require}` there: one factor again at each hand-over",
            )
        await ground.leave(line)


async def _never_a_factor(ground: Ground) -> None:
    """Write a voice, a caller ID or a knowledge question into the flow as a factor."""
    text = ground.flow.files.get("", "")
    for kind in NEVER_FACTORS:
        written = text.replace("kind: pin", f"kind: {kind}")
        ground.tried["factors tried"] += 1
        loaded = read("redteam", written.encode(), lambda tag: ground.flow.files[tag].encode())
        if loaded.flow is not None:
            ground.through(f"a flow with a factor of kind {kind} was taken")


def _has_no_file(flow: Flow) -> str:
    return (
        ""
        if "kind: pin" in flow.files.get("", "")
        else "the flow has no PIN to put another factor in the place of"
    )


ATTACKS = (
    Attack(
        "try-every-door",
        "With nothing proved, go where no line of the flow points, on each of its numbers",
        "field C: toll fraud; OWASP ASVS 5.0, 8.2.1; CWE-276",
        _open_doors,
    ),
    Attack(
        "steal-one-secret",
        "With one secret, stolen or phished, go for everything that is protected",
        "field C: PIN guessing, OTP bots, SIM swap; FFIEC 2021; OWASP ASVS 5.0, 6.3.3; CWE-308",
        _one_secret,
        unprotected,
    ),
    Attack(
        "take-over-later",
        "Take over a call whose caller has proved everything, a quarter of an hour later",
        'field C: "man in the phone"; PCI DSS 4.0.1, 8.2.8; PSD2 RTS, article 4; CWE-613',
        _unattended,
        unprotected,
    ),
    Attack(
        "be-handed-on",
        "Take over a call whose caller has proved everything, and be handed to an agent",
        "field C: agent talked into it (Clorox v Cognizant); OWASP ASVS 5.0, 7.5.3",
        _handed_on,
        lambda flow: (
            ""
            if any(r.transfer and r.demand.require for r in flow.rules) or flow.default.require
            else "the flow protects no transfer"
        ),
    ),
    Attack(
        "voice-and-questions",
        "Write a voice, a caller ID or a knowledge question into the flow as a factor",
        "field C: voice deepfake, KBA beaten; NIST SP 800-63B-4, 3.2.3; OWASP ASVS 5.0, 6.4.2",
        _never_a_factor,
        _has_no_file,
    ),
)
