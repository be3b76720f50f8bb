"""`ivrguard redteam`, as an admin meets it: what it prints, what it ends with, and what it does not run."""

import json
from pathlib import Path

from ivrguard.phone.redteam import raid

ROOT = Path(__file__).parents[2]


def test_a_flow_without_holes_ends_with_0(asked):
    """A line for the attack, with what was tried and what the owner felt; the count last."""
    done = asked({}, "redteam", "flows/bank.yaml", "--only", "try-every-door", "--only", "steal-the-sim")
    head, first, second, last = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    shown = (ROOT / "docs" / "redteam.md").read_text().splitlines()
    assert [line for line in (head, first, second) if line not in shown] == []
    assert head.split() == ["attack", "own", "phone", "another", "phone", "tried"]
    assert first.split("  ")[0] == "✓ try-every-door"
    assert "as before         as before         doors tried: 2; calls: 2" in first
    assert second.startswith(
        "– steal-the-sim               not tried   the flow looks nothing up before a code"
    )
    assert last.startswith(
        "2 attacks: 1 held, 0 let through, 1 not tried; the owner got in from his own phone after 1 of 1"
    )


def test_a_hole_is_told_with_its_line_and_ends_with_1(asked, flows):
    """For people, and for programs."""
    path = flows.folder / "bank.yaml"
    path.write_text(
        path.read_text().replace("default: {require: one_factor, within: 5m}", "default: {allow: anyone}")
    )
    done = asked({}, "redteam", path, "--only", "try-every-door")
    assert done.code == 1
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("default:"))
    assert f"{path}:{line}:10: default: open what is harmless by its own rule" in done.out
    told = json.loads(asked({}, "redteam", path, "--only", "try-every-door", "--json").out)
    assert (told["flow"], told["let_through"]) == ("bank", 1)
    assert told["attacks"][0]["let_through"][0]["where"] == f"{path}:{line}:10: default"


def test_every_attack_is_listed_with_its_source(asked):
    done = asked({}, "redteam", "--list")
    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[::3] == [attack.name for attack in raid.ATTACKS]
    assert lines[2::3] == [f"  {attack.source}" for attack in raid.ATTACKS]


def test_what_cannot_be_run_ends_with_2(asked, flows):
    """A fault, a folder of many, an attack that is none."""
    path = flows.folder / "bank.yaml"
    path.write_text(path.read_text().replace("failures: 5", "failures: many"))
    faulty = asked({}, "redteam", path)
    assert (faulty.code, faulty.out) == (2, "")
    assert "lockout.failures" in faulty.err
    many = asked({}, "redteam", "flows")
    assert (many.code, many.err) == (2, "flows: there are 3 flows in it; name the file of one\n")
    unknown = asked({}, "redteam", "flows/bank.yaml", "--only", "gess")
    assert unknown.code == 2
    assert "there is no attack 'gess'; did you mean 'guess'?" in " ".join(
        unknown.err.replace("│", " ").split()
    )
