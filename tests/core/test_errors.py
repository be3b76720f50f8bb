"""Faults: each with its reason, all of one family, and silent about what they must not tell."""

import pytest

from ivrguard.core import errors
from ivrguard.core.errors import (
    Busy,
    DirectoryFault,
    Fault,
    NotifyFault,
    OutOfSight,
    ProviderFault,
    RecordFault,
    StoreFault,
    UpstreamFault,
)

REASONS = {
    Fault: "fault",
    StoreFault: "store",
    RecordFault: "record",
    UpstreamFault: "upstream",
    NotifyFault: "notify",
    DirectoryFault: "directory",
    ProviderFault: "identity_provider",
    OutOfSight: "out_of_sight",
    Busy: "busy",
}


@pytest.mark.parametrize(("fault", "reason"), REASONS.items())
def test_each_fault_has_a_reason_of_its_own(fault, reason):
    """The reason labels a metric and a log line; the one place that answers faults catches them all."""
    assert reason == fault.reason
    assert isinstance(fault("what to mend"), Fault)
    assert str(fault("what to mend")) == "what to mend"


def test_no_fault_is_forgotten_here():
    """A new fault is a new line in the table above, and no two share a reason."""
    every = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Fault)}

    assert set(REASONS) == every
    assert len(REASONS) == len(set(REASONS.values()))
