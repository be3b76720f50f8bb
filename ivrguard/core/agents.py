"""
Agents: who holds a caller, and what an agent may do at all.

The laws of this file:

1. Who somebody is was shown elsewhere (a desk's key, an account of ours, the company's identity provider); this is what came of it.
2. A role gives nothing by itself over a call: an agent sees the call that he holds (`holds`), and no other one.
3. Nobody decides in his own affair, nor over his manager's or his staff's: `apart`.
4. What is grave wants somebody who has shown anew who he is (`fresh`; OWASP ASVS 5.0, 7.5.3).
"""

from dataclasses import dataclass
from enum import StrEnum

from ivrguard.core.assurance import CLOCK_SKEW_MS
from ivrguard.core.handoff import Desk, Leg

REAUTHENTICATED_S = 300
"""Who showed who he is this long ago has shown it for what is grave as well."""


OWN, COMPANYS = "agent:", "oidc:"
"""What the names of people begin with: of those with an account of ours, of those whom the company's identity provider knows."""

AFTER_CALL_S = 600
"""How long a call is still his who held it, once it has ended: contact centres call it after-call work."""


class Role(StrEnum):
    """What somebody at a desk is: he talks to callers, looks after those who do, or decides about threats."""

    AGENT = "agent"
    SUPERVISOR = "supervisor"
    RISK = "risk"


@dataclass(frozen=True, slots=True)
class Agent:
    """
    Somebody at a desk, or a desk's own program (`desk`), as he is known now.

    `name`: as the record has him, and nobody else: a desk's as it is, `agent:` and the name of an account of ours, `oidc:` and the
    identity provider's subject. `label`: what people read. `queues`: globs over `kind:value`, what he may take callers
    from. `manager`: the name of whoever he reports to, "" if nobody says. `shown_ms`: when he last showed who he is, ms since the
    epoch.
    """

    name: str
    label: str = ""
    roles: frozenset[Role] = frozenset((Role.AGENT,))
    queues: tuple[str, ...] = ()
    manager: str = ""
    shown_ms: int = 0
    desk: bool = False

    def as_desk(self) -> Desk:
        """Where he redeems tokens: a desk of his own name and queues."""
        return Desk(self.name, self.queues, self.shown_ms)


def holds(agent: Agent, leg: Leg | None) -> bool:
    """Whether `leg`, the last one of a call, is in this agent's hands: he redeemed its token."""
    return leg is not None and leg.redeemed_ms is not None and leg.agent == agent.name


def over(ended_ms: int | None, now_ms: int) -> bool:
    """Whether a call ended so long ago (ms since the epoch; None: it goes on) that nobody holds it any more."""
    return ended_ms is not None and now_ms - ended_ms >= AFTER_CALL_S * 1000


def fresh(agent: Agent, now_ms: int) -> bool:
    """Whether he showed who he is lately enough for what is grave; at a node whose clock is a little ahead, that may be in a moment."""
    return -CLOCK_SKEW_MS <= now_ms - agent.shown_ms <= REAUTHENTICATED_S * 1000


def apart(agent: Agent, other: str, others_manager: str) -> bool:
    """Whether `agent` is neither `other` nor whoever `other` reports to, nor somebody who reports to `other`."""
    return agent.name not in {other, others_manager} and agent.manager != other
