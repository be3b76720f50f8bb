"""Values as bytes: what goes in comes out, what is not of its type goes neither in nor out, and no fault tells."""

import json
import traceback
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.assurance import Kind
from ivrguard.core.audit import GENESIS, Entry, Linked, canonical, link, verify
from ivrguard.core.call import Call
from ivrguard.core.caller import address_of
from ivrguard.core.errors import StoreFault
from ivrguard.core.lockout import Attempt, Ledger
from ivrguard.ports import Account, Change, Credential, Key, Put
from ivrguard.stores import codec

LEDGER = Key("ledger", "acct-1/pin/pool")
ACCOUNT = Key("account", "acct-1")
NUMBER = Key("number", "+18005550123")
SECRET = "s3cr3t"
ENTRY = Entry(1_795_000_000_000, "authn_login_fail", reason="wrong_pin", detail=(("factor", "pin"),))


def told(error):
    """All that a log could say of an exception: its text, its cause, and what it happened in."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("kind", sorted(codec.TYPES))
@given(data=st.data())
def test_what_goes_in_comes_out(kind, data):
    """Rule 1, for each kind there is: every value of its type is read back equal, and of the same types."""
    value = data.draw(st.from_type(codec.TYPES[kind]))
    key = Key(kind, "x")
    assert repr(value) == repr(codec.decode(key, codec.encode(key, value)))
    assert value == codec.decode(key, codec.encode(key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (LEDGER, Account(SECRET)),
        (LEDGER, {"attempts": [], "run": SECRET}),
        (LEDGER, Ledger(attempts=(Attempt("a", SECRET),))),
        (LEDGER, Ledger(attempts=[Attempt(SECRET, 1)])),
        (LEDGER, Ledger(run=1.5)),
        (ACCOUNT, Ledger()),
        (ACCOUNT, Account("acct-1", credentials=(Credential(SECRET),))),
        (NUMBER, SECRET),
        (NUMBER, [SECRET]),
        (NUMBER, (SECRET, 1)),
        (NUMBER, (SECRET, "\ud800")),
    ],
)
def test_a_value_of_another_type_is_not_kept(key, value):
    """Rules 1 and 2: a fault that names kind and id, and not a word of the value."""
    with pytest.raises(StoreFault) as caught:
        codec.encode(key, value)
    assert f"{key.kind} {key.id!r} cannot be kept: the value is not of its kind's type" == str(caught.value)
    assert SECRET not in told(caught.value)


@pytest.mark.parametrize(
    ("key", "data"),
    [
        (LEDGER, b'"s3cr3t"'),
        (LEDGER, b"s3cr3t"),
        (LEDGER, b""),
        (LEDGER, b"\xff\xfes3cr3t"),
        (LEDGER, b"null"),
        (LEDGER, b'{"run":"7s3cr3t"}'),
        (LEDGER, b'{"run":"7"}'),
        (LEDGER, b'{"run":7.0}'),
        (LEDGER, b'{"run":true}'),
        (LEDGER, b'{"run":7,"s3cr3t":1}'),
        (LEDGER, b'{"attempts":[{"id":"s3cr3t","at_ms":1,"was":"new"}]}'),
        (LEDGER, b'{"attempts":[{"id":"s3cr3t"}]}'),
        (ACCOUNT, b'{"numbers":["s3cr3t"]}'),
        (ACCOUNT, b'{"id":"acct-1","credentials":[{"kind":"s3cr3t"}]}'),
        (NUMBER, b'{"0":"s3cr3t"}'),
        (NUMBER, b'["s3cr3t",1]'),
        (NUMBER, b'["s3cr3t"'),
    ],
)
def test_bytes_of_another_type_are_not_read(key, data):
    """Rules 1 and 2: neither text for numbers nor fields that this version does not know; content stays unsaid."""
    with pytest.raises(StoreFault, match=r"changed by hand\?$") as caught:
        codec.decode(key, data)
    assert str(caught.value).startswith(f"{key.kind} {key.id!r} cannot be read: ")
    assert SECRET not in told(caught.value)


def test_a_value_from_before_a_field_was_added_takes_its_default():
    """Rule 1: an older file's values are read; that is how a type may grow."""
    assert Ledger(run=3) == codec.decode(LEDGER, b'{"run":3}')
    assert Account("acct-1") == codec.decode(ACCOUNT, b'{"id":"acct-1"}')


def test_credentials_keep_their_secret_in_the_bytes_and_nowhere_else():
    """The bytes hold everything; the row that carries them shows none of it."""
    account = Account("acct-1", credentials=(Credential(Kind.PIN, SECRET, "pepper-1"),))
    put = Put(ACCOUNT, account)
    done = codec.amended({ACCOUNT: None}, lambda _: Change(None, (put,)), (0, GENESIS))
    assert account == codec.decode(ACCOUNT, done.rows[ACCOUNT].data)
    assert SECRET not in repr(done)


def test_a_value_has_a_largest_size():
    """A value is read whole at each webhook: 1 MiB is kept, a byte more is a fault."""
    room = codec.VALUE_BYTES_MAX - len('[""]')
    assert len(codec.encode(NUMBER, ("x" * room,))) == codec.VALUE_BYTES_MAX
    with pytest.raises(StoreFault, match=r"^number '\+18005550123' cannot be kept: more than 1048576 bytes$"):
        codec.encode(NUMBER, ("x" * (room + 1),))


def test_a_call_that_was_kept_is_known_by_its_bytes_unless_it_is_large():
    """Law 5: not decoded again; other bytes are; and the oldest are forgotten."""
    call = Call("CA1", "AC1", "bank", "v1", address_of("+14155550123"), "+18005550100", True, 1)
    key = Key("call", call.sid)
    assert codec.decode(key, codec.encode(key, call)) is call
    assert codec.decode(key, codec.encode(key, replace(call, turn=1))).turn == 1
    large = replace(call, cookies="c" * codec.CALL_BYTES_KNOWN_MAX)
    assert codec.decode(key, codec.encode(key, large)) is not large
    for number in range(codec.CALLS_KNOWN_MAX + 1):
        codec.encode(key, replace(call, turn=2 + number))
    again = codec.decode(key, codec.encode(key, call))
    assert again == call
    assert len(codec._KNOWN._calls) == codec.CALLS_KNOWN_MAX


REFUSED = {
    "no such kind": lambda: codec.check_name("ledgers", "x"),
    "an id that is no text": lambda: codec.check_name("ledger", "\ud800"),
    "too large": lambda: codec.check_integers(1, None, 2**63),
    "too small": lambda: codec.check_integers(-(2**63)),
    "limit none": lambda: codec.check_limit(0),
    "limit negative": lambda: codec.check_limit(-1),
    "limit too large": lambda: codec.check_limit(2**63),
}


@pytest.mark.parametrize("argument", REFUSED)
def test_arguments_that_no_store_could_take(argument):
    """They are refused before anything is read, in every store alike."""
    with pytest.raises(ValueError):
        REFUSED[argument]()


def test_arguments_at_the_edge_are_taken():
    """The largest and smallest that a column holds, and any text that is Unicode."""
    codec.check_name("ledger", "\U0010ffff\0 ümlaut")
    codec.check_integers(None, 2**63 - 1, -(2**63) + 1)
    codec.check_limit(1)


# ── the record ───────────────────────────────────────────────────────────────────────────────────────────


@given(st.builds(Entry, at_ms=st.integers(-(2**62), 2**62)), st.integers(1, 10**12))
def test_an_entry_comes_out_as_it_went_in_and_still_fits_its_hash(entry, seq):
    """Rule 4: what is stored are the bytes that the hash is over."""
    linked = link(seq, GENESIS, entry)
    data = codec.encode_entry(linked)
    assert canonical(seq, entry) == data
    assert linked == codec.decode_entry(seq, data, linked.hash)
    assert verify([codec.decode_entry(seq, data, linked.hash)], seq=seq - 1) == 1


FORGED = {
    "cut short": lambda data: data[:-1],
    "another number": lambda data: data.replace(b'"seq":7', b'"seq":8'),
    "a blank": lambda data: data.replace(b'"seq":7', b'"seq": 7'),
    "one more field": lambda data: data.replace(b'"seq":7', b'"seq":7,"zeal":"s3cr3t"'),
    "no number": lambda data: data.replace(b',"seq":7', b""),
    "no reason": lambda data: data.replace(b'"reason":"wrong_pin",', b""),
    "a number for text": lambda data: data.replace(b'"wrong_pin"', b"7"),
    "another spelling": lambda data: data.replace(b"wrong", rb"\u0077rong"),
    "a blank behind it": lambda data: data + b" ",
    "something else": lambda _data: b"s3cr3t",
    "nothing": lambda _data: b"",
}


@pytest.mark.parametrize("forgery", FORGED)
def test_entry_bytes_that_we_did_not_write_are_refused(forgery):
    """Not even what means the same passes, so that nothing hides in a record; the fault names the place."""
    data = canonical(7, ENTRY)
    forged = FORGED[forgery](data)
    assert data != forged
    with pytest.raises(StoreFault) as caught:
        codec.decode_entry(7, forged, GENESIS)
    assert str(caught.value) == "audit entry 7 is not as it was written: the record was changed from outside"
    assert SECRET not in told(caught.value)


def test_an_entry_whose_hash_does_not_fit_is_for_verify_to_find():
    """Reading a record shows it as it is; judging it is the chain's affair."""
    forged = replace(ENTRY, reason="forged")
    assert Linked(1, forged, "x") == codec.decode_entry(1, canonical(1, forged), "x")


# ── amendments ───────────────────────────────────────────────────────────────────────────────────────────


def amended(change, found=None, head=(0, GENESIS)):
    return codec.amended(found or {LEDGER: None}, change, head)


def test_an_amendment_worked_out():
    """Values go in decoded; rows come out encoded, with what they are found by; entries behind the head."""
    seen = []

    def change(values):
        seen.append(values)
        puts = (Put(LEDGER, Ledger(run=2), expires_ms=5, rank=-7), Put(NUMBER, None))
        return Change("told", puts, (ENTRY, ENTRY))

    head = (41, "ab" * 32)
    done = amended(change, {LEDGER: b'{"run":1}', NUMBER: b'["acct-1"]', ACCOUNT: None}, head)
    assert [{LEDGER: Ledger(run=1), NUMBER: ("acct-1",), ACCOUNT: None}] == seen
    assert done.result == "told"
    assert {LEDGER: codec.Row(LEDGER, b'{"attempts":[],"steps":0,"run":2}', 5, -7), NUMBER: None} == done.rows
    assert verify(done.links, seq=41, hash_=head[1]) == 2


@pytest.mark.parametrize(
    ("puts", "entries", "fault", "says"),
    [
        ((Put(NUMBER, ()),), (), ValueError, "puts a number that it did not read"),
        ((Put(NUMBER, None),), (), ValueError, "puts a number that it did not read"),
        ((Put(LEDGER, Ledger()), Put(LEDGER, None)), (), ValueError, "puts one key twice"),
        ((Put(LEDGER, Ledger(), rank=2**63),), (), ValueError, "beyond 64 bits"),
        ((Put(LEDGER, None, expires_ms=2**63),), (), ValueError, "beyond 64 bits"),
        ((Put(LEDGER, SECRET),), (), StoreFault, "not of its kind's type"),
        ((), (ENTRY, replace(ENTRY, call="s3cr3t\ud800")), StoreFault, "audit entry 2 cannot be kept"),
        ((), (replace(ENTRY, detail=(("n", 1),)),), StoreFault, "audit entry 1 cannot be kept"),
        ((), (replace(ENTRY, at_ms=SECRET),), StoreFault, "audit entry 1 cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(puts, entries, fault, says):
    """Rule 3: refused as a whole, in words that name no content."""
    with pytest.raises(fault, match=says) as caught:
        amended(lambda _: Change(None, puts, entries))
    assert SECRET not in told(caught.value)


def test_what_a_change_raises_comes_out_as_it_is():
    """Rule 3: it is its caller's affair."""
    with pytest.raises(KeyError):
        amended(lambda values: values[NUMBER])


def test_a_value_that_cannot_be_read_stops_the_amendment():
    """Nothing is decided on what is not understood: the change is not even asked."""
    with pytest.raises(StoreFault, match="ledger 'acct-1/pin/pool' cannot be read"):
        amended(lambda _: pytest.fail("asked"), {LEDGER: b"{"})


def test_every_kind_is_stored_as_json():
    """The operator may look into his file with the tools he has."""
    assert json.loads(codec.encode(LEDGER, Ledger(run=1))) == {"attempts": [], "steps": 0, "run": 1}
