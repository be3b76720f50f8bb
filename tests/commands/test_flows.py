"""
`check`: what it prints, for people and for programs, and what it ends with.

Each kind of fault that it finds has a slip here, made in the example: found at its place, with its mend, in both forms.
"""

import json
import re
from pathlib import Path

import pytest

from ivrguard import flowfile
from ivrguard.core import budget
from ivrguard.core.profiles import PROFILES
from ivrguard.flowfile.forms import DEPTH_MAX, SIZE_BYTES_MAX

ROOT = Path(__file__).parents[2]

SLIPS = [
    ("an unknown key", "known_number:", "known_nmuber:", "identify.known_nmuber", "did you mean 'known_number'?"),
    ("a key that stands twice", "language: en-US", "language: en-US\nlanguage: en-US", "language", "take one out"),
    ("a factor that is not there", "[code, app]}]}", "[code, ap]}]}", "levels.two_factor.all[1].any[1]", "did you mean 'app'?"),
    ("a level that is not there", "require: two_factor, within", "require: two_factr, within", "rules[2].require", "did you mean 'two_factor'?"),
    ("a rule that is hidden", "path: /wait,", "path: /hours,", "rules[1]", "move it up or take it out"),
    ("a rule that never comes up", "{path: /wait,", '{path: /wait, dialled: "+1900*",', "rules[1].dialled", "mend it or take it out"),
    ("a level that nobody reaches", "two_factor: {all: [pin, {any: [code, app]}]}", "two_factor: {all: [pin]}\n  three: {all: []}", "levels.three.all", "the list is empty"),
    ("a sensitive path without a rule", 'sensitive: ["/wire/**"]', 'sensitive: ["/wire/**", "/loans/**"]', "sensitive[1]", "require: <a level of two categories>"),
    ("a sensitive transfer without a rule", 'sensitive: ["/wire/**"]', "sensitive: [{enqueue: fraud-line}]", "sensitive[0]", "move it below the rule that protects this"),
    ("too little time for the questions", "require: two_factor, within: 5m, intent: wire", "require: two_factor, within: 29s, intent: wire", "rules[2].within", "use 50s or more"),
    ("a prompt that is missing", "language: en-US", "language: fr", "language", "add it, or name another language"),
    ("too many guesses", "guess_chance_per_year: 0.01", "guess_chance_per_year: 0.001", "ceiling.guess_chance_per_year", "lower `lockout.lifetime`"),
    ("a tag", "flow: bank", "flow: !!str bank", "flow", "take it out, or put it in quotes"),
    ("an anchor", "lifetime: 100", "lifetime: &a 100", "lockout.lifetime", "write it out, or put it in quotes"),
    ("too deep", "[30m, 2h, 24h]", "[" * DEPTH_MAX + "]" * DEPTH_MAX, "lockout.lock" + "[0]" * (DEPTH_MAX - 1), "levels deep"),
    ("too large", "flow: bank", "#" * SIZE_BYTES_MAX + "\nflow: bank", "", "larger than 256 kB"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "old", "new", "path", "mend"), SLIPS, ids=[slip[0] for slip in SLIPS])
def test_each_kind_of_fault_is_told_with_its_place_and_mend(kind, old, new, path, mend, flows, asked):
    """In words on standard error, and the same in JSON on standard output; both end with 1."""
    flows.write("bank.yaml", flows.text.replace(old, new, 1))
    assert new in (flows.folder / "bank.yaml").read_text()

    told = asked({}, "check", flows.folder / "bank.yaml")
    assert (told.code, told.out) == (1, "")
    lines = [line for line in told.err.splitlines() if mend in line]
    assert len(lines) == 1, told.err

    shown = asked({}, "check", flows.folder / "bank.yaml", "--json")
    assert (shown.code, shown.err) == (1, "")
    [finding] = [one for one in json.loads(shown.out)["findings"] if mend in one["message"]]
    place = f"{finding['file']}:{finding['line']}:{finding['column']}: "
    assert lines[0] == place + (f"{finding['path']}: " if finding["path"] else "") + finding["message"]
    assert (finding["path"], finding["severity"]) == (path, "error")


def test_numbers_that_two_flows_claim_are_told_at_both_places(flows, asked):
    """No order of files decides who answers."""
    flows.write("other.yaml", flows.text.replace("flow: bank", "flow: other"))
    told = asked({}, "check", flows.folder).err

    assert re.search(r"other\.yaml:\d+:\d+: numbers\[0\]: .* is claimed at \S+bank\.yaml:\d+:\d+ too", told)


def test_check_tells_every_fault_with_its_place(flows, shell):
    """Exit 1; a line each on standard error, unbroken and as it stands; the flows without fault on standard output."""
    flows.write("bank.yaml", flows.text.replace("two_factor, within", "two_factr, within"))
    flows.write("other.yaml", "\n" * 99 + "flow: other\n")
    flows.write(
        "good.yaml", flows.text.replace("flow: bank", "flow: good").replace("+18005550100", "+18005550101")
    )
    result = shell({}, "check", flows.folder)
    assert (result.code, "bank" in result.out) == (1, False)
    assert [line.split()[0] for line in result.out.splitlines() if "no fault" in line] == ["good"]
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
    """A head for each flow that could go live."""
    result = asked({}, "check", path)
    assert (result.code, result.err) == (0, "")
    heads = [line for line in result.out.splitlines() if line[:1].isalpha()]
    assert re.fullmatch(r"bank [0-9a-f]{16}: \d+ rules for \+18005550100: no fault", heads[0])
    assert [line.split()[0] for line in heads[1:]] == (
        [] if path.endswith(".yaml") else ["clinic", "insurer"]
    )


def test_check_warns_and_lets_pass(flows, asked):
    """A doubt is for a person to weigh; it is a finding for programs, too."""
    flows.write("bank.yaml", flows.text.replace("pin, digits: 8", "pin, digits: 7"))
    result = asked({}, "check", flows.folder / "bank.yaml")
    assert result.code == 0
    assert re.match(r"warning: \S+/bank\.yaml:\d+:\d+: factors\.pin\.digits: ", result.err)

    shown = asked({}, "check", flows.folder / "bank.yaml", "--json")
    document = json.loads(shown.out)
    assert (shown.code, document["ok"]) == (0, True)
    assert [(one["severity"], one["clause"], one["profiles"]) for one in document["findings"]] == [
        ("warning", None, [])
    ]


@pytest.mark.parametrize("name", ["nowhere", "nowhere.yaml"])
def test_check_of_what_is_not_there(name, asked, ends):
    ends(asked({}, "check", name), 1, "", f"{name}:1:1: cannot be read: No such file or directory\n")


# ── the budget ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_budget_of_each_flow_is_printed(asked):
    """As core/budget.py words it."""
    flow = flowfile.load(ROOT / "flows" / "bank.yaml").flow
    out = asked({}, "check", "flows/bank.yaml").out

    assert "\n".join(f"  {line}" for line in budget.lines(budget.budget(flow))) in out
    assert "a spray over 100,000 accounts reaches 'one_factor' of 517 in a year" in out


def test_accounts_are_how_many_a_spray_goes_over(asked):
    """In both forms."""
    out = asked({}, "check", "flows/bank.yaml", "--accounts", "1000000").out
    assert "a spray over 1,000,000 accounts reaches 'one_factor' of 5,166 in a year" in out

    document = json.loads(asked({}, "check", "flows/bank.yaml", "--accounts", "1000000", "--json").out)
    spray = document["flows"][0]["budget"]["spray"]
    assert (spray["accounts"], round(spray["broken_a_year"])) == (1_000_000, 5_166)
    assert asked({}, "check", "flows/bank.yaml", "--accounts", "0").code == 2


# ── profiles ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clause_that_is_not_kept_is_a_fault_of_its_place(flows, asked):
    """Named with its number, and exit 1; the flow itself has no fault."""
    flows.write(
        "bank.yaml",
        flows.text.replace("failures: 5 ", "failures: 6 ").replace("failures: 5\n", "failures: 6\n"),
    )
    result = asked({}, "check", flows.folder / "bank.yaml", "--profile", "psd2-sca")

    assert result.code == 1
    [line] = [one for one in result.err.splitlines() if not one.startswith("warning: ")]
    assert re.fullmatch(
        r"\S+bank\.yaml:\d+:\d+: lockout\.failures: PSD2 RTS, Art\. 4\(3\)\(b\): "
        r"6 wrong answers before a lock; use 5 or less",
        line,
    )
    assert "psd2-sca: 4 of 5 clauses hold, 1 of them with a doubt" in result.out
    assert flowfile.load(flows.folder / "bank.yaml").flow is not None
    assert asked({}, "check", flows.folder / "bank.yaml").code == 0


def test_doubts_of_a_profile_let_pass(asked):
    """And they come before the faults, which are read last."""
    result = asked({}, "check", "flows/bank.yaml", "--profile", "strict")
    assert result.code == 0
    assert [line.split(":")[0] for line in result.err.splitlines()] == ["warning"]

    every = asked({}, "check", "flows/bank.yaml", "--profile", "all").err.splitlines()
    marks = [line.startswith("warning: ") for line in every]
    assert marks == sorted(marks, reverse=True)
    assert set(marks) == {True, False}


def test_profiles_may_be_given_again_and_all_is_all(asked):
    """Each once, in the order given."""

    def summaries(*names):
        arguments = [part for name in names for part in ("--profile", name)]
        out = asked({}, "check", "flows/bank.yaml", *arguments).out
        return re.findall(r"^  ([\w.-]+): \d+ of \d+ clauses hold", out, re.MULTILINE)

    assert summaries() == []
    assert summaries("strict", "asvs-5", "strict") == ["strict", "asvs-5"]
    assert summaries("all") == summaries("strict", "all") == [*PROFILES]


def test_a_profile_that_is_not_there_is_a_wrong_use(asked):
    """With the nearest one."""
    result = asked({}, "check", "--profile", "psd2")
    assert result.code == 2
    assert "did you mean 'psd2-sca'?" in " ".join(result.err.replace("│", " ").split())


def test_clauses_are_shown_with_what_no_flow_can_show(flows, asked):
    """Held, doubtful and failed; kept by the guard; and open: a phone call claims no AAL."""
    arguments = ("--profile", "nist-800-63b-4", "--clauses")
    lines = asked({}, "check", "flows/bank.yaml", *arguments).out.splitlines()
    first = next(at for at, line in enumerate(lines) if "clauses hold" in line)

    marks = [line.split()[0] for line in lines[first + 1 :] if line]
    profile = PROFILES["nist-800-63b-4"]
    assert [mark for mark in marks if mark in {"kept", "open"}] == (
        ["kept"] * len(profile.kept) + ["open"] * len(profile.unjudged)
    )
    assert sorted(set(marks)) == ["doubt", "fails", "holds", "kept", "open"]
    assert (
        "    holds  NIST SP 800-63B-4, 3.2.2: a factor is disabled after at most 100 wrong answers in a row"
        in lines
    )
    assert [
        line for line in lines if line.startswith("    open   2: ") and "no flow can claim an AAL" in line
    ]


def test_what_two_profiles_find_alike_is_told_once(flows, asked):
    """And for programs with the names of both."""
    flows.write("bank.yaml", flows.text.replace("within: 5m}   #", "within: 6m}   #"))
    arguments = ("check", flows.folder / "bank.yaml", "--profile", "psd2-sca", "--profile", "strict")
    told = asked({}, *arguments).err
    assert told.count("default.within: PSD2 RTS, Art. 4(3)(d): proofs count for 6m") == 1

    findings = json.loads(asked({}, *arguments, "--json").out)["findings"]
    [finding] = [one for one in findings if one["path"] == "default.within"]
    assert (finding["clause"], finding["profiles"]) == ("PSD2 RTS, Art. 4(3)(d)", ["psd2-sca", "strict"])


# ── for programs ─────────────────────────────────────────────────────────────────────────────────────────


def keys_of(shape, where=""):
    """Every key of a document, as flows/README.md writes them."""
    match shape:
        case dict():
            for key, value in shape.items():
                yield f"{where}{key}"
                yield from keys_of(value, f"{where}{key}.")
        case [first, *_]:
            yield from keys_of(first, f"{where.removesuffix('.')}[].")
        case _:
            pass


def test_the_document_is_the_one_described(asked):
    """Every key of it stands in the table for programs, and nothing else does."""
    document = json.loads(asked({}, "check", "flows/bank.yaml", "--profile", "all", "--json").out)
    text = (ROOT / "flows" / "README.md").read_text()
    table = text.partition("### For programs")[2].partition("\n## ")[0]

    assert sorted(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)) == sorted(keys_of(document))


def test_readme_shows_what_check_prints_for_the_examples(asked):
    """
    The block under "What `check` says", with every profile; versions are left out: any word in a prompt changes them.

    Made by: python -m ivrguard check flows/ --profile all 2>&1
    """
    result = asked({}, "check", "flows/", "--profile", "all")
    readme = (ROOT / "README.md").read_text()
    [shown] = re.findall(r"ivrguard check flows/ --profile all\n(.*?)```", readme, re.DOTALL)

    def versionless(text):
        return re.sub(r"(?m)^(\w+) [0-9a-f]{16}:", r"\1:", text)

    assert versionless(shown) == versionless(result.out + result.err)
