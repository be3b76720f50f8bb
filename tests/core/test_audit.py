"""The chain: whatever is done to a record, `verify` names the first place that does not fit."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.audit import GENESIS, Broken, Entry, Linked, canonical, link, verify

LENGTH = 60

EDITS = {
    "at_ms": lambda entry: replace(entry, at_ms=entry.at_ms + 1),
    "event": lambda entry: replace(entry, event="authn_login_success"),
    "call": lambda entry: replace(entry, call="CA" + "f" * 32),
    "account": lambda entry: replace(entry, account="somebody else"),
    "reason": lambda entry: replace(entry, reason=""),
    "detail added": lambda entry: replace(entry, detail=(*entry.detail, ("who", "me"))),
    "detail changed": lambda entry: replace(entry, detail=(("factor", "app"), *entry.detail[1:])),
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


def chain_of(entries):
    chain = []
    hash_ = GENESIS
    for seq, one in enumerate(entries, 1):
        chain.append(link(seq, hash_, one))
        hash_ = chain[-1].hash
    return chain


CHAIN = chain_of(entry(number) for number in range(1, LENGTH + 1))
HEAD = (LENGTH, CHAIN[-1].hash)


def place(outcome):
    """Where the chain breaks, or None."""
    return outcome.seq if isinstance(outcome, Broken) else None


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
    hash_ = CHAIN[after - 1].hash if after else GENESIS
    assert verify(CHAIN[after:], seq=after, hash_=hash_, head=head) == LENGTH - after


def test_the_empty_chain_verifies():
    """Nothing was decided yet: that is no break."""
    assert verify([], head=(0, GENESIS)) == 0


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_is_found_at_its_place(edit):
    """Rule 3: change any field of any entry, and that entry is named."""
    found = []
    for index, linked in enumerate(CHAIN):
        forged = replace(linked, entry=EDITS[edit](linked.entry))
        found.append(place(verify([*CHAIN[:index], forged, *CHAIN[index + 1 :]], head=HEAD)))
    assert list(range(1, LENGTH + 1)) == found


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_with_a_fitting_hash_breaks_the_next_place(edit):
    """Who works out the edited entry's hash anew is found at the next entry; at the last one, by the head."""
    found = []
    for index, linked in enumerate(CHAIN):
        previous = CHAIN[index - 1].hash if index else GENESIS
        forged = link(linked.seq, previous, EDITS[edit](linked.entry))
        found.append(place(verify([*CHAIN[:index], forged, *CHAIN[index + 1 :]], head=HEAD)))
    assert list(range(2, LENGTH + 2)) == found


def test_every_changed_hash_is_found():
    """A hash that is not over its entry is found at its place, and so is every single digit of it."""
    found = []
    for index, linked in enumerate(CHAIN):
        forged = replace(linked, hash=GENESIS)
        found.append(place(verify([*CHAIN[:index], forged, *CHAIN[index + 1 :]], head=HEAD)))
    assert list(range(1, LENGTH + 1)) == found
    last = CHAIN[-1]
    for digit in range(64):
        flipped = "0" if last.hash[digit] != "0" else "1"
        forged = replace(last, hash=last.hash[:digit] + flipped + last.hash[digit + 1 :])
        assert place(verify([*CHAIN[:-1], forged])) == LENGTH


def test_every_deletion_is_found():
    """An entry that is missing is named; the last one by the head alone."""
    found = [place(verify(CHAIN[:index] + CHAIN[index + 1 :], head=HEAD)) for index in range(LENGTH)]
    assert list(range(1, LENGTH + 1)) == found


def test_every_deletion_with_the_rest_moved_up_is_found():
    """Numbers that were closed up after a deletion do not fit the hashes, for the number is hashed too."""
    found = []
    for index in range(LENGTH - 1):
        rest = [replace(linked, seq=linked.seq - 1) for linked in CHAIN[index + 1 :]]
        found.append(place(verify(CHAIN[:index] + rest, head=HEAD)))
    assert list(range(1, LENGTH)) == found


def test_every_swap_is_found():
    """Two entries changed about are found at the first of them, numbers exchanged or not."""
    for first in range(LENGTH):
        for second in range(first + 1, LENGTH):
            swapped = list(CHAIN)
            swapped[first], swapped[second] = CHAIN[second], CHAIN[first]
            assert place(verify(swapped, head=HEAD)) == first + 1
            swapped[first] = replace(CHAIN[second], seq=first + 1)
            swapped[second] = replace(CHAIN[first], seq=second + 1)
            assert place(verify(swapped, head=HEAD)) == first + 1


def test_every_cut_at_the_end_is_found_by_the_head():
    """A chain that was cut short holds in itself; what the store remembers apart from it shows the cut."""
    for length in range(LENGTH):
        assert verify(CHAIN[:length]) == length
        assert place(verify(CHAIN[:length], head=HEAD)) == length + 1


def test_every_cut_at_the_beginning_is_found():
    """A chain that begins later than where it should is found at its first entry."""
    assert {place(verify(CHAIN[index:], head=HEAD)) for index in range(1, LENGTH)} == {1}


def test_every_insertion_is_found():
    """An entry put in between, or one that stands there twice, does not fit."""
    for index in range(LENGTH + 1):
        previous = CHAIN[index - 1].hash if index else GENESIS
        stranger = link(index + 1, previous, entry(999))
        assert isinstance(verify([*CHAIN[:index], stranger, *CHAIN[index:]], head=HEAD), Broken)
    for index in range(LENGTH):
        assert place(verify([*CHAIN[: index + 1], *CHAIN[index:]], head=HEAD)) == index + 2


def test_a_chain_forged_from_some_place_on_is_found_by_the_head():
    """All hashes worked out anew: the chain holds in itself, but not with the head."""
    for index in range(LENGTH):
        entries = [linked.entry for linked in CHAIN]
        entries[index] = EDITS["reason"](entries[index])
        forged = chain_of(entries)
        assert verify(forged) == LENGTH
        assert place(verify(forged, head=HEAD)) == LENGTH + 1


def test_a_break_says_what_is_wrong():
    """An operator reads in words what `verify` found."""
    assert Broken(5, "entry 5 is missing; the next one found is 6") == verify(
        CHAIN[:4] + CHAIN[5:], head=HEAD
    )
    assert Broken(3, "entry 3 was changed, or the one before it was") == verify(
        [*CHAIN[:2], replace(CHAIN[2], entry=entry(4)), *CHAIN[3:]]
    )
    assert Broken(58, "the record ends at 57, but 60 entries were written") == verify(CHAIN[:57], head=HEAD)


TEXTS = st.text(max_size=8)
ENTRIES = st.builds(
    Entry,
    at_ms=st.integers(),
    event=TEXTS,
    call=TEXTS,
    account=TEXTS,
    reason=TEXTS,
    detail=st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
)


@given(ENTRIES, ENTRIES, st.integers(1, 99), st.integers(1, 99))
def test_different_entries_or_places_have_different_bytes(first, second, here, there):
    """No two entries share the bytes that are hashed, whatever their texts hold; and one has always the same."""
    assert ((first, here) == (second, there)) == (canonical(here, first) == canonical(there, second))
    assert canonical(here, first) == canonical(here, replace(first))
    assert json.loads(canonical(here, first))["seq"] == here
