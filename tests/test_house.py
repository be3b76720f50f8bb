"""
The rules of the house, as code: where things stand, how big they may get, what nothing may hold.

`make lint` keeps the rest: form, types, and the floors, which are tried here with planted faults.
"""

import ast
import io
import re
import shutil
import subprocess
import sys
import tokenize
from fnmatch import fnmatch
from pathlib import Path

import pytest

from ivrguard import __main__ as commands

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ivrguard"
TESTS = ROOT / "tests"
SOURCES = sorted(PACKAGE.rglob("*.py"))
OWN_KINDS = {"promises", "calls", "bench", "sim", "faults", "fuzz"}
"""Folders of tests that mirror no code: promises, stories, benchmarks, simulations, faults over real processes, fuzzing."""
EXTRA_TESTS = {
    "test_calls.py": "the stories in tests/calls, each played on the whole server",
    "test_docs.py": "what the documents say, held against the code",
    "test_house.py": "the rules of the house: this file",
    "web/test_oidc_server.py": "log-ins at a real OpenID provider, run by node",
    "web/console/test_browser.py": "the pages in a real browser: script, keyboard, screen reader's view, pictures for the docs",
    "web/test_watching.py": "the dashboard and the alert rules, held against what is counted",
    "stores/test_contract.py": "one contract, run on every store",
}
"""Test files beside no source file, each with its reason."""

LINES_MAX = 600
LONG = {
    "core/call.py": "the call's whole state machine: one table of events, and taking it apart would hide its order",
    "flowfile/schema.py": "every key of the format in words: one table, in the order of the file",
    "phone/exchange.py": "the pretend Twilio: one class that carries out each verb",
}
"""Files that may be longer, each with its reason. A promise to look at them again whenever they grow."""

UNSEEN = {
    ".venv*",
    ".git",
    ".*cache*",
    ".hypothesis",
    ".coverage*",
    "__pycache__",
    "*.egg-info",
    "var",
    "build",
    "dist",
}
"""What a fresh clone does not hold."""


def every_file():
    """The files of the repository that are text, whether git knows them yet or not."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if (
            path.is_file()
            and path.suffix != ".png"
            and not any(fnmatch(part, unseen) for part in parts for unseen in UNSEEN)
        ):
            yield path


FILES = list(every_file())


def named(path):
    return str(path.relative_to(ROOT))


def relative(path):
    return str(path.relative_to(PACKAGE))


def holds_only_a_docstring(path):
    return len(ast.parse(path.read_text()).body) <= 1


# ── where things stand ───────────────────────────────────────────────────────────────────────────────────


def mirrored_test(source):
    """The test file of a source file; None for a package's `__init__` that holds only words."""
    path = Path(relative(source))
    if path.name == "__init__.py":
        return None if holds_only_a_docstring(source) else path.parent / "test_init.py"
    return path.parent / f"test_{path.stem.strip('_')}.py"


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_every_source_file_has_its_test_file(source):
    """ivrguard/x/y.py -> tests/x/test_y.py: whoever opens one knows where the other is."""
    mirrored = mirrored_test(source)
    assert mirrored is None or (TESTS / mirrored).is_file(), f"tests/{mirrored} is missing"


def test_every_test_file_has_its_source_file():
    """And the reverse: what tests no file of its own says why."""
    mirrored = {str(mirrored_test(source)) for source in SOURCES}
    tests = [path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")]
    strays = {str(path) for path in tests if path.parts[0] not in OWN_KINDS} - mirrored
    assert strays == set(EXTRA_TESTS)


def test_tests_are_where_their_names_say():
    """A Python file under tests/ is a test, or what tests share; in a folder of its own kind it may be what it likes."""
    files = [path.relative_to(TESTS) for path in TESTS.rglob("*.py")]
    others = [path for path in files if not re.fullmatch(r"test_\w+|conftest", path.stem)]
    assert {path.parts[0] for path in others} <= OWN_KINDS


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_every_source_file_begins_with_what_it_is(source):
    """A docstring that states the law the file keeps."""
    assert ast.get_docstring(ast.parse(source.read_text()))


def test_no_source_file_is_long_without_a_reason():
    """A file that has become short again leaves the list."""
    long = {relative(source) for source in SOURCES if source.read_text().count("\n") > LINES_MAX}
    assert long == set(LONG)


def test_no_name_is_a_drawer():
    """`utils` and the like hold what nobody found a place for."""
    drawers = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}
    assert [named(path) for path in FILES if path.stem in drawers] == []


# ── where is …? ──────────────────────────────────────────────────────────────────────────────────────────


def where_is(text):
    """The rows of a *where is …?* table: what, and where."""
    table = text.partition("| what | where |\n| --- | --- |\n")[2].partition("\n\n")[0]
    return re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE)


HERE = where_is((PACKAGE / "core" / "__init__.py").read_text().removesuffix('"""\n') + "\n")


def test_both_tables_agree():
    """README's is for those who arrive, the code's for those who are in it."""
    assert len(HERE) > 10
    assert where_is((ROOT / "README.md").read_text()) == HERE


@pytest.mark.parametrize(("what", "where"), HERE)
def test_what_is_looked_for_is_there(what, where):
    """Every path of the table exists, and the name behind it is defined there."""
    *_, last = paths = re.findall(r"[\w/]+(?:\.py|/)", where)
    assert [path for path in paths if not (PACKAGE / path).exists()] == []
    place = PACKAGE / last
    text = "".join(source.read_text() for source in ([place] if place.is_file() else place.glob("*.py")))
    for name in re.findall("`(\\w+)`", where):
        assert re.search(rf"\b(?:def|class) {name}\b", text), f"{last} has no {name}"


# ── what nothing may hold ────────────────────────────────────────────────────────────────────────────────

MARK = re.compile(
    r"#\s*(noqa|type:\s*ignore|pragma:\s*no\s*(?:cover|branch))\b(:?\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[\w\-, ]+\])?(.*)"
)
REASON = re.compile(r"\W*\w+(?:\W+\w+)+")


def comments(path):
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize(
    ("comment", "reasoned"),
    [
        ("# noqa: S105", False),
        ("# noqa", False),
        ("# type: ignore[arg-type]", False),
        ("# pragma: no cover", False),
        ("# noqa: S105 -- of a pretend account", True),
        ("# type: ignore[arg-type]  # fields by name", True),
        ("# pragma: no branch - the other platforms do nothing", True),
        ("# noqa: BLE001 nobody may be left waiting for ever", True),
        ("# noqa: S105  (the same)", True),
    ],
)
def test_a_reason_is_words_behind_the_mark(comment, reasoned):
    assert reasoned == bool(REASON.match(MARK.search(comment)[3]))


def test_every_rule_that_is_broken_has_its_reason_beside_it():
    """Whoever silences a tool says why; in tests as in the code."""
    silent = [
        f"{named(path)}:{line}: {comment}"
        for path in FILES
        if path.suffix == ".py"
        for line, comment in comments(path)
        if (mark := MARK.search(comment)) and not REASON.match(mark[3])
    ]
    assert silent == []


def found(pattern):
    """Where a pattern stands in the files of the repository; this one has to name what it looks for."""
    expression = re.compile(pattern)
    return [
        f"{named(path)}:{number}: {line.strip()[:100]}"
        for path in FILES
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if expression.search(line)
    ]


def test_nothing_is_left_to_do():
    """What is to be done is an issue, not a comment."""
    assert found(r"\b(TODO|FIXME|XXX)\b") == []


def test_no_file_knows_this_machine():
    """A clone works anywhere: no folder of the machine that it was written on."""
    assert found(r"(?<![\w.~*])/(work|root|home)(?=/|[\"'`\s:]|$)") == []


def test_no_file_names_a_registry():
    """Where packages come from is the installing machine's affair; what they must be is in their hashes."""
    assert (
        found(r"-{2}(?:extra-)?index.url|-{2}trusted.host|/simpl[e]/|https?://[\w.]*py(?:pi|thonhosted)")
        == []
    )


def test_nothing_runs_without_assertions():
    """Asserts state what cannot happen, and are there to be run."""
    assert __debug__
    assert found(r"python\S* (-\w+ )*-O|PYTHONOPTIMIZE") == []


# ── what the house rests on ──────────────────────────────────────────────────────────────────────────────


LOCKS = ("requirements.txt", "requirements-dev.txt", "requirements-traces.txt")


@pytest.mark.parametrize("name", LOCKS)
def test_every_requirement_is_locked_by_hash(name):
    """One version and its hashes: an install gets what was tested, or nothing."""
    entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().replace("\\\n", " ").strip())
    assert len(entries) > 15
    for entry in entries:
        assert re.match(r"[\w.\-\[\]]+==\S+", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:80]


def test_the_lock_files_hold_what_the_project_asks_for():
    """A dependency that was added and not locked would fail on a fresh clone only."""
    project = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(r"^(dependencies|dev|traces) = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    wanted = {of: set(re.findall(r'^    "([\w-]+)', each, re.MULTILINE)) for of, each in lists}
    base, dev, traces = (
        dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in LOCKS
    )
    assert wanted["dependencies"] <= base.keys()
    assert wanted["dependencies"] | wanted["dev"] <= dev.keys()
    assert wanted["dependencies"] | wanted["traces"] <= traces.keys()
    assert base.items() <= dev.items(), "what is tested is not what is installed"
    assert base.items() <= traces.items()
    assert {name: traces[name] for name in traces.keys() & dev.keys()}.items() <= dev.items()


def test_every_command_of_the_procfile_exists():
    """`release:` and `web:` are what a platform runs without being asked."""
    lines = dict(re.findall(r"^(\w+): (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE))
    assert set(lines) == {"release", "web"}
    known = commands.typer.main.get_command(commands.app).commands
    asked = [part for line in lines.values() for part in line.split("&&")]
    assert [part for part in asked if not re.fullmatch(r"\s*python -m ivrguard (\w+).*", part)] == []
    assert [part.split()[3] for part in asked if part.split()[3] not in known] == []


def lint_imports(folder):
    """What the import contracts say about the package in a folder: exit code and text."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_the_floors_hold():
    """Nothing looks up, siblings do not know each other, each library has one door."""
    code, said = lint_imports(ROOT)
    assert code == 0, said
    assert re.search(r"Contracts: \d+ kept, 0 broken\.", said)


@pytest.mark.parametrize(
    ("file", "planted", "says"),
    [
        ("utils.py", '"""A drawer."""\n', "ivrguard.utils"),
        (
            "core/planted.py",
            "from ivrguard import ports\n",
            "Floors: nothing looks up, siblings do not know each other BROKEN",
        ),
        ("core/planted.py", "import os\n", "The core touches nothing BROKEN"),
        (
            "stores/planted.py",
            "from ivrguard import flowfile\n",
            "Floors: nothing looks up, siblings do not know each other BROKEN",
        ),
        ("guard/planted.py", "import aiohttp\n", "The guard knows no library BROKEN"),
        ("web/planted.py", "import argon2\n", "One door: argon2 (factors) BROKEN"),
        ("guard/planted.py", "import opentelemetry\n", "One door: OpenTelemetry (web.otlp) BROKEN"),
        ("web/planted.py", "import jinja2\n", "One door: jinja2 (web.console) BROKEN"),
        ("factors/planted.py", "from ivrguard.factors import pin\n", "Factors do not know each other BROKEN"),
    ],
)
def test_a_planted_fault_breaks_its_contract(tmp_path, file, planted, says):
    """A contract that nothing can turn red would hold nothing."""
    shutil.copytree(PACKAGE, tmp_path / "ivrguard", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "ivrguard" / file).write_text(planted)
    code, said = lint_imports(tmp_path)
    assert code != 0
    assert says in said
