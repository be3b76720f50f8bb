"""Lines in OWASP's vocabulary: what they say, that they can be read back, and that no change in one goes unseen."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.audit import Checkpoint, Entry, Linked, link
from ivrguard.exports import jsonl
from ivrguard.exports.jsonl import CheckpointLine, EntryLine, checkpoint_line, entry_line, read

POINT = Checkpoint("e645ae91d63c0232", 7, "a" * 64, 1_795_813_101_000)


def test_a_line_says_an_entry_in_owasps_words_and_holds_it_as_it_was_hashed():
    """https://cheatsheetseries.owasp.org/cheatsheets/Logging_Vocabulary_Cheat_Sheet.html, section Format."""
    detail = (("factor", "pin"), ("lane", "pool"))
    one = link(1, "0" * 64, Entry(1_795_813_101_680, "authn_login_fail", "CA1", "acc_x", "wrong", detail))
    assert json.loads(entry_line("e6", "0" * 64, one)) == {
        "datetime": "2026-11-27T20:58:21.680+00:00",
        "appid": "ivrguard",
        "event": "authn_login_fail:acc_x",
        "level": "WARN",
        "description": "A factor was answered wrong",
        "chain": "e6",
        "previous_hash": "0" * 64,
        "hash": one.hash,
        "entry": {
            "seq": 1,
            "at_ms": 1_795_813_101_680,
            "event": "authn_login_fail",
            "call": "CA1",
            "account": "acc_x",
            "reason": "wrong",
            "detail": [["factor", "pin"], ["lane", "pool"]],
        },
    }


def test_every_event_is_one_line_and_reads_back(chain, chain_name):
    """As it was, with its place and the hash before it; accounts stand behind the event where there is one."""
    for before, linked in chain:
        line = entry_line(chain_name, before, linked)
        assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
        assert read(line) == EntryLine(chain_name, before, linked)
        event = json.loads(line)["event"]
        assert event.partition(":")[::2] == (linked.entry.event, linked.entry.account)


def test_a_checkpoint_is_a_line_of_its_own():
    line = checkpoint_line("a.b.c", POINT)
    assert read(line) == CheckpointLine("a.b.c")
    said = json.loads(line)
    assert (said["event"], said["hash"], said["checkpoint"]) == ("record_checkpoint", "a" * 64, "a.b.c")
    assert said["description"] == "The record was signed up to entry 7"


@pytest.mark.parametrize(("at_ms", "shown"), [(0, "1970-01-01T00:00:00.000+00:00"), (10**18, f"{10**18} ms")])
def test_a_time_is_iso_8601_in_utc(at_ms, shown):
    """One that is in no calendar is shown all the same: a wrong clock is on record too."""
    assert jsonl.moment(at_ms) == shown


# ── what is not taken ────────────────────────────────────────────────────────────────────────────────────


def changed(value):
    """Other values in place of one."""
    if isinstance(value, str):
        return [value + "x", value[:-1], 7] if value else ["x", None]
    if isinstance(value, int):
        return [value + 1, str(value), True, None]
    return [value[1:], [*value, ["who", "me"]], None]


def forgeries(line):
    """Every field of a line changed, dropped, or added to, at both of its levels."""
    said = json.loads(line)
    for part in (said, said["entry"]):
        for name, value in list(part.items()):
            if value == said["entry"]:
                continue
            for other in changed(value):
                part[name] = other
                yield name, json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            del part[name]
            yield name, json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            part[name] = value
        part["more"] = "x"
        yield "more", json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        del part["more"]


def taken(line):
    """What a line is read as, or None if it is refused."""
    with suppress(ValueError):
        return read(line)
    return None


def test_no_field_can_be_changed_without_another(chain, chain_name):
    """
    What people read and what is hashed must say the same, so each change alone is found here. Chain, hashes, number and
    the parts of the entry that are nowhere else are for the walk to find: they are read as they were changed.
    """
    (before, linked) = chain[0]
    line = entry_line(chain_name, before, linked)
    walks = {"chain", "previous_hash", "hash", "seq", "call", "reason", "detail"}
    for name, forged in forgeries(line):
        found = taken(forged)
        assert found is None or (name in walks and found != EntryLine(chain_name, before, linked)), forged


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"7\n",
        b"nonsense\n",
        b"\xff\n",
        b'{"event":"record_checkpoint"}\n',
        b"[" * 9_999,
    ],
)
def test_what_is_no_line_of_an_export_is_refused(line):
    with pytest.raises(ValueError, match="no line of an exported record"):
        read(line)


def test_half_a_line_is_none(chain, chain_name):
    """Nor one with blanks in it, or with its names in another order."""
    line = entry_line(chain_name, *chain[0])
    said = json.loads(line)
    others = [
        line[:-1],
        line.replace(b",", b", "),
        json.dumps({name: said[name] for name in sorted(said)}, separators=(",", ":")).encode() + b"\n",
    ]
    for other in others:
        with pytest.raises(ValueError, match="not as it was exported"):
            read(other)
    with pytest.raises(ValueError):
        read(line[: len(line) // 2])


TEXTS = st.text(max_size=8)


@given(
    st.builds(
        Entry,
        at_ms=st.integers(0, 2**42),
        event=TEXTS.filter(lambda text: text != "record_checkpoint"),
        call=TEXTS,
        account=TEXTS,
        reason=TEXTS,
        detail=st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
    ),
    st.integers(1, 10**9),
)
def test_any_entry_reads_back(entry, seq):
    """Whatever its texts hold: quotes, line ends, signs of any script."""
    linked = Linked(seq, entry, "f" * 64)
    line = entry_line("chain", "e" * 64, linked)
    assert line.count(b"\n") == 1
    assert read(line) == EntryLine("chain", "e" * 64, linked)
    assert read(line) != EntryLine("chain", "e" * 64, replace(linked, seq=seq + 1))
