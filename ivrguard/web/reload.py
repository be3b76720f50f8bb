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

6. All nodes on one store have one set in force: the one that was published last. A set is published in the act of rule 2, by
   the node whose files changed, or that begins with a set that never was published. Every other node looks each
   `LOOK_EVERY_S` which one it is, and takes its files from the store. A node whose own files are of an earlier set does not
   publish them by being started, asked or touched: what is live does not swing back by itself. Files that change to an
   earlier set while the node runs do: somebody changed them; and `ivrguard flows publish` does. One that cannot take what was published keeps what it has and
   says so: log, metric, `/readyz`.

Which calls get which version is guard/world.py's affair: `Flows`.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ivrguard import flowfile, log
from ivrguard.core.audit import Entry
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.guard import Mounted, World
from ivrguard.guard.books import flow_key, published_key
from ivrguard.guard.publishing import RENEW_EVERY_S, digest_of, keep, set_of
from ivrguard.ports import Published
from ivrguard.web.ops import Metrics

LOOK_EVERY_S = 1.0
FAULTS_LOGGED_MAX = 20

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
    Puts what is on disk in force, and what another node published.

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
        self._on_disk = ""
        """Which set the files were when they were last read without fault."""
        self._number = 0
        """Which publication is in force here."""
        self._behind: str | None = None
        """Why what was published last is not."""
        self._kept_ms = 0
        """When the store was told last which versions are in force."""
        self._disk_note: str | None = None

    @property
    def note(self) -> str | None:
        """What an operator should know of the flows on disk, and of those that others published."""
        return "; ".join(filter(None, (self._disk_note, self._behind))) or None

    async def begin(self) -> None:
        """
        Record what this process begins with, and keep it: what was published last, or else its own.

        Raises `StoreFault` when that cannot be done.
        """
        now, own = self._world.clock(), self._world.flows.in_force()
        self._on_disk = digest_of(set_of(one.flow for one in own))
        published = await self._world.store.read(published_key())
        known = published is not None and self._on_disk in (published.digest, *published.before)
        if published is not None and known and self._on_disk != published.digest:
            found = await self._found(published)
            if found is not None:
                self._world.flows.replace(found, now)
                self._follows(published)
            elif await self._is_kept(published):
                self._falls_behind(published)
            else:  # nobody can have it any more
                known = False
        in_force = self._world.flows.in_force()
        entries = tuple(self._activated(one, now, "started") for one in in_force)
        await self._record(in_force, entries, now, publish=not known)
        if published is not None and known and self._on_disk == published.digest:
            self._follows(published)

    async def follow(self) -> None:
        """Take what another node published last, if it is not in force here. Raises nothing."""
        try:
            async with self._one_at_a_time:
                published = await self._world.store.read(published_key())
                if published is None or published.number == self._number:
                    return
                now = self._world.clock()
                found = await self._found(published)
                if found is None:
                    self._falls_behind(published)
                    return
                entries = tuple(self._differences(found, now, "published"))
                await self._record(found, entries, now, publish=False)
                self._world.flows.replace(found, now)
                self._follows(published)
                self._log(entries)
        except Fault as fault:  # that the store does not answer, `/readyz` says; the next look tries again
            logger.warning("flows_not_followed", reason=fault.reason, detail=str(fault))

    async def _found(self, published: Published) -> tuple[Mounted, ...] | None:
        """The flows that were published, from here or from the store; None if this process cannot have them all."""
        found = []
        for name, version in published.flows:
            one = self._world.flows.version(name, version) or await self._world.stored(name, version)
            if one is None:
                return None
            found.append(one)
        return tuple(found)

    async def _is_kept(self, published: Published) -> bool:
        """Whether the store has all of its files."""
        files = [await self._world.store.read(flow_key(*each)) for each in published.flows]
        return None not in files

    def _follows(self, published: Published) -> None:
        self._number, self._behind = published.number, None
        self._metrics.flows_behind.set(0)
        if self._on_disk != published.digest:
            self._behind = (
                "the flows on disk are of an earlier set than the one published last, which is in force"
            )
        self._show()

    def _falls_behind(self, published: Published) -> None:
        """Say once for each publication that it is not in force here; each look tries again."""
        named = ", ".join(f"{name} {version}" for name, version in published.flows)
        why = f"what another node published last is not in force here ({named}): its files are gone, or not for this release"
        if self._behind != why:
            logger.error("flows_behind", number=published.number, flows=named)
        self._behind = why
        self._metrics.flows_behind.set(1)

    async def renew(self) -> None:
        """Keep what is in force for longer, if it is time to. Raises `StoreFault` when that cannot be done."""
        now = self._world.clock()
        if not 0 <= now - self._kept_ms < RENEW_EVERY_S * 1000:
            await self._record(self._world.flows.in_force(), (), now, publish=False)

    async def run(self) -> None:
        """For as long as the server runs: read what has changed, and at once when somebody asks for it."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._asked.wait()
            except TimeoutError:
                await self.follow()
                if self._watched is not None:
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
        now, digest = self._world.clock(), digest_of(set_of(one.flow for one in mounted))
        if digest == self._on_disk:  # though another set is in force: nobody changed these
            return Outcome(Ending.UNCHANGED)
        entries = tuple(self._differences(mounted, now))
        if entries:
            await self._record(mounted, entries, now, publish=True)
            self._world.flows.replace(mounted, now)
            self._log(entries)
        self._on_disk, self._behind = digest, None
        return Outcome(Ending.LOADED if entries else Ending.UNCHANGED)

    @staticmethod
    def _log(entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            named = dict(entry.detail)
            logger.info(entry.event, reason=entry.reason, flow=named["flow"], version=named["version"])

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

    def _differences(self, mounted: tuple[Mounted, ...], now_ms: int, why: str = "") -> Iterator[Entry]:
        """What begins and ends; `why`, where it is neither changed nor added here."""
        before = {one.flow.name: one.flow.version for one in self._world.flows.in_force()}
        for one in mounted:
            previous = before.pop(one.flow.name, "")
            if one.flow.version != previous:
                reason = why or ("changed" if previous else "added")
                yield self._activated(one, now_ms, reason, previous)
        for name, version in before.items():
            detail = (("flow", name), ("version", version), ("node", self._world.node))
            yield Entry(now_ms, "flow_withdrawn", reason=why or "removed", detail=detail)

    def _activated(self, one: Mounted, now_ms: int, reason: str, previous: str = "") -> Entry:
        detail = (
            ("flow", one.flow.name),
            ("version", one.flow.version),
            ("previous", previous),
            ("node", self._world.node),
        )
        return Entry(now_ms, "flow_activated", reason=reason, detail=detail)

    async def _record(
        self, mounted: tuple[Mounted, ...], entries: tuple[Entry, ...], now_ms: int, *, publish: bool
    ) -> None:
        """One act: what began and ended, the files of what is in force from now on, and whether all nodes are to have it."""
        flows = tuple(one.flow for one in mounted)
        published = await keep(self._world.store, flows, entries, now_ms, publish=publish)
        if publish and published is not None:
            self._number = published.number
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
        self._disk_note = outcome.note
        self._metrics.reloads.labels(outcome.ending).inc()
        self._show()

    def _show(self) -> None:
        self._metrics.flows_read(
            set_of(one.flow for one in self._world.flows.in_force()),
            success=self._disk_note is None,
            at_ms=self._world.clock(),
        )
