"""
The dashboard and the alert rules, held against what the server counts: names, labels, values, and the way to a mend.

A rule about a metric that was renamed never fires, and nobody notices.
"""

import json
import re
from pathlib import Path

import pytest
import yaml

from ivrguard.web.ops import Metrics

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "docs/grafana/ivrguard.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "docs/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
OPERATIONS = (ROOT / "docs/operations.md").read_text()

SCRAPED = {"job", "instance"}
PROCESS = {"cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds"}
"""Counted where there is /proc: on Linux, not on every machine that runs tests."""
ROWS = ["calls and decisions", "refusals and locks", "latency", "store", "the ivr", "hashing", "alerts"]


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


EXPRESSIONS = {
    **{f"panel {p['title']} {t['refId']}": t["expr"] for p in panels() for t in p.get("targets", ())},
    **{f"annotation {a['name']}": a["expr"] for a in DASHBOARD["annotations"]["list"]},
    **{f"alert {rule['alert']}": rule["expr"] for rule in RULES},
}
NAMED = r"\b(ivrguard_\w+|process_\w+|up)\b(?!=)(?:\{([^}]*)\})?"


def named(expression):
    """Each metric of an expression, with its selector."""
    return re.findall(
        NAMED, re.sub(r'"[^"]*"', lambda text: text[0].replace("{", "").replace("}", ""), expression)
    )


def labels_of(metrics):
    """The labels of each family, by the names of its samples' stem."""
    return {
        family.name: set(each._labelnames)
        for each in vars(metrics).values()
        if hasattr(each, "_labelnames")
        for family in each.describe()
    }


async def test_every_name_is_one_that_the_server_gives(guarded):
    """By its own second port, after a start: what it does not say then it never says."""
    async with guarded.session.get(f"{guarded.ops_url}/metrics") as answer:
        types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", await answer.text(), re.MULTILINE))
    given = {f"process_{name}" for name in PROCESS} | {"up"}
    for name, type_ in types.items():
        given |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if type_ == "histogram" else {name}
    for where, expression in EXPRESSIONS.items():
        names = {name for name, _ in named(expression)}
        assert names, where
        assert names - given == set(), where


async def test_what_an_alert_waits_for_is_there_before_it_happens(guarded):
    """As 0: to Prometheus a counter that appears with 1 has not risen, so the first bug would wake nobody."""
    async with guarded.session.get(f"{guarded.ops_url}/metrics") as answer:
        samples = [
            (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)))
            for name, labels in re.findall(r"^(ivrguard_\w+)\{(.*)\} ", await answer.text(), re.MULTILINE)
        ]
    for rule in RULES:
        for name, selector in named(rule["expr"]):
            if not name.endswith("_total"):
                continue
            exact = re.findall(r'(\w+)=~?"([^"]*)"', selector)
            for label, text in exact:
                for value in text.split("|"):
                    assert [
                        labels
                        for each, labels in samples
                        if each == name and re.fullmatch(value, labels[label])
                    ], f"{rule['alert']}: {name} {label}={value}"


def test_every_label_is_one_of_its_metric():
    """In selectors; and where they are grouped by, of some metric in the expression."""
    labels = labels_of(Metrics())
    for where, expression in EXPRESSIONS.items():
        known = set()
        for name, selector in named(expression):
            stem = re.sub("_(bucket|sum|count|total)$", "", name)
            own = labels.get(stem, set()) | SCRAPED | ({"le"} if name.endswith("_bucket") else set())
            assert set(re.findall(r"(\w+)[=!]", selector)) <= own, where
            known |= own
        for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
            assert set(re.split(r",\s*", grouped)) <= known, where


def test_every_value_is_one_that_is_counted():
    """`outcome="bug"`: each word of a selector stands somewhere in the code as a word of ours."""
    code = "".join(path.read_text() for path in (ROOT / "ivrguard").rglob("*.py"))
    known = set(re.findall(r"\"([a-z_.]+)\"", code)) | {"5xx", "fault_"}
    for where, expression in EXPRESSIONS.items():
        for label, text in re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', expression):
            if label not in SCRAPED:
                assert {word.removesuffix(".*") for word in text.split("|")} <= known, f"{where}: {text}"


def test_the_dashboard_says_what_its_panels_are():
    """Rows as an operator asks: who called, who was refused, how long it took, and which part is at fault."""
    titles = [panel["title"].lower() for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert [row for row in ROWS if not any(title.startswith(row) for title in titles)] == []
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel.get("fieldConfig", {}).get("defaults", {}).get("unit") or panel["type"] in {
            "table",
            "alertlist",
        }


def test_no_panel_hides_another():
    taken = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]


def test_names_of_alerts_are_ours_and_each_has_one():
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names) > 20
    assert [name for name in names if not re.fullmatch("Ivrguard[A-Z][A-Za-z]+", name)] == []


def section(name):
    """What docs/operations.md says of an alert."""
    return re.search(rf"^#### {name}\n(.*?)(?=^#|\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_leads_to_a_mend(rule):
    """How urgent, what it is, and where it stands what callers feel, what the cause is, and what to do."""
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
    assert set(rule["annotations"]) == {"summary", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
    said = section(rule["alert"])
    assert said, f"docs/operations.md has no heading for {rule['alert']}"
    assert [word for word in ("**Callers**", "**Cause**", "**Do**") if word not in said[1]] == []


def test_no_alert_is_explained_that_there_is_none_of():
    headings = re.findall(r"^#### (Ivrguard\w+)$", OPERATIONS, re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in RULES)
