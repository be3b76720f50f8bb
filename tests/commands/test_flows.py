"""`check`: what it prints, and what it ends with."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOW = ROOT / "flows" / "bank.yaml"
ACCOUNT, OWNER, STRANGER, PIN = "123456789", "+15551230001", "+15559870002", "24681357"
ACCOUNT_SID, AUTH_TOKEN = "AC" + "a1" * 16, "token0of0the0test"
PUBLIC_URL = "https://guard.bank.example"
POOL = f"{ACCOUNT}/pin/pool"


def test_check_tells_every_fault_with_its_place(flows, shell):
    """Exit 1; a line each on standard error, unbroken and as it stands, nothing on standard output."""
    flows.write("bank.yaml", flows.text.replace("two_factor, within", "two_factr, within"))
    flows.write("other.yaml", "\n" * 99 + "flow: other\n")
    result = shell({}, "check", flows.folder)
    assert (result.code, result.out) == (1, "")
    lines = result.err.splitlines()
    assert [
        line
        for line in lines
        if re.match(r".*/bank\.yaml:\d+:\d+: rules\[\d\]\.require: .*'two_factr'", line)
    ]
    assert [line for line in lines if "/other.yaml:100:1: " in line]
    assert all(re.match(r"\S+\.yaml:\d+:\d+: ", line) for line in lines), lines


@pytest.mark.parametrize("path", ["flows", "flows/bank.yaml"])
def test_check_takes_a_folder_or_a_file(path, asked):
    """One line for each flow that could go live."""
    result = asked({}, "check", path)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert re.fullmatch(r"bank [0-9a-f]{16}: \d+ rules for \+18005550100: no fault", lines[0])
    assert [line.split()[0] for line in lines[1:]] == (
        [] if path.endswith(".yaml") else ["clinic", "insurer"]
    )


def test_check_warns_and_lets_pass(flows, asked):
    """A doubt is for a person to weigh."""
    flows.write("bank.yaml", flows.text.replace("pin, digits: 8", "pin, digits: 6"))
    result = asked({}, "check", flows.folder)
    assert result.code == 0
    assert re.match(r"warning: \S+/bank\.yaml:\d+:\d+: factors\.pin\.digits: ", result.err)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.yaml"])
def test_check_of_what_is_not_there(name, asked, ends):
    ends(asked({}, "check", name), 1, "", f"{name}:1:1: cannot be read: No such file or directory\n")
