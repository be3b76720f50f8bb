"""
What a server does for its record in the background: sign it, copy it, archive what is old.

1. **Signed** every so many minutes or entries, whichever comes first, and when the server stops: as a value in the store and
   as a line of the log (`checkpoint`), so that a copy is elsewhere by itself. What this process signed last it remembers:
   what is changed behind its back is found at the next checkpoint, told (`record_broken`, a metric, a note in `/readyz`), and
   not signed. Calls go on: whoever can break the record must not be able to close the lines with it.
2. **Copied**, if there is a file for it, within a second or so. Every decision is in the store with its entry before anybody
   hears of it, so a copy that lags loses nothing. Who wants it all the same, as Vault does
   (https://developer.hashicorp.com/vault/docs/audit), has `audit_required`: while the copy cannot be written, nobody is let
   through and no token is redeemed.
3. **Archived and pruned** once a day, if it is told how long entries are kept (PCI DSS 10.5.1: twelve months, three at hand),
   and never otherwise.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ivrguard import log
from ivrguard.core.audit import Checkpoint
from ivrguard.core.errors import Fault, RecordFault
from ivrguard.guard.archive import Follower, prune
from ivrguard.guard.record import Signed, Signer, latest
from ivrguard.web.ops import Metrics

TICK_S = 1.0
FINISH_S = 2.0
"""How long a server that ends waits for its last checkpoint."""

DAY_MS = 24 * 3600 * 1000
ITSELF = "ivrguard"
"""Who archived, on record, when no person did."""

logger = log.get()


@dataclass(frozen=True, slots=True)
class Recording:
    """
    How the record is kept. Checkpoints `every_ms`, or after so many entries.

    `required`: whether nothing is let through while the copy cannot be written. `keep_ms`: how long entries are kept, and
    `archive`, the folder they are put into then; None: for ever.
    """

    every_ms: int = 10 * 60 * 1000
    every_entries: int = 1_000
    required: bool = False
    keep_ms: int | None = None
    archive: Path | None = None


class Recorder:
    """The background work of one process. `follower`: None where there is no copy."""

    def __init__(
        self,
        signer: Signer,
        follower: Follower | None,
        how: Recording,
        metrics: Metrics,
        clock: Callable[[], int],
    ) -> None:
        self._signer = signer
        self._follower = follower
        self._how = how
        self._metrics = metrics
        self._clock = clock
        self._last: Checkpoint | None = None
        self._looked_ms: int | None = None
        self._pruned_ms: int | None = None
        self._broken = ""
        self._uncopied = ""
        self._one_at_a_time = asyncio.Lock()
        self._ticking: asyncio.Task[None] | None = None

    @property
    def note(self) -> str | None:
        """What an operator should know, though callers are let through; None when all is well."""
        return self._broken or self._uncopied or None

    @property
    def refusal(self) -> str | None:
        """Why nobody may be let through now; None when everything can be recorded."""
        if self._how.required and self._uncopied:
            return self._uncopied
        return None

    async def begin(self) -> None:
        """Open the copy. Raises `RecordFault` when it cannot be written and is required."""
        await self._copy()
        self.refuse()

    def refuse(self) -> None:
        """Raise `RecordFault` while nobody may be let through."""
        if self.refusal is not None:
            raise RecordFault(self.refusal)

    async def run(self) -> None:
        """For as long as the server runs. What is being written when it ends is written to its end; `finish` waits for it."""
        while True:
            self._ticking = asyncio.get_running_loop().create_task(self.tick())
            await asyncio.shield(self._ticking)
            await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """Do what is due. Raises nothing."""
        try:
            async with self._one_at_a_time:
                await self._copy()
                if await self._is_due():
                    await self._sign()
                await self._prune()
        except Fault as fault:
            logger.error("record_fault", reason=fault.reason, detail=str(fault))
        except Exception as error:  # whatever it meets: calls go on, and so does this
            logger.error("record_fault", exc_info=error)

    async def finish(self) -> None:
        """The last checkpoint, and the last of the copy: the server ends, after `FINISH_S` in any case. Raises nothing."""
        try:
            async with asyncio.timeout(FINISH_S), self._one_at_a_time:
                await self._copy()
                await self._sign()
        except TimeoutError:  # a store that does not answer must not keep a server from ending
            logger.error("record_fault", reason="slow", hint="the store did not answer: no last checkpoint")
        except Fault as fault:
            logger.error("record_fault", reason=fault.reason, detail=str(fault))
        if self._ticking is not None:
            self._ticking.cancel()
        if self._follower is not None:
            self._follower.close()

    # ── signed ───────────────────────────────────────────────────────────────────────────────────────────

    async def _is_due(self) -> bool:
        """Whether it is time to sign: no node has, for so long or so many entries. One that cannot waits as long."""
        now, (head, _) = self._clock(), await self._signer.store.head()
        self._metrics.record_entries.set(head)
        since = self._last.seq if self._last is not None else 0
        full = head - since >= self._how.every_entries and not self._broken
        waited = self._looked_ms is None or now - self._looked_ms >= self._how.every_ms
        if not full and not waited:
            return False
        self._looked_ms = now
        newest = await latest(self._signer.store, self._signer.public)
        if newest is None or self._broken:
            return True
        of = newest.checkpoint
        return head - of.seq >= self._how.every_entries or now - of.at_ms >= self._how.every_ms

    async def _sign(self) -> None:
        try:
            signed = await self._signer.checkpoint(self._clock(), self._last)
        except RecordFault as fault:
            self._broken = str(fault)
            self._metrics.record_broken.set(1)
            logger.error(
                "record_broken", detail=str(fault), hint="`ivrguard audit verify`; keep the store as it is"
            )
            return
        self._broken = ""
        self._metrics.record_broken.set(0)
        if signed is not None:
            await self._signed(signed)

    async def _signed(self, signed: Signed) -> None:
        self._last = signed.checkpoint
        self._metrics.checkpoint_at.set(signed.checkpoint.at_ms / 1000)
        logger.info("checkpoint", checkpoint=signed.token)
        if self._follower is not None:
            await self._follower.add(signed)

    # ── copied ───────────────────────────────────────────────────────────────────────────────────────────

    async def _copy(self) -> None:
        if self._follower is None:
            return
        try:
            await self._follower.catch_up()
        except Fault as fault:
            if str(fault) != self._uncopied:
                logger.error("record_not_copied", reason=fault.reason, detail=str(fault))
            self._uncopied = str(fault)
        else:
            self._uncopied = ""
        self._metrics.record_uncopied.set(bool(self._uncopied))

    # ── archived ─────────────────────────────────────────────────────────────────────────────────────────

    async def _prune(self) -> None:
        keep_ms, folder, now = self._how.keep_ms, self._how.archive, self._clock()
        if keep_ms is None or folder is None:
            return
        if self._pruned_ms is not None and now - self._pruned_ms < DAY_MS:
            return
        self._pruned_ms = now
        path = folder / f"record-{now}.jsonl"
        done = await prune(self._signer, now - keep_ms, path, now_ms=now, by=ITSELF)
        if done is not None:
            logger.info("record_pruned", count=done.count, file=path.name)
