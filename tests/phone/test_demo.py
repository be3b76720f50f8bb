"""`ivrguard demo`: every scene goes as it is told, and a demo that went otherwise says so."""

import asyncio
import os
import re
import shutil
import signal
from io import StringIO
from pathlib import Path

import aiohttp
import pytest
from twilio.twiml.voice_response import VoiceResponse

from ivrguard import flowfile
from ivrguard.core.assurance import Kind
from ivrguard.phone import bank, demo
from ivrguard.phone.demo import ACCOUNT, OWNER, PIN, NotAsTold, Scene
from ivrguard.phone.rig import rig
from ivrguard.phone.screen import console
from ivrguard.ports import Account, Credential

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_projects_folder(monkeypatch):
    monkeypatch.chdir(ROOT)


class Terminal(StringIO):
    """A terminal at which somebody presses Ctrl-C as soon as he is told how."""

    def write(self, text):
        if "Ctrl-C ends it." in text:
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        return super().write(text)


@pytest.fixture(scope="module")
def played():
    """The demo, played once, whole and for real, until Ctrl-C: whether it went as told, and what it printed."""
    printed = Terminal()
    here = Path.cwd()
    os.chdir(ROOT)
    try:
        told = asyncio.run(demo.run(console(file=printed), once=False))
    finally:
        os.chdir(here)
    return told, printed.getvalue().splitlines()


@pytest.fixture
async def centre():
    """The demo's stage, with nobody on it."""
    flow = flowfile.load(demo.FLOW).flow
    async with rig(flow, bank.app) as built:
        await built.enrol(Account(ACCOUNT, (OWNER,), (Credential(Kind.SMS_CODE, number=OWNER),)), pin=PIN)
        yield built


def test_all_scenes_go_as_told(played):
    """The mission, once and whole."""
    told, lines = played
    assert told
    assert "All 8 scenes went as told." in lines
    assert lines[-1].endswith("Ctrl-C ends it.")
    assert [line[0] for line in lines if re.match(r"\d\. ", line)] == list("12345678")


def test_a_guesser_gets_five_guesses_and_hears_no_difference(played):
    """Promise 2 and 6, as a guest sees them."""
    assert "   9 guesses in 3 calls: 5 were judged, 4 were not even looked at" in played[1]


def test_no_token_is_shown_whole(played):
    """Promise 5: what is printed is enough to recognise a token by, and no more."""
    (line,) = [line for line in played[1] if "holds a token" in line]
    assert re.fullmatch(r"   ☎ the agent's task holds a token: [0-9A-Z]{4}…", line)
    (line,) = [line for line in played[1] if "the desk alone hears" in line]
    assert re.fullmatch(r"   ☎ .*: Ya verificamos .* El código de transferencia es \d \d \d….", line)


def test_two_of_the_example_flows_are_played_in_two_languages(played):
    """What is open asks for nothing, a question is shorter the second time, and a code is read digit by digit."""
    lines = played[1]
    at = next(place for place, line in enumerate(lines) if line.startswith("8. Another flow, in Spanish"))
    heard = [line for line in lines[at:] if "◂" in line]

    assert any("account number" in line for line in lines[:at])
    assert "Para pedir una cita" in heard[0]
    assert [line for line in heard if "PIN" in line] == [
        '   ◂ "Marque su PIN de 8 dígitos."',
        '   ◂ "Su PIN, por favor."',
    ]


def test_readmes_transcript_is_a_real_one(played):
    """Every line of it was printed by this demo: codes, tokens and kept-back lines (…) aside, in this order."""
    text = (ROOT / "README.md").read_text()
    shown = re.search(r"What `make demo` prints.*?```\n(.*?)```", text, re.DOTALL)[1].splitlines()
    printed = iter(_but_for_tokens(line) for line in played[1])
    missing = [line for line in shown if line.strip() != "…" and _but_for_tokens(line) not in printed]
    assert missing == []


def _but_for_tokens(line):
    return re.sub(r"(a token: )\w+", r"\1", line)


@pytest.mark.parametrize(
    ("name", "flow", "words"),
    [
        ("bank", None, "flows/bank.yaml:1:1: cannot be read: No such file or directory"),
        ("bank", "flow: bank\n", "flows/bank.yaml:1:1: "),
        ("clinic", "flow: clinic\n", "flows/clinic.yaml:1:1: "),
    ],
)
async def test_without_its_flows_it_says_what_it_needs(tmp_path, monkeypatch, name, flow, words):
    """In another folder, or with a fault in a flow: no scene is played."""
    if flow is not None:
        shutil.copytree(ROOT / "flows", tmp_path / "flows")
        (tmp_path / "flows" / f"{name}.yaml").write_text(flow)
    monkeypatch.chdir(tmp_path)
    printed = StringIO()

    assert not await demo.run(console(file=printed), once=True)
    assert words in printed.getvalue()
    assert "mend it, or run this in the project's folder" in printed.getvalue()
    assert "1. " not in printed.getvalue()


class Silent(bank.Bank):
    """A bank that does not tell balances."""

    def _balance(self, params, session):
        response = VoiceResponse()
        response.say("Ask somebody else.")
        return response


@pytest.mark.parametrize("once", [True, False])
async def test_a_scene_that_goes_otherwise_ends_it_with_a_word(monkeypatch, once):
    """The first thing that is not as told ends the demo, which then does not stay up."""
    monkeypatch.setattr(bank, "app", lambda token: Silent().app(token))
    printed = StringIO()

    assert not await demo.run(console(file=printed), once=once)
    assert printed.getvalue().splitlines()[-1] == "   ✗ not as told: expected to hear 'balance'"
    assert "\n2. " not in printed.getvalue()


async def test_a_caller_who_is_not_in_a_queue_is_not_as_told():
    """The agent's scene is about a task: a bank that dials its agents instead plays another one."""
    flow = flowfile.load(demo.FLOW).flow
    async with rig(flow, bank.Bank(transfer="conference").app) as centre:
        await centre.enrol(Account(ACCOUNT, (OWNER,), (Credential(Kind.SMS_CODE, number=OWNER),)), pin=PIN)
        with pytest.raises(NotAsTold, match="should be waiting for an agent"):
            await demo.agent(console(file=StringIO()), centre)


async def test_a_code_that_did_not_come_is_not_as_told(centre):
    scene = Scene(console(file=StringIO()), centre, centre.call(OWNER))
    with pytest.raises(NotAsTold, match="no code came"):
        await scene.keys_code()


async def test_keys_that_nobody_waits_for_are_not_as_told(centre):
    scene = Scene(console(file=StringIO()), centre, centre.call(OWNER))
    await scene.dials("account number")
    await scene.line.hang_up()
    with pytest.raises(NotAsTold, match="balance: "):
        await scene.keys("1", why="balance")


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
async def test_it_stays_up_until_it_is_told_to_end(centre, signal_):
    """What it says to try works; Ctrl-C, or a SIGTERM, ends it, and the signal means again what it did before."""
    printed = StringIO()
    staying = asyncio.create_task(demo._stay(console(file=printed), centre))
    await asyncio.sleep(0)
    (url,) = re.findall(r"curl -s (\S+/jwks.json)", printed.getvalue())
    (metrics,) = re.findall(r"curl -s (\S+/metrics)", printed.getvalue())
    async with aiohttp.ClientSession() as session:
        for address in (url, metrics):
            async with session.get(address) as response:
                assert response.status == 200
    os.kill(os.getpid(), signal_)
    await staying
    assert printed.getvalue().rstrip().endswith("Ctrl-C ends it.")
    assert not asyncio.get_running_loop().remove_signal_handler(signal_)
