"""Verifying: stores and files, alone and together, with what was signed, kept here or elsewhere."""

import json
from dataclasses import replace

import pytest

from ivrguard.core.audit import GENESIS, Broken, Entry, Place
from ivrguard.core.errors import RecordFault
from ivrguard.exports.jsonl import checkpoint_line
from ivrguard.guard import archive, verification
from ivrguard.guard.record import Signer
from ivrguard.guard.verification import Bound, FileSource, StoreSource, Verified, verify
from ivrguard.keyring import Keyring, PublicKeys
from ivrguard.ports import Change, Key, Put
from ivrguard.stores.memory import MemoryStore

AT_MS = 1_795_000_000_000
NOBODY = PublicKeys({})


async def decide(store, *reasons, at_ms=AT_MS, event="authn_login_fail"):
    """Put decisions on record, a second apart."""
    begun = (await store.head())[0]
    entries = tuple(
        Entry(at_ms + (begun + place) * 1000, event, reason=reason) for place, reason in enumerate(reasons)
    )
    await store.amend([], lambda _: Change(None, (), entries))


class Kept:
    """A record of thirty entries with a checkpoint at each tenth, and the tokens as they are kept elsewhere."""

    def __init__(self, keys):
        self.store = MemoryStore()
        self.signer = Signer(self.store, keys, keys.public, "https://guard.example")
        self.tokens = []

    async def fill(self, tens=3, first=""):
        for ten in range(tens):
            await decide(self.store, *(f"{first}{ten}{place}" for place in range(10)))
            signed = await self.signer.checkpoint(AT_MS + (ten + 1) * 10_000)
            self.tokens.append(signed.token)
        return self

    async def write(self, path, **bounds):
        """Export it into a file."""
        signed = await archive.signed_of(self.store, self.signer.public)
        pieces = archive.exported(self.store, self.signer.public, signed=signed, **bounds)
        path.write_bytes(b"".join([piece.lines async for piece in pieces]))
        return FileSource(path)


@pytest.fixture
async def kept(keys: Keyring):
    return await Kept(keys).fill()


async def found(source, public, given=(), **how):
    """What came of one record."""
    (outcome,) = await verify([source], public, given, **how)
    return outcome.found


def edit(store, seq, reason):
    data, hash_ = store._entries[seq - 1]
    said = json.loads(data)
    said["reason"] = reason
    store._entries[seq - 1] = json.dumps(said, sort_keys=True, separators=(",", ":")).encode(), hash_


async def made_anew(kept, count, *, keep_tokens=True):
    """What whoever can write the whole store puts in the place of the record: new entries, hashes and head."""
    fresh = MemoryStore()
    await decide(fresh, *(f"forged {place}" for place in range(count)))
    kept.store._entries, kept.store._head = fresh._entries, fresh._head
    if not keep_tokens:
        for one in await kept.store.list("checkpoint"):
            key = Key("checkpoint", one.id)
            await kept.store.amend([key], lambda _, key=key: Change(None, (Put(key, None),)))


# ── a store ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_record_that_holds(kept, monkeypatch):
    """From the beginning to the end, page by page, with its checkpoints."""
    monkeypatch.setattr(verification, "ENTRIES_A_PAGE", 7)
    monkeypatch.setattr(verification, "TOKENS_A_PAGE", 2)
    await decide(kept.store, "after the last checkpoint")
    told = []
    holds = await found(
        StoreSource(kept.store), kept.signer.public, tell=lambda seq, of: told.append((seq, of))
    )
    assert (holds.start, holds.end.seq, holds.met, holds.last.seq) == (Place(), 31, 3, 30)
    assert (holds.anchored, holds.unread, holds.chain) == (True, 0, (await kept.store.entries())[0].hash[:16])
    assert told == [(7, 31), (14, 31), (21, 31), (28, 31), (31, 31)]


async def test_a_record_that_is_whole_is_not_refused(kept, tmp_path):
    """So the tamperings below are found for what they are."""
    await kept.write(tmp_path / "a.jsonl")
    assert not await is_refused(tmp_path / "a.jsonl", kept.signer.public)


async def test_an_empty_record_holds(keys: Keyring):
    holds = await found(StoreSource(MemoryStore()), keys.public)
    assert holds == Verified("", Place(), Place())


async def test_a_server_may_go_on_writing(kept, monkeypatch):
    """What comes while it is walked is no break, and for the next time."""
    entries = kept.store.entries

    async def busy(**how):
        await decide(kept.store, "meanwhile")
        return await entries(**how)

    monkeypatch.setattr(kept.store, "entries", busy)
    holds = await found(StoreSource(kept.store), kept.signer.public)
    assert holds.end.seq == 31  # one came before the head was looked at


@pytest.mark.parametrize("seq", [1, 10, 30])
async def test_an_edit_is_found(kept, seq):
    edit(kept.store, seq, "another")
    assert (await found(StoreSource(kept.store), kept.signer.public)).seq == seq


async def test_without_a_key_the_chain_is_verified_and_the_checkpoints_are_counted(kept):
    holds = await found(StoreSource(kept.store), NOBODY)
    assert (holds.end.seq, holds.met, holds.last, holds.unread) == (30, 0, None, 3)


@pytest.mark.parametrize("count", [1, 10, 30, 500])
async def test_a_record_made_anew_is_found_by_what_is_kept_in_it(kept, count):
    """Whoever forgets the checkpoints: they are of a chain that is not there any more."""
    await made_anew(kept, count)
    outcomes = await verify([StoreSource(kept.store)], kept.signer.public)
    assert isinstance(outcomes[0].found, Verified)
    assert "was signed, and none of these records is it" in outcomes[1].found.why


@pytest.mark.parametrize("count", [0, 1, 10, 30, 500])
async def test_a_record_made_anew_is_found_by_what_is_kept_elsewhere(kept, count):
    """The whole of it, checkpoints and all: nothing in the store shows it, and a copy of one checkpoint does."""
    await made_anew(kept, count, keep_tokens=False)
    source = StoreSource(kept.store)
    assert isinstance(await found(source, kept.signer.public), Verified)
    outcomes = await verify([source], kept.signer.public, kept.tokens[-1:])
    assert isinstance(outcomes[-1].found, Broken)


async def test_a_record_made_anew_from_a_later_entry_on_is_found_at_the_next_checkpoint(kept):
    """It has the old name, for its first entry is the old one."""
    chain = await kept.store.entries()
    fresh = MemoryStore()
    await fresh.amend([], lambda _: Change(None, (), tuple(one.entry for one in chain[:15])))
    await decide(fresh, *(f"forged {place}" for place in range(15)))
    kept.store._entries, kept.store._head = fresh._entries, fresh._head
    for given in ((), kept.tokens):
        broken = await found(StoreSource(kept.store), kept.signer.public, given)
        assert (broken.seq, "not the one that was signed" in broken.why) == (20, True)


async def test_an_end_that_was_cut_with_its_head_is_found(kept):
    """By the last checkpoint: here, or elsewhere."""
    chain = await kept.store.entries()
    kept.store._entries[25:], kept.store._head = [], (25, chain[24].hash)
    broken = await found(StoreSource(kept.store), kept.signer.public)
    assert broken == Broken(26, "the record ends at 25, but entry 30 was signed")


async def test_what_was_signed_is_believed_from_there_on(kept):
    """`--since`: the last checkpoint up to that entry or time; before the first one, from the beginning."""
    source, public = StoreSource(kept.store), kept.signer.public
    edit(kept.store, 5, "another")
    for bound, begins in [
        (Bound(seq=10), 10),
        (Bound(seq=29), 20),
        (Bound(at_ms=AT_MS + 20_000), 20),
        (Bound(at_ms=AT_MS + 29_999), 20),
        (Bound(seq=10**9), 30),
    ]:
        holds = await found(source, public, since=bound)
        assert (holds.start.seq, holds.end.seq, holds.anchored) == (begins, 30, True)
    for bound in (Bound(seq=9), Bound(at_ms=AT_MS), Bound()):
        assert (await found(source, public, since=bound)).seq == 5


async def test_a_checkpoint_that_nobody_here_signed_is_refused(kept, keys: Keyring):
    """In the store or given: it is said which key is missing."""
    with pytest.raises(RecordFault, match="signed with key s1, not known here"):
        await verify([StoreSource(kept.store)], PublicKeys({"s0": b"\1" * 32}))
    with pytest.raises(RecordFault, match="no key to check them with: set IVRGUARD_PUBLIC_KEYS"):
        await verify([StoreSource(MemoryStore())], NOBODY, kept.tokens)


async def test_a_restore_that_is_known_is_passed_over(kept):
    """What was signed after the backup and before the restore is of the record that was replaced."""
    chain = await kept.store.entries()
    back = MemoryStore()
    await back.amend([], lambda _: Change(None, (), tuple(one.entry for one in chain[:15])))
    await decide(back, "backup", at_ms=AT_MS + 100_000, event="store_restored")
    await decide(back, *map(str, range(30)), at_ms=AT_MS + 100_000)
    source, public = StoreSource(back), kept.signer.public
    broken = await found(source, public, kept.tokens)
    assert broken.why.endswith("it was replaced by the restore at entry 16, if you know of that")
    assert (await found(source, public, kept.tokens, restored={16})).end.seq == 46


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_proves_itself(kept, tmp_path, monkeypatch):
    """What was exported is verified with nothing but the public key, and its checkpoints are in it."""
    source = await kept.write(tmp_path / "a.jsonl")
    monkeypatch.setattr(verification, "ENTRIES_A_PAGE", 7)
    holds = await found(source, kept.signer.public)
    assert (holds.start, holds.end.seq, holds.met, holds.anchored) == (Place(), 30, 3, True)
    assert source.what == str(tmp_path / "a.jsonl")


def tampered(lines):
    """What can be done to a file: a line gone, twice, changed about, from elsewhere; the first or the last ones gone."""
    yield "gone", [*lines[:4], *lines[5:]]
    yield "twice", [*lines[:5], *lines[4:]]
    yield "swapped", [*lines[:4], lines[5], lines[4], *lines[6:]]
    yield "edited", [*lines[:4], lines[4].replace(b'"reason":"04"', b'"reason":"40"'), *lines[5:]]
    yield "level", [*lines[:4], lines[4].replace(b"WARN", b"INFO"), *lines[5:]]
    yield "time", [*lines[:4], lines[4].replace(b"2026-", b"2027-"), *lines[5:]]
    yield "previous", [*lines[:4], lines[4].replace(b'"previous_hash":"', b'"previous_hash":"0'), *lines[5:]]
    yield "chain", [*lines[:4], lines[4].replace(b'"chain":"', b'"chain":"0'), *lines[5:]]
    yield "first chain", [lines[0].replace(b'"chain":"', b'"chain":"0'), *lines[1:]]
    yield "first previous", [lines[0].replace(GENESIS.encode(), b"1" * 64), *lines[1:]]
    yield "checkpoint", [line.replace(b"up to entry 10", b"up to entry 11") for line in lines]
    yield "token", [line.replace(b'"checkpoint":"eyJ', b'"checkpoint":"eyK') for line in lines]
    yield "half", [*lines[:-1], lines[-1][:-20]]
    yield "stranger", [*lines, b"a line from elsewhere\n"]


@pytest.mark.parametrize("how", [how for how, _ in tampered([b""] * 9)])
async def test_whatever_is_done_to_a_file_is_found(kept, tmp_path, how):
    """By the walk, or as a line that no export of ours has; the file and, of such a line, its number are named."""
    await kept.write(tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    forged = dict(tampered(lines))[how]
    assert forged != lines
    (tmp_path / "a.jsonl").write_bytes(b"".join(forged))
    assert await is_refused(tmp_path / "a.jsonl", kept.signer.public)


async def is_refused(path, public):
    try:
        outcomes = await verify([FileSource(path)], public)
    except RecordFault as fault:
        return str(fault).startswith((f"{path}:", "a checkpoint: "))
    return any(isinstance(one.found, Broken) for one in outcomes)


async def test_a_file_of_a_part_says_that_it_rests_on_nothing(kept, tmp_path):
    """Unless a checkpoint signs the entry behind which it begins."""
    public = kept.signer.public
    part = await kept.write(tmp_path / "part.jsonl", since=Bound(seq=16))
    holds = await found(part, public)
    assert (holds.start.seq, holds.end.seq, holds.anchored) == (15, 30, False)
    part = await kept.write(tmp_path / "part.jsonl", since=Bound(seq=11))
    assert not (await found(part, public)).anchored
    assert (await found(part, public, kept.tokens)).anchored


async def test_a_file_that_begins_behind_another_entry_than_was_signed_is_broken(kept, keys, tmp_path):
    """A forged part: it holds in itself, and does not join what is known of the chain."""
    other = await Kept(keys).fill(first="other")
    (await other.write(tmp_path / "b.jsonl", since=Bound(seq=11)))
    name = (await kept.store.entries())[0].hash[:16].encode()
    others = (await other.store.entries())[0].hash[:16].encode()
    lines = (tmp_path / "b.jsonl").read_bytes().replace(b'"chain":"' + others, b'"chain":"' + name)
    entries = [line for line in lines.splitlines(keepends=True) if b"record_checkpoint" not in line]
    (tmp_path / "b.jsonl").write_bytes(b"".join(entries))
    broken = await found(FileSource(tmp_path / "b.jsonl"), kept.signer.public, kept.tokens)
    assert broken == Broken(10, "entry 10, behind which it begins, is not the one that was signed")
    whole = await kept.write(tmp_path / "a.jsonl", until=Bound(seq=10))
    outcomes = await verify([whole, FileSource(tmp_path / "b.jsonl")], NOBODY)
    assert outcomes[1].found == Broken(
        10, "entry 10, behind which it begins, is another one in the part before"
    )


async def test_an_empty_file_holds_nothing(kept, tmp_path):
    """And what was signed is not in it."""
    (tmp_path / "empty").write_bytes(b"")
    holds = await found(FileSource(tmp_path / "empty"), kept.signer.public)
    assert (holds.chain, holds.end) == ("", Place())
    outcomes = await verify([FileSource(tmp_path / "empty")], kept.signer.public, kept.tokens)
    assert [type(one.found) for one in outcomes] == [Verified, Broken]


async def test_the_first_line_of_a_file_may_be_a_checkpoint(kept, tmp_path):
    """A copy that was begun anew when the record was signed."""
    source = await kept.write(tmp_path / "a.jsonl")
    signed = (await archive.signed_of(kept.store, kept.signer.public))[10]
    line = checkpoint_line(signed.token, signed.checkpoint)
    (tmp_path / "a.jsonl").write_bytes(line + (tmp_path / "a.jsonl").read_bytes())
    assert (await found(source, kept.signer.public)).end.seq == 30


# ── several ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_parts_of_a_chain_join(kept, tmp_path):
    """Archives in their order, and the store behind them."""
    first = await kept.write(tmp_path / "1.jsonl", until=Bound(seq=12))
    second = await kept.write(tmp_path / "2.jsonl", since=Bound(seq=13), until=Bound(seq=20))
    third = await kept.write(tmp_path / "3.jsonl", since=Bound(seq=15))
    outcomes = await verify([first, second, third, StoreSource(kept.store)], kept.signer.public)
    assert [(one.found.start.seq, one.found.end.seq) for one in outcomes] == [
        (0, 12),
        (12, 20),
        (14, 30),
        (0, 30),
    ]
    assert [one.found.anchored for one in outcomes] == [True, True, False, True]


async def test_a_part_that_is_missing_is_a_break(kept, tmp_path):
    first = await kept.write(tmp_path / "1.jsonl", until=Bound(seq=12))
    third = await kept.write(tmp_path / "3.jsonl", since=Bound(seq=15))
    outcomes = await verify([first, third], kept.signer.public)
    assert outcomes[1].found == Broken(13, "entries 13 to 14 are in none of these records")


async def test_chains_of_several_installations_are_verified_at_once(kept, keys, tmp_path):
    """Each by its own name: one's checkpoints say nothing of the other's, and one's break is not the other's."""
    other = await Kept(keys).fill(2, first="other")
    written = await other.write(tmp_path / "other.jsonl")
    edit(kept.store, 7, "another")
    outcomes = await verify(
        [StoreSource(kept.store, "here"), written], keys.public, [*kept.tokens, *other.tokens]
    )
    assert [one.what for one in outcomes] == ["here", str(tmp_path / "other.jsonl")]
    assert outcomes[0].found.seq == 7
    assert (outcomes[1].found.end.seq, outcomes[1].found.met) == (20, 2)


def test_an_outcome_is_a_value():
    """What was found can be compared: tests and commands rest on it."""
    holds = Verified("e6", Place(), Place(3, "a"))
    assert replace(holds, unread=2) != holds
