"""What the guard works with: the ports, the flows in force, a clock and chance, handed in once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from ivrguard.core.assurance import Kind
from ivrguard.core.call import Call
from ivrguard.core.errors import Fault
from ivrguard.core.flow import Flow
from ivrguard.ports import (
    Codes,
    Directory,
    Ivr,
    Judge,
    Keys,
    Messenger,
    NumberLookup,
    Pins,
    Recordings,
    Store,
    Verifications,
)
from ivrguard.telephony.links import Links


@dataclass(frozen=True, slots=True)
class Mounted:
    """A flow with what follows from it once: its links and its clock's zone."""

    flow: Flow
    links: Links
    zone: ZoneInfo


class Flows:
    """The flows in force, by dialled number, and every version that a live call may still hold."""

    def __init__(self, mounted: tuple[Mounted, ...]) -> None:
        self._by_version = {(one.flow.name, one.flow.version): one for one in mounted}
        self._by_name = {one.flow.name: one for one in mounted}
        self._by_number = {number: one for one in mounted for number in one.flow.numbers}

    def dialled(self, number: str) -> Mounted | None:
        """The flow of a dialled number, or the one for "*"."""
        return self._by_number.get(number) or self._by_number.get("*")

    def of(self, call: Call) -> Mounted | None:
        """The version that this call began with; after a restart with a changed file, the flow of that name."""
        return self._by_version.get((call.flow, call.version)) or self._by_name.get(call.flow)

    def all(self) -> tuple[Mounted, ...]:
        """Every version in force."""
        return tuple(self._by_version.values())

    def first(self) -> Mounted | None:
        """Some flow, for words to a caller whose number belongs to none."""
        return next(iter(self._by_name.values()), None)


@dataclass(frozen=True, slots=True)
class World:
    """
    Everything outside that the guard uses.

    `issuer`: the public URL without a slash at its end. `node`: this process. `clock`: ms since the epoch.
    `chance`: n random bytes. What is None is not set up: a flow that needs it finds its factor undeliverable.
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
    pins: Pins | None = None

    def nonce(self) -> str:
        """128 bits for a question, a leg or a receipt: 32 hex digits, nothing that a URL would escape."""
        return self.chance(16).hex()

    def unseal(self, sealed: str, purpose: str) -> bytes:
        """What a call keeps, opened. Raises `Fault` when the keys configured here cannot."""
        try:
            return self.keys.unseal(sealed, purpose)
        except ValueError as error:  # its text names the key by its id, and shows nothing
            raise Fault(f"{error}; an old sealing key must stay for a day after a new one came") from None
