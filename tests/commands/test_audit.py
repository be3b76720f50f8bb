"""The audit record from the command line."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ivrguard import log
from ivrguard.commands import audit
from ivrguard.core.audit import Entry, Linked
from ivrguard.exports import events

ROOT = Path(__file__).parents[2]
ACCOUNT, OWNER, STRANGER, PIN = "123456789", "+15551230001", "+15559870002", "24681357"


def entries(result):
    assert (result.code, result.err) == (0, "")
    return result.out.splitlines()


NO_CHECKPOINT = (
    "no checkpoint: whoever can write all of it could have made it anew (`ivrguard audit checkpoint`)\n"
)


def test_the_record_holds(store, shell):
    """From the shell; nothing was signed yet, and that is said."""
    result = shell(store.env, "audit", "verify")
    assert (result.code, result.err) == (0, NO_CHECKPOINT)
    assert re.fullmatch(r"\d+ entries: the chain holds\n", result.out)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "UPDATE audit SET data = (SELECT data FROM audit WHERE seq = 7) WHERE seq = 9",
            "store: audit entry 9 is not as it was written",
        ),
        (
            "DELETE FROM audit WHERE seq = 5",
            "the record is broken at entry 5: entry 5 is missing; the next one found is 6",
        ),
        ("DELETE FROM audit WHERE seq > 8", "is broken at entry 9: the record ends at 8, but"),
        ("UPDATE head SET seq = seq - 1", "the record is broken at entry"),
    ],
)
def test_a_record_that_was_changed_from_outside_is_found_out(store, statement, words, asked):
    """Edited, cut out, cut off, or with another end: 1, and the place."""
    store.sql(statement)
    result = asked(store.env, "audit", "verify")
    assert (result.code, result.out) == (1, "")
    assert words in result.err


def checkpoint(store, asked):
    """What `audit checkpoint` prints."""
    result = asked(store.env, "audit", "checkpoint")
    assert (result.code, result.err) == (0, "")
    return result.out


def test_a_checkpoint_is_printed_kept_and_verified(store, asked):
    """Asked again when nothing came: the same one. What comes behind it is counted."""
    token = checkpoint(store, asked)
    assert log.is_checkpoint(token.strip())
    assert checkpoint(store, asked) == token
    assert asked(store.env, "accounts", "disable", ACCOUNT).code == 0
    result = asked(store.env, "audit", "verify")
    assert (result.code, result.err) == (0, "")
    assert re.search(
        r"^checkpoints that fit: 1, the last of .* UTC; entries behind it, not signed yet: 1$",
        result.out,
        re.MULTILINE,
    )


def test_an_empty_record_cannot_be_signed(keys, tmp_path, asked, ends):
    env = {**keys, "IVRGUARD_STORE": f"sqlite:{tmp_path}/empty.db"}
    assert asked(env, "migrate").code == 0
    ends(asked(env, "audit", "checkpoint"), 1, "", "the record is empty: there is nothing to sign\n")
    ends(asked(env, "audit", "verify"), 0, "0 entries: the chain holds\n")


def test_an_auditor_needs_public_keys_and_no_other(store, asked):
    """With none at all, he is told that checkpoints were not checked; with another one, that they do not hold."""
    checkpoint(store, asked)
    public = asked(store.env, "keys", "public").out.strip().partition("=")[2]
    auditor = {"IVRGUARD_STORE": store.env["IVRGUARD_STORE"]}
    result = asked({**auditor, "IVRGUARD_PUBLIC_KEYS": public}, "audit", "verify")
    assert (result.code, result.err) == (0, "")
    assert "checkpoints that fit: 1" in result.out
    result = asked(auditor, "audit", "verify")
    assert (result.code, "1 checkpoints were not checked: set IVRGUARD_PUBLIC_KEYS" in result.err) == (
        0,
        True,
    )
    result = asked({**auditor, "IVRGUARD_PUBLIC_KEYS": f"s9={'A' * 43}="}, "audit", "verify")
    assert (result.code, "it is signed with key s1, not known here" in result.err) == (1, True)
    clash = {**store.env, "IVRGUARD_PUBLIC_KEYS": f"s1={'A' * 43}="}
    assert "key s1 is another one than the signing key of that name" in asked(clash, "audit", "verify").err


FORGED = """
import sqlite3, sys
from ivrguard.core.audit import GENESIS, canonical, link
from ivrguard.stores.codec import decode_entry
from dataclasses import replace
db = sqlite3.connect(sys.argv[1])
hash_ = GENESIS
for seq, data, old in db.execute("SELECT seq, data, hash FROM audit ORDER BY seq").fetchall():
    entry = decode_entry(seq, data, old).entry
    forged = link(seq, hash_, replace(entry, reason="right") if entry.reason == "wrong" else entry)
    hash_ = forged.hash
    db.execute("UPDATE audit SET data = ?, hash = ? WHERE seq = ?", (canonical(seq, forged.entry), hash_, seq))
db.execute("UPDATE head SET hash = ?", (hash_,))
db.execute("DELETE FROM value WHERE kind = 'checkpoint'")
db.commit()
"""


def test_a_record_made_anew_as_a_whole_is_found_by_the_servers_log(store, tmp_path, asked):
    """
    Somebody who can write the whole file turns every wrong answer into a right one, works out all hashes and the head,
    and takes the checkpoints out. The chain holds; the log, which is elsewhere, has what was signed.
    """
    token = checkpoint(store, asked).strip()
    line = json.dumps({"time": "2026-11-27T20:00:00Z", "event": "checkpoint", "checkpoint": token})
    (tmp_path / "server.log").write_text(f'{{"event":"serving"}}\nnot JSON \xff {"a" * 50}.b.c\n{line}\n')
    saved = asked(store.env, "audit", "verify", "--checkpoints", tmp_path / "server.log")
    assert (saved.code, saved.err) == (0, "")
    done = subprocess.run(
        [sys.executable, "-c", FORGED, store.path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=True,
    )
    assert done.returncode == 0
    assert asked(store.env, "audit", "verify").code == 0
    found = asked(store.env, "audit", "verify", "--checkpoints", tmp_path / "server.log")
    assert found.code == 1
    assert re.search("is broken at entry \\d+: .*(made anew|not the one that was signed)", found.err)
    found = asked(store.env, "audit", "verify", "--checkpoints", tmp_path / "server.log", "--restored", "1")
    assert found.code == 1


def test_a_file_without_a_checkpoint_is_the_wrong_one(store, tmp_path, asked, ends):
    """A receipt, or an assertion, is none."""
    (tmp_path / "log").write_text("eyJhbGciOiJFZERTQSJ9." + "a" * 40 + "." + "b" * 86 + "\n")
    result = asked(store.env, "audit", "verify", "--checkpoints", tmp_path / "log")
    ends(result, 1, "", f"{tmp_path}/log: there is no checkpoint in it\n")


def test_verification_may_begin_at_a_checkpoint(store, asked):
    """By number or time; what is before it is not looked at."""
    checkpoint(store, asked)
    asked(store.env, "accounts", "disable", ACCOUNT)
    head = int(entries(asked(store.env, "audit", "show", "--limit", "1"))[0].split()[0])
    store.sql("UPDATE audit SET hash = (SELECT hash FROM audit WHERE seq = 4) WHERE seq = 5")
    assert asked(store.env, "audit", "verify").code == 1
    for since in (str(head), "2099-01-01", "2099-01-01T08:30:00+01:00"):
        result = asked(store.env, "audit", "verify", "--since", since)
        assert result.out.startswith(f"1 entries from entry {head} on: the chain holds\n"), result.err


@pytest.mark.parametrize("text", ["yesterday", "12-", "2026-13-01"])
def test_a_bound_is_a_number_or_a_time(store, text, asked, ends):
    result = asked(store.env, "audit", "verify", "--since", text)
    words = f"--since {text!r}: write an entry's number, or a date or time like 2026-11-01T08:30:00\n"
    ends(result, 1, "", words)


def test_several_are_verified_at_once(store, keys, filled, tmp_path, asked):
    """Stores and files, each by its name; a break in one is told of that one."""
    first = tmp_path / "first.jsonl"
    assert asked(store.env, "audit", "export", "--until", "9", "-o", first).code == 0
    result = asked(store.env, "audit", "verify", first, f"sqlite:{filled.path}")
    assert result.code == 0
    assert result.out.startswith(f"{first}: 9 entries: the chain holds\n")
    first.write_bytes(first.read_bytes().replace(b'"chain"', b'"Chain"', 1))
    result = asked(store.env, "audit", "verify", first, f"sqlite:{filled.path}")
    assert (result.code, f"record: {first}:1: this is no line" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("memory", "store: memory: nothing is kept between commands"),
        ("mysql:x", "mysql:x: this is no store; write it as in IVRGUARD_STORE, or name an exported file"),
        ("nowhere.jsonl", "record: nowhere.jsonl: it cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_verified(store, name, words, asked):
    result = asked(store.env, "audit", "verify", name)
    assert (result.code, words in result.err) == (1, True)


# ── export, archive ──────────────────────────────────────────────────────────────────────────────────────


def exported(store, asked, *options):
    result = asked(store.env, "audit", "export", *options)
    assert (result.code, result.err) == (0, "")
    return [json.loads(line) for line in result.out.splitlines()]


def test_the_record_is_exported_as_json_lines(store, asked):
    """Every entry, in order, with its checkpoints; a piece of it by number or time."""
    count = len(entries(asked(store.env, "audit", "show", "--after", "0", "--limit", "1000")))
    checkpoint(store, asked)
    lines = exported(store, asked)
    assert [line["entry"]["seq"] for line in lines[:-1]] == [*range(1, count + 1)]
    assert lines[-1]["event"] == "record_checkpoint"
    assert [line["entry"]["seq"] for line in exported(store, asked, "--since", "3", "--until", "5")] == [
        3,
        4,
        5,
    ]
    assert exported(store, asked, "--since", "2099-01-01") == []
    assert len(exported(store, asked, "--since", "2020-01-01T00:00:00+02:00")) == count + 1


def test_the_record_is_exported_as_ocsf(store, asked):
    lines = exported(store, asked, "--format", "ocsf")
    assert {line["metadata"]["version"] for line in lines} == {"1.4.0"}
    assert {line["class_uid"] for line in lines} >= {3001, 3002, 3003}
    assert asked(store.env, "audit", "export", "--format", "xml").code == 2


@pytest.mark.parametrize("form", ["jsonl", "ocsf"])
def test_no_export_holds_a_secret_or_names_a_person(store, form, asked):
    """Not the PIN, the account, the numbers, a code, a key; whatever the record was made of."""
    text = json.dumps(exported(store, asked, "--format", form))
    wheres = [PIN, ACCOUNT, OWNER, STRANGER, OWNER[2:], *(f"1111222{n}" for n in range(6))]
    secrets = [*wheres, *(value.partition("=")[2] for name, value in store.env.items() if "KEYS" in name)]
    assert len(secrets) >= 14
    bare = re.sub(r'"(?:call|uid|at_ms|time|hash|previous_hash|checkpoint)": ?(?:"[^"]*"|\d+)', "", text)
    assert [secret for secret in secrets if secret in bare] == []


def test_an_exported_file_is_private_and_takes_no_others_place(store, tmp_path, asked):
    path = tmp_path / "a.jsonl"
    assert asked(store.env, "audit", "export", "-o", path).code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    again = asked(store.env, "audit", "export", "-o", path)
    assert (again.code, "there is such a file already" in again.err) == (1, True)


def test_an_archive_and_what_is_left_are_one(store, tmp_path, asked):
    """What is young stays, unless one insists; who did it is on record."""
    archive = tmp_path / "old.jsonl"
    prune = ("audit", "prune", "--before", "2099-01-01", "--archive", archive)
    refused = asked(store.env, *prune)
    assert (refused.code, "the last 90 days should stay at hand (PCI DSS 10.5.1)" in refused.err) == (1, True)
    done = asked(store.env, *prune, "--force")
    assert re.fullmatch(rf"{archive}: \d+ entries, up to entry \d+; SHA-256 [0-9a-f]{{64}}\n", done.out)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in done.out
    (last,) = entries(asked(store.env, "audit", "show", "--after", "0", "--limit", "1000"))
    assert "record_pruned archived by=mallory upto=" in last
    both = asked(store.env, "audit", "verify", archive, store.env["IVRGUARD_STORE"])
    assert (both.code, both.err) == (0, "")
    assert asked(store.env, "audit", "verify").code == 0
    nothing = asked(store.env, "audit", "prune", "--before", "2020-01-01", "--archive", tmp_path / "none")
    assert (nothing.code, nothing.out) == (0, "there are no entries from before 2020-01-01\n")
    store.sql("UPDATE value SET data = '\"eyJ\"' WHERE kind = 'checkpoint'")
    broken = asked(store.env, "audit", "verify")
    assert (broken.code, broken.err) == (1, "record: a checkpoint: the token does not hold: DecodeError\n")


def test_a_part_that_rests_on_nothing_says_so(store, tmp_path, asked):
    path = tmp_path / "part.jsonl"
    assert asked(store.env, "audit", "export", "--since", "5", "-o", path).code == 0
    result = asked(store.env, "audit", "verify", path)
    assert result.code == 0
    assert f"{path}: nothing that was given says what came before entry 5\n" in result.err


@pytest.mark.parametrize("before", ["7", ""])
def test_pruning_wants_a_time(store, tmp_path, before, asked, ends):
    result = asked(store.env, "audit", "prune", "--before", before, "--archive", tmp_path / "a")
    ends(result, 1, "", f"--before {before!r}: write a date or time\n")


def test_events_are_a_page_of_markdown(asked, ends):
    ends(asked({}, "audit", "events"), 0, events.table())


# ── show ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_show_begins_with_the_last_ones(store, asked):
    """Without a wish: the end of the record. Else from the number on, and so many."""
    every = entries(asked(store.env, "audit", "show", "--after", "0", "--limit", "1000"))
    numbers = [int(line.split()[0]) for line in every]
    assert numbers == list(range(1, len(every) + 1))
    assert entries(asked(store.env, "audit", "show", "--limit", "3")) == every[-3:]
    assert entries(asked(store.env, "audit", "show", "--after", "2", "--limit", "3")) == every[2:5]
    assert entries(asked(store.env, "audit", "show", "--after", "100000")) == []
    assert asked(store.env, "audit", "show", "--limit", "0").code == 2


def test_show_finds_a_call_and_an_account(store, monkeypatch, asked):
    """Accounts stand there as keyed hashes; the command makes the same one."""
    monkeypatch.setattr(audit, "ENTRIES_PER_PAGE", 7)
    every = entries(asked(store.env, "audit", "show", "--after", "0", "--limit", "1000"))
    of_call = entries(asked(store.env, "audit", "show", "--call", store.call))
    assert of_call == [line for line in every if store.call in line]
    assert 1 < len(of_call) < len(every)
    of_account = entries(asked(store.env, "audit", "show", "--account", ACCOUNT))
    (name,) = {word for word in of_account[0].split() if word.startswith("acc_")}
    assert of_account == [line for line in every if name in line]
    both = entries(
        asked(store.env, "audit", "show", "--account", ACCOUNT, "--call", store.call, "--limit", "1")
    )
    assert both == [line for line in of_call if name in line][:1]
    assert ACCOUNT not in "".join(every)


def test_show_finds_an_account_under_the_names_of_every_naming_key(store, asked):
    """After a rotation its old entries are found as before; with the new key alone, none is."""
    new = "n2=" + "A" * 43 + "="
    before = entries(asked(store.env, "audit", "show", "--account", ACCOUNT))
    both = {**store.env, "IVRGUARD_NAMING_KEYS": f"{new};{store.env['IVRGUARD_NAMING_KEYS']}"}
    assert entries(asked(both, "audit", "show", "--account", ACCOUNT)) == before
    assert asked(both, "accounts", "disable", ACCOUNT).code == 0
    assert len(entries(asked(both, "audit", "show", "--account", ACCOUNT))) == len(before) + 1
    alone = {**store.env, "IVRGUARD_NAMING_KEYS": new}
    assert len(entries(asked(alone, "audit", "show", "--account", ACCOUNT))) == 1


def test_an_entry_is_one_line_whatever_is_in_it():
    """A reason with a line or a colour of its own could pretend to be another entry."""
    entry = Entry(
        0, "authn_login_unlock", reason="unlocked", detail=(("because", "x\n2 all is well\x1b[2J"),)
    )
    assert audit.shown_as(Linked(7, entry, "0" * 64)) == (
        "7 1970-01-01 00:00:00 UTC authn_login_unlock unlocked because=x?2 all is well?[2J"
    )
