"""
What an agent may do with the caller that he holds: which buttons there are, and what stands beside them. Pure.

The law of this file: a button that would come to nothing is not there. What is decided when it is pressed is decided by the guard.
"""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from ivrguard.core.agents import Agent
from ivrguard.core.assurance import Kind
from ivrguard.core.call import Call, Sent
from ivrguard.core.conference import Beside, Ended
from ivrguard.core.demands import able
from ivrguard.core.flow import Flow
from ivrguard.core.passing import PASSED_ON_MAX
from ivrguard.web.console import words
from ivrguard.web.console.view import Moment, lasting, moment


@dataclass(frozen=True, slots=True)
class Code:
    """
    A code that is read back. `sent`: when the one went out that an answer is waited for (None: none is), `left`: for how long it is good.
    `digits`: how many it has. `more`: how many can still be sent on this call.
    """

    sent: Moment | None
    until: Moment | None
    left: str
    digits: int
    more: int


@dataclass(frozen=True, slots=True)
class Acts:
    """
    The buttons. `claim`: name the caller's account. `code`: None where no code can be read back. `aside`: the factors that the caller can
    be led aside for, with their words. `away`: what stands there while he is aside, `came`: how the last time ended. `queues`: whom he can
    be passed on to, as `kind:value`; None: he cannot be.
    """

    claim: bool = False
    code: Code | None = None
    aside: tuple[tuple[str, str], ...] = ()
    away: str = ""
    came: str = ""
    queues: tuple[str, ...] | None = None

    @property
    def checks(self) -> bool:
        """Whether there is any way to check the caller."""
        return self.claim or self.code is not None or bool(self.aside or self.away or self.came)


def acts(flow: Flow, call: Call, side: Beside | None, zone: ZoneInfo, agent: Agent, now_ms: int) -> Acts:
    """The buttons of this call, for the agent who holds it. `side`: as its standing has it."""
    if call.ended_ms is not None:
        return Acts()
    came = words.CAME_BACK[Ended(side.last)] if side is not None and side.last else ""
    queues = None if len(call.legs) > PASSED_ON_MAX else _queues(flow)
    if side is not None and side.apart:
        return Acts(away=words.AWAY)
    return Acts(
        claim=not call.proofs and call.question is None,
        code=_code(flow, call, zone, agent, now_ms),
        aside=_aside(flow, call) if side is not None and side.ready else (),
        came=came,
        queues=queues,
    )


def _aside(flow: Flow, call: Call) -> tuple[tuple[str, str], ...]:
    """What the caller could key, in the flow's order; nothing while no account is named."""
    known = able(flow, call) if call.account else frozenset[str]()
    return tuple((name, words.ASIDE[factor.kind]) for name, factor in flow.factors.items() if name in known)


def _code(flow: Flow, call: Call, zone: ZoneInfo, agent: Agent, now_ms: int) -> Code | None:
    name = next((name for name, factor in flow.factors.items() if factor.kind is Kind.SMS_CODE), "")
    if not name or not call.account or (call.proofs and name not in call.enrolled):
        return None
    factor, back = flow.factors[name], call.read_back
    sent: Sent | None = back.sent if back is not None and back.agent == agent.name else None
    until_ms = 0 if sent is None else sent.at_ms + sent.valid_s * 1000
    live = sent is not None and now_ms < until_ms
    return Code(
        sent=moment(sent.at_ms, zone) if sent is not None and live else None,
        until=moment(until_ms, zone) if live else None,
        left=lasting(until_ms - now_ms) if live else "",
        digits=factor.digits,
        more=max(0, factor.sends.per_call - call.codes_sent),
    )


def _queues(flow: Flow) -> tuple[str, ...]:
    """The queues that the flow's rules name outright."""
    named = [str(rule.transfer) for rule in flow.rules if rule.transfer is not None]
    return tuple(dict.fromkeys(one for one in named if not set("*?[") & set(one)))
