"""The SVG of a flow: whole, legible, escaped, and red where anyone may."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from unicodedata import east_asian_width
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard import flowfile
from ivrguard.commands import picture
from ivrguard.commands.graph import asks
from ivrguard.core.rules import ANYONE, Demand, Rule, Target

SVG = "{http://www.w3.org/2000/svg}"
FLOWS = Path(__file__).parents[2] / "flows"
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=100)


@cache
def flow_of(name):
    loaded = flowfile.load(FLOWS / f"{name}.yaml")
    assert loaded.flow is not None, loaded.faults
    return loaded.flow


def drawn(flow):
    """The picture's own root, and its markup."""
    markup = picture.svg(flow, tuple(asks(flow)))
    return ET.fromstring(markup), markup


def boxes(root):
    """Each box with words: its title, its frame, and its texts."""
    for group in root.iter(f"{SVG}g"):
        frame = group.find(f"{SVG}rect")
        yield group.find(f"{SVG}title").text, frame, group.findall(f"{SVG}text")


def wide(text):
    """No narrower than any of the fonts makes it: wide letters are two."""
    letters = sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text.text)
    return letters * int(text.get("font-size")) * picture.LETTER


def inside(root):
    """No text stands outside its box, no box outside the picture or over another."""
    width, height = (int(root.get(name)) for name in ("width", "height"))
    frames = []
    for _, frame, texts in boxes(root):
        x, y, w, h = (int(frame.get(name)) for name in ("x", "y", "width", "height"))
        frames.append((x, y, x + w, y + h))
        assert all((x < int(text.get("x")) and int(text.get("x")) + wide(text) <= x + w) for text in texts), (
            frame
        )
        assert all(y < int(text.get("y")) < y + h for text in texts)
    for one in frames:
        assert 0 <= one[0] < one[2] <= width
        assert 0 <= one[1] < one[3] <= height
        others = [other for other in frames if other is not one and other[0] == one[0]]
        assert not [other for other in others if other[1] < one[3] and one[1] < other[3]]
    return True


@pytest.mark.parametrize("name", ["bank", "insurer", "clinic"])
def test_the_examples_are_whole_and_legible(name):
    """A box for each rule, the default, each level and factor, and the one for anyone; nothing overflows."""
    flow = flow_of(name)
    root, _ = drawn(flow)
    titles = [title for title, _, _ in boxes(root)]

    assert inside(root)
    assert len(titles) == len(list(asks(flow))) + len(flow.levels) + len(flow.factors) + 1
    for position in range(len(flow.rules)):
        assert sum(f"(rules[{position}]: " in title for title in titles) == 1
    assert root.find(f"{SVG}title").text == f"{flow.name} {flow.version}"


def test_what_is_open_is_red_and_nothing_else_is():
    """Thick borders, and edges to the box of anyone; a reader of screens hears which they are."""
    root, _ = drawn(flow_of("clinic"))
    red = [title for title, frame, _ in boxes(root) if frame.get("stroke-width") == "4"]
    edges = [path for path in root.iter(f"{SVG}path") if path.get("stroke") == picture.RED]

    assert len(red) == len(edges) + 1 == 10
    assert all("OPEN TO ANYONE" in title or title == "anyone (nothing is proved)" for title in red)
    assert any("+18005550152, of whoever is locked" in title for title in red)
    assert root.find(f"{SVG}desc").text.endswith(
        "Open to anyone: rules[0], rules[2], rules[3], rules[4], rules[5], rules[6], lockout.on_locked, rules[10], rules[11]."
    )


def test_a_flow_that_is_closed_has_no_red():
    """And says so."""
    flow = flow_of("bank")
    shut = replace(flow, rules=tuple(rule for rule in flow.rules if rule.demand.require))
    root, markup = drawn(shut)

    assert picture.RED not in markup
    assert root.find(f"{SVG}desc").text.endswith("Open to anyone: nothing.")


def test_edges_lead_from_rules_to_levels_to_factors():
    """One for what is needed, a dashed one for what is proved anew, one for each factor of a level."""
    root, _ = drawn(flow_of("bank"))
    edges = list(root.iter(f"{SVG}path"))

    assert len(edges) == 7 + 1 + 6
    assert sum("stroke-dasharray" in edge.attrib for edge in edges) == 1
    for edge in edges:
        begin, end = re.findall(r"(\d+) (\d+)", edge.get("d"))[::3]
        assert int(end[0]) - int(begin[0]) == picture.BETWEEN_PX


def test_a_transfer_that_only_the_default_decides_is_drawn():
    """Without a rule for transfers, the default's box is there twice."""
    flow = flow_of("bank")
    root, markup = drawn(replace(flow, rules=flow.rules[:1]))

    assert markup.count("(default: one_factor within 5m)") == 2
    assert "Transfers" in [text.text for text in root.iter(f"{SVG}text")]


@given(name=NAMES)
def test_names_of_any_kind_are_escaped_and_shown_whole(name):
    """Whatever an admin calls a queue: the picture stays a picture, and the name stands in it."""
    flow = flow_of("bank")
    odd = replace(flow, rules=(Rule(Demand("two_factor"), transfer=Target("enqueue", name)),))
    root, _ = drawn(odd)

    assert inside(root)
    assert [title for title, _, _ in boxes(root) if f"enqueue:{name} (rules[0]" in title]
    shown = next(texts for title, _, texts in boxes(root) if "(rules[0]" in title)
    every = "".join(text.text for text in shown)
    assert re.sub(r"\s", "", f"transfer to enqueue:{name}rules[0]:") in re.sub(r"\s", "", every)


def test_two_hundred_rules_are_drawn():
    """As many as a flow may have: each in a box, none over another."""
    flow = flow_of("bank")
    rules = tuple(Rule(ANYONE if at % 7 == 0 else Demand("two_factor"), path=f"/{at}") for at in range(200))

    root, _ = drawn(replace(flow, rules=rules))

    assert inside(root)
    assert len(list(boxes(root))) == 202 + 2 + 3 + 1
