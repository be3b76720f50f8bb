"""Changed copies: what `dataclasses.replace` makes, for every frozen value of a call."""

import dataclasses

import pytest

from ivrguard.core.audit import Entry
from ivrguard.core.call import Ask, Call, Last, Pending, Question, Step, What
from ivrguard.core.caller import address_of
from ivrguard.core.rules import Demand
from ivrguard.core.values import replace
from ivrguard.ports import Request

CALL = Call(
    "CA" + "0" * 32, "AC" + "1" * 32, "bank", "v1", address_of("+14155550123"), "+18005550100", True, 10**12
)
ENTRY = Entry(10**12, "authz_granted")


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        (CALL, {}),
        (CALL, {"turn": 7, "seen": ("a", "b")}),
        (CALL, {"question": Question("n"), "pending": Pending(What.REQUEST, (Demand("one"),)), "last": None}),
        (Last("f", 1, "n"), {"answer": "sealed"}),
        (Step(CALL, None, Ask(Question("n"), (), 8)), {"entries": (ENTRY,)}),
        (Request("POST", "https://ivr.example/"), {"body": b"x"}),
    ],
    ids=lambda one: type(one).__name__ if not isinstance(one, dict) else ",".join(one),
)
def test_a_changed_copy_is_what_the_standard_library_makes(value, changes):
    """Equal to `dataclasses.replace`, another object, and the first one is as it was."""
    before = repr(value)

    copy = replace(value, **changes)

    assert copy == dataclasses.replace(value, **changes)
    assert copy is not value
    assert repr(value) == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(copy, dataclasses.fields(copy)[0].name, "changed")


def test_a_field_that_is_none_is_refused():
    """A slip in a name does not vanish."""
    with pytest.raises(AttributeError):
        replace(CALL, trun=7)
