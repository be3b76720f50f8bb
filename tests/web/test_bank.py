"""The bank's own system as operators see it: counted, shown, and a line in the log when something turns."""

import secrets
from contextlib import AsyncExitStack

import pytest
from structlog.testing import capture_logs

from ivrguard.directory.bank import Access, Outcome
from ivrguard.directory.messages import SigningKey
from ivrguard.phone.directory import AccountSystem
from ivrguard.phone.rig import Clock, listen
from ivrguard.web.bank import BankWatch
from ivrguard.web.ops import Metrics

NOW_MS = 1_800_000_000_000
SECRET = bytes(range(32))


def shown(metrics, name, **labels):
    """The value of a metric."""
    return metrics.registry.get_sample_value(f"ivrguard_directory_{name}", labels)


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def watch(metrics):
    return BankWatch(metrics)


def test_every_request_is_counted_with_what_became_of_it(metrics, watch):
    """And timed, if it went out."""
    for outcome in Outcome:
        watch.asked("verify", outcome, 0.25)
    watch.asked("lookup", Outcome.ANSWERED, 0.125)
    for outcome in Outcome:
        assert shown(metrics, "requests_total", request="verify", outcome=outcome.value) == 1
    assert shown(metrics, "seconds_count", request="verify") == len(Outcome) - 2
    assert shown(metrics, "seconds_sum", request="lookup") == 0.125


def test_a_circuit_is_shown_and_told_when_it_turns(metrics, watch):
    """All are closed to begin with: an alert can be written before anything has failed."""
    for request in ("lookup", "verify", "change"):
        assert shown(metrics, "circuit_open", request=request) == 0
    with capture_logs() as logged:
        watch.circuit("verify", opened=True)
    assert [(one["event"], one["log_level"], one["kind"]) for one in logged] == [
        ("directory_circuit_opened", "error", "verify")
    ]
    assert [shown(metrics, "circuit_open", request=name) for name in ("verify", "lookup")] == [1, 0]
    with capture_logs() as logged:
        watch.circuit("verify", opened=False)
    assert [(one["event"], one["log_level"]) for one in logged] == [("directory_circuit_closed", "warning")]
    assert shown(metrics, "circuit_open", request="verify") == 0


def test_when_the_certificate_runs_out_is_shown(metrics, watch):
    """None: 0. Renewed files that cannot be used are told, with what to mend."""
    assert shown(metrics, "certificate_expiry_timestamp_seconds") == 0
    with capture_logs() as logged:
        watch.certificate(NOW_MS, "")
        watch.certificate(NOW_MS, "guard.pem and guard-key.pem are not a certificate and its key")
    assert shown(metrics, "certificate_expiry_timestamp_seconds") == NOW_MS / 1000
    assert [(one["event"], one["log_level"], one.get("detail", "")[:9]) for one in logged] == [
        ("directory_certificate_read", "info", ""),
        ("directory_certificate_unusable", "error", "guard.pem"),
    ]


async def test_a_bank_that_is_down_does_not_make_the_guard_unready(start, open_flow):
    """
    `/readyz` asks the bank nothing: it would take every node out at once, and callers would hear nothing at all. It notes
    that a circuit is open, `/metrics` shows it, and both forget it when the bank is well again.
    """
    async with AsyncExitStack() as stack:
        clock = Clock(NOW_MS)
        system = AccountSystem({"k1": SECRET}, clock, hash_cost=2)
        url = await listen(system.app(), stack)
        extra = {"bank": Access(url, SigningKey("k1", SECRET)), "clock": clock, "chance": secrets.token_bytes}
        guarded = await stack.enter_async_context(start(open_flow, extra=extra))

        async def page(path):
            async with guarded.session.get(guarded.ops_url + path) as answer:
                return answer.status, await answer.text()

        bank = guarded.server.bank
        for _ in range(5):
            system.fail_next(500)
            assert "status 500" in await bank.unfit()
        asked = len(system.asked)
        status, text = await page("/readyz")
        assert (status, "the bank's system does not answer, and is left alone: lookup" in text) == (200, True)
        assert 'ivrguard_directory_circuit_open{request="lookup"} 1.0' in (await page("/metrics"))[1]
        assert len(system.asked) == asked
        clock.advance(10)
        assert await bank.unfit() is None
        assert await page("/readyz") == (200, '{"status": "ready"}')
        text = (await page("/metrics"))[1]
        assert 'ivrguard_directory_circuit_open{request="lookup"} 0.0' in text
        assert 'ivrguard_directory_requests_total{outcome="unsettled",request="lookup"} 5.0' in text
