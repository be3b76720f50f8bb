"""
Promise 9: a bad flow never goes live. It is refused whole, every fault with file, line and column; the running
version stays; calls keep the version that they began with.
"""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import structlog

from ivrguard import flowfile, guard
from ivrguard.core.flow import Flow
from ivrguard.factors import pin
from ivrguard.guard import Flows, World, books, publishing
from ivrguard.keyring import Keyring, new_material
from ivrguard.phone.bank import Bank
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Failed, Said
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, Rig, listen, new_keyring, rig
from ivrguard.ports import Account, Change, Put, Store
from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.sqlite import SqliteStore
from ivrguard.web.app import wall_clock_ms

PROMPTS = Path(__file__).parents[2] / "flows" / "prompts"
FLOW = """\
flow: bank
numbers: ["+18005550100"]
upstream:
  url: https://ivr.bank.example/voice
language: en-US
identify:
  ask: account_number
  digits: {min: 6, max: 12}
  known_number: offer
factors:
  pin:  {kind: pin, digits: 8}
  code: {kind: sms_code, digits: 6, valid: 10m}
levels:
  one_factor: {any: [pin, code]}
  two_factor: {all: [pin, code]}
rules:
  - {path: /hours, allow: anyone}
  - {path: "/wire/**", require: two_factor, within: 5m, intent: wire}
  - {transfer: any, require: two_factor, reverify: one_factor, intent: agent}
default: {require: one_factor}
lockout:
  failures: 5
  within: 1h
  lock: [30m, 2h, 24h]
"""
PIN, WRONG = "24681357", "13572468"
PROCESS_DEADLINE_S = 60


@dataclass(frozen=True)
class Slip:
    """What an admin changed (`old` to `new`), where the fault is (`at`, inside `new`), and what is said of it."""

    old: str
    new: str
    at: str
    path: str
    says: str


SLIPS = [
    Slip("{any: [pin,", "{any: [pni,", "pni", "levels.one_factor.any[0]", "did you mean 'pin'?"),
    Slip(
        "two_factor, within",
        "two_factr, within",
        "two_factr",
        "rules[1].require",
        "did you mean 'two_factor'?",
    ),
    Slip("digits: 8}", "digits: 3}", "3", "factors.pin.digits", "use 4 or more"),
    Slip("known_number:", "known_nmuber:", "known_nmuber", "identify.known_nmuber", "did you mean"),
    Slip(
        "ask: account_number",
        "ask: account_number\n  ask: account_number",
        "ask: account_number",
        "identify.ask",
        "stands twice",
    ),
    Slip("valid: 10m", "valid: 11m", "11m", "factors.code.valid", "10m at most"),
    Slip("allow: anyone", "allow: nobody", "nobody", "rules[0].allow", "known: anyone"),
    Slip('["+18005550100"]', '["18005550100"]', '"1', "numbers[0]", "a number dialled"),
    Slip("url: https:", "url: ftp:", "ftp", "upstream.url", "http(s)"),
    Slip("en-US", "xx-XX", "xx-XX", "language", "cannot be read"),
    Slip("failures: 5", "failures: no", "no", "lockout.failures", "a number from 1"),
    Slip("[30m,", "[30x,", "30x", "lockout.lock[0]", "a duration"),
    Slip(
        "- {path: /hours",
        "- {path: /**, require: one_factor}\n  - {path: /h",
        "{path: /h",
        "rules[1]",
        "can never apply",
    ),
    Slip(
        "default: {require: one_factor}",
        "default: {require: one_factor}\nceiling: {guess_chance_per_year: 0.0001}",
        "0.0001",
        "ceiling.guess_chance_per_year",
        "more than 0.0001",
    ),
]
"""One slip each."""

UNREADABLE = [
    Slip("levels:", "levels: [", "", "", "not YAML"),
    Slip("flow: bank", "flow: !!python/object:os.system bank", "!!python", "flow", "tags (!) are not read"),
    Slip("default: {", "default: &a {", "&a", "default", "anchors"),
]
"""Files that are not read at all, or not in that place."""


def folder_of(tmp_path: Path, *slips: Slip, also: str = "") -> tuple[Path, list[str]]:
    """A folder with the example flow and these slips, and how each fault begins: `file:line:column: path: `."""
    folder = tmp_path / "flows"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PROMPTS, folder / "prompts")
    path, text = folder / "bank.yaml", FLOW
    if also:
        other = text.replace("flow: bank", f"flow: {also}").replace("+18005550100", "+18005550177")
        (folder / f"{also}.yaml").write_text(other)
    for slip in slips:
        assert text.count(slip.old) == 1, slip.old
        text = text.replace(slip.old, slip.new)
    path.write_text(text)
    places = []
    for slip in slips:
        place = text.index(slip.new) + slip.new.rindex(slip.at)
        line = text.count("\n", 0, place) + 1
        column = place - text.rfind("\n", 0, place)
        places.append(f"{path}:{line}:{column}: {slip.path}: ")
    return folder, places


# ── the promise: refused whole, with every place ─────────────────────────────────────────────────────────


def check_a_bad_folder_is_refused_whole(tmp_path: Path) -> None:
    """Each slip alone, in a file that is not there afterwards; and all at once, each with its place."""
    for slip in SLIPS:
        folder, (place,) = folder_of(tmp_path, slip, also="good")
        loaded = flowfile.load_all(folder)
        assert [flow.name for flow in loaded.flows] == ["good"], f"live: with {slip.new!r}"
        told = [str(fault) for fault in loaded.faults]
        assert any(one.startswith(place) and slip.says in one for one in told), (
            f"place: {place} not in {told}"
        )
    for slip in UNREADABLE:
        folder, (place,) = folder_of(tmp_path, slip)
        loaded = flowfile.load_all(folder)
        assert loaded.flows == (), f"live: with {slip.new!r}"
        assert slip.says in str(loaded.faults[0]), "place"
        assert re.match(rf"{re.escape(str(folder))}/bank\.yaml:\d+:\d+: ", str(loaded.faults[0])), "place"
    together = SLIPS[1:-2]  # the first one makes others pointless, and others the last two
    folder, places = folder_of(tmp_path, *together)
    loaded = flowfile.load_all(folder)
    told = [str(fault) for fault in loaded.faults]
    assert loaded.flows == (), "live: with all of them"
    assert len(told) == len(places), f"place: not all at once: {told}"
    for place, slip in zip(places, together, strict=True):
        assert any(one.startswith(place) and slip.says in one for one in told), (
            f"place: {place} not in {told}"
        )


async def check_commands_refuse(tmp_path: Path, prelude: str = "") -> None:
    """`ivrguard check` and `ivrguard serve`, as processes: 1, and every place on standard error; nothing listens."""
    slips = SLIPS[1:4]
    folder, places = folder_of(tmp_path, *slips, also="good")
    environ = {name: text for name, text in os.environ.items() if not name.startswith("IVRGUARD_")}
    environ |= {
        **new_material(os.urandom),
        "IVRGUARD_PUBLIC_URL": PUBLIC_URL,
        "IVRGUARD_HOST": "127.0.0.1",
        "PORT": "0",
        "IVRGUARD_OPS_PORT": "0",
        "IVRGUARD_STORE": "memory",
        "IVRGUARD_FLOWS": str(folder),
        "IVRGUARD_TWILIO_TOKENS": f"{ACCOUNT_SID}={AUTH_TOKEN}",
    }
    code = f"{prelude}\nfrom ivrguard.__main__ import main\nmain()"
    started = ["-m", "ivrguard"] if not prelude else ["-c", code]
    ends = await asyncio.gather(
        *(ended(environ, *started, *words) for words in (["check", str(folder)], ["serve"]))
    )
    for command, (status, said) in zip(("check", "serve"), ends, strict=True):
        assert status == 1, f"{command}: it goes on: {said}"
        for place, slip in zip(places, slips, strict=True):
            lines = [line for line in said.splitlines() if line.startswith(place)]
            assert len(lines) == 1, f"{command}: {place} is not told"
            assert slip.says in lines[0], f"{command}: no mend"


async def ended(environ: dict[str, str], *words: str) -> tuple[int | None, str]:
    """A process's status and standard error; None for one that serves, which is ended then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env=environ, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert process.stderr is not None
    said = b""
    async with asyncio.timeout(PROCESS_DEADLINE_S):
        while line := await process.stderr.readline():
            said += line
            if line.startswith(b"{") and json.loads(line)["event"] == "serving":
                process.terminate()
                await process.wait()
                return None, said.decode()
        return await process.wait(), said.decode()


# ── the promise: calls keep their version ────────────────────────────────────────────────────────────────


def versions(tmp_path: Path, ivr_url: str) -> tuple[Flow, Flow, Flow, Flow]:
    """The flow, changed in its words, with its factor renamed, and under another name: all before this IVR."""
    made = []
    for edits in (
        {},
        {
            "Please enter your {digits} digit PIN.": "Version two wants {digits} digits.",
            "Your PIN, please.": "Version two wants {digits} digits again.",
        },
        {"  pin:  {": "  secret:  {", "[pin, ": "[secret, "},
        {"flow: bank": "flow: bank-of-others", "+18005550100": "+18005550155"},
    ):
        folder, _ = folder_of(tmp_path)
        for path in (folder / "bank.yaml", folder / "prompts" / "en-US.yaml"):
            text = path.read_text()
            for old, new in {**edits, "https://ivr.bank.example/voice": f"{ivr_url}/voice"}.items():
                text = text.replace(old, new)
            path.write_text(text)
        loaded = flowfile.load_all(folder)
        assert not loaded.faults, loaded.faults
        made.append(loaded.flows[0])
    first, second, renamed, other = made
    assert len({flow.version for flow in made}) == len(made)
    return first, second, renamed, other


@dataclass
class Centre:
    """One store, one set of keys and one IVR; servers come and go before it."""

    open_store: Callable[[], object]
    keyring: Keyring
    bank: Bank
    ivr_url: str

    @asynccontextmanager
    async def serving(self, *flows: Flow) -> AsyncIterator[Rig]:
        """A server whose release published these flows, until it is restarted."""
        extra = {"flows": flows, "reload": lambda: flowfile.LoadedAll(flows)}
        store = await self.open_store()
        await publishing.keep(store, flows, (), wall_clock_ms(), publish=True)
        async with rig(flows[-1], self.ivr_url, store=store, keyring=self.keyring, extra=extra) as running:
            yield running

    async def forget(self, *flows: Flow) -> None:
        """The store has lost these versions, or a new release takes them for faulty."""
        async with self.serving(*flows) as running:
            keys = [books.flow_key(flow.name, flow.version) for flow in flows]
            await running.store.amend(keys, lambda _: Change(None, tuple(Put(key, None) for key in keys)))


@asynccontextmanager
async def centre(open_store: Callable[[], object]) -> AsyncIterator[Centre]:
    async with AsyncExitStack() as stack:
        bank = Bank()
        yield Centre(open_store, new_keyring(), bank, await listen(bank.app(AUTH_TOKEN), stack))


async def carry_over(line: Line, running: Rig) -> None:
    """The call goes on; the provider reaches the server that listens now."""
    line.exchange.account.session = running.session
    line.exchange.account.routes = {PUBLIC_URL: running.guard_url}


async def begun(made: Centre, flow: Flow, *, enrol: bool = True) -> Line:
    """A call that waits at the question for its PIN when its server is stopped."""
    async with made.serving(flow) as running:
        if enrol:
            await running.enrol(Account("123456"), pin=PIN)
        line = running.call()
        await line.until_input()
        await line.press("123456#")
        assert last(line) == "Please enter your 8 digit PIN."
    return line


def last(line: Line) -> str:
    assert not [each for each in line.heard if isinstance(each, Failed)]
    offered = "To use something else, press 2 and the pound key."
    return [each.text for each in line.heard if isinstance(each, Said) and each.text != offered][-1]


async def check_calls_keep_their_version(open_store: Callable[[], object], tmp_path: Path) -> None:
    """
    The server is restarted with a changed file over the same store: the call goes on with the version that it began
    with, and new calls begin with the new one. Where the old version is gone from the store, the call goes on with the
    flow of that name as it is now, and keeps what it has proved. A flow that is gone, or no longer has what it asked
    for, ends in words. Nothing is let through on the way.
    """
    async with centre(open_store) as made:
        first, second, renamed, other = versions(tmp_path, made.ivr_url)
        for number, flows in enumerate([(first, second), (second,), (renamed,), (other,)]):
            line = await begun(made, first, enrol=not number)
            async with made.serving(*flows) as running:
                await carry_over(line, running)
                await line.press(WRONG)
                assert last(line) == "Your PIN, please.", "kept: not the version it began with"
                if flows[-1] is second:
                    young = running.call("+15551230002")
                    await young.until_input()
                    await young.press("123456#")
                    assert last(young) == "Version two wants 8 digits.", "kept: a new call, an old version"
                await line.press(PIN)
                assert "For your balance" in last(line), "kept: it does not go on"

        line = await begun(made, first, enrol=False)
        async with made.serving(first) as running:
            await carry_over(line, running)
            await line.press(PIN)
        await made.forget(first)
        async with made.serving(second) as running:
            await carry_over(line, running)
            await line.press("1")
            assert "Your balance is" in " ".join(
                each.text for each in line.heard if isinstance(each, Said)
            ), "proofs"
            await line.hang_up()

        line = await begun(made, first, enrol=False)
        await made.forget(first)
        seen = len(made.bank.seen)
        async with made.serving(second) as running:
            await carry_over(line, running)
            await line.press(WRONG)
            assert last(line) == "Version two wants 8 digits again.", "named: not the flow of that name"
            assert len(made.bank.seen) == seen, "let through"
            await line.press(PIN)
            assert "For your balance" in last(line), "named: it does not go on"
            await line.hang_up()

        for flow, words, event in (
            (renamed, "We are sorry, we cannot take your call right now.", "flow_changed"),
            (other, "This number is not in service.", "no_flow"),
        ):
            line = await begun(made, first, enrol=False)
            await made.forget(first)
            seen = len(made.bank.seen)
            with structlog.testing.capture_logs() as lines:
                async with made.serving(flow) as running:
                    await carry_over(line, running)
                    await line.press(PIN)
            assert last(line).startswith(words), f"gone: {last(line)}"
            assert [one["event"] for one in lines if one["log_level"] == "error"] == [event], "gone: the log"
            assert len(made.bank.seen) == seen, "let through"


# ── green ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch) -> None:
    """The real argon2 with small parameters: this promise does not rest on what it costs."""
    monkeypatch.setattr(pin, "MEMORY_KIB", 64)
    monkeypatch.setattr(pin, "PASSES", 1)


class Lasting(MemoryStore):
    """Memory that outlives the server which it is given to."""

    async def close(self) -> None:
        """Stay open."""


@pytest.fixture(params=["memory", "sqlite"])
def open_store(request, tmp_path) -> Callable[[], object]:
    """Opens the same store, each time a server begins."""
    kept = Lasting()

    async def opened() -> Store:
        if request.param == "memory":
            return kept
        return await SqliteStore.open(tmp_path / "guard.db", migrate=True)

    return opened


def test_a_bad_folder_is_refused_whole(tmp_path):
    """Sixteen slips, each with its place and its mend."""
    check_a_bad_folder_is_refused_whole(tmp_path)


async def test_commands_refuse(tmp_path):
    """`check` and `serve`, as processes."""
    await check_commands_refuse(tmp_path)


async def test_calls_keep_their_version(open_store, tmp_path):
    """Over restarts: with the old version, without it, and when it is gone."""
    await check_calls_keep_their_version(open_store, tmp_path)


def test_two_flows_cannot_have_one_number(tmp_path):
    """A fault of the folder, at the second place, which names the first one."""
    folder, _ = folder_of(tmp_path)
    (folder / "copy.yaml").write_text((folder / "bank.yaml").read_text())
    told = [str(fault) for fault in flowfile.load_all(folder).faults]

    assert [one.partition(": ")[0] for one in told] == [f"{folder}/copy.yaml:1:7", f"{folder}/copy.yaml:2:11"]
    assert all("is claimed at" in one and "bank.yaml:" in one for one in told)


# ── red: each piece that keeps the promise, taken out ────────────────────────────────────────────────────


def nobody_looks_at_the_meaning(monkeypatch) -> None:
    monkeypatch.setattr(flowfile, "check", lambda _: ())


def faults_are_only_doubts(monkeypatch) -> None:
    monkeypatch.setattr(flowfile.tree.Reader, "fault", flowfile.tree.Reader.doubt)


def the_first_fault_alone(monkeypatch) -> None:
    real = flowfile.tree.Reader.fault

    def fault(self, spot, message):
        if not self.faults:
            real(self, spot, message)

    monkeypatch.setattr(flowfile.tree.Reader, "fault", fault)


def columns_are_lost(monkeypatch) -> None:
    real = flowfile.tree.Reader._at
    monkeypatch.setattr(
        flowfile.tree.Reader, "_at", lambda self, spot, message: replace(real(self, spot, message), column=1)
    )


def twice_is_the_last_one(monkeypatch) -> None:
    real = flowfile.tree.Reader.fault

    def fault(self, spot, message):
        if "twice" not in message:
            real(self, spot, message)

    monkeypatch.setattr(flowfile.tree.Reader, "fault", fault)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (nobody_looks_at_the_meaning, "live"),
        (faults_are_only_doubts, "live"),
        (twice_is_the_last_one, "live"),
        (the_first_fault_alone, "place"),
        (columns_are_lost, "place"),
    ],
)
def test_without_this_piece_a_bad_flow_goes_live(fault, says, monkeypatch, tmp_path):
    """The same check, red."""
    fault(monkeypatch)
    with pytest.raises(AssertionError, match=says):
        check_a_bad_folder_is_refused_whole(tmp_path)


SHRUGS = """
from ivrguard import flowfile
real = flowfile.load_all
flowfile.load_all = lambda folder: flowfile.LoadedAll(real(folder).flows)
"""


async def test_a_process_that_shrugs_is_noticed(tmp_path):
    """The same check, red: commands that go on with the flows that are good."""
    with pytest.raises(AssertionError, match="check: it goes on"):
        await check_commands_refuse(tmp_path, SHRUGS)


def versions_are_forgotten(monkeypatch) -> None:
    async def named(self, call):
        return self.flows.named(call.flow)

    monkeypatch.setattr(World, "flow_of", named)


def the_store_is_not_asked(monkeypatch) -> None:
    async def none(*_):
        return None

    monkeypatch.setattr(World, "_recalled", none)


def the_store_is_not_told(monkeypatch) -> None:
    monkeypatch.setattr(publishing, "KEPT_BYTES_MAX", 0)


def old_calls_are_nobodys(monkeypatch) -> None:
    monkeypatch.setattr(Flows, "named", lambda self, name: None)


def new_calls_take_any_version(monkeypatch) -> None:
    monkeypatch.setattr(Flows, "dialled", lambda self, number: self.first() if number else None)
    monkeypatch.setattr(Flows, "first", lambda self: next(iter(self._by_version.values()), None))


def what_is_gone_is_a_bug(monkeypatch) -> None:
    monkeypatch.setattr(guard, "_known_to", lambda *_: True)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (versions_are_forgotten, "kept"),
        (the_store_is_not_asked, "kept"),
        (the_store_is_not_told, "kept"),
        (new_calls_take_any_version, "kept"),
        (old_calls_are_nobodys, "proofs|named"),
        (what_is_gone_is_a_bug, "gone"),
    ],
)
async def test_without_this_piece_a_call_changes_its_version(fault, says, monkeypatch, tmp_path):
    """The same check, red."""
    kept = Lasting()

    async def opened() -> Store:
        return kept

    fault(monkeypatch)
    with pytest.raises(AssertionError, match=says):
        await check_calls_keep_their_version(opened, tmp_path)
