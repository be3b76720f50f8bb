"""`explain`: one decision, with the reason of each rule, and what a caller would be asked."""

import json

import pytest

from ivrguard.commands import explain as command
from ivrguard.core.rules import Demand

FLOW = """\
flow: shop
numbers: ["+18005550177", "+18005550178"]
upstream: {url: https://ivr.shop.example/voice}
identify: {ask: account_number, digits: {min: 6, max: 12}}
factors:
  pin:  {kind: pin, digits: 8}
  code: {kind: sms_code}
levels:
  one_factor: {any: [pin, code]}
  two_factor: {all: [pin, code]}
rules:
  - {path: /hours, allow: anyone}
  - {path: /menu, digits: "3", hours: "mon-fri 08:00-18:00", require: two_factor, within: 5m, intent: wire}
  - {path: /menu, method: GET, require: two_factor}
  - {path: /menu, dialled: "+18005550178", require: one_factor}
  - {transfer: {enqueue: fraud-line}, allow: anyone}
  - {transfer: any, require: two_factor, reverify: one_factor, fresh: 30s, intent: agent}
default: {require: one_factor}
pin_change: {path: /change-pin, require: two_factor, within: 5m, then: /menu}
"""


@pytest.fixture
def shop(flows):
    """A flow whose rules state every condition there is."""
    flows.write("shop.yaml", FLOW)
    return flows.folder / "shop.yaml"


@pytest.fixture
def explained(asked, shop):
    """The lines of an explanation, each as rule, match, and whether a caller would be asked."""

    def run(*arguments):
        result = asked({}, "explain", shop, *arguments)
        assert (result.code, result.err) == (0, "")
        return result.out.splitlines()

    return run


def test_a_request_is_explained_rule_by_rule(explained):
    """Hit, miss or may, and why; what may match is followed by what decides otherwise."""
    lines = explained("--path", "/menu")

    assert [line.split()[:2] for line in lines[1:]] == [
        ["rules[0]", "miss"],
        ["rules[1]", "may"],
        ["rules[2]", "may"],
        ["rules[3]", "may"],
        ["rules[4]", "miss"],
        ["rules[5]", "miss"],
        ["default", "hit"],
    ]
    assert "other path" in lines[1]
    assert "not told: digits, hours" in lines[2]
    assert "speaks of transfers" in lines[5]
    assert lines[2].endswith("pin, then code; then the IVR is asked")
    assert lines[7].endswith("pin; then the IVR is asked")


def test_what_is_told_decides(explained):
    """Keys, method, number dialled, time, and what is proved."""
    monday = explained("--path", "/menu", "--digits", "3", "--at", "Mon 09:30", "--proved", "pin@3m")
    sunday = explained("--path", "/menu", "--digits", "3", "--at", "sun 09:30", "--method", "GET")
    dialled = explained("--path", "/menu", "--digits", "", "--method", "POST", "--dialled", "+18005550178")

    assert monday[-1].split()[:2] == ["rules[1]", "hit"]
    assert monday[-1].endswith("code; then the IVR is asked")
    assert (sunday[-1].split()[0], "other hours" in sunday[2]) == ("rules[2]", True)
    assert dialled[-1].split()[0] == "rules[3]"


def test_a_transfer_wants_a_proof_of_its_own(explained):
    """What was proved before it was asked for does not do, unless the rule takes it while it is fresh."""
    old = explained("--transfer", "enqueue:support", "--proved", "pin@3m", "--proved", "code@1m")
    young = explained("--transfer", "enqueue:support", "--proved", "pin@3m", "--proved", "code@10s")
    fraud = explained("--transfer", "enqueue:fraud-line")

    assert old[-1].endswith("pin; then the call is connected")
    assert "one_factor anew (or 30s young), for agent" in old[-1]
    assert young[-1].endswith("nothing: the call is connected")
    assert [line.split()[:2] for line in fraud[1:]][-1] == ["rules[4]", "hit"]
    assert "speaks of requests" in fraud[1]
    assert "other target" in explained("--transfer", "number:+18005550100")[5]


def test_what_an_account_cannot_reach_is_refused(explained):
    """Once something is proved, only what is enrolled may be asked for."""
    lines = explained("--path", "/menu", "--method", "GET", "--proved", "pin", "--enrolled", "pin")
    assert lines[-1].endswith("refused: it cannot be reached with what is enrolled")


def test_the_guard_s_own_path_is_explained_as_such(explained):
    """No rule is looked at."""
    lines = explained("--path", "/change-pin")
    assert [line.split()[:2] for line in lines[1:]] == [["pin_change", "hit"]]
    assert "the guard answers this path itself" in lines[1]


def test_machines_get_json(asked, shop):
    """The same rows."""
    result = asked({}, "explain", shop, "--path", "/menu", "--json")
    rows = json.loads(result.out)

    assert [(row["rule"], row["match"]) for row in rows][1::5] == [(1, "may"), (None, "hit")]
    assert rows[1] == {
        "rule": 1,
        "match": "may",
        "conditions": ["digits", "hours"],
        "require": "two_factor",
        "within_s": 300,
        "reverify": None,
        "intent": "wire",
        "asks": ["pin", "code"],
        "reachable": True,
    }
    assert (rows[0]["asks"], rows[0]["reachable"]) == (None, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give either --path or --transfer"),
        (("--path", "/x", "--transfer", "enqueue:a"), "give either --path or --transfer"),
        (("--path", "menu"), "a path begins with a slash"),
        (("--path", "/x", "--method", "PUT"), "write GET or POST"),
        (("--transfer", "enque:a"), "did you mean 'enqueue'?"),
        (("--transfer", "enqueue"), "write kind:name"),
        (("--path", "/x", "--at", "monday"), "write a day and a time, such as 'mon 09:30'"),
        (("--path", "/x", "--at", "xyz 09:30"), "write a day and a time"),
        (("--path", "/x", "--proved", "pn@3m"), "there is no factor 'pn'; did you mean 'pin'?"),
        (("--path", "/x", "--proved", "pin@3"), "write a factor, and how long ago: pin, or pin@3m"),
        (("--path", "/x", "--enrolled", "pin,cod"), "there is no factor 'cod'; did you mean 'code'?"),
    ],
)
def test_what_cannot_be_explained_says_what_to_mend(asked, shop, arguments, words):
    """1, nothing on standard output."""
    result = asked({}, "explain", shop, *arguments)
    assert (result.code, result.out) == (1, "")
    assert words in result.err.replace("\n", " ")


def test_a_folder_with_several_flows_needs_a_name(asked, flows, shop):
    """One decision is one flow's."""
    result = asked({}, "explain", flows.folder, "--path", "/x")
    assert (result.code, "name the file of one" in result.err) == (1, True)


def test_what_is_needed_in_words():
    """As the graph and the explanation say it."""
    assert command.needs(Demand("one_factor")) == "one_factor"
    assert command.needs(Demand(None)) == "nothing: open to anyone"
