"""
The ports, watched: each gives what the one behind it gives, raises what it raises, and is counted by how it ended.

Spans, and what is never in one: test_otlp.py.
"""

import asyncio

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry
from ivrguard.core.errors import Busy, NotifyFault, StoreFault, UpstreamFault
from ivrguard.core.lookup import NumberFacts
from ivrguard.ports import Account, Change, Key, Put, Reply, Request, Right, Wrong
from ivrguard.stores.memory import MemoryStore
from ivrguard.web import watched
from ivrguard.web.ops import Metrics

KEY: Key[int] = Key("spent", "a")


class Behind:
    """Any port: notes what it is asked, and gives or raises what it was told to."""

    kind = Kind.PIN

    def __init__(self, gives: object = None) -> None:
        self.gives = gives
        self.asked: list[tuple[str, tuple, dict]] = []

    def __getattr__(self, name: str):
        async def asked(*args, **options):
            self.asked.append((name, args, options))
            if isinstance(self.gives, BaseException):
                raise self.gives
            return self.gives

        return asked


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


REPLY = Reply(200, "http://ivr.example/voice", "text/xml", b"")
REQUEST = Request("POST", "http://ivr.example/voice", (("From", "+1"),))
IN_TIME = {"deadline_s": 2.0}
PORTS = [
    (watched.WatchedJudge, "judge", (None, "1", None, 7), {}, Right(), "judgements", {"factor": "pin"}),
    (
        watched.WatchedMessenger,
        "send",
        ("+1", "text"),
        IN_TIME,
        None,
        "twilio_requests",
        {"request": "message"},
    ),
    (
        watched.WatchedVerifications,
        "start",
        ("+1",),
        {"again": True, "intent": "wire", "language": "en", **IN_TIME},
        "VE1",
        "twilio_requests",
        {"request": "verify_start"},
    ),
    (
        watched.WatchedVerifications,
        "check",
        ("VE1", "1"),
        IN_TIME,
        Wrong(),
        "twilio_requests",
        {"request": "verify_check"},
    ),
    (
        watched.WatchedLookup,
        "look_up",
        ("+1", ("sim_swap",)),
        IN_TIME,
        NumberFacts(),
        "twilio_requests",
        {"request": "lookup"},
    ),
    (
        watched.WatchedRecordings,
        "running",
        ("AC", "CA"),
        IN_TIME,
        ("RE",),
        "twilio_requests",
        {"request": "recordings"},
    ),
    (
        watched.WatchedRecordings,
        "pause",
        ("AC", "CA", ("RE",)),
        IN_TIME,
        None,
        "twilio_requests",
        {"request": "recordings"},
    ),
    (
        watched.WatchedRecordings,
        "resume",
        ("AC", "CA", ("RE",)),
        IN_TIME,
        None,
        "twilio_requests",
        {"request": "recordings"},
    ),
    (
        watched.WatchedDirectory,
        "by_id",
        ("5",),
        {},
        Account("5"),
        "account_operations",
        {"operation": "find"},
    ),
    (watched.WatchedDirectory, "by_number", ("+1",), {}, None, "account_operations", {"operation": "find"}),
    (
        watched.WatchedPins,
        "change",
        ("5", "1"),
        {"now_ms": 7},
        True,
        "account_operations",
        {"operation": "change_pin"},
    ),
]


@pytest.mark.parametrize(("port", "name", "args", "options", "gives", "counted", "labels"), PORTS)
async def test_a_port_is_what_it_was(metrics, port, name, args, options, gives, counted, labels):
    """The same arguments, the same answer, the same fault; done, or the reason of the fault."""
    behind = Behind(gives)
    asked = getattr(port(behind, metrics, None), name)
    assert await asked(*args, **options) == gives
    assert behind.asked == [(name, args, options)]
    assert value(metrics, f"ivrguard_{counted}_total", **labels, outcome="done") == 1

    for mishap, outcome in (
        (Busy("full"), "busy"),
        (NotifyFault("no"), "notify"),
        (OSError("a bug"), "error"),
    ):
        behind.gives = mishap
        with pytest.raises(type(mishap)) as raised:
            await asked(*args, **options)
        assert raised.value is mishap
        assert value(metrics, f"ivrguard_{counted}_total", **labels, outcome=outcome) == 1


@pytest.mark.parametrize(
    ("gives", "outcome"),
    [
        (REPLY, "2xx"),
        (Reply(302, "u", None, b"", "/there"), "3xx"),
        (Reply(401, "u", None, b""), "4xx"),
        (Reply(503, "u", None, b""), "5xx"),
        (UpstreamFault("gone"), "upstream"),
    ],
)
async def test_the_ivr_is_counted_by_the_class_of_its_answer(metrics, gives, outcome):
    """And by whether there was one."""
    behind = Behind(gives)
    ivr = watched.WatchedIvr(behind, metrics, None, told=True)
    options = {"assertion": "a", "cookies": "c", "deadline_s": 1.0}
    if isinstance(gives, Reply):
        assert await ivr.fetch(REQUEST, **options) is gives
    else:
        with pytest.raises(UpstreamFault):
            await ivr.fetch(REQUEST, **options)
    assert behind.asked == [("fetch", (REQUEST,), options)]  # untraced: it is told nothing
    assert value(metrics, "ivrguard_upstream_requests_total", outcome=outcome) == 1
    assert value(metrics, "ivrguard_upstream_seconds_count") == 1


async def test_a_store_is_what_it_was(metrics):
    """Every method of it, over one that is real."""
    real = MemoryStore()
    store = watched.WatchedStore(real, metrics, None)
    entry = Entry(1, "authn_login_lock")
    told = await store.amend([KEY], lambda _: Change("told", (Put(KEY, 5, expires_ms=1),), (entry, entry)))
    assert (told, await store.read(KEY), await real.read(KEY)) == ("told", 5, 5)
    assert await store.list("spent") == await real.list("spent")
    assert [one.entry for one in await store.entries()] == [entry, entry]
    assert await store.head() == await real.head()
    assert await store.prune(1) == 1
    assert await store.sweep(2) == 1
    assert await store.clock_ms() is None
    await store.amend([], lambda _: Change(None, (), (entry,)))
    assert value(metrics, "ivrguard_record_events_total", event="authn_login_lock") == 3
    await store.close()
    with pytest.raises(StoreFault):
        await store.read(KEY)

    counts = {"read": 2, "amend": 2, "list": 1}
    for operation, count in counts.items():
        assert value(metrics, "ivrguard_store_seconds_count", operation=operation) == count
    assert value(metrics, "ivrguard_store_operations_total", operation="read", outcome="store") == 1


async def test_what_was_not_kept_is_not_counted(metrics):
    """Nor twice what was tried twice: a change may be called again."""

    class Twice(MemoryStore):
        async def amend(self, keys, change):
            change(dict.fromkeys(keys))
            return await super().amend(keys, change)

    store = watched.WatchedStore(Twice(), metrics, None)
    entry = Entry(1, "authn_login_lock")
    await store.amend([], lambda _: Change(None, (), (entry,)))

    def fails(_):
        raise StoreFault("down")

    with pytest.raises(StoreFault):
        await store.amend([], fails)
    assert value(metrics, "ivrguard_record_events_total", event="authn_login_lock") == 1


async def test_what_is_under_way_shows(metrics):
    """Amendments that wait, until they are done; one that is given up is counted as that."""

    class Slow(MemoryStore):
        async def amend(self, keys, change):
            await asyncio.Event().wait()

    store = watched.WatchedStore(Slow(), metrics, None)
    waiting = [asyncio.ensure_future(store.amend([], lambda _: Change(None))) for _ in range(3)]
    await asyncio.sleep(0)
    assert value(metrics, "ivrguard_store_amendments_in_flight") == 3
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert value(metrics, "ivrguard_store_amendments_in_flight") == 0
    assert value(metrics, "ivrguard_store_operations_total", operation="amend", outcome="cancelled") == 3


@pytest.mark.parametrize(
    ("name", "system"),
    [("SqliteStore", "sqlite"), ("PostgresStore", "postgresql"), ("MemoryStore", "memory")],
)
def test_a_store_is_called_what_others_call_it(metrics, name, system):
    """https://opentelemetry.io/docs/specs/semconv/database/: sqlite, postgresql."""
    store = watched.WatchedStore(type(name, (MemoryStore,), {})(), metrics, None)
    assert store._read._attributes == {"db.system.name": system, "db.operation.name": "read"}


async def test_a_day_shows_in_the_metrics(bank, metric):
    """From the first question to the lock, over the whole server: who waits for whom, and what came of it."""
    for wrong in (("11111112", "11111113", "11111114"), ("11111115", "11111116")):
        line = bank.call()
        await line.until_input()
        for keys in ("123456#", *wrong):
            await line.press(keys)

    assert await metric(bank, 'ivrguard_record_events_total{event="authn_login_lock"}') == 1
    assert await metric(bank, 'ivrguard_judgements_total{factor="pin",outcome="done"}') >= 5
    assert await metric(bank, 'ivrguard_account_operations_total{operation="find",outcome="done"}') > 0
    assert await metric(bank, 'ivrguard_store_operations_total{operation="amend",outcome="done"}') > 6
    assert await metric(bank, "ivrguard_hashes_limit") == bank.server.pins.places
    assert await metric(bank, "ivrguard_hashes_in_flight") == 0
