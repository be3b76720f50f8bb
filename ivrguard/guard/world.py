"""What the guard works with: the ports, the flows in force, a clock and chance, handed in once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from ivrguard import flowfile, log
from ivrguard.core.assurance import Kind
from ivrguard.core.call import Call
from ivrguard.core.errors import Fault, RecordFault
from ivrguard.core.flow import Flow
from ivrguard.guard.books import CALL_KEPT_S, flow_key
from ivrguard.guard.incidents import ThreatDesk
from ivrguard.guard.sense import Sensor
from ivrguard.ports import (
    Codes,
    Conferences,
    Directory,
    Ivr,
    Judge,
    Keys,
    Messenger,
    Notice,
    NumberLookup,
    Pins,
    Provider,
    Recordings,
    Renewals,
    Store,
    Verifications,
)
from ivrguard.telephony.links import Links

VERSIONS_KEPT_MAX = 32
"""Of one flow, versions that calls may hold besides the one in force: an editor that saves every minute is no leak."""

GONE_HINT = (
    "the call goes on with the version in force: the one that it began with is neither here nor in the store"
)

_Version = tuple[str, str]
"""A flow's name, and the hash of what it was read from."""

logger = log.get()


@dataclass(frozen=True, slots=True)
class Mounted:
    """A flow with what follows from it once: its links, its clock's zone, and what it is `raised` to by an alert."""

    flow: Flow
    links: Links
    zone: ZoneInfo
    raised: Flow | None = None


class Flows:
    """
    The flows in force, by dialled number, and every version that a live call may still hold.

    1. A set comes into force as a whole (`replace`), and new calls get it from then on.
    2. A version that was replaced is kept for the calls that began with it for `CALL_KEPT_S`, a day: no call lasts
       longer (https://www.twilio.com/en-us/blog/introducing-configurable-call-limits-for-programmable-voice). But
       of one name at most `VERSIONS_KEPT_MAX`; of more, those that were replaced first go.
    3. A version that is not here, as the call began before a restart or on another node, may be in the store
       (`World.flow_of`), and is kept from then on like one that was replaced.
    """

    def __init__(self, mounted: tuple[Mounted, ...]) -> None:
        self._replaced_ms: dict[
            _Version, int
        ] = {}  # when each version that is kept was replaced, oldest first
        self._by_version: dict[_Version, Mounted] = {}
        self._put_in_force(mounted)

    def replace(self, mounted: tuple[Mounted, ...], now_ms: int) -> None:
        """Put this set in force instead of the one that is: flows that are not in it take no new calls."""
        came = {(one.flow.name, one.flow.version) for one in mounted}
        oldest_ms = now_ms - CALL_KEPT_S * 1000
        kept = {
            version: at_ms
            for version in self._by_version  # those kept already come first, and keep their time
            if version not in came and (at_ms := self._replaced_ms.get(version, now_ms)) > oldest_ms
        }
        self._keep(kept)
        self._put_in_force(mounted)

    def recall(self, one: Mounted, now_ms: int) -> None:
        """Keep a version that a call holds and that is not here."""
        version = (one.flow.name, one.flow.version)
        if version in self._by_version:  # another webhook was faster
            return
        self._by_version[version] = one
        self._keep({**self._replaced_ms, version: now_ms})
        self._put_in_force(self._in_force)

    def _keep(self, kept: dict[_Version, int]) -> None:
        """Of the versions that are not in force, keep these; of one name only so many, those that came last."""
        for name in {name for name, _ in kept}:
            for version in [each for each in kept if each[0] == name][:-VERSIONS_KEPT_MAX]:
                del kept[version]
        self._replaced_ms = kept
        self._by_version = {version: self._by_version[version] for version in kept}

    def _put_in_force(self, mounted: tuple[Mounted, ...]) -> None:
        self._in_force = mounted
        self._by_version |= {(one.flow.name, one.flow.version): one for one in mounted}
        self._by_name = {one.flow.name: one for one in mounted}
        self._by_number = {number: one for one in mounted for number in one.flow.numbers}

    def dialled(self, number: str) -> Mounted | None:
        """The flow of a dialled number, or the one for "*"."""
        return self._by_number.get(number) or self._by_number.get("*")

    def kept(self, call: Call) -> Mounted | None:
        """The version that this call began with, if it is here."""
        return self._by_version.get((call.flow, call.version))

    def version(self, name: str, version: str) -> Mounted | None:
        """This version, if it is here."""
        return self._by_version.get((name, version))

    def named(self, name: str) -> Mounted | None:
        """The flow of that name that is in force."""
        return self._by_name.get(name)

    def all(self) -> tuple[Mounted, ...]:
        """Every version that a call may hold: in force, or kept."""
        return tuple(self._by_version.values())

    def in_force(self) -> tuple[Mounted, ...]:
        """What new calls get."""
        return self._in_force

    def first(self) -> Mounted | None:
        """Some flow that is in force, for words to a caller whose number belongs to none."""
        return next(iter(self._by_name.values()), None)


def nothing_refused() -> None:
    """Everything can be recorded."""


def nobody_told(_: Notice) -> None:
    """There is no risk team."""


@dataclass(frozen=True, slots=True)
class World:
    """
    Everything outside that the guard uses.

    `issuer`: the public URL without a slash at its end. `node`: this process. `clock`: ms since the epoch.
    `chance`: n random bytes. `mount`: for a flow that comes from the store; see `Mounted`; raises `ValueError` or
    `KeyError` for one that does not go with the settings. `refusal`: why nothing may be decided now. `wait`: how to wait between
    tries, in seconds. `provider`: who says who is in a conference, for the side door; `watcher`: who says whom a call dialled; `tell`:
    the risk team. What is None is not set up: a flow that needs it finds its factor undeliverable.
    """

    store: Store
    directory: Directory
    judges: Mapping[Kind, Judge]
    codes: Codes
    messenger: Messenger | None
    keys: Keys = field(repr=False)
    ivr: Ivr
    flows: Flows
    issuer: str
    node: str
    clock: Callable[[], int]
    chance: Callable[[int], bytes]
    verifications: Verifications | None = None
    numbers: NumberLookup | None = None
    recordings: Recordings | None = None
    conferences: Conferences | None = None
    pins: Pins | None = None
    renewals: Renewals | None = None
    refusal: Callable[[], str | None] = nothing_refused
    mount: Callable[[Flow], Mounted] | None = None
    sensor: Sensor | None = None
    provider: Provider | None = None
    watcher: Provider | None = None
    tell: Callable[[Notice], None] = nobody_told
    threats: ThreatDesk | None = None
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep

    def as_it_is_now(self, mounted: Mounted) -> Flow:
        """The flow, or what it is raised to while an alert of it stands (core/raising.py)."""
        stands = self.sensor is not None and self.sensor.stands(mounted.flow.name)
        return mounted.raised if stands and mounted.raised is not None else mounted.flow

    async def flow_of(self, call: Call) -> Mounted | None:
        """
        The version that this call began with: from here, or from the store.

        Where it is gone (kept too long ago, or refused by this release), the flow of that name as it is now; None if
        there is none. Raises `core.errors.StoreFault` when the store cannot say.
        """
        found = self.flows.kept(call) or await self._recalled(call)
        if found is None:
            logger.warning("flow_version_gone", flow=call.flow, version=call.version, hint=GONE_HINT)
            return self.flows.named(call.flow)
        return found

    async def _recalled(self, call: Call) -> Mounted | None:
        mounted = await self.stored(call.flow, call.version)
        if mounted is None:
            return None
        self.flows.recall(mounted, self.clock())
        return self.flows.kept(call) or mounted  # two that missed it at once get the same

    async def stored(self, name: str, version: str) -> Mounted | None:
        """A version from the store's files; None: they are gone, or this process cannot use them. Raises `StoreFault`."""
        files = await self.store.read(flow_key(name, version))
        if files is None or self.mount is None:
            return None
        flow = await asyncio.to_thread(flowfile.restored, files)  # other webhooks do not wait for a parser
        if flow is None or flow.version != version:
            return None
        try:
            return self.mount(flow)
        except (ValueError, KeyError):  # the settings have changed since
            return None

    def nonce(self) -> str:
        """128 bits for a question, a leg or a receipt: 32 hex digits, nothing that a URL would escape."""
        return self.chance(16).hex()

    def refuse_unrecorded(self) -> None:
        """Raise `RecordFault` while nothing may be decided, because it could not be recorded everywhere it must be."""
        why = self.refusal()
        if why is not None:
            raise RecordFault(f"nobody is let through: {why}")

    def unseal(self, sealed: str, purpose: str) -> bytes:
        """What a call keeps, opened. Raises `Fault` when the keys configured here cannot."""
        try:
            return self.keys.unseal(sealed, purpose)
        except ValueError as error:  # its text names the key by its id, and shows nothing
            raise Fault(f"{error}; an old sealing key must stay for a day after a new one came") from None
