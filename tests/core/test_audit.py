"""
The chain: whatever is done to a record, it is found, and the first place that does not fit is named.

Every single edit, deletion, cut, insertion and swap of neighbours in a record of a thousand entries. What comes before
the place is not walked anew each time: it is the same thousand entries, walked once, and a walk goes on from any place.
"""

import hashlib
import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.audit import (
    GENESIS,
    RESTORED,
    Broken,
    Checkpoint,
    Entry,
    Linked,
    Place,
    canonical,
    ends,
    link,
    name,
    verify,
    walk,
)

LENGTH = 1_000

EDITS = {
    "at_ms": lambda entry: replace(entry, at_ms=entry.at_ms + 1),
    "event": lambda entry: replace(entry, event="authn_login_success"),
    "call": lambda entry: replace(entry, call="CA" + "f" * 32),
    "account": lambda entry: replace(entry, account="somebody else"),
    "reason": lambda entry: replace(entry, reason=""),
    "detail added": lambda entry: replace(entry, detail=(*entry.detail, ("who", "me"))),
    "detail changed": lambda entry: replace(entry, detail=(("factor", "app"), *entry.detail[1:])),
    "detail renamed": lambda entry: replace(entry, detail=(("kind", "pin"), *entry.detail[1:])),
    "detail dropped": lambda entry: replace(entry, detail=entry.detail[1:]),
    "detail swapped": lambda entry: replace(entry, detail=entry.detail[::-1]),
}


def entry(number):
    return Entry(
        at_ms=1_795_000_000_000 + number,
        event="authn_login_fail",
        call=f"CA{number:032}",
        account=f"{number:016x}",
        reason="wrong_pin",
        detail=(("factor", "pin"), ("lane", f"pool {number}")),
    )


def chain_of(entries, after=0, hash_=GENESIS):
    chain = []
    for seq, one in enumerate(entries, after + 1):
        chain.append(link(seq, hash_, one))
        hash_ = chain[-1].hash
    return chain


CHAIN = chain_of(entry(number) for number in range(1, LENGTH + 1))
HEAD = (LENGTH, CHAIN[-1].hash)
ENTRIES = [linked.entry for linked in CHAIN]


def hash_before(index):
    return CHAIN[index - 1].hash if index else GENESIS


def found(index, *tail):
    """Where the chain breaks, or None: the thousand as they are up to `index`, and then `tail` and nothing else."""
    outcome = verify(tail, seq=index, hash_=hash_before(index), head=HEAD)
    return outcome.seq if isinstance(outcome, Broken) else None


EVERY = range(LENGTH)


def test_the_shortcut_is_none():
    """Going on from a place finds what walking from the beginning finds."""
    for index in random.Random(7).sample(EVERY, 20):
        forged = replace(CHAIN[index], entry=EDITS["reason"](CHAIN[index].entry))
        tail = [forged, *CHAIN[index + 1 :]]
        assert found(index, *tail) == verify([*CHAIN[:index], *tail], head=HEAD).seq == index + 1


def test_hash_is_sha256_over_previous_hash_and_canonical_json():
    """Rule 3, worked out by hand: an auditor needs no code of ours to check it."""
    one = Entry(7, "authz_fail", call="CA1", detail=(("path", "/größe"),))
    json_ = '{"account":"","at_ms":7,"call":"CA1","detail":[["path","/größe"]],"event":"authz_fail","reason":"","seq":1}'
    actual = link(1, GENESIS, one)
    assert Linked(1, one, hashlib.sha256(("0" * 64 + json_).encode()).hexdigest()) == actual


@pytest.mark.parametrize(
    ("after", "head"), [(0, None), (0, HEAD), (17, HEAD), (LENGTH, HEAD), (LENGTH, None)]
)
def test_an_untouched_chain_verifies_from_any_place(after, head):
    """`verify` walks on from a place that was verified before, and counts what it checked."""
    assert verify(CHAIN[after:], seq=after, hash_=hash_before(after), head=head) == LENGTH - after


def test_the_empty_chain_verifies():
    """Nothing was decided yet: that is no break."""
    assert verify([], head=(0, GENESIS)) == 0


# ── every single tampering ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_is_found_at_its_place(edit):
    """Rule 3: change any field of any entry, and that entry is named."""
    for index in EVERY:
        forged = replace(CHAIN[index], entry=EDITS[edit](ENTRIES[index]))
        assert found(index, forged, *CHAIN[index + 1 : index + 2]) == index + 1


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_with_a_fitting_hash_breaks_the_next_place(edit):
    """Who works out the edited entry's hash anew is found at the next entry; at the last one, by the head."""
    for index in EVERY:
        forged = link(index + 1, hash_before(index), EDITS[edit](ENTRIES[index]))
        assert found(index, forged, *CHAIN[index + 1 : index + 2]) == index + 2


def test_every_changed_hash_is_found():
    """A hash that is not over its entry is found at its place, and so is every single digit of it."""
    for index in EVERY:
        digit = index % 64
        old = CHAIN[index].hash
        for changed in (GENESIS, old[:digit] + ("0" if old[digit] != "0" else "1") + old[digit + 1 :]):
            assert (
                found(index, replace(CHAIN[index], hash=changed), *CHAIN[index + 1 : index + 2]) == index + 1
            )


def test_every_deletion_is_found():
    """An entry that is missing is named; the last one by the head alone."""
    for index in EVERY:
        assert found(index, *CHAIN[index + 1 : index + 3]) == index + 1


def test_every_deletion_with_the_rest_moved_up_is_found():
    """Numbers that were closed up after a deletion do not fit the hashes, for the number is hashed too."""
    for index in range(LENGTH - 1):
        moved = replace(CHAIN[index + 1], seq=index + 1)
        assert found(index, moved) == index + 1


def swapped(first, second):
    """Two entries changed about, as they stand and with their numbers exchanged: where each is found."""
    here, there = CHAIN[first], CHAIN[second]
    yield found(first, there, *CHAIN[first + 1 : first + 2])
    yield found(first, replace(there, seq=here.seq), *CHAIN[first + 1 : first + 2])
    yield found(first, replace(here, entry=there.entry))
    yield found(first, link(here.seq, hash_before(first), there.entry), *CHAIN[first + 1 : first + 2]) - 1


@pytest.mark.parametrize("apart", [1, 2, 3, 10, 500])
def test_every_swap_of_two_so_far_apart_is_found(apart):
    """At the first of the two, whatever goes with them: place, number, or the hash worked out anew."""
    for first in range(LENGTH - apart):
        assert {*swapped(first, first + apart)} == {first + 1}


def test_swaps_of_any_two_are_found():
    """A sample of two thousand of the half million pairs."""
    chance = random.Random(7)
    for _ in range(2_000):
        first, second = sorted(chance.sample(EVERY, 2))
        assert {*swapped(first, second)} == {first + 1}


def test_every_cut_at_the_end_is_found_by_the_head():
    """A chain that was cut short holds in itself; what the store remembers apart from it shows the cut."""
    for length in EVERY:
        assert verify([], seq=length, hash_=hash_before(length)) == 0
        assert found(length) == length + 1


def test_every_cut_at_the_beginning_is_found():
    """A chain that begins later than where it should is found at its first entry."""
    assert {verify(CHAIN[index : index + 1], head=HEAD).seq for index in range(1, LENGTH)} == {1}


def test_every_insertion_is_found():
    """An entry put in between, or one that stands there twice, does not fit."""
    for index in range(LENGTH + 1):
        stranger = link(index + 1, hash_before(index), entry(9_999))
        assert found(index, stranger, *CHAIN[index : index + 2]) == index + 2
    for index in EVERY:
        assert found(index + 1, CHAIN[index]) == index + 2


def test_every_changed_head_is_found():
    """Another number, or another hash: the record and what is remembered of its end do not fit."""
    place = Place(LENGTH, CHAIN[-1].hash)
    assert ends(place, HEAD) is None
    for index in EVERY:
        assert ends(place, (index, HEAD[1])).seq == LENGTH + 1
        assert ends(place, (LENGTH, hash_before(index))).seq == LENGTH + 1


def test_a_break_says_what_is_wrong():
    """An operator reads in words what was found."""
    assert verify(CHAIN[:4] + CHAIN[5:], head=HEAD) == Broken(
        5, "entry 5 is missing; the next one found is 6"
    )
    assert verify([*CHAIN[:2], replace(CHAIN[2], entry=entry(4)), *CHAIN[3:]]) == Broken(
        3, "entry 3 was changed, or the one before it was"
    )
    assert verify(CHAIN[:57], head=HEAD) == Broken(58, "the record ends at 57, but 1000 entries were written")


# ── what the chain alone cannot show ─────────────────────────────────────────────────────────────────────

SIGNED_EVERY = 100
NAME = name(CHAIN[0])
SIGNED = {
    seq: (Checkpoint(NAME, seq, CHAIN[seq - 1].hash, CHAIN[seq - 1].entry.at_ms),)
    for seq in range(SIGNED_EVERY, LENGTH + 1, SIGNED_EVERY)
}
"""A checkpoint every hundred entries, as they are kept elsewhere."""


def walked(chain, signed=SIGNED, known=(), *, head=None, place=None):
    """The break of a chain whose head was made to fit, or None."""
    place = walk(place or Place(), chain, signed, known)
    if isinstance(place, Broken):
        return place
    return ends(place, head or (place.seq, place.hash), signed, known)


def test_an_honest_chain_holds_with_its_checkpoints():
    assert walked(CHAIN) is None


@pytest.mark.parametrize("index", [0, 1, 98, 99, 100, 640, 898, 998, 999])
def test_a_chain_made_anew_from_any_place_on_is_found_at_the_next_checkpoint(index):
    """
    Whoever can write the whole file edits one entry, works out all hashes behind it, and the head: without a
    checkpoint nothing shows; with one, the first behind the edit.
    """
    before = Place(index, hash_before(index))
    forged = chain_of([EDITS["reason"](ENTRIES[index]), *ENTRIES[index + 1 :]], index, before.hash)
    assert walked(forged, {}, place=before) is None
    outcome = walked(forged, place=before)
    assert outcome.seq == -(-(index + 1) // SIGNED_EVERY) * SIGNED_EVERY
    assert outcome.why == (
        f"entry {outcome.seq} is not the one that was signed: the record was made anew before it"
    )


def test_a_whole_new_record_is_found():
    """Of the same length, shorter, or none at all."""
    assert walked(chain_of(entry(number) for number in range(5_000, 6_000))).seq == SIGNED_EVERY
    assert walked(chain_of(entry(number) for number in range(5_000, 5_050))) == Broken(
        51, "the record ends at 50, but entry 100 was signed"
    )
    assert walked([]).seq == 1


def test_every_cut_with_the_head_cut_too_is_found_by_the_last_checkpoint():
    """The end and the head moved back together: the chain holds, and something was signed that is not there."""
    for length in range(LENGTH - 1):
        place = Place(length, hash_before(length))
        head = (place.seq, place.hash)
        assert ends(place, head) is None
        assert ends(place, head, SIGNED).seq == length + 1


def test_what_nobody_signed_yet_may_be_cut_unseen():
    """Which is why checkpoints are made often: this is as much as can be lost unseen."""
    until_990 = {seq: signed for seq, signed in SIGNED.items() if seq <= 900}
    assert walked(CHAIN[:950], until_990) is None


def test_a_walk_from_a_checkpoint_on_holds_and_finds():
    """`--since`: what is before it was signed and need not be read again."""
    place = Place(900, CHAIN[899].hash)
    assert walked(CHAIN[900:], place=place) is None
    forged = chain_of([EDITS["reason"](ENTRIES[950]), *ENTRIES[951:]], 950, hash_before(950))
    assert walked([*CHAIN[900:950], *forged], place=place).seq == LENGTH


def test_a_chain_has_its_name_from_its_first_entry():
    """Another store's is another; a copy's is the same."""
    other = chain_of([entry(2), *ENTRIES[1:]])
    assert name(other[0]) != NAME == CHAIN[0].hash[:16]


# ── a store that was put back ────────────────────────────────────────────────────────────────────────────

BACK_TO = 640
AT_MS = ENTRIES[-1].at_ms + 1_000
PUT_BACK = [
    *CHAIN[:BACK_TO],
    *chain_of(
        [Entry(AT_MS, RESTORED, reason="backup"), *(entry(number) for number in range(2_000, 2_500))],
        BACK_TO,
        hash_before(BACK_TO),
    ),
]
"""A backup of entry 640 was restored when the record had a thousand, and it went on from there."""


def test_a_restore_is_told_from_a_forgery_only_by_whoever_knows_of_it():
    """What was signed after the backup does not fit. The entry alone excuses nothing: a forger could write it too."""
    found_ = walked(PUT_BACK)
    assert found_.seq == 700
    assert found_.why.endswith("; or it was replaced by the restore at entry 641, if you know of that")
    assert walked(PUT_BACK, known={640}) == found_
    assert walked(PUT_BACK, known={641}) is None


def test_a_restore_that_is_known_excuses_the_end_as_well():
    """The record is shorter than it was."""
    short = PUT_BACK[: BACK_TO + 10]
    assert walked(short) == Broken(
        651,
        "the record ends at 650, but entry 700 was signed; or it was replaced by the restore at entry 641, if you know"
        " of that",
    )
    assert walked(short, known={641}) is None


def test_a_restore_that_is_known_excuses_nothing_else():
    """What was signed before its number, or after its time, must fit."""
    forged = [
        *CHAIN[:500],
        *chain_of(
            [EDITS["reason"](ENTRIES[500]), *(one.entry for one in PUT_BACK[501:])], 500, hash_before(500)
        ),
    ]
    assert walked(forged, known={641}).seq == 600
    after = {1_100: (Checkpoint(NAME, 1_100, GENESIS, AT_MS + 1),)}
    assert walked(PUT_BACK, after, known={641}).seq == 1_100
    beyond = {2_000: (Checkpoint(NAME, 2_000, GENESIS, AT_MS + 1),)}
    assert walked(PUT_BACK, beyond, known={641}).seq == 1_142


TEXTS = st.text(max_size=8)
ANY_ENTRY = st.builds(
    Entry,
    at_ms=st.integers(),
    event=TEXTS,
    call=TEXTS,
    account=TEXTS,
    reason=TEXTS,
    detail=st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
)


@given(ANY_ENTRY, ANY_ENTRY, st.integers(1, 99), st.integers(1, 99))
def test_different_entries_or_places_have_different_bytes(first, second, here, there):
    """No two entries share the bytes that are hashed, whatever their texts hold; and one has always the same."""
    assert ((first, here) == (second, there)) == (canonical(here, first) == canonical(there, second))
    assert canonical(here, first) == canonical(here, replace(first))
    assert json.loads(canonical(here, first))["seq"] == here
