"""
Faults, by whose they are. Outcomes (a wrong PIN, a lock, a spent token) are values, not exceptions.

A fault is raised where it is met and turned into an answer in one place, web/voice.py. Its text is for the
operator's log: it names what to mend and holds no secret; a caller never hears it.
"""


class Fault(Exception):
    """Something went wrong that no decision of ours covers. `reason` labels a metric and a log line."""

    reason = "fault"


class StoreFault(Fault):
    """The store did not read or write: nothing is decided, nothing is let through."""

    reason = "store"


class RecordFault(Fault):
    """The record is not as it was signed, or a file of it cannot be written or read."""

    reason = "record"


class UpstreamFault(Fault):
    """The IVR did not answer, answered too late, too much, or what is not TwiML."""

    reason = "upstream"


class NotifyFault(Fault):
    """
    A message, a check or a lookup was not taken by the carrier.

    `why`: a word for the record, such as `blocked` or `too_many_sends`; "undeliverable" when there is no better one.
    """

    reason = "notify"

    def __init__(self, message: str, *, why: str = "undeliverable") -> None:
        super().__init__(message)
        self.why = why


class DirectoryFault(Fault):
    """The directory of accounts did not answer."""

    reason = "directory"


class ProviderFault(Fault):
    """The company's identity provider did not answer, or answered what it should not."""

    reason = "identity_provider"


class OutOfSight(Fault):
    """Somebody elsewhere was asked and gave no answer: he may have judged, so the attempt counts, or changed what he was told to."""

    reason = "out_of_sight"


class Busy(Fault):
    """A bounded resource is at its bound: try again shortly. Nothing was counted."""

    reason = "busy"
