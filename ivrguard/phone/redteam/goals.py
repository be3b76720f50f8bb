"""
What a flow protects, as places that a caller can be led to: what attacks aim at.

Laws of this file
 1. A goal is what the flow itself decides (core/rules.py) at the moment of the attack: a rule that another one hides, or
    whose hours are over, is none.
 2. Globs become a path or a name that they match, and nothing that anybody has.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from ivrguard.core.assurance import least
from ivrguard.core.flow import Flow, Place
from ivrguard.core.rules import Demand, Rule, Target, Visit, decide
from ivrguard.phone.rig import dialled

UNNAMED = "/redteam-no-rule-names-this"
UNNAMED_NUMBER = "+19005550123"
"""A number that no flow means: calls to such ones cost, and somebody gets the money."""
_WILD = re.compile(r"/\*\*$|/\*\*/|\*\*|\*|\?")
_LIKE = {"/**": "/redteam", "/**/": "/", "**": "redteam", "*": "redteam", "?": "7"}
_DOCUMENTS = {
    "enqueue": "<Enqueue>{}</Enqueue>",
    "workflow": '<Enqueue workflowSid="{}"><Task>{{}}</Task></Enqueue>',
    "number": "<Dial><Number>{}</Number></Dial>",
    "client": "<Dial><Client>{}</Client></Dial>",
    "sip": "<Dial><Sip>{}</Sip></Dial>",
    "conference": "<Dial><Conference>{}</Conference></Dial>",
    "queue": "<Dial><Queue>{}</Queue></Dial>",
    "refer": "<Refer><Sip>{}</Sip></Refer>",
}
_NAMES = {"number": "+18005550147", "sip": "sip:redteam@pbx.example", "refer": "sip:redteam@pbx.example"}


@dataclass(frozen=True, slots=True)
class Goal:
    """
    Something that a flow decides about: a `path`, with the keys pressed for it, or a transfer to `target`.

    `demand`: what it needs; `place`: the line of the flow that says so.
    """

    demand: Demand
    place: Place
    path: str = ""
    digits: str = ""
    target: Target | None = None
    to: str = ""

    def __str__(self) -> str:
        if self.target is not None:
            return f"a transfer to {self.target}"
        return f"{self.path} with key {self.digits}" if self.digits else self.path

    def document(self) -> str:
        """The TwiML with which an IVR leads a caller there."""
        if self.target is not None:
            return _DOCUMENTS[self.target.kind].format(escape(self.target.value))
        if self.digits:
            return f'<Gather numDigits="{len(self.digits)}" action="{escape(self.path)}"/>'
        return f"<Redirect>{escape(self.path)}</Redirect>"


def _filled(pattern: str) -> str:
    return _WILD.sub(lambda found: _LIKE[found[0]], pattern)


def _target(rule: Target) -> Target:
    """Somebody whom the rule speaks of."""
    kind = rule.kind if rule.kind in _DOCUMENTS else ("workflow" if "*" in rule.kind else rule.kind)
    value = _NAMES.get(kind, "redteam") if rule.value == "*" else _filled(rule.value)
    return Target(kind, value)


def visit(flow: Flow, now_ms: int, goal: Goal) -> Visit:
    """The goal as the rules see it at this moment."""
    local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(ZoneInfo(flow.timezone))
    to = goal.to or dialled(flow)[0]
    minute = local.hour * 60 + local.minute
    return Visit(goal.path, "POST", to, local.weekday(), minute, goal.digits or None, goal.target)


def _of_rule(position: int, rule: Rule) -> Goal:
    place: Place = ("rules", position)
    to = _filled(rule.dialled) if rule.dialled is not None else ""
    if rule.transfer is not None:
        return Goal(rule.demand, place, target=_target(rule.transfer), to=to)
    path = _filled(rule.path) if rule.path is not None else UNNAMED
    return Goal(rule.demand, place, path, _filled(rule.digits or ""), to=to)


def goals(flow: Flow, now_ms: int) -> tuple[Goal, ...]:
    """Everything that a rule of the flow, or its default, decides about; what can be led to from its first number."""
    every = [_of_rule(position, rule) for position, rule in enumerate(flow.rules)]
    every += [Goal(flow.default, ("default",), UNNAMED)]
    every += [Goal(flow.default, ("default",), target=Target("number", UNNAMED_NUMBER))]
    return tuple(goal for goal in every if _decided(flow, now_ms, goal))


def _decided(flow: Flow, now_ms: int, goal: Goal) -> bool:
    if goal.target is not None and goal.target.kind not in _DOCUMENTS:
        return False
    if goal.path.startswith("//") or goal.to not in ("", dialled(flow)[0]):
        return False
    position = goal.place[1] if len(goal.place) > 1 else None
    _, by = decide(flow.rules, flow.default, visit(flow, now_ms, goal))
    return by == position


def strength(flow: Flow, demand: Demand) -> int:
    """The fewest factors with which a demand can be met; 0: it asks for nothing."""
    return least(flow.levels[demand.require]) if demand.require is not None else 0


def protected(flow: Flow, now_ms: int) -> tuple[Goal, ...]:
    """What a caller must prove something for, the weakest first; paths before transfers."""
    found = [goal for goal in goals(flow, now_ms) if goal.demand.require is not None]
    return tuple(sorted(found, key=lambda goal: (strength(flow, goal.demand), goal.target is not None)))


def unnamed(flow: Flow, now_ms: int) -> Iterator[tuple[Goal, Place]]:
    """A path and a transfer that no line of the flow is likely to mean, what they need, and where that is decided."""
    for goal in (
        Goal(flow.default, ("default",), UNNAMED),
        Goal(flow.default, ("default",), target=Target("number", UNNAMED_NUMBER)),
    ):
        demand, by = decide(flow.rules, flow.default, visit(flow, now_ms, goal))
        place: Place = ("default",) if by is None else ("rules", by)
        yield Goal(demand, place, goal.path, target=goal.target), place
