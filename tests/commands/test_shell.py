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
