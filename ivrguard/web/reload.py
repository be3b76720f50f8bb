"""
Flows that are changed while calls are under way.

1. What is on disk takes effect as a whole or not at all. With a fault in any file everything stays as it is, and it
   is told: each fault in the log, a metric for alerts, a note in the body of `/readyz`, which stays 200, because the
   version before serves. (Prometheus reloads so: a bad file changes nothing, and
   `prometheus_config_last_reload_successful` falls to 0;
   https://prometheus.io/docs/prometheus/latest/configuration/configuration/.)
2. Nothing takes effect before it is on record: an entry for each flow that began (`flow_activated`; its reason says
   whether with the process, as a new flow, or as another version) or ended (`flow_withdrawn`). If the store cannot
   take them, nothing changes, and the next look tries again. OWASP's vocabulary has no event for rules that come
   into force (`sys_*` is about a process, `authz_change` about one user's rights), so these names are our own.
3. In the same act its files go into the store, where they stay for as long as any process has the version in force, and
   a day longer: calls keep what they began with through a restart, and on whichever node answers them
   (guard/world.py, `World.flow_of`).
4. Files are read on another thread, one reading at a time: a webhook does not wait for a parser.
5. Watching is looking, every `LOOK_EVERY_S`, at names, times, sizes and inodes. Links are followed, so that the swap
   of a Kubernetes ConfigMap shows, and an editor's rename. Two looks in a row must see the same before anything is
   read: whoever is writing gets to the end. What is read half written all the same is refused by rule 1, or read
   again by the next look.

Which calls get which version is guard/world.py's affair: `Flows`.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ivrguard import flowfile, log
from ivrguard.core.audit import Entry
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.guard import Mounted, World
from ivrguard.guard.books import CALL_KEPT_S, flow_key
from ivrguard.ports import Change, Put
from ivrguard.web.ops import Metrics

LOOK_EVERY_S = 1.0
FAULTS_LOGGED_MAX = 20

RENEW_EVERY_S = 3_600
KEPT_S = CALL_KEPT_S + 2 * RENEW_EVERY_S
"""How long a version's files stay in the store after a process said last that it is in force."""

KEPT_BYTES_MAX = 1_000_000
"""As JSON: what a store takes. A flow that is larger, with all its prompts, is not kept beyond the process."""

logger = log.get()


class Ending(StrEnum):
    """What became of a reading, as the metric counts it. Only `LOADED` changed anything."""

    LOADED = "loaded"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    UNRECORDED = "unrecorded"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reading ended. Refused: every fault. Unrecorded: `why` says what the store met."""

    ending: Ending
    faults: tuple[flowfile.Fault, ...] = ()
    why: str = ""

    @property
    def note(self) -> str | None:
        """What an operator should know; None when the flows on disk are those in force."""
        match self.ending:
            case Ending.REFUSED:
                count = "a fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
                return f"the flows on disk have {count} and were not loaded; the first: {self.faults[0]}"
            case Ending.UNRECORDED:
                return f"the flows on disk were not loaded, because nothing can be recorded: {self.why}"
            case _:
                return None


Seen = tuple[tuple[str, int, int, int, int], ...]
"""Of each file: path, time of its content and of its inode (ns since the epoch), size in bytes, inode; 0 if it is gone."""


def look(path: Path) -> Seen:
    """
    What changes when a flow file, or one in a folder of them, or one of their prompts changes.

    Raises nothing: what cannot be looked at is not there.
    """
    folder, files = path.parent, [path]
    if inside := _files(path):  # asking whether it is a folder may raise
        folder, files = path, inside
    return tuple(_stamp(each) for each in (*files, *_files(folder / "prompts")))


def _files(folder: Path) -> list[Path]:
    """The YAML files of a folder, those with the wrong ending too: they are a fault that goes when they go."""
    try:
        return sorted(each for each in folder.iterdir() if each.suffix in {".yaml", ".yml"})
    except OSError:
        return []


def _stamp(path: Path) -> tuple[str, int, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0, 0, 0
    return str(path), found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


class Reloader:
    """
    Puts what is on disk in force.

    `load`: reads it all; on another thread. `mount`: raises `ValueError` or `KeyError` for a flow that does not go
    with the settings. `watched`: the folder or file that `tick` looks at; None: nothing is read unless asked for.
    """

    def __init__(
        self,
        load: Callable[[], flowfile.LoadedAll],
        mount: Callable[[Flow], Mounted],
        world: World,
        metrics: Metrics,
        *,
        watched: Path | None = None,
    ) -> None:
        self._load = load
        self._mount = mount
        self._world = world
        self._metrics = metrics
        self._watched = watched
        self._one_at_a_time = asyncio.Lock()
        self._asked = asyncio.Event()
        self._read: Seen | None = None
        """What was there when files were last read; None: read at the next chance."""
        self._before: Seen | None = None
        """What the look before this one saw."""
        self._kept_ms = 0
        """When the store was told last which versions are in force."""
        self.note: str | None = None
        """What an operator should know of the flows on disk."""

    async def begin(self) -> None:
        """Record what this process begins with, and keep it. Raises `StoreFault` when that cannot be done."""
        now, in_force = self._world.clock(), self._world.flows.in_force()
        await self._record(in_force, tuple(self._activated(one, now, "started") for one in in_force), now)

    async def renew(self) -> None:
        """Keep what is in force for longer, if it is time to. Raises `StoreFault` when that cannot be done."""
        now = self._world.clock()
        if not 0 <= now - self._kept_ms < RENEW_EVERY_S * 1000:
            await self._record(self._world.flows.in_force(), (), now)

    async def run(self) -> None:
        """For as long as the server runs: read what has changed, and at once when somebody asks for it."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S if self._watched is not None else None):
                    await self._asked.wait()
            except TimeoutError:
                await self.tick()
            else:
                self._asked.clear()
                await self.reload()

    def ask(self) -> None:
        """Have it read as soon as can be; asking again meanwhile is asking once. For a signal's handler."""
        self._asked.set()

    async def tick(self) -> Outcome | None:
        """One look at the files; what came of reading them, or None if there was nothing to read, or not yet."""
        assert self._watched is not None
        seen, before = await asyncio.to_thread(look, self._watched), self._before
        self._before = seen
        if seen == self._read or seen != before:
            return None
        return await self.reload()

    async def reload(self) -> Outcome:
        """Read everything, and put it in force if it is another set without fault. Raises nothing."""
        async with self._one_at_a_time:
            try:
                outcome = await self._attempt()
            except Fault as fault:
                self._read = None
                outcome = Outcome(Ending.UNRECORDED, why=f"{fault.reason}: {fault}")
            except Exception as error:  # whatever it meets: what runs stays, and so does the watch
                logger.error("reload_failed", exc_info=error)
                place = str(self._watched or "flows")
                said = f"cannot be read: {type(error).__name__}; the log says more"
                outcome = Outcome(Ending.REFUSED, (flowfile.Fault(place, 1, 1, "", said),))
            self._tell(outcome)
            return outcome

    async def _attempt(self) -> Outcome:
        if self._watched is not None:  # before it is read: what changes meanwhile shows at the next look
            self._read = await asyncio.to_thread(look, self._watched)
        mounted, faults = await asyncio.to_thread(self._looked_through)
        if faults:
            return Outcome(Ending.REFUSED, faults)
        now = self._world.clock()
        entries = tuple(self._differences(mounted, now))
        if not entries:
            return Outcome(Ending.UNCHANGED)
        await self._record(mounted, entries, now)
        self._world.flows.replace(mounted, now)
        for entry in entries:
            named = dict(entry.detail)
            logger.info(entry.event, reason=entry.reason, flow=named["flow"], version=named["version"])
        return Outcome(Ending.LOADED)

    def _looked_through(self) -> tuple[tuple[Mounted, ...], tuple[flowfile.Fault, ...]]:
        """Every flow, and every fault. Runs on another thread."""
        loaded = self._load()
        faults, mounted = list(loaded.faults), []
        for flow in loaded.flows:
            try:
                mounted.append(self._mount(flow))
            except (ValueError, KeyError) as error:
                said = f"it does not go together with the settings: {error}"
                faults.append(flowfile.Fault(f"flow {flow.name}", 1, 1, "", said))
        return tuple(mounted), tuple(faults)

    def _differences(self, mounted: tuple[Mounted, ...], now_ms: int) -> Iterator[Entry]:
        before = {one.flow.name: one.flow.version for one in self._world.flows.in_force()}
        for one in mounted:
            previous = before.pop(one.flow.name, "")
            if one.flow.version != previous:
                reason = "changed" if previous else "added"
                yield self._activated(one, now_ms, reason, previous)
        for name, version in before.items():
            detail = (("flow", name), ("version", version), ("node", self._world.node))
            yield Entry(now_ms, "flow_withdrawn", reason="removed", detail=detail)

    def _activated(self, one: Mounted, now_ms: int, reason: str, previous: str = "") -> Entry:
        detail = (
            ("flow", one.flow.name),
            ("version", one.flow.version),
            ("previous", previous),
            ("node", self._world.node),
        )
        return Entry(now_ms, "flow_activated", reason=reason, detail=detail)

    async def _record(self, mounted: tuple[Mounted, ...], entries: tuple[Entry, ...], now_ms: int) -> None:
        """One act: what began and ended, and the files of what is in force from now on."""
        puts = []
        for flow in (one.flow for one in mounted):
            if len(json.dumps(dict(flow.files), ensure_ascii=False).encode()) > KEPT_BYTES_MAX:
                logger.warning("flow_not_kept", flow=flow.name, hint=f"it has over {KEPT_BYTES_MAX} bytes")
                continue
            puts.append(Put(flow_key(flow.name, flow.version), dict(flow.files), now_ms + KEPT_S * 1000))
        keys = [put.key for put in puts]
        await self._world.store.amend(keys, lambda _: Change(None, tuple(puts), entries))
        self._kept_ms = now_ms

    def _tell(self, outcome: Outcome) -> None:
        """The log, the metrics and `/readyz`."""
        for fault in outcome.faults[:FAULTS_LOGGED_MAX]:
            logger.error(
                "flow_fault",
                file=fault.file,
                line=fault.line,
                column=fault.column,
                path=fault.path,
                detail=fault.message,
            )
        match outcome.ending:
            case Ending.REFUSED:
                hint = "the flows before stay in force; `ivrguard check` shows every fault"
                logger.error("flows_refused", count=len(outcome.faults), hint=hint)
            case Ending.UNRECORDED:
                logger.error("flows_not_recorded", detail=outcome.why)
            case Ending.UNCHANGED:
                logger.info("flows_unchanged")
            case _:  # loaded: each flow has been told
                pass
        self.note = outcome.note
        self._metrics.reloads.labels(outcome.ending).inc()
        in_force = self._world.flows.in_force()
        self._metrics.flows_read(
            ((one.flow.name, one.flow.version) for one in in_force),
            success=outcome.note is None,
            at_ms=self._world.clock(),
        )
