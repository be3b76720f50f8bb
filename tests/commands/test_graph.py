"""A flow as a picture: the same in each form, escaped, and what is open to anyone stands out."""

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard import flowfile
from ivrguard.commands import graph
from ivrguard.core.assurance import AllOf, AnyOf
from ivrguard.core.flow import PinChange
from ivrguard.core.rules import ANYONE, Demand, Hours, Rule, Target

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def flow():
    """The example, with one rule for each condition and a PIN that may be changed."""
    loaded = flowfile.load(graph.Path("flows/bank.yaml"))
    assert loaded.flow is not None, loaded.faults
    rules = (
        Rule(ANYONE, path="/hours"),
        Rule(
            Demand("two_factor", 300, "wire"),
            path="/menu",
            digits="3",
            method="POST",
            dialled="+1800*",
            hours=Hours(frozenset({0, 1}), 480, 1080),
        ),
        Rule(Demand("two_factor", reverify="one_factor"), transfer=Target("*", "*")),
    )
    change = PinChange("/change-pin", Demand("two_factor", 300), "/menu")
    return replace(loaded.flow, version="v1", rules=rules, pin_change=change, languages=())


def test_text_has_a_line_for_each_step_in_order(flow):
    """And marks what is open."""
    lines = graph.text(flow).splitlines()

    assert [re.sub(" +", " ", line) for line in lines[2:7]] == [
        " pin_change /change-pin (the guard), then /menu -> two_factor within 300s",
        "OPEN rules[0] /hours -> nothing: open to anyone",
        " rules[1] /menu, keys 3, by POST, dialled +1800*, on mon,tue 08:00-18:00 -> two_factor within 300s, for wire",
        " rules[2] transfer to *:* -> two_factor, one_factor anew",
        " default everything else -> one_factor",
    ]
    assert "level two_factor: pin and (code or app)" in lines
    assert "factor pin: pin, 8 digits" in lines


def test_mermaid_draws_each_step_and_level(flow):
    """An edge for what is required, one for what is proved anew; red for what is open."""
    drawn = graph.mermaid(flow)

    assert drawn.startswith("flowchart LR\n")
    assert "  class s1 open\n" in drawn
    assert "  class anyone open\n" in drawn
    assert len(re.findall(r"^  s\d+ -- ", drawn, re.MULTILINE)) == 5
    assert "anyone" not in graph.mermaid(replace(flow, rules=flow.rules[1:]))


def test_svg_is_a_picture_that_says_what_it_shows(flow):
    """It parses, a reader of screens hears what is open, and what is open has a thick red border."""
    root = ET.fromstring(graph.svg(flow))

    assert root.find(f"{SVG}title").text == f"{flow.name} v1"
    assert root.find(f"{SVG}desc").text == "5 steps in order; open to anyone: rules[0]."
    red = [box for box in root.iter(f"{SVG}rect") if box.get("stroke") == "#c00"]
    assert [(box.get("stroke-width")) for box in red] == ["4", "4"]
    words = " ".join(text.text for text in root.iter(f"{SVG}text"))
    assert "OPEN to anyone" in words


@given(name=st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=100))
def test_names_of_any_kind_are_escaped(flow, name):
    """Whatever an admin calls a queue: the picture stays a picture."""
    odd = replace(flow, rules=(Rule(Demand("two_factor"), transfer=Target("enqueue", name)),))

    shown = [text.text for text in ET.fromstring(graph.svg(odd)).iter(f"{SVG}title")]
    assert any(name in (text or "") for text in shown)
    assert not set('"<>;`') & set(
        re.sub(r"#\d+;", "", graph.mermaid(odd).split("\n")[3].split('["')[1].split('"]')[0])
    )


def test_a_level_in_a_line():
    """One member needs no brackets."""
    assert graph.made_of(AnyOf(("pin",))) == "pin"
    assert graph.made_of(AllOf(("pin", AnyOf(("code", "app"))))) == "pin and (code or app)"


@pytest.mark.parametrize(("form", "begins"), [("text", "bank "), ("mermaid", "flowchart"), ("svg", "<svg ")])
def test_the_command_draws_in_each_form(asked, form, begins):
    """To standard output, so that a file can be made of it."""
    result = asked({}, "flows", "graph", "flows/bank.yaml", "--format", form)
    assert (result.code, result.err, result.out.startswith(begins)) == (0, "", True)
