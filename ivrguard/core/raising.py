"""
What callers need while an alert stands (core/sense.py): the flow, with its lower demands raised to its `sense.raise`.

The laws of this file:

1. A demand is raised only to a level that holds all of its own: nobody ever needs less because of an alert.
2. What anyone may do stays open to anyone. What a transfer wants proved anew stays as it is.
3. It is the same flow by name and version: nothing but its demands differs. Who holds the level is asked for nothing.
"""

from ivrguard.core.assurance import satisfied, ways
from ivrguard.core.flow import Flow
from ivrguard.core.rules import Demand
from ivrguard.core.values import replace


def raised(flow: Flow) -> Flow:
    """The flow as it is while an alert stands; the same, where it names no level for that."""
    rules = tuple(replace(rule, demand=_raised(flow, rule.demand)) for rule in flow.rules)
    change = flow.pin_change
    if change is not None:
        change = replace(change, demand=_raised(flow, change.demand))
    return replace(flow, rules=rules, default=_raised(flow, flow.default), pin_change=change)


def _raised(flow: Flow, demand: Demand) -> Demand:
    level = flow.sense.raise_to
    if level is None or demand.require is None or not _holds(flow, level, demand.require):
        return demand
    return replace(demand, require=level)


def comparable(flow: Flow, level: str | None) -> bool:
    """Whether `sense.raise` is as much as this level and more, or the other way round; of no level, as well."""
    to = flow.sense.raise_to
    return to is None or level is None or _holds(flow, to, level) or _holds(flow, level, to)


def _holds(flow: Flow, more: str, less: str) -> bool:
    """Whether whoever reaches `more`, in whatever way, holds `less` with that."""
    if more not in flow.levels or less not in flow.levels:
        return False
    return all(satisfied(flow.levels[less], way) for way in ways(flow.levels[more]))
