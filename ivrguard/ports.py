"""
What we need from the world, as protocols. The guard knows these and no library.

The keystone is `Store.amend`: one indivisible act over one or several values, together with the audit
entries that belong to it. Rules stay in core; a store holds none. Lockout, single use, call state and
record-keeping are atomic by the same three methods.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from ivrguard.core.agents import OWN, Agent, Role
from ivrguard.core.assurance import Kind
from ivrguard.core.audit import Entry, Linked
from ivrguard.core.conference import Room
from ivrguard.core.lookup import NumberFacts

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Key(Generic[T_co]):
    """
    The name of one value: its type's table (`kind`) and `id`, canonical and never empty.

    `kind` is one of the names in `stores.codec.TYPES`, which fixes the type of the value.
    """

    kind: str
    id: str

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError(f"a key of kind {self.kind} must not be empty")


@dataclass(frozen=True, slots=True)
class Put:
    """
    A value to be kept under a key, or None to delete it.

    `expires_ms`: when it may be swept away (None: never). `rank`: a number that lists are ordered and
    searched by (None: not listed by rank).
    """

    key: Key[object]
    value: object | None
    expires_ms: int | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Change(Generic[Result]):
    """What a pure change decided: values to put, entries to record with them, and what to tell the caller."""

    result: Result
    puts: tuple[Put, ...] = ()
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """One value in a list."""

    id: str
    value: object
    rank: int | None


class Store(Protocol):
    """
    Dumb and atomic. Every method raises `core.errors.StoreFault` when the store cannot do it; then nothing
    has changed.
    """

    async def read(self, key: Key[T]) -> T | None:
        """The value under `key`, or None. Sees every amendment whose `amend` has returned."""

    async def amend(
        self,
        keys: Sequence[Key[object]],
        change: Callable[[Mapping[Key[object], object | None]], Change[Result]],
    ) -> Result:
        """
        Read `keys`, apply `change`, keep its puts and chain its entries: all of it or nothing, as if alone.

        `change` is pure and may be called more than once or on another thread. If it raises, nothing
        changes and the exception comes out here. When this returns, the change survives a crash. Puts may
        only name keys that were read.
        """

    async def list(
        self, kind: str, *, prefix: str = "", after: str = "", rank_from: int | None = None, limit: int = 100
    ) -> Sequence[Listed]:
        """
        Up to `limit` values of a kind, by an index and never by a full scan.

        Without `rank_from`: ids that begin with `prefix` and come after `after`, in order of id. With it:
        those of rank `rank_from` or more, lowest rank first (prefix and after then do not apply).
        """

    async def entries(self, *, after: int = 0, limit: int = 1000) -> Sequence[Linked]:
        """Up to `limit` audit entries with a number greater than `after`, in order."""

    async def head(self) -> tuple[int, str]:
        """Number and hash of the last audit entry, kept apart from the entries; (0, GENESIS) when none."""

    async def prune(self, upto: int, *, limit: int = 1000) -> int:
        """
        Delete up to `limit` audit entries with a number of `upto` or less, lowest first; how many were deleted.

        The last entry of all stays, whatever is asked for, and so do head and numbers: the next entry is chained as if
        nothing had gone. That a record may begin later than at 1 is for a signed checkpoint to say (guard/record.py).
        """

    async def sweep(self, now_ms: int, *, limit: int = 1000) -> int:
        """Delete up to `limit` values whose `expires_ms` is in the past; how many were deleted."""

    async def clock_ms(self) -> int | None:
        """What time it is for a store that many hosts share; None for one that has the clock of this machine."""

    async def close(self) -> None:
        """Finish what was asked for, then let go of the file."""


@dataclass(frozen=True, slots=True)
class Credential:
    """
    What one account has enrolled for one kind of factor.

    `secret`: a PIN's hash, a TOTP's sealed secret; `key_id`: which pepper or sealing key it needs. For a code by
    message `number` says where to, in E.164.
    """

    kind: Kind
    secret: str = field(default="", repr=False)
    key_id: str = ""
    number: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Incoming:
    """
    What an account becomes when an import comes into force: `batch` is its id. `new`: before, there is no account.

    The other fields are those of `Account`.
    """

    batch: str
    new: bool
    numbers: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    disabled: bool = False
    language: str = ""


class BatchState(StrEnum):
    """How far an import is. Only what is in force counts."""

    STAGING = "staging"
    SPOILED = "spoiled"
    IN_FORCE = "in_force"


@dataclass(frozen=True, slots=True)
class Batch:
    """The import that is under way: its id, who does it, and its last sign of life, or when it came into force."""

    id: str
    state: BatchState
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Published:
    """
    The set of flows that every node has in force: `flows`, name and version of each; `number`, one more each time.

    `digest`: of the set. `before`: digests of the sets before it, the last one first.
    """

    number: int
    digest: str
    flows: tuple[tuple[str, str], ...]
    before: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """
    One account: canonical `id`, phone `numbers` on file (E.164), credentials by kind.

    `language`: the owner's, "" for the flow's. A disabled account is judged like an unknown one. `incoming`: what an
    import makes of it; only directory/local.py and directory/intake.py ever see it, everybody else what is in force.
    """

    id: str
    numbers: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    disabled: bool = False
    language: str = ""
    incoming: Incoming | None = None

    def credential(self, kind: Kind) -> Credential | None:
        """The credential of this kind, or None."""
        return next((one for one in self.credentials if one.kind is kind), None)


@dataclass(frozen=True, slots=True)
class AgentAccount:
    """
    An account of our own for somebody at a desk: `name` in its one spelling, without `agent:`; `manager` with it, or "".

    `password`: argon2id under a pepper; `app`: a TOTP's sealed secret. Both are asked for, always.
    """

    name: str
    label: str
    roles: tuple[Role, ...]
    queues: tuple[str, ...]
    manager: str
    password: Credential
    app: Credential
    created_ms: int

    def agent(self, shown_ms: int) -> Agent:
        """The agent who showed who he is at `shown_ms`."""
        name = f"{OWN}{self.name}"
        return Agent(name, self.label, frozenset(self.roles), self.queues, self.manager, shown_ms)


class Directory(Protocol):
    """Who is enrolled with what. Raises `core.errors.DirectoryFault` when it cannot say."""

    async def by_id(self, account_id: str) -> Account | None:
        """The account with this canonical id; None for unknown and disabled ones alike."""

    async def by_number(self, number: str) -> Account | None:
        """The one account that has this E.164 number on file; None when there is none, or more than one."""


@dataclass(frozen=True, slots=True)
class Right:
    """
    The answer was right. `step`: for a TOTP, the time step it was right for: to be used once.

    `renewed`: the credential made anew, under the key or with the work that is asked for today, to be kept in place
    of the one that was judged; None when that one will do.
    """

    step: int | None = None
    renewed: Credential | None = None


@dataclass(frozen=True, slots=True)
class Wrong:
    """The answer was wrong, or there was nothing to compare it with: nobody is told which."""


Verdict = Right | Wrong


@dataclass(frozen=True, slots=True)
class Challenge:
    """
    What a code was made for: unguessable `id`, the account and the intent it is bound to, its digits and life.

    `naming`: which naming key makes it, "" for the current one.
    """

    id: str = field(repr=False)
    account: str
    call: str
    intent: str
    digits: int
    issued_ms: int
    valid_s: int
    naming: str = ""


class Judge(Protocol):
    """
    One factor: right or wrong, in equal time, and never counting (core/lockout.py counts).

    `judge` is called for unknown and locked accounts too, with `credential` None, and takes the same work.
    """

    kind: Kind

    async def judge(
        self, credential: Credential | None, digits: str, challenge: Challenge | None, now_ms: int
    ) -> Verdict:
        """
        Whether `digits` are the secret. Raises `core.errors.Busy` at once when the pool is at its bound, and one who
        asks somebody elsewhere `OutOfSight` when he was asked and gave no verdict.
        """


class Codes(Protocol):
    """Codes of our own making, derived from their challenge: nothing to store, nothing to steal."""

    def code(self, challenge: Challenge) -> str:
        """The digits of this challenge."""


class Messenger(Protocol):
    """Messages out."""

    async def send(self, to: str, text: str, *, deadline_s: float) -> None:
        """Hand a text to the carrier for `to` (E.164). Raises `core.errors.NotifyFault` if it was not taken."""


@dataclass(frozen=True, slots=True)
class Notice:
    """
    What the risk team is told: `type`, such as `attack.suspected`; `id`, by which the same one is known again; when (ms);
    `data`, for machines; `text`, a line for people. No secret is in it; accounts and numbers stand in it as in records.
    """

    id: str
    type: str
    at_ms: int
    data: Mapping[str, object]
    text: str


class Alarm(Protocol):
    """One way to the risk team. `name`: for the log; no secret, no number."""

    name: str

    async def send(self, notice: Notice) -> None:
        """
        Hand it over, once. Raises `core.errors.NotifyFault` if it was not taken; its `why` is "gone" where nobody wants
        to be asked again.
        """

    async def close(self) -> None:
        """Let go of what it holds."""


class Verifications(Protocol):
    """Codes that a service outside makes, sends and judges (Twilio Verify). It counts nothing for us: lockout.py does."""

    async def start(self, to: str, *, again: bool, intent: str, language: str, deadline_s: float) -> str:
        """
        Have a code sent to `to` (E.164); the verification's id, which names the code from now on.

        `again`: send the pending one's code once more. Otherwise one that is still pending is ended first, so that a
        code belongs to one call and one `intent` (as spoken; put into the message where the service allows).
        `language`: a tag such as es-US. Raises `core.errors.NotifyFault`, whose `why` tells what stood in the way.
        """

    async def check(self, verification: str | None, digits: str, *, deadline_s: float) -> "Verdict":
        """
        Whether `digits` are the code. None: there is none, so the same request is made about nothing, and is `Wrong`.

        Raises `core.errors.NotifyFault` when the service did not judge: too many checks, an outage.
        """


class NumberLookup(Protocol):
    """What is known of a phone number, before a code goes to it."""

    async def look_up(self, number: str, packages: Sequence[str], *, deadline_s: float) -> NumberFacts:
        """
        The facts of these packages (`core.lookup.Lookup.wanted`). One that failed by itself leaves its facts None.

        Raises `core.errors.NotifyFault` when nothing could be had at all.
        """


class Recordings(Protocol):
    """The provider's recordings of a call."""

    async def running(self, account_sid: str, call_sid: str, *, deadline_s: float) -> tuple[str, ...]:
        """
        The ids of the call's recordings that run now; none for a call that is over.

        Raises `core.errors.NotifyFault` when there may be others.
        """

    async def pause(
        self, account_sid: str, call_sid: str, recordings: Sequence[str], *, deadline_s: float
    ) -> None:
        """
        Pause these recordings of the call; quiet about one that has ended. Harmless twice.

        Raises `core.errors.NotifyFault` when one may be running on all the same.
        """

    async def resume(
        self, account_sid: str, call_sid: str, recordings: Sequence[str], *, deadline_s: float
    ) -> None:
        """Let those of these recordings that are paused go on. Raises as `pause`, when one may not."""


@dataclass(frozen=True, slots=True)
class Leg:
    """What the provider says of one leg: who called whom, which way (`inbound`, …), and the leg that dialled it, or ""."""

    from_: str = field(repr=False)
    to: str = field(repr=False)
    direction: str
    parent: str = ""


class Provider(Protocol):
    """The provider's REST API, asked about calls that the guard must judge and does not know."""

    async def leg(self, account_sid: str, call_sid: str) -> Leg | None:
        """This leg; None: there is no such call. Raises `core.errors.NotifyFault` when nobody can say."""

    async def children(self, account_sid: str, call_sid: str) -> Mapping[str, Leg]:
        """The legs that this call dialled, by CallSid. Raises as `members`."""

    async def members(self, account_sid: str, conference: str) -> tuple[str, ...]:
        """
        The CallSids of who is in a conference, by its SID or its name: none, if there is no such one.

        Raises `core.errors.NotifyFault` when there may be others.
        """


@dataclass(frozen=True, slots=True)
class Invitation:
    """
    Whom to dial into a conference. `room`: its name; `to`, `from_`: addresses as the provider takes them; `token`: what lets `from_`
    be the caller's own number, "" without; `ring_s`: how long. `status_url`: where the leg's progress is told.

    `url`: what the leg hears first, whose document leads it into the room; "": it enters at once, as `label`, and the conference is
    over when it leaves. `user`, `password`: for a SIP address that asks.
    """

    room: str
    to: str = field(repr=False)
    from_: str = field(repr=False)
    ring_s: int
    status_url: str
    label: str
    url: str = ""
    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


class Conferences(Protocol):
    """
    The provider's live calls and conferences. Every method raises `core.errors.NotifyFault` when it may not have been done; its `why` is
    "gone" for a leg or a room that is over.
    """

    async def invite(self, account_sid: str, invitation: Invitation, *, deadline_s: float) -> str:
        """Dial somebody; the id of his leg. After a fault he may be dialled all the same."""

    async def lead(self, account_sid: str, call_sid: str, url: str, *, deadline_s: float) -> None:
        """Have a leg go on with the document at `url`, wherever it is."""

    async def hang_up(self, account_sid: str, call_sid: str, *, deadline_s: float) -> None:
        """End a leg, also one that rings. Quiet about one that is over."""

    async def hold(
        self, account_sid: str, conference: str, call_sid: str, music_url: str, *, deadline_s: float
    ) -> None:
        """Let a leg hear music instead of the room: that of the document at `music_url`, or ("") the provider's own."""

    async def unhold(self, account_sid: str, conference: str, call_sid: str, *, deadline_s: float) -> None:
        """Let it hear the room again."""

    async def room_of_task(
        self, account_sid: str, workspace: str, call_sid: str, *, deadline_s: float
    ) -> Room | None:
        """The conference in which TaskRouter has joined this leg with a worker; None: there is none that it is in now."""

    async def room_runs(self, account_sid: str, conference: str, *, deadline_s: float) -> bool:
        """Whether this room is there, and not over."""

    async def ends_room(
        self, account_sid: str, conference: str, call_sid: str, *, ends: bool, deadline_s: float
    ) -> None:
        """Have the room be over when this leg leaves it, or not."""


class Pins(Protocol):
    """Changing a PIN, where the accounts are kept."""

    async def change(self, account_id: str, digits: str, *, now_ms: int) -> bool:
        """
        Make `digits` the account's PIN from now on; False, and nothing changed, if they are too easy to guess.

        Raises `core.errors.DirectoryFault`, or `Busy` when no hash thread is free; and one who asks somebody elsewhere
        `OutOfSight` when the PIN may have changed all the same.
        """


class Renewals(Protocol):
    """Credentials made anew while their secret is at hand, where the accounts are kept."""

    async def renew(self, account_id: str, before: Credential, after: Credential, *, now_ms: int) -> bool:
        """Keep `after` in place of `before`; False, and nothing changed, if `before` is no longer what is kept."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request to the IVR. `url`: without the parameters, so that its documents' links may rest on it.

    `body`: as it came; of a form, a GET has it behind the query of its URL. `params`: the form's fields, decoded.
    `headers` go along as they are, hop-by-hop and guard-owned ones taken out already.
    """

    method: str
    url: str
    params: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    content_type: str = "application/x-www-form-urlencoded"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The IVR's answer, one hop: a redirect is given back (`location`), never followed here."""

    status: int
    url: str
    content_type: str | None
    body: bytes = field(repr=False)
    location: str | None = None
    challenge: str | None = None
    cookies: str = field(default="", repr=False)


class Ivr(Protocol):
    """The IVR behind the guard."""

    async def fetch(self, request: Request, *, assertion: str, cookies: str, deadline_s: float) -> Reply:
        """
        Send `request`, signed for the IVR's own URL, with the assertion and its cookies.

        Raises `core.errors.UpstreamFault` when it does not answer in time or at all, or answers too much.
        """


class Keys(Protocol):
    """
    Secrets that never leave their holder: sealing at rest, keyed names, derived tokens.

    `named`: the ids of the naming keys, the current one first; `pseudonym` and `derive` use that one.
    """

    named: tuple[str, ...]

    def with_naming(self, key_id: str) -> "Keys":
        """
        The same keys, but for names and derived bytes, which come from this naming key.

        The current one's for an id that is not configured (any more): what was derived with that key is good no longer.
        """

    def seal(self, plain: bytes, purpose: str) -> str:
        """Encrypted and authenticated text, bound to `purpose`; the key's id is in it."""

    def unseal(self, sealed: str, purpose: str) -> bytes:
        """The plain bytes; raises `ValueError` when it was sealed by another key or for another purpose."""

    def resealed(self, sealed: str, purpose: str) -> str | None:
        """The same under the current key; None if it is under that already. Raises as `unseal`."""

    def pseudonym(self, what: str, value: str) -> str:
        """A keyed hash of `value` for records and logs: the same each time, useless without the key."""

    def derive(self, what: str, value: str) -> bytes:
        """32 secret bytes that only the holder of the key can make from `value`."""

    def sign(self, claims: Mapping[str, object], *, typ: str) -> str:
        """A JWT (EdDSA) over `claims`."""
