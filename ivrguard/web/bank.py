"""
The bank's own system as operators see it: what is counted, and what is worth a line in the log.

Every request is counted with what became of it; a line is written only when something turns: a circuit opens or closes,
a certificate is renewed or cannot be. The guard writes the line of a call that suffers from it.
"""

from ivrguard import log
from ivrguard.directory.bank import REQUESTS, Outcome
from ivrguard.web.ops import Metrics

logger = log.get()


class BankWatch:
    """Implements `directory.bank.Watch`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        for request in REQUESTS.values():
            metrics.directory_open.labels(request).set(0)

    def asked(self, request: str, outcome: Outcome, seconds: float) -> None:
        """Count it. The seconds of what never went out would only flatter."""
        self._metrics.directory_requests.labels(request, outcome.value).inc()
        if outcome not in {Outcome.LEFT_ALONE, Outcome.BUSY}:
            self._metrics.directory_seconds.labels(request).observe(seconds)

    def circuit(self, request: str, *, opened: bool) -> None:
        """Show it, and say so once."""
        self._metrics.directory_open.labels(request).set(opened)
        if opened:
            hint = "callers hear an apology at once; the lines before this one say what failed"
            logger.error("directory_circuit_opened", kind=request, hint=hint)
        else:
            logger.warning("directory_circuit_closed", kind=request)

    def certificate(self, ends_ms: int, fault: str) -> None:
        """Show when it runs out; renewed files that cannot be used leave those before in use."""
        self._metrics.directory_certificate_ends.set(ends_ms / 1000)
        if fault:
            logger.error("directory_certificate_unusable", detail=fault)
        else:
            logger.info("directory_certificate_read")
