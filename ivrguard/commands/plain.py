"""
A flow's parts in plain words, a line each: as `explain` and the graph of a flow say them.

The law of this file: a word stands for one thing, here as in flows/README.md, and durations, days and transfers look as
an admin writes them.
"""

from collections.abc import Iterator

from ivrguard.core.assurance import CATEGORY, AllOf, AnyOf, Expression, Kind
from ivrguard.core.flow import Factor, Via
from ivrguard.core.lookup import Lookup, Unknown
from ivrguard.core.rules import DAYS, Demand, Hours, Rule, Target
from ivrguard.flowfile.forms import spoken

OPEN = "open to anyone"
EVERYTHING_ELSE = "everything else"


def needs(demand: Demand) -> str:
    """What a demand wants: `two_factor within 5m, then one_factor anew, for wire with a code of its own`."""
    if demand.require is None:
        return OPEN
    within = f" within {spoken(demand.within_s)}" if demand.within_s is not None else ""
    intent = f", for {demand.intent}" if demand.intent else ""
    intent += " with a code of its own" if demand.own_code else ""
    return f"{demand.require}{within}{anew(demand)}{intent}"


def anew(demand: Demand) -> str:
    """What a demand wants proved once more, for a transfer; nothing, where it wants nothing."""
    if demand.reverify is None:
        return ""
    return f", then {demand.reverify} anew" + (
        f" ({spoken(demand.fresh_s)} old will do)" if demand.fresh_s else ""
    )


def conditions(rule: Rule) -> str:
    """What a rule matches: `/menu, keys 3, on mon-fri 08:00-18:00`."""
    told = (
        ("", transfer(rule.transfer) if rule.transfer else None),
        ("", rule.path),
        ("keys ", rule.digits),
        ("by ", rule.method),
        ("dialled ", rule.dialled),
        ("on ", hours(rule.hours) if rule.hours else None),
    )
    return ", ".join(name + value for name, value in told if value is not None)


def transfer(target: Target) -> str:
    """A transfer as `explain --transfer` takes it."""
    return "any transfer" if target == Target("*", "*") else f"transfer to {target}"


def hours(when: Hours) -> str:
    """Days and times as a flow file has them: `mon-fri 08:00-18:00`."""
    begin, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in (when.from_minute, when.to_minute))
    return f"{','.join(_runs(when))} {begin}-{end}"


def _runs(when: Hours) -> Iterator[str]:
    """Days, those that follow each other as one: `mon-fri`."""
    days = sorted(when.days)
    while days:
        run = [day for place, day in enumerate(days) if day == days[0] + place]
        yield DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}"
        days = days[len(run) :]


def made_of(level: Expression, *, within: bool = False) -> str:
    """What a level is made of: `pin and (code or app)`. `within`: another expression stands around it."""
    match level:
        case AnyOf((one,)) | AllOf((one,)):
            return made_of(one, within=within)
        case AnyOf(of) | AllOf(of):
            words = (" or " if isinstance(level, AnyOf) else " and ").join(
                made_of(part, within=True) for part in of
            )
            return f"({words})" if within else words
        case factor:
            return factor


def factor(of: Factor) -> str:
    """What a factor is: `something held: a texted code of 6 digits, valid 10m`."""
    match of.kind:
        case Kind.PIN:
            what = f"a PIN of {of.digits} digits"
        case Kind.TOTP:
            what = f"an app's code of {of.digits} digits"
        case _:
            by = ", by Twilio Verify" if of.via is Via.VERIFY else ""
            what = f"a texted code of {of.digits} digits, valid {spoken(of.valid_s)}{by}"
    held_back = "; ".join(_held_back(of.lookup))
    return f"{CATEGORY[of.kind].value}: {what}" + (f"; {held_back}" if held_back else "")


def _held_back(lookup: Lookup) -> Iterator[str]:
    """To which numbers no code goes."""
    if lookup.line_types:
        yield f"to {' or '.join(lookup.line_types)} only"
    if lookup.sim_swap_s is not None:
        yield f"not to a SIM swapped in the last {spoken(lookup.sim_swap_s)}"
    if lookup.forwarding:
        yield "not where calls are forwarded"
    if lookup.wanted() and lookup.unknown is Unknown.SEND:
        yield "sent where nobody can say"
