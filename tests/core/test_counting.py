"""
Counting: in every ledger concerned, or in none; a code in every limit, or in none.

What a call makes of it by keypad stands in test_step.py, by an agent in test_readback.py.
"""

from dataclasses import replace

import pytest

from ivrguard.core import lockout
from ivrguard.core.assurance import AnyOf, Kind
from ivrguard.core.call import Books, Call, Sent
from ivrguard.core.caller import Address, AddressKind
from ivrguard.core.counting import count_send, entry_of, is_locked, locks_made, reserve, sending, settle
from ivrguard.core.flow import Factor, Flow, Identify, Locks, Sends, Upstream
from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.core.rules import Demand

NOON = 1_700_000_000_000
OWN, NUMBER = "123456/pin/pool", "number/+14155550123"
FLOW = Flow(
    name="bank",
    version="v1",
    numbers=("*",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={
        "pin": Factor(Kind.PIN, 8),
        "code": Factor(Kind.SMS_CODE, 6, sends=Sends(2, 2, 3600, per_number=3, per_prefix=4)),
    },
    levels={"one_factor": AnyOf(("pin", "code"))},
    rules=(),
    default=Demand("one_factor"),
    locks=Locks(
        lockout.Rule(failures=3, within_s=3600, lock_s=(1800,), lifetime=9),
        lockout.Rule(failures=2, within_s=3600, lock_s=(900,)),
    ),
)
CALL = Call(
    "CA1",
    "AC1",
    "bank",
    "v1",
    Address(AddressKind.PHONE, "+14155550123"),
    "+18005550100",
    attested=False,
    began_ms=NOON,
    account="123456",
    known=True,
    ref="ref",
    to="to",
    to_prefix="+1",
)


def counted(books: Books) -> dict[str, list[str]]:
    """Which attempts stand in which ledger."""
    return {name: [one.id for one in ledger.attempts] for name, ledger in books.ledgers.items()}


def test_an_attempt_is_counted_in_every_ledger_or_in_none():
    """The number's ledger is full after two: then the account's own does not count either."""
    books = Books()
    for attempt in ("a", "b"):
        books, allowed = reserve(FLOW, CALL, books, "pin", attempt, NOON)
        assert allowed
    refused, allowed = reserve(FLOW, CALL, books, "pin", "c", NOON)

    assert (refused, allowed) == (books, False)
    assert counted(books) == {OWN: ["a", "b"], NUMBER: ["a", "b"]}
    assert is_locked(FLOW, CALL, books, "pin", NOON)
    assert not is_locked(FLOW, CALL, books, "pin", NOON + 900_000)
    assert not is_locked(FLOW, CALL, Books(), "pin", NOON)


@pytest.mark.parametrize(
    ("right", "own", "number"),
    [(True, [], ["a"]), (False, ["a"], ["a"])],
    ids=["forgives what came before it in its lane", "takes back itself"],
)
def test_what_becomes_of_an_attempt(right, own, number):
    """A number's ledger is never forgiven what others got wrong."""
    books = Books()
    for attempt in ("a", "b"):
        books, _ = reserve(FLOW, CALL, books, "pin", attempt, NOON)

    assert counted(settle(FLOW, CALL, books, "pin", "b", right=right)) == {OWN: own, NUMBER: number}
    assert settle(FLOW, CALL, Books(), "pin", "b", right=right) == Books()


def test_the_attempt_that_fills_a_ledger_tells_of_the_lock():
    """Each ledger by itself, with the end of its lock; one that was filled by another attempt says nothing."""
    full = tuple(Attempt(name, NOON) for name in ("x", "y", "z"))
    books = Books({OWN: Ledger(full, run=3), NUMBER: Ledger(full[1:])})

    made = locks_made(FLOW, CALL, books, "pin", "z", NOON)
    for_good = locks_made(FLOW, CALL, Books({OWN: Ledger(full[2:], run=9)}), "pin", "z", NOON)

    assert [(one.event, one.reason, dict(one.detail)) for one in made] == [
        ("authn_login_lock", "maxretries", {"factor": "pin", "lane": lane, "until_ms": str(NOON + ends)})
        for lane, ends in (("pool", 1_800_000), ("caller_number", 900_000))
    ]
    assert [(one.reason, dict(one.detail)) for one in for_good] == [
        ("lifetime", {"factor": "pin", "lane": "pool"})
    ]
    assert locks_made(FLOW, CALL, books, "pin", "y", NOON) == ()
    assert locks_made(FLOW, CALL, Books({OWN: Ledger(full[2:])}), "pin", "z", NOON) == ()


@pytest.mark.parametrize(
    ("before", "spent"),
    [
        ({}, ""),
        ({"123456/pool": (NOON, NOON)}, "account"),
        ({"123456/pool": (NOON - 3_600_000, NOON)}, ""),
        ({"number/to/pool": (NOON,) * 3}, "number"),
        ({"prefix/+1/claimed": (NOON,) * 4}, "prefix"),
    ],
    ids=["none yet", "the account's", "those are too old", "the number's", "the country's"],
)
def test_a_code_is_counted_in_every_limit_or_in_none(before, spent):
    books = Books(sends=before)

    after, found = count_send(FLOW, CALL, books, NOON)

    assert found == spent
    if spent:
        assert after is books
    else:
        assert {name: times[-1] for name, times in after.sends.items()} == dict.fromkeys(
            ("123456/pool", "number/to/pool", "prefix/+1/claimed"), NOON
        )


@pytest.mark.parametrize(
    ("again", "for_real", "reason"),
    [(False, True, "new"), (True, True, "again"), (False, False, "for_show"), (True, False, "for_show")],
)
def test_the_record_of_a_code(again, for_real, reason):
    """Who asked for it stands beside it; what is empty is left out."""
    sent = Sent("id", "code", "", NOON, 600, again=again)

    entry = sending(CALL, FLOW.factors["code"], sent, NOON, for_real=for_real)
    by_agent = sending(CALL, FLOW.factors["code"], replace(sent, asked_by="ann"), NOON, for_real=for_real)

    assert (entry.event, entry.reason, dict(entry.detail)) == (
        "authn_code_sent",
        reason,
        {"factor": "code", "via": "messages"},
    )
    assert dict(by_agent.detail)["agent"] == "ann"


def test_an_entry_names_call_and_account():
    entry = entry_of(CALL, "event", NOON, "reason", one="1", none="")

    assert (entry.at_ms, entry.call, entry.account, entry.reason, entry.detail) == (
        NOON,
        "CA1",
        "ref",
        "reason",
        (("one", "1"),),
    )
