"""The telephone in the terminal and the stories of an admin, as a user meets them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from aiohttp.test_utils import TestServer

from ivrguard.commands import stories
from ivrguard.commands.shell import CONFIG
from ivrguard.phone.bank import Bank
from ivrguard.phone.screen import console
from ivrguard.phone.world import Real

ROOT = Path(__file__).parents[2]
ACCOUNT, STRANGER = "123456789", "+15559870002"
CALL = "call from +15551230001 to +18005550100"
TRUE = f'title: Hello\nflow: bank\n{CALL}\nhear "account number"\n'
FALSE = f'title: A song\nflow: bank\n{CALL}\nhear "a song"\n'
TOKEN = "the0token0of0the0ivr"


@pytest.fixture
def written(flows):
    """Stories of one's own beside the flows, instead of the examples."""
    folder = flows.folder / "stories"
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()

    def write(name, text):
        path = folder / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def types(monkeypatch):
    """What somebody types into `play` next, in this process: a pipe in the place of standard input."""
    ends = []

    def typing(text):
        out, into = os.pipe()
        os.write(into, text.encode())
        os.close(into)
        ends.append(out)
        monkeypatch.setattr(stories.telephone, "run", partial(run, keyboard=out))

    run = stories.telephone.run
    yield typing
    for thread in threading.enumerate():
        if thread.name == "keyboard":
            thread.join()
    for end in ends:
        os.close(end)


# ── play ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_play_takes_a_call_from_a_pipe(shell):
    """The output is the talk: no prompt, no broken line, nothing on standard error."""
    result = shell({}, "play", "--attested", typed=f"{ACCOUNT}#\n73926418\n1\n")
    assert (result.code, result.err) == (0, "")
    assert '\n   ◂ "Your balance is 1234 dollars."\n' in result.out
    assert "keys>" not in result.out


def test_play_takes_a_folder_with_one_flow(flows, types, asked):
    types("h\n")
    (flows.folder / "one").mkdir()
    flows.write("one/bank.yaml", flows.text)
    (flows.folder / "prompts").rename(flows.folder / "one" / "prompts")
    assert asked({}, "play", flows.folder / "one", "--from", STRANGER).out.startswith(
        f"You call +18005550100 from {STRANGER}. "
    )


def test_play_says_which_flow_it_cannot_play(flows, asked, ends):
    """No such file; or several in a folder."""
    ends(
        asked({}, "play", "nowhere.yaml"),
        1,
        "",
        "nowhere.yaml:1:1: cannot be read: No such file or directory\n",
    )
    flows.write("z.yaml", flows.text.replace("flow: bank", "flow: z").replace("+18005550100", "+18005550101"))
    result = asked({}, "play", flows.folder)
    many = len(list(flows.folder.glob("*.yaml")))
    ends(result, 1, "", f"{flows.folder}: there are {many} flows in it; name the file of one\n")


def test_a_call_that_is_recorded_comes_true_when_it_is_played(tmp_path, types, asked):
    """And does not go over a file that is there, unless that is wished."""
    path = tmp_path / "balance.call"
    types(f"{ACCOUNT}#\n73926418\n1\nh\n")
    first = asked({}, "play", "--record", path)
    assert (first.code, first.err) == (
        0,
        f"{path}: 10 steps; ivrguard play flows/bank.yaml --script {path} plays them\n",
    )
    text = path.read_text()
    assert (ACCOUNT in text, "73926418" in text, "press {account}#\n" in text) == (False, False, True)

    played = asked({}, "play", "--script", path)
    assert (played.code, played.err, played.out.splitlines()[-1]) == (0, "", f"{path}: it came true")

    again = asked({}, "play", "--record", path)
    assert (again.code, again.out) == (1, "")
    assert again.err == f"{path}: there is such a file already; --force writes over it\n"
    assert path.read_text() == text
    types("h\n")
    assert asked({}, "play", "--record", path, "--force").code == 0
    assert path.read_text().endswith("hang up\n")
    assert path.read_text() != text


def test_a_call_is_recorded_when_it_ends_by_ctrl_c(tmp_path):
    """In a process of its own, by a real signal."""
    path = tmp_path / "broken.call"
    process = subprocess.Popen(
        [sys.executable, "-m", "ivrguard", "play", "--record", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    process.stdin.write(f"{ACCOUNT}#\n")
    process.stdin.flush()
    while "8 digit PIN" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.startswith(f"{path}: 4 steps; ")
    assert path.read_text().endswith('press {account}#\nhear "Please enter your 8 digit PIN."\n')


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("talk.txt", "{path}: a story's file ends in .call\n"),
        ("none/talk.call", "{folder}/none: there is no such folder; make it first\n"),
    ],
)
def test_where_no_story_can_be_written_nobody_talks_for_nothing(tmp_path, asked, ends, place, why):
    result = asked({}, "play", "--record", tmp_path / place)
    ends(result, 1, "", why.format(path=tmp_path / place, folder=tmp_path))


def test_a_talk_that_cannot_be_written_is_printed(tmp_path, monkeypatch, types, asked):
    """The disk is full by now: what was talked is not lost."""

    def full(path, told, *, force, remark):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stories.recorder, "keep", full)
    types("h\n")
    result = asked({}, "play", "--record", tmp_path / "a.call")
    assert result.code == 1
    assert result.err.startswith(f"{tmp_path}/a.call: cannot be written: No space left on device. ")
    assert f"{CALL}\nhear " in result.err


def test_a_story_that_does_not_come_true_ends_with_1(tmp_path, asked):
    """The talk so far, and below it what was expected where."""
    path = tmp_path / "song.call"
    path.write_text(FALSE)
    result = asked({}, "play", "--script", path)
    assert (result.code, result.err) == (1, "")
    assert result.out.splitlines()[-2:] == [
        '   ✗ hear "a song"',
        f'{path}:4: expected to hear "a song": nobody said it',
    ]


def test_a_story_that_cannot_be_read_is_not_played(tmp_path, asked, ends):
    """All its faults at once; nor one of another flow; nor one that is to be somebody else's call."""
    path = tmp_path / "a.call"
    path.write_text(f"flow: clinik\n{CALL}\ndance\n")
    ends(
        asked({}, "play", "--script", path),
        1,
        "",
        f"{path}:1: there is no flow 'clinik'; there is: bank\n{path}:3: there is no verb 'dance'\n",
    )
    result = asked({}, "play", "--script", path, "--from", STRANGER)
    ends(result, 1, "", "--script: the story says who calls: leave out --from, --attested and --record\n")


def test_the_stories_of_the_tests_play_by_the_command(asked):
    """`.call` files are one format: those in tests/calls, too."""
    result = asked({}, "play", "flows/bank.yaml", "--script", "tests/calls/to_an_agent.call")
    assert (result.code, result.out.splitlines()[-1]) == (0, "tests/calls/to_an_agent.call: it came true")


# ── a real IVR ───────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def ivr():
    """A bank that runs elsewhere, and knows a token of its own."""
    bank = Bank()
    server = TestServer(bank.app(TOKEN))
    await server.start_server()
    try:
        yield SimpleNamespace(bank=bank, url=str(server.make_url("/voice")))
    finally:
        await server.close()


async def test_a_real_ivr_may_stand_behind_the_flow(tmp_path, types, asked):
    """It believes each request, hears the caller once he is verified, and no secret; it is said aloud that it is real."""
    env = {"IVRGUARD_UPSTREAM_TOKEN": TOKEN}
    async with ivr() as real:
        types(f"{ACCOUNT}#\n73926418\n1\nh\n")
        recording = ("play", "--ivr", real.url, "--record", tmp_path / "a.call")
        result = await asyncio.to_thread(asked, env, *recording)
        assert (result.code, '◂ "Your balance is 1234 dollars."' in result.out) == (0, True)
        assert result.err.splitlines()[0] == (
            f"The IVR at {real.url} is a real one: what is done in a call is done there."
        )
        assert [one.path for one in real.bank.seen if not one.signed] == []
        assert real.bank.paths_seen() == ["/voice", "/menu", "/balance", "/voice"]
        text = (tmp_path / "a.call").read_text()
        assert text.startswith(
            "# A real IVR stood behind the flow: play this with --ivr.\nflow: bank\n\ncall "
        )

        playing = ("test", "flows", tmp_path / "a.call", "--ivr", real.url)
        again = await asyncio.to_thread(asked, env, *playing)
        assert (again.code, again.out.splitlines()[-1].startswith("1 story: came true (")) == (0, True)
        assert len(real.bank.seen) == 8
        assert TOKEN not in result.out + result.err + again.out + again.err


def test_the_token_is_the_one_that_serve_would_sign_with(monkeypatch):
    """The IVR's own, or else the first of the accounts'."""
    url = "https://ivr.example/voice"
    monkeypatch.setenv("IVRGUARD_TWILIO_TOKENS", f"AC{'a1' * 16}=the0token0of0the0account,next0token0of0it")
    assert stories.real_ivr(url, CONFIG) == Real(url, "the0token0of0the0account")
    monkeypatch.setenv("IVRGUARD_UPSTREAM_TOKEN", TOKEN)
    assert stories.real_ivr(url, CONFIG) == Real(url, TOKEN)


@pytest.mark.parametrize(
    ("url", "env", "says"),
    [
        (
            "ftp://x",
            {},
            "--ivr ftp://x: it takes an absolute http(s) URL without user, query and fragment, such as ",
        ),
        ("http://ex ample", {}, "--ivr http://ex ample: it takes an absolute http(s) URL"),
        ("http://a:b", {}, "--ivr http://a:b: it takes an absolute http(s) URL"),
        (
            "https://ivr.example/voice",
            {},
            "IVRGUARD_UPSTREAM_TOKEN: not set; your IVR checks signatures: give ",
        ),
    ],
)
def test_a_real_ivr_needs_a_url_and_a_token(asked, url, env, says):
    result = asked(env, "play", "--ivr", url)
    assert (result.code, result.out, result.err.startswith(says)) == (1, "", True), result.err


def test_a_real_ivr_without_tls_is_warned_of(types, asked):
    types("h\n")
    result = asked(
        {"IVRGUARD_UPSTREAM_TOKEN": TOKEN}, "play", "--ivr", "http://ivr.example/voice", typed="h\n"
    )
    assert (result.code, "goes unencrypted; use https\n" in result.err) == (0, True)


# ── test ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_stories_of_the_examples_come_true(asked):
    """A line each, and how many they were; those of the other flows: tests/phone/test_rehearsal.py."""
    result = asked({}, "test", "flows/bank.yaml")
    assert (result.code, result.err) == (0, "")
    *lines, last = result.out.splitlines()
    assert len(lines) == len(list((ROOT / "flows" / "stories" / "bank").rglob("*.call")))
    assert {line[0] for line in lines} == {"✓"}
    assert last.startswith(f"{len(lines)} stories: came true (")


def test_a_story_that_has_not_come_true_is_told_with_its_talk(flows, written, asked):
    """A line each; where, why, the talk so far; 1."""
    true, false, unread = written("a.call", TRUE), written("b.call", FALSE), written("c.call", "dance")
    result = asked({}, "test", flows.folder)
    lines = result.out.splitlines()

    assert (result.code, result.err) == (1, "")
    assert lines[0].startswith(f"✓ {true}  Hello  (")
    assert lines[1].startswith(f"✗ {false}  A song  (")
    assert lines[2:4] == [f'  {false}:4: expected to hear "a song": nobody said it', f"    >> {CALL}"]
    assert '    -> hear "a song"' in lines
    assert f"✗ {unread}  c  (0.00 s)" in lines
    assert lines[-2].startswith(f"  {unread}:1: ")
    assert lines[-1].startswith("3 stories: 1 came true, 2 did not (")


def test_stories_may_be_named(flows, written, asked):
    """Files and folders; of one flow file, those that are about it; each once."""
    true = written("a.call", TRUE)
    written("b.call", FALSE)
    result = asked({}, "test", flows.folder, true, true)
    assert (result.code, result.out.splitlines()[-1].startswith("1 story: came true (")) == (0, True)
    written("b.call", FALSE.replace("flow: bank", "flow: other"))
    result = asked({}, "test", flows.folder / "bank.yaml")
    assert (result.code, result.out.splitlines()[-1].startswith("1 story: came true (")) == (0, True)
    assert asked({}, "test", flows.folder / "bank.yaml", flows.folder / "stories").code == 0


def test_where_there_is_no_story_it_says_how_to_get_one(flows, written, asked, ends):
    folder = flows.folder / "stories"
    for missing in (False, True):
        ends(
            asked({}, "test", flows.folder),
            1,
            "",
            f"{folder}: there is no story (*.call) here; "
            f"`ivrguard play FLOW --record {folder}/NAME.call` writes one\n",
        )
        if not missing:
            folder.rmdir()


def test_a_program_and_a_build_server_can_read_it(tmp_path, flows, written, asked):
    """JSON alone on standard output; JUnit's XML in the file that is named."""
    written("a.call", TRUE)
    written("b.call", FALSE)
    result = asked({}, "test", flows.folder, "--json", "--junit", tmp_path / "out.xml")
    whole = json.loads(result.out)
    assert (result.code, result.err) == (1, "")
    assert [(Path(one["file"]).name, one["came_true"]) for one in whole["stories"]] == [
        ("a.call", True),
        ("b.call", False),
    ]
    assert ET.parse(tmp_path / "out.xml").getroot().get("failures") == "1"
    refused = asked({}, "test", flows.folder, "--junit", tmp_path / "none" / "out.xml")
    assert refused.err == f"{tmp_path}/none/out.xml: cannot be written: No such file or directory\n"


def test_a_flow_with_a_fault_is_told_first(flows, written, asked):
    written("a.call", TRUE)
    flows.write("bank.yaml", "flow: bank\n")
    result = asked({}, "test", flows.folder)
    assert (result.code, result.out) == (1, "")
    assert f"{flows.folder}/bank.yaml:1:1: " in result.err


def test_at_a_terminal_one_sees_how_far_it_is(flows, written, monkeypatch, asked):
    """A bar on standard error, which is gone at the end."""
    written("a.call", TRUE)
    bar = SimpleNamespace(text="")

    class Terminal:
        encoding = "utf-8"

        def write(self, text):
            bar.text += text

        def flush(self):
            pass

        def isatty(self):
            return True

    monkeypatch.setattr(stories, "err", console(file=Terminal()))
    assert asked({"TERM": "xterm"}, "test", flows.folder).code == 0
    assert "0/1" in bar.text or "1/1" in bar.text
