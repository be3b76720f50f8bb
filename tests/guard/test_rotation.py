"""What still needs which key is counted; what can be moved is moved, account by account, on record."""

import asyncio
from dataclasses import replace

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.core.call import Call
from ivrguard.core.caller import address_of
from ivrguard.factors.totp import PURPOSE, TotpJudge, new_secret
from ivrguard.guard import rotation
from ivrguard.guard.record import Signer
from ivrguard.guard.rotation import Resealed, reseal, uses
from ivrguard.keyring import Keyring
from ivrguard.ports import Account, AgentAccount, Change, Credential, Key, Put
from ivrguard.stores.memory import MemoryStore

NOW_MS = 1_795_000_000_000


def ring(keys: Keyring, **sealing: bytes) -> Keyring:
    return Keyring(sealing=sealing, peppers=keys.peppers, naming=keys._naming_keys, signing={"s1": b"s" * 32})


@pytest.fixture
def old(keys):
    return ring(keys, k1=b"1" * 32)


@pytest.fixture
def new(keys):
    return ring(keys, k2=b"2" * 32, k1=b"1" * 32)


async def keep(store, *values):
    for key, value in values:
        await store.amend([key], lambda _, key=key, value=value: Change(None, (Put(key, value),)))


def account(number, *credentials):
    name = f"{number:04}"
    return Key("account", name), Account(name, credentials=credentials)


def secret_of(number):
    return new_secret(lambda n: bytes([number]) * n)


def app(keys, number):
    return TotpJudge(keys).enrol(secret_of(number))


def call(number, naming):
    sid = f"CA{number:032}"
    made = Call(
        sid, "AC1", "bank", "1", address_of("+15551230001"), "+18005550100", attested=False, began_ms=0
    )
    return Key("call", sid), replace(made, naming=naming)


async def test_what_is_kept_is_counted_by_the_key_that_it_needs(old, new, monkeypatch):
    """Page by page, over every account and call; whoever waits is told how far it got."""
    monkeypatch.setattr(rotation, "VALUES_A_PAGE", 2)
    store = MemoryStore()
    pin = Credential(Kind.PIN, "$argon2id$", "p1")
    await keep(
        store,
        account(1, pin, app(old, 1)),
        account(2, replace(pin, key_id="p2")),
        account(3, pin, app(new, 3)),
        account(4, Credential(Kind.SMS_CODE, number="+15551230001")),
        account(5),
        *(call(number, naming) for number, naming in enumerate(["n1", "n1", "n2", ""])),
    )
    await store.amend([], lambda _: Change(None, (), (rotation.Entry(NOW_MS, "authn_login_fail"),)))
    await Signer(store, old, old.public, "x").checkpoint(NOW_MS)
    told = []

    found = await uses(store, tell=told.append)

    assert (found.pins, found.apps) == ({"p1": 2, "p2": 1}, {"k1": 1, "k2": 1})
    assert (found.calls, found.checkpoints) == ({"n1": 2, "n2": 1, "": 1}, {"s1": 1})
    assert told == [2, 4, 5, 7, 9]


async def test_agents_accounts_are_counted_and_moved_like_callers(old, new):
    """Their password waits for them, as a PIN does; their app's secret is moved; a session of theirs goes on."""
    store = MemoryStore()
    password = Credential(Kind.PIN, "$argon2id$", "p1")
    ann = AgentAccount("ann", "Ann", (), (), "", password, app(old, 1), NOW_MS)
    await keep(store, (Key("agent", "ann"), ann), (Key("sessions", "agent:ann"), ("digest",)))
    found = await uses(store)
    assert (found.pins, found.apps) == ({"p1": 1}, {"k1": 1})
    assert await reseal(store, new, now_ms=NOW_MS, by="ann") == Resealed(1, 0)
    kept = await store.read(Key("agent", "ann"))
    assert kept == replace(ann, app=kept.app)
    assert ring(new, k2=b"2" * 32).unseal(kept.app.secret, PURPOSE).decode() == secret_of(1)
    assert await store.read(Key("sessions", "agent:ann")) == ("digest",)
    assert await reseal(store, new, now_ms=NOW_MS, by="ann") == Resealed()


async def test_an_empty_store_needs_no_key():
    assert await uses(MemoryStore()) == rotation.Uses()


async def test_secrets_are_moved_to_the_current_key(old, new, monkeypatch):
    """Afterwards the new key alone opens them, and they are the same; nothing else of an account changes. Again: nothing."""
    monkeypatch.setattr(rotation, "VALUES_A_PAGE", 3)
    store = MemoryStore()
    pin = Credential(Kind.PIN, "$argon2id$", "p1")
    await keep(store, *(account(number, pin, app(old, number)) for number in range(1, 8)), account(8, pin))
    told = []

    assert await reseal(store, new, now_ms=NOW_MS, by="ann", tell=told.append) == Resealed(7, 0)

    alone = ring(new, k2=b"2" * 32)
    for number in range(1, 8):
        kept = await store.read(account(number)[0])
        assert kept.credentials[0] == pin
        assert alone.unseal(kept.credentials[1].secret, PURPOSE).decode() == secret_of(number)
    assert await reseal(store, new, now_ms=NOW_MS, by="ann") == Resealed()
    entries = [linked.entry for linked in await store.entries()]
    assert [(one.event, one.reason) for one in entries] == [("credentials_resealed", "rotated")] * 3
    assert [dict(one.detail) for one in entries] == [
        {"by": "ann", "count": count} for count in ("3", "3", "1")
    ]
    assert told == [3, 6, 8]


async def test_a_secret_whose_key_is_gone_is_counted_and_left(old, new, keys):
    """It may come back; the others are moved all the same."""
    store = MemoryStore()
    lost = app(ring(keys, k0=b"0" * 32), 2)
    await keep(store, account(1, app(old, 1)), account(2, lost))
    assert await reseal(store, new, now_ms=NOW_MS, by="ann") == Resealed(1, 1)
    assert (await store.read(account(2)[0])).credentials == (lost,)


async def test_an_account_that_changes_meanwhile_keeps_its_change(old, new):
    """Another app was enrolled, or the account is gone, between looking and keeping: the old secret must not come back."""
    store = MemoryStore()
    await keep(store, *(account(number, app(old, number)) for number in (1, 2, 3)))
    amend, enrolled = store.amend, app(old, 9)

    async def late(keys, change):
        store.amend = amend
        await keep(store, account(2, enrolled), (account(3)[0], None))
        return await amend(keys, change)

    store.amend = late
    assert await reseal(store, new, now_ms=NOW_MS, by="ann") == Resealed(2, 0)
    assert new.unseal((await store.read(account(2)[0])).credentials[0].secret, PURPOSE).decode() == secret_of(
        9
    )
    assert await store.read(account(3)[0]) is None


async def test_two_that_reseal_at_once_do_it_once(old, new):
    store = MemoryStore()
    await keep(store, *(account(number, app(old, number)) for number in range(20)))
    done = await asyncio.gather(*(reseal(store, new, now_ms=NOW_MS, by="ann") for _ in range(2)))
    assert sum(one.moved for one in done) == 20
    assert sum(int(dict(one.entry.detail)["count"]) for one in await store.entries()) == 20
