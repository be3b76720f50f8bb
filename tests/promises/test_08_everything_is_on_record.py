"""
Promise 8: everything is on record. Each decision leaves exactly one audit entry, saved together with the state it
belongs to, in a chain that shows any edit, gap, swap or cut.
"""

import asyncio
import json
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ivrguard import __main__ as commands
from ivrguard import flowfile
from ivrguard.core import audit
from ivrguard.core.assurance import AllOf, Kind
from ivrguard.core.audit import Entry
from ivrguard.core.call import Call
from ivrguard.core.errors import StoreFault
from ivrguard.core.handoff import Desk, Leg
from ivrguard.core.lockout import Ledger
from ivrguard.factors import pin
from ivrguard.guard import desk as desks
from ivrguard.guard.webhook import Webhook
from ivrguard.keyring import Keyring, written
from ivrguard.phone.bank import WORKFLOW_SID, Bank
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Asked, Queued
from ivrguard.phone.rig import Clock, Rig, new_keyring, rig
from ivrguard.ports import Account, Change, Credential, Store
from ivrguard.stores import codec, sqlite
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.sqlite import SqliteStore

PIN, WRONG = "24681357", "13572468"
ACCOUNT, STRANGER = "123456", "999999"
OWNER = "+15551230001"
NOW_MS = 1_800_000_000_000
PAGE = 7
AMENDMENTS_MIN, AMENDMENTS_MAX = 25, 100
"""About how many amendments the story makes."""
FLOW = flowfile.load_all(Path(__file__).parents[2] / "flows").flows[0]
FLOW = replace(FLOW, levels={"one_factor": AllOf(("pin",)), "two_factor": AllOf(("pin", "code"))})


# ── a store that is watched ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Act:
    """One amendment that happened: what was there, and what was decided."""

    before: Mapping[object, object]
    change: Change[object]


class Watched:
    """Keeps every amendment that happened. `breaks_at`: when `seen` comes to it, that one fails (`broken`)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.acts: list[Act] = []
        self.breaks_at: int | None = None
        self.seen = 0

    async def amend(self, keys, change):
        self.seen += 1
        taken: list[Act] = []

        def kept(values):
            done = change(values)
            taken[:] = [Act(dict(values), done)]
            return done

        if self.seen == self.breaks_at:
            with broken(self._store):
                result = await self._store.amend(keys, kept)
        else:
            result = await self._store.amend(keys, kept)
        self.acts += taken
        return result

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


class broken:  # noqa: N801 - reads as a word in a `with`
    """
    For one amendment the store cannot do it: SQLite after the values were written and before the entries are,
    memory at its bound of entries. An amendment without entries has nothing to disagree about, and passes.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> None:
        self._statement = sqlite.RECORD
        sqlite.RECORD = "INSERT INTO nowhere VALUES (?, ?, ?)"
        if isinstance(self._store, MemoryStore):
            self._store._entries_max = 0

    def __exit__(self, *_: object) -> None:
        sqlite.RECORD = self._statement
        if isinstance(self._store, MemoryStore):
            self._store._entries_max = 100_000


class Torn:
    """A planted fault: the values first, and the record of them afterwards."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def amend(self, keys, change):
        entries: list[Entry] = []

        def values_alone(values):
            done = change(values)
            entries[:] = done.entries
            return Change(done.result, done.puts)

        result = await self._store.amend(keys, values_alone)
        if entries:
            await self._store.amend(keys, lambda _: Change(None, (), tuple(entries)))
        return result

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


# ── a story ──────────────────────────────────────────────────────────────────────────────────────────────

STORY = """
    user_created added
    desk_created added
    authz_step_up identify
    account_claimed known
    authn_attempt counted
    authn_login_fail wrong
    authn_attempt counted
    authn_login_success right
    authz_granted request
    authz_step_up code
    authn_code_sent new
    authn_attempt counted
    authn_login_success right
    authz_granted request
    authz_granted request
    authz_granted request
    authz_granted request
    authz_granted request
    authz_granted request
    authz_granted request
    authz_step_up pin
    authn_attempt counted
    authn_login_success right
    authn_token_created transfer
    authn_token_redeemed right
    authn_token_reuse spent
    session_ended completed
    authz_granted request
    authz_step_up identify
    account_claimed unknown
    authn_attempt counted
    authn_login_fail wrong
    authn_attempt counted
    authn_login_fail wrong
    authn_attempt counted
    authn_login_fail wrong
    authz_fail tries
    session_ended completed
    authz_step_up identify
    account_claimed unknown
    authn_attempt counted
    authn_login_fail wrong
    authn_attempt counted
    authn_login_fail wrong
    authn_login_lock maxretries
    authn_attempt locked
    authn_login_fail locked
    authz_fail tries
    session_ended completed
    authz_step_up identify
    authz_fail silence
    session_ended completed
"""
"""Every decision of the story below, in order."""


async def tell(centre: Rig, key: str) -> list[str]:
    """
    An owner wires money and is handed to an agent, who redeems his token twice; a guesser locks an account that
    is not there; somebody says nothing. The secrets that were in it.
    """
    secrets = await tell_of_the_owner(centre, key)
    for script in (["999999#", WRONG, WRONG, WRONG], ["999999#", WRONG, WRONG, WRONG], [None, None, None]):
        other = centre.call("+15557770001")
        await other.until_input()
        for keys in script:
            await (other.silent() if keys is None else other.press(keys))
    return secrets


async def tell_of_the_owner(centre: Rig, key: str) -> list[str]:
    """The first part of the story. Whoever is cut off in it goes away. The secrets that were in it."""
    line = centre.call()
    secrets = [ACCOUNT, STRANGER, PIN, WRONG, OWNER, key]
    await line.until_input()
    for keys in (f"{ACCOUNT}#", WRONG, PIN, "3", "code", "50#", "1", "0", PIN):
        if not isinstance(line.waiting, Asked):
            break
        if keys == "code" and centre.carrier.sent:
            keys = centre.carrier.code_for(OWNER)  # noqa: PLW2901 - the code is only known now
            secrets.append(keys)
        await line.press(keys if keys != "code" else "000000")
    if isinstance(line.waiting, Queued):
        token = str(line.waiting.attributes["ivrguard_token"])
        secrets.append(token)
        await centre.redeem(key, token, line.call_sid)
        await centre.redeem(key, token, line.call_sid)
    if not line.over:
        await line.hang_up()
    await centre.server.guard.drain()
    return secrets


@asynccontextmanager
async def running(store: Store, keyring: Keyring | None = None) -> AsyncIterator[Rig]:
    bank = Bank()
    ring = keyring or new_keyring()
    async with rig(FLOW, bank.app, store=store, clock=Clock(NOW_MS), keyring=ring) as centre:
        assert WORKFLOW_SID
        yield centre


async def enrolled(centre: Rig) -> str:
    """An account and a desk; the desk's key."""
    await centre.enrol(Account(ACCOUNT, (OWNER,), (Credential(Kind.SMS_CODE, number=OWNER),)), pin=PIN)
    return await centre.desk("ann", "workflow:*")


async def record_of(store: Store) -> list[audit.Linked]:
    found: list[audit.Linked] = []
    while page := await store.entries(after=len(found), limit=PAGE):
        found += page
    return found


# ── the promise: one entry for each decision, with its state ─────────────────────────────────────────────


def decided(act: Act) -> Counter[str]:
    """What an amendment decided, by what it changed and nothing else."""
    found: Counter[str] = Counter()
    for put in act.change.puts:
        match act.before[put.key], put.value:
            case before, Call() as after:
                was = (
                    before
                    if isinstance(before, Call)
                    else replace(after, account="", proofs=(), legs=(), ended_ms=None)
                )
                found["account_claimed"] += after.account != was.account
                found["authn_login_success"] += len(set(after.proofs) - set(was.proofs))
                found["authn_token_created"] += len(set(after.legs) - set(was.legs))
                found["session_ended"] += after.ended_ms != was.ended_ms
            case before, Ledger() as after if not put.key.id.startswith(("desk/", "number/", "claims/")):
                was_tried = before.attempts if isinstance(before, Ledger) else ()
                found["authn_attempt"] += len(set(after.attempts) - set(was_tried))
            case Leg() as before, Leg() as after:
                found["authn_token_redeemed"] += after.redeemed_ms != before.redeemed_ms
            case None, Leg() as after if after.redeemed_ms is not None:
                found["call_taken"] += 1
                found["authn_token_created"] -= 1
            case None, Desk():
                found["desk_created"] += 1
            case None, Account():
                found["user_created"] += 1
            case _:
                pass
    return +found


def told(act: Act) -> Counter[str]:
    """What it put on record of these things."""
    kinds = "account_claimed authn_login_success authn_token_created session_ended authn_attempt"
    kinds += " authn_token_redeemed desk_created user_created call_taken"
    entries = [entry for entry in act.change.entries if entry.event in kinds.split()]
    return Counter(entry.event for entry in entries if entry.reason != "locked")


async def check_each_decision_is_on_record(store: Store, keyring: Keyring) -> None:
    """The whole story: exactly these entries; each amendment tells what it changed; nobody is named; it holds."""
    watched = Watched(store)
    async with running(watched, keyring) as centre:
        secrets = await tell(centre, await enrolled(centre))
        record = await record_of(store)
        whole = audit.verify(record, head=await store.head())
    told_ = [(one.entry.event, one.entry.reason) for one in record]
    assert told_ == [tuple(line.split()) for line in STORY.strip().splitlines()], "decisions: not these"
    for act in watched.acts:
        assert told(act) == decided(act), "together: an entry without its state, or a state without its entry"
    assert sum(len(act.change.entries) for act in watched.acts) == len(record), "together"
    assert whole == len(record), "chain: it does not hold"
    names = {"", *(keyring.pseudonym("account", each) for each in (ACCOUNT, STRANGER))}
    assert {one.entry.account for one in record} == names, "names: not keyed hashes"
    for one in record:
        text = audit.canonical(one.seq, one.entry).decode()
        for secret in secrets:
            assert secret not in re.sub(r'"(call|at_ms)":("\w*"|\d+)', "", text), "names: a secret on record"


AGENTS_STORY = """
    authn_token_redeemed right
    authn_code_sent new
    authn_attempt counted
    authn_login_fail wrong
    authn_attempt counted
    authn_login_success right
    authn_token_created passed_on
    authn_token_redeemed right
    call_taken proved
    account_claimed unknown
    authn_code_sent for_show
    authn_attempt counted
    authn_login_fail wrong
"""
"""What two agents decide, or have decided, in order: looks at calls, and what callers do, left out."""


async def agents(centre: Rig) -> None:
    """One has a code read to him, at the second try, and passes the caller on; then he takes a call of the open queue."""
    key = await enrolled(centre)
    line = await queued(centre, "0")

    async def ask(what: str, **body: str) -> dict[str, str]:
        url = f"{centre.guard_url}/.ivrguard/agent/v1/calls/{line.call_sid}/{what}"
        async with centre.session.post(url, json=body, headers={"Authorization": f"Bearer {key}"}) as answer:
            return await answer.json()

    await centre.redeem(key, str(line.waiting.attributes["ivrguard_token"]))
    await ask("codes")
    for digits in ("000000", centre.carrier.code_for(OWNER)):
        await ask("answers", digits=digits)
    token = (await ask("transfers", queue="client:bob"))["token"]
    key = await centre.desk("bob", "*")
    await centre.redeem(key, token)
    line = await queued(centre, "9")
    await centre.redeem(key, line.call_sid)
    await ask("claims", account=STRANGER)
    await ask("codes")
    await ask("answers", digits="000000")
    await centre.server.guard.drain()


async def queued(centre: Rig, choice: str) -> Line:
    """An owner who has proved himself, and keyed this in the menu."""
    line = centre.call()
    await line.until_input()
    for keys in (f"{ACCOUNT}#", PIN, choice):
        await line.press(keys)
    while isinstance(line.waiting, Asked):
        await line.press(PIN if line.waiting.num_digits == len(PIN) else centre.carrier.code_for(OWNER))
    assert isinstance(line.waiting, Queued), line.heard
    return line


async def check_what_agents_do_is_on_record(store: Store) -> None:
    """The same of agents: each act with its entry, in one amendment, and the agent's name in it."""
    watched = Watched(store)
    async with running(watched) as centre:
        await agents(centre)
        record = await record_of(store)
    for act in watched.acts:
        assert told(act) == decided(act), "together: an entry without its state, or a state without its entry"
    assert sum(len(act.change.entries) for act in watched.acts) == len(record), "together"
    about = [one.entry for one in record if {"agent", "desk"} & dict(one.entry.detail).keys()]
    expected = [tuple(line.split()) for line in AGENTS_STORY.strip().splitlines()]
    by_agents = [(one.event, one.reason) for one in about if (one.event, one.reason) in expected]
    assert by_agents == expected, "decisions: not these"


# ── the promise: never one without the other, whatever fails ─────────────────────────────────────────────


async def agree(store: Store) -> None:
    """State and record tell the same story."""
    record = [one.entry for one in await record_of(store)]

    def count(event: str, **facts: str) -> int:
        return sum(
            entry.event == event
            and all(
                getattr(entry, name, None) == value or dict(entry.detail).get(name) == value
                for name, value in facts.items()
            )
            for entry in record
        )

    assert count("user_created") == len(await store.list("account"))
    assert count("desk_created") == len(await store.list("desk"))
    calls = {one.value.sid: one.value for one in await store.list("call")}
    assert {entry.call for entry in record} - {""} <= calls.keys(), "an entry of a call that is not there"
    for sid, call in calls.items():
        assert count("account_claimed", call=sid) == bool(call.account), "a claim"
        proved = {
            dict(one.detail)["factor"]
            for one in record
            if one.event == "authn_login_success" and one.call == sid
        }
        assert proved == {proof.factor for proof in call.proofs}, "a proof"
        assert count("authn_token_created", call=sid) == len(call.legs), "a token"
        assert count("session_ended", call=sid) == (call.ended_ms is not None), "an end"
    legs = [one.value for one in await store.list("leg")]
    assert len(legs) == sum(len(call.legs) for call in calls.values())
    for leg in legs:
        assert count("authn_token_redeemed", call=leg.call) == (leg.redeemed_ms is not None), "a redemption"
    for one in await store.list("ledger"):
        if not one.id.startswith(("desk/", "number/")):
            account, kind, _ = one.id.split("/")
            names = {name for name, factor in FLOW.factors.items() if factor.kind == kind}
            ours = [each for each in record if dict(each.detail).get("factor") in names]
            ours = [each for each in ours if calls[each.call].account == account]
            tried = 0
            for entry in ours:
                match entry.event, entry.reason:
                    case "authn_attempt", "counted":
                        tried += 1
                    case "authn_login_success", _:
                        tried = 0
                    case "authn_attempt_withdrawn", _:
                        tried -= 1
            assert len(one.value.attempts) == tried, "an attempt"
    whole = audit.verify(await record_of(store), head=await store.head())
    assert whole == len(record), "the chain"


async def check_state_and_record_never_part(
    make: Callable[[int], Awaitable[Store]], wrap: Callable[[Store], Store] = lambda store: store
) -> None:
    """The story, with the first amendment failing, the second, the third ...: each time they agree in the end."""
    for nth in range(1, AMENDMENTS_MAX):
        store = await make(nth)
        watched = Watched(store)
        async with running(wrap(watched)) as centre:
            key = await enrolled(centre)
            watched.seen, watched.breaks_at = 0, nth
            await tell_of_the_owner(centre, key)
            await agree(store)
        if watched.seen < nth:  # the story was over before
            break
    assert AMENDMENTS_MIN < nth < AMENDMENTS_MAX - 1


# ── the promise: a chain that shows any edit ─────────────────────────────────────────────────────────────


async def walk(path: Path) -> int | str:
    """`ivrguard audit verify`, step by step: how many entries hold, or what is wrong."""
    try:
        store = await SqliteStore.open(path)
    except StoreFault as fault:
        return str(fault)
    try:
        seq, hash_ = 0, audit.GENESIS
        while page := await store.entries(after=seq, limit=PAGE):
            found = audit.verify(page, seq=seq, hash_=hash_)
            if isinstance(found, audit.Broken):
                return found.why
            seq, hash_ = page[-1].seq, page[-1].hash
        whole = audit.verify((), seq=seq, hash_=hash_, head=await store.head())
        return whole.why if isinstance(whole, audit.Broken) else seq
    except StoreFault as fault:
        return str(fault)
    finally:
        await store.close()


Edit = Callable[[sqlite3.Connection], object]


def edits(record: list[audit.Linked]) -> Iterator[tuple[str, Edit]]:
    """Every way to lay hands on one place of the file."""
    for place, one in enumerate(record):
        seq, entry = one.seq, one.entry
        changes = [
            replace(entry, at_ms=entry.at_ms + 1),
            replace(
                entry, event="authn_login_success" if "success" not in entry.event else "authn_login_fail"
            ),
            replace(entry, call="CA" + "0" * 32),
            replace(entry, account="acc_" + "a" * 16),
            replace(entry, reason=entry.reason + "x"),
            replace(entry, detail=(*entry.detail, ("by", "me"))),
        ]
        changed = changes[place % len(changes)]
        data = audit.canonical(seq, changed)
        before = record[place - 1].hash if place else audit.GENESIS
        yield f"edit {seq}", run("UPDATE audit SET data = ? WHERE seq = ?", data, seq)
        rehashed = audit.link(seq, before, changed).hash
        blank = audit.canonical(seq, entry).replace(b'":', b'": ', 1)
        other = one.hash[:-1] + ("0" if one.hash[-1] != "0" else "1")
        both = "UPDATE audit SET data = ?, hash = ? WHERE seq = ?"
        ways = [
            (f"edit and hash {seq}", run(both, data, rehashed, seq)),
            (f"blank in {seq}", run("UPDATE audit SET data = ? WHERE seq = ?", blank, seq)),
            (f"hash of {seq}", run("UPDATE audit SET hash = ? WHERE seq = ?", other, seq)),
            (f"take out {seq}", run("DELETE FROM audit WHERE seq = ?", seq)),
            (f"cut from {seq} on", run("DELETE FROM audit WHERE seq >= ?", seq)),
            (f"move {seq} away", run("UPDATE audit SET seq = seq + 1000 WHERE seq = ?", seq)),
            (f"put in behind {seq}", put_in(seq, audit.canonical(seq + 1, entry), one.hash)),
            (f"swap {seq} with the one before", swap(record[place - 1], one)),
            (f"take out {seq}, and all move up", move_up(seq)),
        ]
        if 0 < place < len(record) - 1:  # inside, each place meets some of them, and each of them some places
            ways = [ways[(place + turn) % len(ways)] for turn in (0, 3, 6)]
        yield from ways
    yield "another head", run("UPDATE head SET hash = ?", "0" * 64)
    yield "a head further on", run("UPDATE head SET seq = seq + 1")
    yield "no head", run("DELETE FROM head")
    yield "no entries", run("DELETE FROM audit")


def run(statement: str, *values: object) -> Edit:
    return lambda file: file.execute(statement, values)


def swap(one: audit.Linked, other: audit.Linked) -> Edit:
    def edit(file: sqlite3.Connection) -> None:
        for place, said in ((one.seq, other), (other.seq, one)):
            values = (audit.canonical(said.seq, said.entry), said.hash, place)
            file.execute("UPDATE audit SET data = ?, hash = ? WHERE seq = ?", values)

    return edit


def put_in(seq: int, data: bytes, hash_: str) -> Edit:
    def edit(file: sqlite3.Connection) -> None:
        file.execute("UPDATE audit SET seq = -seq WHERE seq > ?", (seq,))
        file.execute("UPDATE audit SET seq = 1 - seq WHERE seq < 0")
        file.execute("INSERT INTO audit VALUES (?, ?, ?)", (seq + 1, data, hash_))

    return edit


def move_up(seq: int) -> Edit:
    """One goes, all behind it move up, and the head counts one less: the numbers are in what is hashed."""

    def edit(file: sqlite3.Connection) -> None:
        file.execute("DELETE FROM audit WHERE seq = ?", (seq,))
        file.execute("UPDATE audit SET seq = -seq WHERE seq > ?", (seq,))
        file.execute("UPDATE audit SET seq = -seq - 1 WHERE seq < 0")
        file.execute("UPDATE head SET seq = seq - 1")

    return edit


async def check_any_edit_shows(path: Path) -> None:
    """The file itself, with one place laid hands on: the walk finds every single one."""
    store = await SqliteStore.open(path, migrate=True)
    async with running(store) as centre:
        await tell(centre, await enrolled(centre))
        record = await record_of(store)
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it is in the one file that is copied now
    assert await walk(path) == len(record), "it does not hold untouched"
    for what, edit in edits(record):
        copy = path.with_suffix(".copy")
        shutil.copy(path, copy)
        with closing(sqlite3.connect(copy)) as file, file:
            file.execute("PRAGMA synchronous = OFF")
            edit(file)
        assert isinstance(await walk(copy), str), f"unseen: {what}"


# ── green ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch) -> None:
    """The real argon2 with small parameters: this promise does not rest on what it costs."""
    monkeypatch.setattr(pin, "MEMORY_KIB", 64)
    monkeypatch.setattr(pin, "PASSES", 1)


@pytest.fixture(params=["memory", "sqlite"])
def make(request, tmp_path) -> Callable[[int], Awaitable[Store]]:
    """Makes a new store of one kind."""

    async def made(nth: int) -> Store:
        if request.param == "memory":
            return MemoryStore()
        return await SqliteStore.open(tmp_path / f"{nth}.db", migrate=True)

    return made


async def test_each_decision_is_on_record(make):
    """Exactly one entry for each, in one act with its state, without a name, in a chain that holds."""
    await check_each_decision_is_on_record(await make(0), new_keyring())


async def test_what_agents_do_is_on_record(make):
    """Two agents, and all that they can do with callers."""
    await check_what_agents_do_is_on_record(await make(0))


async def test_state_and_record_never_part(make):
    """Whichever amendment fails: what is decided is on record, and what is on record was decided."""
    await check_state_and_record_never_part(make)


async def test_any_edit_shows(tmp_path):
    """Edit, blank, swap, gap, cut, insertion, and hands on the head: in the file itself."""
    await check_any_edit_shows(tmp_path / "guard.db")


async def test_the_command_finds_what_the_walk_finds(tmp_path, monkeypatch):
    """`ivrguard audit verify`: 0 and a count; 1 and the place once a single letter was changed."""
    path = tmp_path / "guard.db"
    store = await SqliteStore.open(path, migrate=True)
    async with running(store) as centre:
        await tell(centre, await enrolled(centre))
        record = await record_of(store)
    monkeypatch.setenv("IVRGUARD_STORE", f"sqlite:{path}")
    monkeypatch.setenv("IVRGUARD_PUBLIC_KEYS", written(centre.keyring.public.keys))

    async def verified() -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, commands.app, ["audit", "verify"])
        return done.exit_code, done.output

    code, said = await verified()
    assert (code, said.splitlines()[0]) == (0, f"{len(record)} entries: the chain holds")
    assert "checkpoints that fit: " in said
    one = record[9]
    for data, hash_, found in (
        (audit.canonical(one.seq, replace(one.entry, reason="right")), one.hash, "entry 10 was changed"),
        (json.dumps({}).encode(), one.hash, "audit entry 10 is not as it was written"),
    ):
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE audit SET data = ?, hash = ? WHERE seq = ?", (data, hash_, one.seq))
        code, said = await verified()
        assert code == 1
        assert found in said.replace("\n", " ")


# ── red: each piece that keeps the promise, taken out ────────────────────────────────────────────────────


def change_with(entries: Callable[[tuple[Entry, ...]], tuple[Entry, ...]]) -> Callable[..., None]:
    def plant(monkeypatch) -> None:
        real = Webhook._change

        def change(self, *args, **named):
            done = real(self, *args, **named)
            return replace(done, entries=entries(done.entries))

        monkeypatch.setattr(Webhook, "_change", change)

    return plant


def no_record_of_redemptions(monkeypatch) -> None:
    class Forgetful:
        def __new__(cls, result, puts=(), entries=()):
            return Change(result, puts)

        def __class_getitem__(cls, _):
            return cls

    monkeypatch.setattr(desks, "Change", Forgetful)


def names_in_the_open(monkeypatch) -> None:
    monkeypatch.setattr(Keyring, "pseudonym", lambda self, what, value: value)


def links_without_a_chain(monkeypatch) -> None:
    real = audit.link
    monkeypatch.setattr(audit, "link", lambda seq, _, entry: real(seq, audit.GENESIS, entry))
    monkeypatch.setattr(codec, "link", lambda seq, _, entry: real(seq, audit.GENESIS, entry))


def nobody_looks_at_the_head(monkeypatch) -> None:
    real = audit.verify

    def verify(chain, *, head=None, **place):
        return real(chain, **place)

    monkeypatch.setattr(audit, "verify", verify)


def bytes_may_differ(monkeypatch) -> None:
    def decode(seq, data, hash_):
        found = json.loads(data)
        detail = tuple((name, value) for name, value in found["detail"])
        entry = Entry(
            found["at_ms"], found["event"], found["call"], found["account"], found["reason"], detail
        )
        return audit.Linked(seq, entry, hash_)

    monkeypatch.setattr(codec, "decode_entry", decode)


def numbers_are_not_looked_at(monkeypatch) -> None:
    def verify(chain, *, seq=0, hash_=audit.GENESIS, head=None):
        return sum(1 for _ in chain)

    monkeypatch.setattr(audit, "verify", verify)


DROPPED = change_with(lambda entries: entries[1:])
DOUBLED = change_with(lambda entries: (*entries[:1], *entries))
ELSEWHERE = change_with(lambda entries: tuple(one for one in entries if one.event != "authn_login_success"))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (DROPPED, "decisions"),
        (DOUBLED, "decisions"),
        (ELSEWHERE, "decisions"),
        (no_record_of_redemptions, "decisions"),
        (names_in_the_open, "names"),
    ],
    ids=["dropped", "doubled", "successes left out", "redemptions left out", "names in the open"],
)
async def test_without_this_piece_a_decision_is_missed(fault, says, monkeypatch):
    """The same check, red."""
    fault(monkeypatch)
    with pytest.raises(AssertionError, match=says):
        await check_each_decision_is_on_record(MemoryStore(), new_keyring())


async def test_saved_apart_they_part(make):
    """Values and record in two acts: some failure comes in between."""
    with pytest.raises(AssertionError):
        await check_state_and_record_never_part(make, Torn)


@pytest.mark.parametrize(
    "fault", [links_without_a_chain, nobody_looks_at_the_head, bytes_may_differ, numbers_are_not_looked_at]
)
async def test_without_this_piece_an_edit_goes_unseen(fault, monkeypatch, tmp_path):
    """The same check, red."""
    fault(monkeypatch)
    with pytest.raises(AssertionError, match="unseen"):
        await check_any_edit_shows(tmp_path / "guard.db")
