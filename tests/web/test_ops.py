"""The operators' port: alive, ready, and counted."""

import re

import pytest

from ivrguard.core.errors import StoreFault
from ivrguard.stores.memory import MemoryStore
from ivrguard.web import app
from ivrguard.web.ops import Metrics

PIN = "24681357"


async def got(guarded, path: str):
    async with guarded.session.get(guarded.ops_url + path) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_alive_is_who_answers(guarded):
    """`/healthz` says so whatever else is down."""
    await guarded.store.close()
    assert await got(guarded, "/healthz") == (200, "application/json; charset=utf-8", '{"status": "alive"}')


async def test_ready_is_who_would_let_a_caller_through(guarded):
    """The store reads and a flow is loaded; otherwise 503 with what to mend."""
    assert await got(guarded, "/readyz") == (200, "application/json; charset=utf-8", '{"status": "ready"}')

    await guarded.store.close()
    status, _, text = await got(guarded, "/readyz")
    assert (status, text) == (503, '{"status": "not ready", "why": "store: the memory store is closed"}')


async def test_a_note_leaves_it_ready(start, open_flow, monkeypatch):
    """What an operator should know, though callers are let through; without a note there is none."""
    notes = iter(["the flows on disk have a fault", None])
    monkeypatch.setattr(app.Server, "note", lambda _: next(notes))
    async with start(open_flow) as guarded:
        first, second = await got(guarded, "/readyz"), await got(guarded, "/readyz")
    json = "application/json; charset=utf-8"
    assert first == (200, json, '{"status": "ready", "note": "the flows on disk have a fault"}')
    assert second == (200, json, '{"status": "ready"}')


async def test_a_store_that_hangs_is_not_ready(start, open_flow, monkeypatch):
    """Who asks gets an answer in time."""
    import asyncio

    monkeypatch.setattr(app, "READY_DEADLINE_S", 0.05)

    class Stuck(MemoryStore):
        async def read(self, key):
            await asyncio.Event().wait()

    async with start(open_flow, store=Stuck()) as guarded:
        status, _, text = await got(guarded, "/readyz")
    assert (status, text) == (503, '{"status": "not ready", "why": "store: no answer within 0.05 s"}')


async def test_without_a_flow_nobody_is_let_through(start, open_flow):
    """Such a process is up, and of no use."""
    async with start(open_flow, extra={"flows": ()}) as guarded:
        assert await got(guarded, "/readyz") == (
            503,
            "application/json; charset=utf-8",
            '{"status": "not ready", "why": "no flow is loaded"}',
        )


async def test_the_two_ports_do_not_know_each_others_paths(guarded):
    """What is for operators is not on the public port, and calls are not answered on theirs."""
    for path in ("/healthz", "/readyz", "/metrics"):
        async with guarded.session.get(guarded.guard_url + path) as answer:
            assert answer.status == 403  # a path of the IVR's, unsigned
    async with guarded.session.post(guarded.ops_url + "/") as answer:
        assert answer.status == 404


async def test_no_label_holds_a_number_or_an_account(bank, metric):
    """After calls of every kind: what is counted has names, and nobody's."""
    line = bank.call()
    await line.until_input()
    for keys in ("123456#", "11111111", PIN):
        await line.press(keys)
    await line.send("https://guard.example/nowhere?x=secret-path")
    key = await bank.desk("ann", "*")
    await bank.redeem(key, "12345678")
    async with bank.session.post(bank.guard_url + "/4111111111111111") as answer:
        assert answer.status == 403

    _, content_type, text = await got(bank, "/metrics")
    assert content_type.startswith("text/plain; version=0.0.4")
    labels = re.findall(r'(\w+)="([^"]*)"', text)
    known = {"outcome", "reason", "le", "flow", "version"}
    known |= {"kind", "operation", "factor", "request", "event", "status"}
    assert {name for name, _ in labels} <= known
    assert [value for name, value in labels if name == "version"] == [bank.flow.version]
    values = {value for name, value in labels if name not in {"le", "version"}}
    assert all(re.fullmatch("[a-z_.]+|[2-5](xx|[0-9]{2})", value) for value in values)
    named = re.sub(r" \S+$", "", text, flags=re.MULTILINE)  # a sum of seconds may have any digits
    for secret in ("123456", "5551230001", "8005550100", PIN, "4111", "secret-path", line.call_sid, "ann"):
        assert secret not in named
    assert await metric(bank, 'ivrguard_webhooks_total{outcome="ask"}') == 3
    assert await metric(bank, 'ivrguard_webhook_seconds_count{kind="caller"}') == 3
    assert await metric(bank, 'ivrguard_webhook_seconds_count{kind="mirrored"}') >= 2


def test_two_servers_in_one_process_count_for_themselves():
    """Each has a registry of its own."""
    one, other = Metrics(), Metrics()
    one.webhooks.labels("ask").inc()
    assert one.registry.get_sample_value("ivrguard_webhooks_total", {"outcome": "ask"}) == 1
    assert other.registry.get_sample_value("ivrguard_webhooks_total", {"outcome": "ask"}) is None


def test_the_flows_in_force_and_no_others():
    """Each by name and version; and whether the last reading of the disk found just these."""
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    metrics.flows_read([("bank", "1"), ("shop", "1")], success=True, at_ms=1_800_000_000_500)
    assert value("ivrguard_flows_last_reload_success") == 1
    assert value("ivrguard_flows_last_reload_timestamp_seconds") == 1_800_000_000.5

    metrics.flows_read([("bank", "2")], success=False, at_ms=1_800_000_001_000)
    shown = [
        value("ivrguard_flow_info", {"flow": flow, "version": version})
        for flow in ("bank", "shop")
        for version in "12"
    ]
    assert shown == [None, 1, None, None]
    assert value("ivrguard_flows_last_reload_success") == 0


@pytest.mark.parametrize("fault", [StoreFault("the disk is full: make room")])
async def test_why_says_what_to_mend(start, open_flow, fault):
    """In the fault's own words, which hold no secret."""

    class Full(MemoryStore):
        async def read(self, key):
            raise fault

    async with start(open_flow, store=Full()) as guarded:
        _, _, text = await got(guarded, "/readyz")
    assert '"store: the disk is full: make room"' in text
