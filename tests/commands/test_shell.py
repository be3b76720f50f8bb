"""What commands share: settings that are bad, and those that are not asked for."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "flows" / "bank.yaml"
ACCOUNT, OWNER, STRANGER, PIN = "123456789", "+15551230001", "+15559870002", "24681357"
ACCOUNT_SID, AUTH_TOKEN = "AC" + "a1" * 16, "token0of0the0test"
PUBLIC_URL = "https://guard.bank.example"
POOL = f"{ACCOUNT}/pin/pool"


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        (("locks", "list"), {"IVRGUARD_PROT": "1"}, "IVRGUARD_PROT: unknown variable; did you mean"),
        (("locks", "list", "--config", "nowhere.yaml"), {}, "nowhere.yaml: the file cannot be read"),
        (("accounts", "disable", "1"), {}, "`ivrguard keys new` makes a set of fresh keys"),
        (("serve",), {}, "IVRGUARD_PUBLIC_URL: not set; for example"),
        (("desks", "list"), {"IVRGUARD_STORE": "memory"}, "store: memory: nothing is kept between commands"),
        (("audit", "verify"), {"IVRGUARD_STORE": "sqlite:nowhere.db"}, "`ivrguard migrate` make a new one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_settings_are_told_with_what_to_mend(arguments, env, words, asked):
    """1, nothing on standard output, and no traceback."""
    result = asked(env, *arguments)
    assert (result.code, result.out) == (1, "")
    assert words.replace("the file ", "") in result.err


def test_what_a_command_does_not_need_it_does_not_ask_for(store, asked):
    """Whoever checks the record needs no secret."""
    result = asked({"IVRGUARD_STORE": store.env["IVRGUARD_STORE"]}, "audit", "verify")
    assert (result.code, result.err.partition(":")[0]) == (0, "no checkpoint")


def test_every_command_opens_the_postgres_that_the_settings_name(database, keys, asked, ends, tmp_path):
    """Accounts, desks, keys, locks and the record; a backup is the database's own tools' business; no word shows the URL."""
    canary = "p4ssw0rd0of0the0canary"
    env = {**keys, "DATABASE_URL": database.replace("postgres@", f"postgres:{canary}@"), "IVRGUARD_STORE": ""}
    where = f"postgresql://{database.partition('host=')[2].partition('&')[0]}"
    told = [
        asked(env, *words)
        for words in (
            ("migrate",),
            ("accounts", "add", ACCOUNT, "--number", OWNER),
            ("desks", "add", "ann", "--queue", "workflow:*"),
            ("locks", "list"),
            ("keys", "rotate", "--help"),
            ("audit", "show"),
            ("audit", "verify"),
            ("audit", "verify", "postgres"),
        )
    ]
    assert [one.code for one in told] == [0] * len(told), [one.err for one in told]
    assert told[0].out.startswith(where)
    assert told[0].out.endswith(": at version 1\n")
    copied = asked(env, "backup", tmp_path / "copy")
    assert (copied.code, "pg_dump" in copied.err) == (1, True)
    assert canary not in "".join(one.out + one.err for one in [*told, copied])


def test_migrate_says_what_it_did(postgres, asked, ends):
    """From nothing to this version, and then nothing."""
    postgres.sql("CREATE SCHEMA told")
    env = {"DATABASE_URL": postgres.at_schema("told")}
    where = f"postgresql://{postgres.data}:{postgres.port}/postgres"
    refused = asked(env, "audit", "verify")
    assert (refused.code, refused.out) == (1, "")
    assert "it is of version 0, and this ivrguard wants 1: `ivrguard migrate`" in " ".join(
        refused.err.split()
    )
    ends(asked(env, "migrate"), 0, f"{where}: at version 1, was at 0\n")
    ends(asked(env, "migrate"), 0, f"{where}: at version 1\n")
    postgres.sql("DROP SCHEMA told CASCADE")
