"""`explain`: one decision, with the reason of each rule, and what a caller would be asked."""

import json
import re
from pathlib import Path

import pytest

from ivrguard import flowfile
from ivrguard.commands.plain import conditions

BANK = Path(__file__).parents[2] / "flows" / "bank.yaml"
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
    """The lines of an explanation."""

    def run(*arguments, flow=shop):
        result = asked({}, "explain", flow, *arguments)
        assert (result.code, result.err) == (0, "")
        return result.out.splitlines()

    return run


def test_an_explanation_reads_as_a_table(explained):
    """A row for each rule with hit, miss or may, and why; what it needs and would ask; then what is left open."""
    lines = explained("--path", "/menu", "--method", "POST")

    assert lines[0].startswith("shop ")
    assert lines[0].endswith(": a request for /menu")
    assert lines[2:] == [
        "rules[0]  miss  /hours                                 another path",
        "rules[1]  may   /menu, keys 3, on mon-fri 08:00-18:00  not told: --digits, --at",
        "                needs: two_factor within 5m, for wire",
        (
            "                asked: account_number (if he has not told it), then pin, then code; "
            "then your IVR gets the request"
        ),
        "rules[2]  miss  /menu, by GET                          another method",
        "rules[3]  may   /menu, dialled +18005550178            not told: --dialled",
        "                needs: one_factor",
        "                asked: account_number (if he has not told it), then pin; then your IVR gets the request",
        "rules[4]  miss  transfer to enqueue:fraud-line         speaks of transfers",
        "rules[5]  miss  any transfer                           speaks of transfers",
        "default   hit   everything else                        no rule is sure to match",
        "                needs: one_factor",
        "                asked: account_number (if he has not told it), then pin; then your IVR gets the request",
        "",
        "Tell --digits and --at and --dialled, and there is one answer.",
    ]


def rows(lines):
    """Rule and match of each row."""
    return [tuple(line.split()[:2]) for line in lines if line.startswith(("rules[", "default", "pin_change"))]


def test_what_is_told_decides(explained):
    """Keys, method, number dialled and time; the rules behind the one that decides are named, and no more."""
    monday = explained("--path", "/menu", "--digits", "3", "--at", "Mon 09:30")
    sunday = explained("--path", "/menu", "--digits", "3", "--at", "sun 09:30", "--method", "GET")
    dialled = explained("--path", "/menu", "--digits", "", "--method", "POST", "--dialled", "+18005550178")

    assert rows(monday)[-2:] == [("rules[1]", "hit"), ("rules[2]", "to")]
    assert monday[-1] == (
        "rules[2] to rules[5] and default: not looked at, since the first rule that matches decides"
    )
    assert ("rules[2]", "hit") in rows(sunday)
    assert "another time" in sunday[3]
    assert ("rules[3]", "hit") in rows(dialled)
    assert dialled[3].endswith("another keys")
    assert explained("--transfer", "sip:a")[-1].startswith("default: not looked at")
    assert explained("--path", "/x")[-3].endswith("no rule matches")


def test_a_number_that_is_the_flow_s_only_one_need_not_be_told(asked, flows):
    """There is nothing to ask for."""
    flows.write("shop.yaml", FLOW.replace(', "+18005550178"', "").replace("0178", "0177"))
    result = asked(
        {}, "explain", flows.folder / "shop.yaml", "--path", "/menu", "--method", "POST", "--digits", "1"
    )
    assert "rules[3]  hit" in result.out


@pytest.mark.parametrize(
    ("path", "spelling"),
    [
        ("/", "/voice"),
        ("/menu/", "/menu"),
        ("/menu?x=1", "/menu"),
        ("/menu;jsessionid=1", "/menu"),
        ("/caf%C3%A9", "/café"),
        ("/café", "/café"),
        ("//media.shop.example/a", "//media.shop.example/a"),
    ],
)
def test_a_path_is_compared_as_a_request_for_it_would_be(explained, path, spelling):
    """One spelling, whatever is typed; `/` is the IVR's first document."""
    assert explained("--path", path)[0].endswith(f": a request for {spelling}")


def test_what_is_proved_counts_while_it_is_young(explained):
    """And it is said why it does not."""
    keys = ("--path", "/menu", "--digits", "3", "--at", "mon 09:30")
    young = explained(*keys, "--proved", "pin@3m", "--proved", "code")
    old = explained(*keys, "--proved", "pin@6m")

    assert "                asked: nothing: your IVR gets the request" in young
    assert young[-2:] == ["pin, proved 3m ago: counts", "code, proved just now: counts"]
    assert "                asked: pin, then code; then your IVR gets the request" in old
    assert old[-1] == "pin, proved 6m ago: too old: it counts for 5m"
    assert not [line for line in explained("--path", "/hours", "--proved", "pin") if "proved" in line]


def test_a_code_of_its_own_is_said_to_be_one(explained):
    """The bank's wire rules want a code whose message said so: one that is given here was sent for something else."""
    lines = explained("--path", "/wire/new", "--proved", "pin@1m", "--proved", "code@1m", flow=BANK)

    assert lines[-2] == "pin, proved 1m ago: counts"
    assert lines[-1].startswith(
        "code, proved 1m ago: taken for a code sent for something else: only one sent for `wire`"
    )


def test_a_transfer_wants_a_proof_of_its_own(explained):
    """What was proved before it was asked for does not do, unless the rule takes it while it is fresh."""
    old = explained("--transfer", "enqueue:support", "--proved", "pin@3m", "--proved", "code@1m")
    young = explained("--transfer", "enqueue:support", "--proved", "pin@3m", "--proved", "code@10s")
    fraud = explained("--transfer", "enqueue:fraud-line")

    assert old[0].endswith(": a transfer to enqueue:support")
    assert "                needs: two_factor, then one_factor anew (30s old will do), for agent" in old
    assert "                asked: pin; then the call is connected" in old
    assert (
        old[-1]
        == "code, proved 1m ago: counts, but not as `one_factor` anew: it is from before this transfer"
    )
    assert "                asked: nothing: the call is connected" in young
    assert young[-1] == "code, proved 10s ago: counts"
    assert fraud[2].endswith("speaks of requests")
    assert fraud[-4:-1] == [
        "rules[4]  hit   transfer to enqueue:fraud-line         every condition holds",
        "                open to anyone",
        "                asked: nothing: the call is connected",
    ]
    assert "another transfer" in explained("--transfer", "number:+18005550100")[6]


def test_each_account_is_asked_alike_until_something_is_proved(explained):
    """Then by what it has: the questions are those that its owner would hear, one after the other."""
    keys = ("--path", "/wire/new", "--digits", "")
    flow = "flows/bank.yaml"
    first = "asked: account_number (if he has not told it), then pin"

    assert explained(*keys, "--enrolled", "pin,app", flow=flow)[-2].endswith(
        f"{first}, then app; then your IVR gets the request"
    )
    for enrolled in ("pin", "code,app"):
        assert explained(*keys, "--enrolled", enrolled, flow=flow)[-2].endswith(
            f"{first}; then he is refused: the account has not enrolled what this takes"
        )
    proved = explained(*keys, "--proved", "pin", "--enrolled", "pin", flow=flow)
    assert proved[-4].endswith("asked: nothing: he is refused: the account has not enrolled what this takes")


def test_the_guard_s_own_path_is_explained_as_such(explained):
    """No rule is looked at, and the IVR is asked only afterwards."""
    lines = explained("--path", "/change-pin")
    assert lines[2:] == [
        "pin_change  hit  /change-pin  the guard answers this path itself",
        "                 needs: two_factor within 5m",
        (
            "                 asked: account_number (if he has not told it), then pin, then code; "
            "then the guard asks for the new PIN, and the call goes on at /menu"
        ),
        "rules[0] to rules[5] and default: not looked at, since the first rule that matches decides",
    ]


def test_machines_get_json(asked, shop):
    """The same rows, and whether the answer is certain."""
    may = json.loads(asked({}, "explain", shop, "--path", "/menu", "--json").out)
    own = json.loads(asked({}, "explain", shop, "--path", "/change-pin", "--json").out)
    transfer = json.loads(
        asked({}, "explain", shop, "--transfer", "sip:a", "--enrolled", "pin", "--json").out
    )

    assert [(row["rule"], row["match"]) for row in may["rules"]][1::5] == [
        ("rules[1]", "may"),
        ("default", "hit"),
    ]
    assert {key: may[key] for key in ("flow", "path", "transfer", "certain")} == {
        "flow": "shop",
        "path": "/menu",
        "transfer": None,
        "certain": False,
    }
    assert may["rules"][1] == {
        "rule": "rules[1]",
        "says": "/menu, keys 3, on mon-fri 08:00-18:00",
        "match": "may",
        "conditions": ["digits", "hours"],
        "require": "two_factor",
        "within_s": 300,
        "reverify": None,
        "fresh_s": 0,
        "intent": "wire",
        "own_code": False,
        "asks": ["pin", "code"],
        "reached": True,
    }
    assert (may["rules"][0]["asks"], may["rules"][0]["reached"]) == (None, None)
    assert [(row["rule"], row["conditions"], own["certain"]) for row in own["rules"]] == [
        ("pin_change", [], True)
    ]
    assert (transfer["path"], transfer["transfer"]) == (None, "sip:a")
    assert (transfer["rules"][-1]["asks"], transfer["rules"][-1]["reached"]) == (["pin"], False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give either --path or --transfer"),
        (("--path", "/x", "--transfer", "enqueue:a"), "give either --path or --transfer"),
        (("--path", "menu"), "a path begins with a slash"),
        (("--path", "/a/%2e%2e/b"), "the guard refuses such a request whatever the rules say"),
        (("--path", "/.ivrguard/status"), "the guard refuses such a request whatever the rules say"),
        (("--path", "/x", "--method", "PUT"), "write GET or POST"),
        (("--path", "/x", "--dialled", "+18005550100"), "it answers +18005550177, +18005550178"),
        (("--transfer", "enque:a"), "did you mean 'enqueue'?"),
        (("--transfer", "enqueue"), "write kind:name, such as enqueue:support"),
        (("--transfer", "enqueue:"), "write kind:name, such as enqueue:support"),
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
    assert words in result.err


def test_a_folder_with_several_flows_needs_a_name(asked, flows, shop):
    """One decision is one flow's."""
    result = asked({}, "explain", flows.folder, "--path", "/x")
    assert (result.code, "name the file of one" in result.err) == (1, True)


@pytest.mark.parametrize("flow", ["bank", "insurer", "clinic"])
def test_the_examples_are_explained(explained, flow):
    """Every rule of each: what it matches stands in its row."""
    lines = explained("--path", "/nowhere", "--transfer", "", flow=f"flows/{flow}.yaml")
    known = flowfile.load(Path("flows") / f"{flow}.yaml").flow
    for position, rule in enumerate(known.rules):
        (row,) = [line for line in lines if line.startswith(f"rules[{position}] ")]
        assert conditions(rule) in row


def test_the_readme_for_admins_shows_a_real_one(explained):
    """Versions and kept-back lines (…) aside."""
    text = Path("flows/README.md").read_text()
    shown = re.search(r"\$ ivrguard explain flows/insurer.yaml (.*)\n((?: {4}.*\n|\n)+)", text)
    printed = iter(
        _but_for_versions(line) for line in explained(*shown[1].split(), flow="flows/insurer.yaml")
    )
    lines = [line.removeprefix("    ") for line in shown[2].rstrip().splitlines()]
    assert [line for line in lines if line != "…" and _but_for_versions(line) not in printed] == []


def _but_for_versions(line):
    return re.sub(r"\b[0-9a-f]{16}\b", "", line)


def test_while_an_alert_stands(explained, flows):
    """`--alert`: what the flow raises, each where it is more than usual; and the same as ever where it is not."""
    raising = flows.folder / "raising.yaml"
    flows.write(
        "raising.yaml",
        FLOW + "sense: {raise: two_factor}\n",
    )
    more = "(raised because of an alert)"
    usual, lifted = (explained("--path", "/balance", *alert, flow=raising) for alert in ((), ("--alert",)))
    assert not any(more in line for line in usual)
    assert f"needs: two_factor {more}" in lifted[-2]
    assert "then pin, then code" in lifted[-1]
    for path in ("/hours", "/change-pin"):
        assert not any(more in line for line in explained("--path", path, "--alert", flow=raising))
    assert any(
        f"needs: two_factor {more}" in line
        for line in explained("--path", "/menu", "--dialled", "+18005550178", "--alert", flow=raising)
    )
    assert not any(more in line for line in explained("--path", "/balance", "--alert"))  # it raises nothing
