"""A flow as a picture: every rule in each form, in order, escaped, and what is open to anyone stands out."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard import flowfile
from ivrguard.commands import graph
from ivrguard.core.rules import Demand, Rule, Target

ROOT = Path(__file__).parents[2]


@cache
def flow_of(name):
    loaded = flowfile.load(ROOT / "flows" / f"{name}.yaml")
    assert loaded.flow is not None, loaded.faults
    return replace(loaded.flow, version="v1")


def test_text_has_a_line_for_each_thing_that_can_be_asked_for():
    """Requests, then transfers, each in the order in which they are decided; what is open begins with OPEN."""
    assert (
        graph.text(flow_of("clinic"))
        == """\
clinic v1: +18005550150, sip:recepcion@clinic.example -> https://ivr.clinic.example/voice

requests, the first match decides
OPEN  rules[0]           /voice                                                               open to anyone
      rules[1]           /menu, keys 3                                                        patient_for_records within 10m, for records
OPEN  rules[2]           /menu                                                                open to anyone
OPEN  rules[3]           /directions                                                          open to anyone
OPEN  rules[4]           /pain                                                                open to anyone
OPEN  rules[5]           /music                                                               open to anyone
OPEN  rules[6]           /appointments/new/**                                                 open to anyone
      rules[7]           /appointments/**                                                     patient
      rules[8]           /results/**                                                          patient_for_records within 10m, for records
      rules[9]           /refills/**                                                          patient within 15m, for refill
      default            everything else                                                      patient

transfers, the first match decides
OPEN  lockout.on_locked  transfer to +18005550152, of whoever is locked: nothing is verified  open to anyone
OPEN  rules[10]          transfer to number:+18005550151                                      open to anyone
OPEN  rules[11]          transfer to enqueue:front-desk, on mon-fri 08:00-17:00               open to anyone
      rules[12]          transfer to enqueue:nurses                                           patient_for_records, then patient anew (1m old will do), for records
      rules[13]          any transfer                                                         patient, then patient anew, for agent

levels
      patient              pin or app or code
      patient_for_records  pin and (app or code)

factors
      pin                  something known: a PIN of 8 digits
      app                  something held: an app's code of 6 digits
      code                 something held: a texted code of 6 digits, valid 5m; not where calls are forwarded
"""
    )


def test_a_pin_change_is_the_first_request():
    """The guard answers its path before any rule is looked at."""
    first = next(graph.asks(flow_of("insurer")))
    assert (first.name, first.what) == ("pin_change", "/pin: a new PIN, by the guard itself; then /menu")


@pytest.mark.parametrize(
    ("last", "decided"),
    [
        (Rule(Demand("two_factor"), transfer=Target("*", "*")), ["rules[0]"]),
        (Rule(Demand("two_factor"), transfer=Target("*", "*"), path="/a"), ["rules[0]", "default"]),
        (Rule(Demand("two_factor"), transfer=Target("*", "*"), digits="3"), ["rules[0]", "default"]),
        (Rule(Demand("two_factor"), transfer=Target("enqueue", "*")), ["rules[0]", "default"]),
    ],
)
def test_the_default_decides_transfers_where_no_rule_takes_them_all(last, decided):
    """And is named only then."""
    flow = replace(flow_of("bank"), rules=(last,))
    assert [ask.name for ask in graph.asks(flow) if ask.sort == "transfer"] == decided


def test_mermaid_draws_requests_transfers_levels_and_factors():
    """Arrows for what is needed, dotted ones for what is proved anew, thick ones for what is open."""
    lines = [line.strip() for line in graph.mermaid(flow_of("bank")).splitlines()]

    assert lines[0] == "flowchart LR"
    assert [line.split()[1] for line in lines if line.startswith("subgraph ")] == [
        "requests", "transfers", "levels", "factors",
    ]  # fmt: skip
    assert 'a2["/menu, keys 3<br/>rules#91;2#93;"]' in lines
    assert 'f0(["pin<br/>something known: a PIN of 8 digits"])' in lines
    assert [line for line in lines if re.match(r"a\d .*> ?", line)] == [
        "a0 ==> anyone",
        "a1 ==> anyone",
        'a2 -->|"within 5m, for wire with a code of its own"| l1',
        'a3 -->|"within 5m, for wire with a code of its own"| l1',
        'a4 -->|"within 5m"| l0',
        "a5 ==> anyone",
        'a6 -->|"for agent"| l1',
        'a6 -.->|"anew"| l0',
    ]
    assert [line for line in lines if line.startswith("l1 -->")] == ["l1 --> f2", "l1 --> f1", "l1 --> f0"]
    assert "class a0,a1,a5,anyone open" in lines


def test_mermaid_of_a_flow_that_is_closed_has_nothing_red():
    flow = flow_of("bank")
    shut = replace(flow, rules=tuple(rule for rule in flow.rules if rule.demand.require))
    assert not re.search("anyone|open", graph.mermaid(shut))


@given(name=st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=100))
def test_names_of_any_kind_are_escaped_for_mermaid(name):
    """Nothing ends a label, or is taken for markup, but what is ours."""
    odd = replace(flow_of("bank"), rules=(Rule(Demand("two_factor"), transfer=Target("enqueue", name)),))
    label = re.search(r'^ +a1\["(.*)<br/>rules#91;0#93;"\]$', graph.mermaid(odd), re.MULTILINE)

    assert not set('"<>;`#&\n') & set(re.sub(r"#\d+;", "", label[1]))
    unescaped = re.sub(r"#(\d+);", lambda sign: chr(int(sign[1])), label[1])
    assert unescaped == f"transfer to enqueue:{name}"


@pytest.mark.parametrize(("form", "begins"), [("text", "bank "), ("mermaid", "flowchart"), ("svg", "<svg ")])
def test_the_command_draws_in_each_form(asked, form, begins):
    """To standard output, so that a file can be made of it."""
    result = asked({}, "flows", "graph", "flows/bank.yaml", "--format", form)
    assert (result.code, result.err, result.out.startswith(begins)) == (0, "", True)


def test_the_same_flow_gives_the_same_bytes(shell):
    """Also where sets are ordered otherwise: a picture can be kept beside the flow and compared."""
    made = [
        shell({"PYTHONHASHSEED": seed}, "flows", "graph", "flows/bank.yaml", "--format", "svg").out
        for seed in ("1", "2")
    ]
    assert made[0] == made[1]
    assert made[0].startswith("<svg ")
