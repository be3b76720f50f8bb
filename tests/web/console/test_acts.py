"""Which buttons a call's page has, as a table: none that would come to nothing, and none of what is not known yet."""

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from ivrguard.core.agents import Agent
from ivrguard.core.aside import Denied
from ivrguard.core.assurance import Kind, Proof
from ivrguard.core.call import Call, Question, ReadBack, Sent
from ivrguard.core.caller import ANONYMOUS
from ivrguard.core.conference import Beside, Ended
from ivrguard.core.passing import PASSED_ON_MAX
from ivrguard.core.rules import Demand, Rule, Target
from ivrguard.web.console import words
from ivrguard.web.console.acts import Acts, Code, acts
from ivrguard.web.console.view import moment

UTC = ZoneInfo("UTC")
NOON_MS = 1_767_614_400_000
ANN = Agent("agent:ann")
PROOF = Proof("pin", Kind.PIN, NOON_MS, 1)
SENT = Sent("c1", "code", "agent", NOON_MS - 60_000, 600, asked_by="agent:ann")

CALL = Call(
    sid="CA" + "0a" * 16,
    account_sid="AC" + "0b" * 16,
    flow="bank",
    version="1",
    caller=ANONYMOUS,
    dialled="+18005550100",
    attested=False,
    began_ms=NOON_MS,
    account="123456",
    enrolled=("pin", "code"),
    legs=("l1",),
)
BOTH = (("pin", "PIN"), ("code", "Code by message"))
NO_CODE_SENT = Code(sent=None, until=None, left="", digits=6, more=2)


@pytest.fixture
def offered(bank_flow):
    return lambda side=None, **changed: acts(bank_flow, replace(CALL, **changed), side, UTC, ANN, NOON_MS)


def test_of_a_caller_who_has_proved_something(offered):
    """A code can be sent; whose account it is stands."""
    assert offered(proofs=(PROOF,)) == Acts(claim=False, code=NO_CODE_SENT, queues=("enqueue:fraud-line",))


@pytest.mark.parametrize(
    ("changed", "claim", "code"),
    [
        ({}, True, NO_CODE_SENT),
        ({"account": ""}, True, None),
        ({"question": Question("n1", "pin")}, False, NO_CODE_SENT),
        ({"proofs": (PROOF,), "enrolled": ("pin",)}, False, None),
        ({"codes_sent": 2}, True, replace(NO_CODE_SENT, more=0)),
    ],
)
def test_what_there_is_before_anything_is_proved(offered, changed, claim, code):
    """An unknown account has the same buttons as a known one: nothing here asks whether there is one."""
    seen = offered(**changed)
    assert (seen.claim, seen.code) == (claim, code)
    assert seen.checks == (claim or code is not None)
    assert seen == offered(**changed, known=True)


@pytest.mark.parametrize(
    ("back", "live"),
    [
        (None, False),
        (ReadBack("agent:ann", ("r1",), SENT), True),
        (ReadBack("agent:ann", ("r1",), None), False),
        (ReadBack("agent:bob", ("r1",), SENT), False),
        (ReadBack("agent:ann", ("r1",), replace(SENT, at_ms=NOON_MS - 600_000)), False),
    ],
)
def test_a_code_is_waited_for_while_it_is_good_and_his(offered, back, live):
    code = offered(read_back=back).code
    assert code is not None
    assert (code.sent is not None) == (code.until is not None) == bool(code.left) == live
    if live:
        assert (code.sent, code.left) == (moment(SENT.at_ms, UTC), "9 min 0 s")


def test_a_flow_without_codes_has_none_to_send(bank_flow):
    flow = replace(bank_flow, factors={"pin": bank_flow.factors["pin"]})
    assert acts(flow, CALL, None, UTC, ANN, NOON_MS).code is None


def test_when_nobody_is_on_the_line_there_is_nothing_to_do(offered):
    assert offered(ended_ms=NOON_MS) == Acts()
    assert not Acts().checks


def test_to_whom_a_caller_can_be_passed_on(bank_flow, offered):
    """The queues that rules name outright, each once; any other can be written. Not for ever."""
    rules = [
        Rule(Demand(None), transfer=Target(*to))
        for to in (("enqueue", "a"), ("enqueue", "a"), ("client", "b*"))
    ]
    assert acts(replace(bank_flow, rules=tuple(rules)), CALL, None, UTC, ANN, NOON_MS).queues == (
        "enqueue:a",
    )
    assert offered(legs=("l",) * (PASSED_ON_MAX + 1)).queues is None


@pytest.mark.parametrize(
    ("side", "changed", "shown"),
    [
        (None, {}, {"aside": (), "away": "", "came": ""}),
        (Beside(ready=False, apart=False, last=""), {}, {"aside": (), "away": "", "came": ""}),
        (Beside(ready=True, apart=False, last=""), {}, {"aside": BOTH, "away": "", "came": ""}),
        (Beside(ready=True, apart=False, last=""), {"account": ""}, {"aside": (), "away": "", "came": ""}),
        (
            Beside(ready=True, apart=False, last="hung_up"),
            {"failed": ("code",)},
            {"aside": BOTH[:1], "away": "", "came": words.CAME_BACK[Ended.HUNG_UP]},
        ),
        (
            Beside(ready=False, apart=True, last="verified"),
            {},
            {"aside": (), "away": words.AWAY, "came": "", "code": None, "claim": False, "queues": None},
        ),
    ],
)
def test_the_keypad_is_offered_while_the_two_are_joined(offered, side, changed, shown):
    """What he could key, in the flow's order; while he is away there is nothing to press."""
    seen = offered(side, proofs=(PROOF,), **changed)
    assert {name: getattr(seen, name) for name in shown} == shown
    assert set(words.CAME_BACK) == set(Ended)
    assert set(words.NOT_ASIDE) == set(Denied)
