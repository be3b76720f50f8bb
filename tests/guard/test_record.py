"""Checkpoints: what is signed was walked, what was signed is kept, and what does not hold is not signed."""

import json

import pytest

from ivrguard.core.audit import GENESIS, Checkpoint, Entry
from ivrguard.core.errors import RecordFault
from ivrguard.guard import record
from ivrguard.guard.record import BEGINS, TYP, Signer, begins, latest, read, sign
from ivrguard.keyring import Keyring, PublicKeys
from ivrguard.ports import Change, Key, Put
from ivrguard.stores.memory import MemoryStore

NOW_MS = 1_795_000_000_400
TO_THE_SECOND = 1_795_000_000_000
ISSUER = "https://guard.example"
POINT = Checkpoint("e645ae91d63c0232", 7, "a" * 64, TO_THE_SECOND)


async def decide(store, *reasons):
    """Put decisions on record."""
    entries = tuple(Entry(NOW_MS, "authn_login_fail", reason=reason) for reason in reasons)
    await store.amend([], lambda _: Change(None, (), entries))


async def keep(store, key, token, rank=None):
    await store.amend([key], lambda _: Change(None, (Put(key, token, rank=rank),)))


@pytest.fixture
def signer(keys: Keyring) -> Signer:
    return Signer(MemoryStore(), keys, keys.public, ISSUER)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "made", [POINT, Checkpoint("e6", 0, GENESIS, 0), Checkpoint("e6", 9, "f" * 64, 0, begins=True)]
)
def test_what_was_signed_is_read_again(keys: Keyring, made: Checkpoint):
    """By the public half alone."""
    signed = sign(keys, made, issuer=ISSUER)
    assert read(keys.public, signed.token) == signed
    assert signed.checkpoint == made


def test_a_checkpoint_is_signed_to_the_second(keys: Keyring):
    """As JWTs have it (RFC 7519): what is told of it is what can be read again."""
    signed = sign(keys, Checkpoint("e6", 7, "a" * 64, NOW_MS), issuer=ISSUER)
    assert signed.checkpoint.at_ms == TO_THE_SECOND
    assert keys.public.read(signed.token, typ=TYP) == {
        "iss": ISSUER,
        "sub": "e6",
        "seq": 7,
        "hash": "a" * 64,
        "iat": TO_THE_SECOND // 1000,
    }


@pytest.mark.parametrize(
    ("claims", "typ"),
    [
        ({"sub": "e6", "seq": 7, "hash": "a", "iat": 1}, "ivrguard-receipt+jwt"),
        ({"sub": "e6", "seq": "7", "hash": "a", "iat": 1}, TYP),
        ({"seq": 7, "hash": "a", "iat": 1}, TYP),
        ({}, TYP),
    ],
)
def test_another_token_of_ours_is_no_checkpoint(keys: Keyring, claims, typ):
    """A receipt that has the same claims; a checkpoint that says nothing."""
    with pytest.raises(RecordFault, match="a checkpoint: "):
        read(keys.public, keys.sign(claims, typ=typ))


def test_what_another_key_signed_is_no_checkpoint(keys: Keyring):
    token = sign(keys, POINT, issuer=ISSUER).token
    with pytest.raises(RecordFault, match="signed with key s1, not known here"):
        read(PublicKeys({}), token)


def test_begins_is_said_by_true_and_by_nothing_else(keys: Keyring):
    """Not by 1, "true", or whatever else a careless reader takes for it."""
    for said in (1, "true", [True], None):
        claims = {"sub": "e6", "seq": 7, "hash": "a", "iat": 1, "begins": said}
        assert not read(keys.public, keys.sign(claims, typ=TYP)).checkpoint.begins


# ── signing ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_head_is_signed_once(signer: Signer):
    """Nothing on record: nothing to sign. Nothing new: no second time."""
    assert await signer.checkpoint(NOW_MS) is None
    await decide(signer.store, "1", "2", "3")
    signed = await signer.checkpoint(NOW_MS)
    head = await signer.store.head()
    first = (await signer.store.entries())[0]
    assert signed.checkpoint == Checkpoint(first.hash[:16], *head, TO_THE_SECOND)
    assert await signer.checkpoint(NOW_MS) is None
    assert await latest(signer.store, signer.public) == signed


async def test_the_latest_is_the_last_one_kept(signer: Signer):
    """However many there are; the record's own entries are as before."""
    for number in range(12):
        await decide(signer.store, str(number))
        signed = await signer.checkpoint(NOW_MS + number * 1000)
        assert (await latest(signer.store, signer.public)).checkpoint == signed.checkpoint
        assert signed.checkpoint.seq == number + 1
    assert (await signer.store.head())[0] == 12


async def test_only_what_came_since_is_walked(signer: Signer, monkeypatch):
    """A record of years is not read every ten minutes; a long piece is walked page by page."""
    await decide(signer.store, *map(str, range(10)))
    first = await signer.checkpoint(NOW_MS)
    walked = []
    walk = record.walk
    monkeypatch.setattr(record, "walk", lambda place, page: walked.append(len(page)) or walk(place, page))
    monkeypatch.setattr(record, "ENTRIES_A_PAGE", 4)
    await decide(signer.store, *map(str, range(10)))
    assert (await signer.checkpoint(NOW_MS, first.checkpoint)).checkpoint.seq == 20
    assert walked == [4, 4, 2]


def edit(store, seq, reason):
    """Change an entry behind the guard's back."""
    data, hash_ = store._entries[seq - 1]
    said = json.loads(data)
    said["reason"] = reason
    store._entries[seq - 1] = json.dumps(said, sort_keys=True, separators=(",", ":")).encode(), hash_


def made_anew(store, reasons):
    """A whole new record, with its head, in the place of the old one."""
    fresh = MemoryStore()
    store._entries, store._head = fresh._entries, fresh._head
    return decide(store, *reasons)


async def nothing_is_signed(signer: Signer, last, why):
    before = await latest(signer.store, signer.public)
    with pytest.raises(RecordFault, match=why):
        await signer.checkpoint(NOW_MS, last)
    assert await latest(signer.store, signer.public) == before


async def test_what_was_changed_since_is_not_signed(signer: Signer):
    await decide(signer.store, "1", "2", "3")
    await signer.checkpoint(NOW_MS)
    await decide(signer.store, "4", "5", "6")
    edit(signer.store, 5, "another")
    await nothing_is_signed(signer, None, "broken at entry 5: entry 5 was changed")


async def test_what_was_cut_is_not_signed(signer: Signer):
    """With its head."""
    await decide(signer.store, "1", "2", "3")
    last = (await signer.checkpoint(NOW_MS)).checkpoint
    signer.store._entries[2:], signer.store._head = [], (2, (await signer.store.entries())[1].hash)
    await nothing_is_signed(signer, last, "the record ends at 3, but 2 entries were written")


@pytest.mark.parametrize("length", [2, 3, 5])
async def test_a_record_made_anew_is_not_signed_by_whoever_remembers(signer: Signer, length):
    """Shorter, as long, or longer; and with the checkpoint that was kept taken away too, by the process that made it."""
    await decide(signer.store, "1", "2", "3")
    last = (await signer.checkpoint(NOW_MS)).checkpoint
    await made_anew(signer.store, map(str, range(length)))
    await nothing_is_signed(signer, None, "broken at entry")
    key = Key("checkpoint", f"{3:020d}")
    await keep(signer.store, key, None)
    await nothing_is_signed(signer, last, "broken at entry")
    # Only who remembers nothing is deceived: which is why copies are elsewhere.
    assert (await signer.checkpoint(NOW_MS)).checkpoint.seq == length


async def test_a_forged_checkpoint_is_not_built_upon(signer: Signer, keys: Keyring):
    """One that another key signed stands where the last one should."""
    other = Keyring(
        sealing=keys._sealing, peppers=keys.peppers, naming=keys._naming_keys, signing={"s1": b"x" * 32}
    )
    await decide(signer.store, "1")
    forged = sign(other, Checkpoint("e6", 1, "a" * 64, NOW_MS), issuer=ISSUER).token
    await keep(signer.store, Key("checkpoint", f"{1:020d}"), forged, rank=-1)
    await nothing_is_signed_but(signer, "BadSignatureError")


async def nothing_is_signed_but(signer: Signer, why):
    with pytest.raises(RecordFault, match=why):
        await signer.checkpoint(NOW_MS)


async def test_what_comes_while_it_is_walked_is_for_the_next_one(signer: Signer, monkeypatch):
    """The head is signed as it was when the walk began."""
    await decide(signer.store, "1", "2")
    entries = signer.store.entries

    async def busy(**how):
        await decide(signer.store, "meanwhile")
        return await entries(**how)

    monkeypatch.setattr(signer.store, "entries", busy)
    assert (await signer.checkpoint(NOW_MS)).checkpoint.seq == 2


async def test_a_rotated_key_builds_on_what_the_old_one_signed(signer: Signer, keys: Keyring):
    """The old public half is enough."""
    await decide(signer.store, "1")
    await signer.checkpoint(NOW_MS)
    await decide(signer.store, "2")
    new = Keyring(
        sealing=keys._sealing, peppers=keys.peppers, naming=keys._naming_keys, signing={"s2": b"y" * 32}
    )
    rotated = Signer(signer.store, new, PublicKeys({**keys.public.keys, **new.public.keys}), ISSUER)
    assert (await rotated.checkpoint(NOW_MS)).checkpoint.seq == 2
    alone = Signer(signer.store, new, new.public, ISSUER)
    await decide(signer.store, "3")
    assert (await alone.checkpoint(NOW_MS)).checkpoint.seq == 3


# ── where a record begins ────────────────────────────────────────────────────────────────────────────────


async def test_a_record_begins_behind_the_checkpoint_that_says_so(signer: Signer, keys: Keyring):
    """What is signed next is walked from there on."""
    assert await begins(signer.store, signer.public) is None
    await decide(signer.store, "1", "2", "3")
    chain = await signer.store.entries()
    beginning = Checkpoint("e6", 2, chain[1].hash, TO_THE_SECOND, begins=True)
    await keep(signer.store, BEGINS, sign(keys, beginning, issuer=ISSUER).token)
    await signer.store.prune(2)
    assert await begins(signer.store, signer.public) == beginning
    assert (await signer.checkpoint(NOW_MS)).checkpoint == Checkpoint("e6", 3, chain[2].hash, TO_THE_SECOND)


async def test_any_other_checkpoint_there_is_a_break(signer: Signer, keys: Keyring):
    """Whoever cuts off the front puts the checkpoint of that place there: it does not say that the record begins."""
    await decide(signer.store, "1", "2", "3")
    signed = await signer.checkpoint(NOW_MS)
    await keep(signer.store, BEGINS, signed.token)
    with pytest.raises(RecordFault, match="does not say so"):
        await begins(signer.store, signer.public)
