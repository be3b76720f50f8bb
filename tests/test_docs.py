"""What the documents say, held against the code: links, commands, settings, metrics, promises, examples."""

import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

from ivrguard import __main__ as commands
from ivrguard import flowfile, settings
from ivrguard.commands import server
from ivrguard.phone import story, world
from ivrguard.web.ops import Metrics

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "flows" / "README.md",
    ROOT / "config" / "ivrguard.yaml",
]


def named(path):
    return str(path.relative_to(ROOT))


def anchor(heading):
    """A heading's name in links: small letters, digits and dashes."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_to_a_file(document):
    """And to a heading in it, where it names one. Links to the world are not followed: tests need no network."""
    text = document.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match("[a-z]+:", link):
            continue
        path, _, heading = unquote(link).partition("#")
        target = document.parent / path if path else document
        assert target.exists(), f"{named(document)}: {link}"
        headings = re.findall("^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else ()
        assert not heading or heading in map(anchor, headings), f"{named(document)}: {link}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_file_that_is_named_exists(document):
    """`flows/bank.yaml`, `docs/…`, `tests/…`: a path in backquotes is one that can be opened."""
    names = re.findall(r"`((?:flows|docs|tests|config|ivrguard)/[\w./-]+)`", document.read_text())
    assert [name for name in names if not (ROOT / name).exists()] == []


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────


def lines_with_commands(text):
    """What stands behind `ivrguard` in code: in backquotes, or in an indented or fenced line."""
    code = re.findall("`([^`\n]+)`", text)
    code += re.findall(r"^ {4,}(.*)$", text, re.MULTILINE)
    code += [
        line
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    for piece in code:
        found = re.search(r"(?:(?<=-m )|^)ivrguard +([a-z].*)$", piece)
        if found:
            yield re.split(r" {2,}|\s#|\s[;|>&]", found[1])[0]


def unknown(line):
    """What in a command line `ivrguard` does not know; None if it knows all of it."""
    command = typer.main.get_command(commands.app)
    words = shlex.split(line.replace("…", ""))
    while words and hasattr(command, "commands"):
        word = words.pop(0)
        if word not in command.commands:
            return word
        command = command.commands[word]
    options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    return next((word for word in words if word.startswith("-") and word not in options), None)


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_command_that_is_named_exists(document):
    """With the options that are named with it."""
    lines = list(lines_with_commands(document.read_text()))
    assert [(line, word) for line in lines if (word := unknown(line))] == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("serve", None),
        ("accounts add 5 --pin --sms", None),
        ("locks", None),
        ("srve", "srve"),
        ("accounts ad 5", "ad"),
        ("check flows/ --fast", "--fast"),
    ],
)
def test_an_unknown_command_would_be_found(line, word):
    assert word == unknown(line)


def test_readme_names_the_commands_that_a_beginner_needs():
    """The table above would pass on an empty page."""
    lines = set(lines_with_commands((ROOT / "README.md").read_text()))
    assert {line.split()[0] for line in lines} >= {"keys", "check", "migrate", "accounts", "desks", "serve"}


def test_readme_names_every_command_of_make():
    """Two commands do everything: both are targets, and so is whatever else is named."""
    targets = set(re.findall("^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named_ones = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"(?:`|^ {4})make ([a-z]+)", document.read_text(), re.MULTILINE)
    }
    assert {"demo", "test"} <= named_ones <= targets


# ── settings, metrics ────────────────────────────────────────────────────────────────────────────────────


def test_the_table_of_settings_is_the_codes_own():
    """Made by `python -m ivrguard settings > docs/settings.md`."""
    assert (ROOT / "docs" / "settings.md").read_text() == f"{server.SETTINGS_HEAD}\n{settings.table()}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_variable_that_is_named_is_a_setting(document):
    variables = {settings.variable(name) for name in settings.Settings.model_fields}
    named_ones = set(re.findall(r"\bIVRGUARD_[A-Z_]*[A-Z]\b", document.read_text()))
    assert {name.removesuffix("_FILE") for name in named_ones} - variables == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_metric_that_is_named_is_counted(document):
    """With the labels that are named with it."""
    counted = {}
    metrics = Metrics()
    for each in vars(metrics).values():
        if hasattr(each, "describe"):
            for family in each.describe():
                total = "_total" if family.type == "counter" else ""
                counted[family.name + total] = set(each._labelnames)
    text = document.read_text()
    for name, labels in re.findall(r"`(ivrguard_[a-z_]+)(?:\{([^}]*)\})?`", text):
        if name == "ivrguard_token":  # what a token is called in a task: no metric
            continue
        assert name in counted, f"{named(document)}: {name}"
        assert set(re.findall(r"(\w+)=", labels)) <= counted[name], f"{named(document)}: {name}"


def test_operations_names_what_to_watch():
    assert len(set(re.findall("`(ivrguard_[a-z_]+)", (ROOT / "docs" / "operations.md").read_text()))) >= 4


# ── promises ─────────────────────────────────────────────────────────────────────────────────────────────

PROMISES = re.findall(r"^ ?(\d+)\. \*\*(.+?)\*\*", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_there_are_ten_promises():
    assert [int(number) for number, _ in PROMISES] == list(range(1, 11))


@pytest.mark.parametrize(("number", "words"), PROMISES)
def test_every_promise_is_a_test(number, words):
    """tests/promises/test_NN_…: of its number, and with its words in it."""
    (file,) = (ROOT / "tests" / "promises").glob(f"test_{int(number):02}_*.py")
    spoken = set(re.findall("[a-z]{4,}", words.lower()))
    assert spoken & set(re.findall("[a-z]{4,}", file.stem)), f"{file.name}: {words}"


# ── flows ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_example_flows_are_without_fault_or_doubt():
    """As flows/README.md calls them: examples. Nothing in them needs to be weighed. Its tables: flowfile/test_schema.py."""
    loaded = flowfile.load_all(ROOT / "flows")
    assert (loaded.faults, loaded.doubts) == ((), ())
    assert {flow.name for flow in loaded.flows} == {"bank", "insurer", "clinic"}


def test_every_example_of_a_flow_in_the_documents_can_be_read(tmp_path):
    """A block of YAML that begins with `flow:` is one that `check` takes."""
    shown = [
        block
        for path in DOCUMENTS
        for block in re.findall(r"```yaml\n(flow:.*?)```", path.read_text(), re.DOTALL)
    ]
    prompts = (ROOT / "flows" / "prompts" / "en-US.yaml").read_bytes()
    for block in shown:
        assert flowfile.read("example", block.encode(), lambda _: prompts).faults == ()


def test_flows_readme_explains_every_line_of_a_story():
    """And every value that stands for something."""
    text = (ROOT / "flows" / "README.md").read_text()
    lines = [usage.replace("|", "\\|") for usage in (*story.VERBS, *world.VERBS)]
    assert [line for line in lines if f"`{line}`" not in text] == []
    assert [value for value in world.VALUES if f"`{{{value}}}`" not in text] == []
