"""
Sessions of agents at their pages, and the rule that bounds guesses at their log-in.

The laws of this file:

1. A session ends `IDLE_S` after it was last used and `ABSOLUTE_S` after it began, whatever is done with it (NIST SP 800-63B-4, 2.2.3
   allows an hour and a day; PCI DSS 4.0.1, 8.2.8 wants 15 minutes of those who reach card data, so the first can be set).
2. One agent has `SESSIONS_MAX` sessions at most; a new one ends the oldest (`begun`). Only those that stand in his list are any good,
   so ending all of them is one act, and none can be forgotten.
3. A session that begins in the future, beyond the skew of our clocks, is none: a clock that jumped back makes none live longer.
4. Guesses at an account are counted as those of callers are (core/lockout.py), one ledger for name, password and code together, so
   that a right password buys no guesses at the code.
"""

from dataclasses import dataclass

from ivrguard.core.agents import Agent, Role
from ivrguard.core.assurance import CLOCK_SKEW_MS
from ivrguard.core.lockout import Rule

IDLE_S = 30 * 60
ABSOLUTE_S = 12 * 3600
"""A shift and a bit."""
SEEN_EVERY_S = 60
"""A session that is used is written at most this often."""
SESSIONS_MAX = 5

LOGIN_RULE = Rule(failures=5, within_s=3600, lock_s=(1800, 7200, 86_400), lifetime=100)
"""PCI DSS 4.0.1, 8.3.4 wants a lock after ten tries, for half an hour; NIST SP 800-63B-4, 3.2.2 an end after a hundred in a row."""


@dataclass(frozen=True, slots=True)
class Session:
    """
    Who logged in, and when. Its own name is not in it: the store has it under a digest of that.

    `shown_ms`: when he showed who he is, which an identity provider may have seen before the session began here. `seen_ms`: when
    he last did something.
    """

    name: str
    label: str
    roles: tuple[Role, ...]
    queues: tuple[str, ...]
    manager: str
    shown_ms: int
    begun_ms: int
    seen_ms: int

    @property
    def agent(self) -> Agent:
        """Whose it is."""
        return Agent(
            self.name, self.label, frozenset(self.roles), self.queues, self.manager, shown_ms=self.shown_ms
        )


def session_of(agent: Agent, now_ms: int) -> Session:
    """A session of this agent's that begins now."""
    roles = tuple(sorted(agent.roles))
    return Session(
        agent.name, agent.label, roles, agent.queues, agent.manager, agent.shown_ms, now_ms, now_ms
    )


def ends_ms(session: Session, idle_s: int) -> int:
    """When it ends if nothing more is done."""
    return min(session.seen_ms + idle_s * 1000, session.begun_ms + ABSOLUTE_S * 1000)


def live(session: Session, now_ms: int, idle_s: int) -> bool:
    """Whether it goes on."""
    return session.begun_ms - CLOCK_SKEW_MS <= now_ms < ends_ms(session, idle_s)


def begun(listed: tuple[str, ...], digest: str, ended: str = "") -> tuple[str, ...]:
    """An agent's list once a session begins, in the place of `ended` if that is one of his; the oldest may go."""
    return (*(one for one in listed if one not in {digest, ended}), digest)[-SESSIONS_MAX:]
