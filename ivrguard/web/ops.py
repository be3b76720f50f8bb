"""
For operators, on a port of its own (loopback unless told otherwise): is it alive, is it ready, what does it count.

`/healthz`: this process answers. `/readyz`: it would let a caller through: the store reads, flows are loaded.
Flows on disk that cannot be loaded do not make it unready, because those before serve: they are a note in its body.
`/metrics`: Prometheus. No label holds a number, an account or a path.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from ivrguard.core.alerts import Alert
from ivrguard.core.incidents import State

STORE_BUCKETS_S = (
    0.00001,
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1,
    5,
)
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)


class Metrics:
    """What is counted, in a registry of its own (so that two servers in one process do not share counts)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.webhooks = Counter(
            "ivrguard_webhooks",
            "Webhooks answered, by what became of them",
            ["outcome"],
            registry=self.registry,
        )
        self.refused = Counter(
            "ivrguard_refused",
            "Requests refused before anything was looked up",
            ["reason"],
            registry=self.registry,
        )
        self.redemptions = Counter(
            "ivrguard_redemptions", "Tokens presented by agents' desks", ["outcome"], registry=self.registry
        )
        self.agent_requests = Counter(
            "ivrguard_agent_requests",
            "Requests to the agents' API, by what was asked and the status",
            ["request", "status"],
            registry=self.registry,
        )
        self.rest = Counter(
            "ivrguard_rest_requests",
            "Requests to the REST side door, by what became of them",
            ["outcome"],
            registry=self.registry,
        )
        self.logins = Counter(
            "ivrguard_logins", "Log-ins to the agents' pages", ["outcome"], registry=self.registry
        )
        self.agent_streams = Gauge(
            "ivrguard_agent_streams", "Streams of events that agents read", registry=self.registry
        )
        self.seconds = Histogram(
            "ivrguard_webhook_seconds",
            "Time to answer a webhook, by the kind of its path",
            ["kind"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.flying = Gauge("ivrguard_webhooks_in_flight", "Webhooks being answered", registry=self.registry)
        self.swept = Counter("ivrguard_swept", "Expired values deleted", registry=self.registry)
        self.directory_requests = Counter(
            "ivrguard_directory_requests",
            "Requests to the bank's own system, by what became of them",
            ["request", "outcome"],
            registry=self.registry,
        )
        self.directory_seconds = Histogram(
            "ivrguard_directory_seconds",
            "Time that the bank's own system took for a request",
            ["request"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.directory_open = Gauge(
            "ivrguard_directory_circuit_open",
            "1: requests of this kind failed in a row and are not made for a while",
            ["request"],
            registry=self.registry,
        )
        self.directory_certificate_ends = Gauge(
            "ivrguard_directory_certificate_expiry_timestamp_seconds",
            "When the certificate that the guard shows to the bank's own system runs out; 0: there is none",
            registry=self.registry,
        )
        self._ports()
        self.record_events = Counter(
            "ivrguard_record_events",
            "Entries of the record that this process kept, by what they say: decisions, locks, transfers",
            ["event"],
            registry=self.registry,
        )
        self.record_entries = Gauge(
            "ivrguard_record_entries", "The number of the last entry of the record", registry=self.registry
        )
        self.record_broken = Gauge(
            "ivrguard_record_broken",
            "1: the record is not as it was signed; `ivrguard audit verify` says where",
            registry=self.registry,
        )
        self.record_uncopied = Gauge(
            "ivrguard_record_uncopied",
            "1: the copy of the record fails to be written",
            registry=self.registry,
        )
        self.checkpoint_at = Gauge(
            "ivrguard_record_checkpoint_timestamp_seconds",
            "When this process last signed the record, in seconds since the epoch",
            registry=self.registry,
        )
        self.reloads = Counter(
            "ivrguard_flows_reloads",
            "Readings of the flows on disk, by what became of them",
            ["outcome"],
            registry=self.registry,
        )
        self._reload_success = Gauge(
            "ivrguard_flows_last_reload_success",
            "1: the flows on disk are those in force; 0: they have faults, and those before are in force",
            registry=self.registry,
        )
        self._reload_at = Gauge(
            "ivrguard_flows_last_reload_timestamp_seconds",
            "When the flows on disk were last read, in seconds since the epoch",
            registry=self.registry,
        )
        self.flows_behind = Gauge(
            "ivrguard_flows_behind",
            "1: another node published flows that are not to be had here",
            registry=self.registry,
        )
        self._alerts = Gauge(
            "ivrguard_alerts",
            "1 for each alert of an attack that stands",
            ["flow", "attack"],
            registry=self.registry,
        )
        self.alerts_raised = Counter(
            "ivrguard_alerts_raised",
            "Alerts of attacks that this process raised",
            ["flow", "attack"],
            registry=self.registry,
        )
        self._incidents = Gauge(
            "ivrguard_incidents",
            "Incidents that nobody has acknowledged (open), or that somebody has in hand",
            ["state"],
            registry=self.registry,
        )
        self._incident_waits = Gauge(
            "ivrguard_incident_waiting_seconds",
            "For how long the first incident has waited that nobody has acknowledged; 0: there is none",
            registry=self.registry,
        )
        self._flows = Gauge(
            "ivrguard_flow_info", "1 for each flow in force", ["flow", "version"], registry=self.registry
        )
        ProcessCollector(registry=self.registry)
        for counter, *labels in self._from_the_beginning():
            counter.labels(*labels)

    def _from_the_beginning(self) -> Iterator[tuple[Counter, *tuple[str, ...]]]:
        """
        What alerts look for is there as 0 before it happens: the first of its kind is no increase to Prometheus otherwise
        (https://prometheus.io/docs/practices/instrumentation/#avoid-missing-metrics).
        """
        faults = ("store", "upstream", "directory", "notify", "record", "fault", "out_of_sight", "busy")
        for outcome in (
            "bug",
            "deadline",
            "too_many",
            "upstream_refused",
            *(f"fault_{each}" for each in faults),
        ):
            yield self.webhooks, outcome
        yield self.refused, "signature"
        for outcome in ("redeemed", "refused", "unknown_desk"):
            yield self.redemptions, outcome
        for outcome in ("entered", "refused", "down"):
            yield self.logins, outcome
        for event in ("authn_login_success", "authn_login_fail", "authn_login_lock"):
            yield self.record_events, event
        for operation in ("read", "amend", "list"):
            for outcome in ("done", "store", "error"):
                yield self.store_operations, operation, outcome
        for outcome in ("2xx", "5xx", "upstream"):
            yield self.upstream_requests, outcome
        for request in ("message", "verify_start", "verify_check"):
            for outcome in ("done", "notify"):
                yield self.twilio_requests, request, outcome
        yield self.judgements, "pin", "busy"
        yield self.directory_requests, "verify", "unsettled"

    def _ports(self) -> None:
        """What web/watched.py counts: the store, the judges, and everybody elsewhere."""
        self.store_seconds = self._histogram(
            "ivrguard_store_seconds", "Time that the store took", "operation", buckets=STORE_BUCKETS_S
        )
        self.store_operations = self._outcomes(
            "ivrguard_store_operations", "Reads, amendments and lists, by what became of them", "operation"
        )
        self.store_amending = Gauge(
            "ivrguard_store_amendments_in_flight",
            "Amendments that wait for the store or are being written",
            registry=self.registry,
        )
        self.clock_ahead = Gauge(
            "ivrguard_clock_ahead_seconds",
            "How far this machine's clock is ahead of that of a store which many share; 0 for a store of this machine's",
            registry=self.registry,
        )
        self.judgement_seconds = self._histogram(
            "ivrguard_judgement_seconds", "Time to judge an answer, its wait for a thread included", "factor"
        )
        self.judgements = self._outcomes(
            "ivrguard_judgements",
            "Answers judged; busy: no hash thread was free, and nobody judged",
            "factor",
        )
        self.hashing = Gauge(
            "ivrguard_hashes_in_flight",
            "PINs that are being judged or wait for a thread",
            registry=self.registry,
        )
        self.hash_places = Gauge(
            "ivrguard_hashes_limit",
            "How many PINs may be judged or wait; the next one is busy. 0: the bank's own system judges",
            registry=self.registry,
        )
        self.account_seconds = self._histogram(
            "ivrguard_account_seconds", "Time to find an account, or to change a PIN", "operation"
        )
        self.account_operations = self._outcomes(
            "ivrguard_account_operations", "Accounts looked for, and PINs changed", "operation"
        )
        self.upstream_seconds = Histogram(
            "ivrguard_upstream_seconds",
            "Time that the IVR took for one answer",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.upstream_requests = Counter(
            "ivrguard_upstream_requests",
            "Requests to the IVR, by the class of its answer; upstream: there was none that could be used",
            ["outcome"],
            registry=self.registry,
        )
        self.twilio_seconds = self._histogram(
            "ivrguard_twilio_seconds", "Time that Twilio took for a request of ours", "request"
        )
        self.twilio_requests = self._outcomes(
            "ivrguard_twilio_requests",
            "Messages sent, codes of Verify, lookups and recordings; notify: it was not taken",
            "request",
        )

    def _histogram(
        self, name: str, about: str, label: str, *, buckets: tuple[float, ...] = BUCKETS_S
    ) -> Histogram:
        return Histogram(name, about, [label], buckets=buckets, registry=self.registry)

    def _outcomes(self, name: str, about: str, label: str) -> Counter:
        return Counter(name, about, [label, "outcome"], registry=self.registry)

    def flows_read(self, in_force: Iterable[tuple[str, str]], *, success: bool, at_ms: int) -> None:
        """Show which flows are in force, by name and version, and whether they are what the reading at `at_ms` found."""
        self._reload_success.set(success)
        self._reload_at.set(at_ms / 1000)
        self._flows.clear()
        for flow, version in in_force:
            self._flows.labels(flow, version).set(1)

    def incidents_stand(self, waiting: int, in_hand: int, waits_s: float) -> None:
        """How many incidents stand, by whether somebody has them in hand, and for how long the first one has waited."""
        self._incidents.labels(State.OPEN.value).set(waiting)
        self._incidents.labels(State.ACKNOWLEDGED.value).set(in_hand)
        self._incident_waits.set(waits_s)

    def alerts_stand(self, alerts: Iterable[Alert]) -> None:
        """Show which alerts stand."""
        self._alerts.clear()
        for alert in alerts:
            self._alerts.labels(alert.flow, alert.attack.value).set(1)


def ops_app(
    metrics: Metrics,
    ready: Callable[[], Awaitable[str | None]],
    note: Callable[[], str | None] = lambda: None,
) -> web.Application:
    """The second port's application. `ready` gives None, or why not; `note` what should be known all the same."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        why = await ready()
        if why is None:
            noted = note()
            return web.json_response({"status": "ready"} | ({"note": noted} if noted else {}))
        return web.json_response({"status": "not ready", "why": why}, status=503)

    async def prometheus(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    app = web.Application()
    app.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", prometheus)]
    )
    return app
