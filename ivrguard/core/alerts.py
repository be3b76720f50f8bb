"""
An alert's life: raised, going on, over.

The laws of this file:

1. A flow has at most one alert of each kind of attack (core/sense.py), however many accounts or numbers it is about.
2. It is raised once, by one entry, and over once, by one entry (`attack_suspected`, `attack_over`).
3. It does not flutter: what was raised at `need` goes on at half of it, and is over when nothing was seen for `quiet_s`.
4. Whoever ended it by hand has seen it: the same attack raises none for as long as `within`.
5. It names accounts and numbers as records do, `SUBJECTS_MAX` at most, and answers not at all.
"""

from dataclasses import dataclass, replace

from ivrguard.core.audit import Entry
from ivrguard.core.sense import Attack, Finding, Threshold

SUBJECTS_MAX = 10
QUIET_S_MIN, QUIET_S_MAX = 900, 3600


@dataclass(frozen=True, slots=True)
class Alert:
    """
    One alert. `seen_ms`: when there was last enough to see. `count`, `need`: the most that was counted, and what raised
    it then. `over_ms` None: it stands. `ended_by`: who ended it by hand.
    """

    flow: str
    attack: Attack
    raised_ms: int
    seen_ms: int
    count: int
    need: int
    within_s: int
    subjects: tuple[str, ...] = ()
    over_ms: int | None = None
    ended_by: str = ""

    @property
    def id(self) -> str:
        """The name of this alert, and of no other one."""
        return f"{self.flow}/{self.attack}/{self.raised_ms}"


def quiet_s(within_s: int) -> int:
    """After so many seconds without anything to see it is over."""
    return min(max(within_s, QUIET_S_MIN), QUIET_S_MAX)


def watched(
    alert: Alert | None,
    flow: str,
    attack: Attack,
    threshold: Threshold,
    finding: Finding | None,
    now_ms: int,
) -> tuple[Alert | None, Entry | None]:
    """The alert as it is now, `alert` being how it was, and the entry of its being raised or over."""
    standing = alert is not None and alert.over_ms is None
    seen = finding is not None and finding.count * (2 if standing else 1) >= finding.need
    if alert is not None and standing:
        if finding is not None and seen:
            return _going_on(alert, finding, now_ms), None
        if now_ms - alert.seen_ms < quiet_s(alert.within_s) * 1000:
            return alert, None
        return ended(alert, now_ms)
    if finding is None or not seen or _muted(alert, now_ms):
        return alert, None
    subjects = (finding.subject,) if finding.subject else ()
    raised = Alert(
        flow, attack, now_ms, now_ms, finding.count, finding.need, threshold.within_s, subjects=subjects
    )
    return raised, _entry(raised, "attack_suspected", attack, now_ms)


def _going_on(alert: Alert, finding: Finding, now_ms: int) -> Alert:
    more = (finding.subject,) if finding.subject and finding.subject not in alert.subjects else ()
    seen = replace(
        alert, seen_ms=max(alert.seen_ms, now_ms), subjects=(*alert.subjects, *more)[:SUBJECTS_MAX]
    )
    return replace(seen, count=finding.count, need=finding.need) if finding.count > alert.count else seen


def _muted(alert: Alert | None, now_ms: int) -> bool:
    if alert is None or alert.over_ms is None or not alert.ended_by:
        return False
    return now_ms - alert.over_ms < alert.within_s * 1000


def ended(alert: Alert, now_ms: int, *, by: str = "", because: str = "") -> tuple[Alert, Entry | None]:
    """The alert, over: by itself, or by hand. One that is over stays as it is."""
    if alert.over_ms is not None:
        return alert, None
    over = replace(alert, over_ms=now_ms, ended_by=by)
    hand = (("by", by), ("because", because)) if by else ()
    return over, _entry(over, "attack_over", "by_hand" if by else "quiet", now_ms, *hand)


def _entry(alert: Alert, event: str, reason: str, now_ms: int, *more: tuple[str, str]) -> Entry:
    facts = (
        ("flow", alert.flow),
        ("attack", alert.attack.value),
        ("alert", alert.id),
        ("count", str(alert.count)),
        ("need", str(alert.need)),
        ("within_s", str(alert.within_s)),
        ("subjects", ",".join(alert.subjects)),
    )
    detail = tuple((name, value) for name, value in (*facts, *more) if value)
    return Entry(now_ms, event, reason=str(reason), detail=detail)
