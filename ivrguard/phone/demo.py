"""
`ivrguard demo`: the mission, once, whole and for real, on this machine.

Server and SQLite file are the embedded default; the IVR is a sample bank written with the twilio library that
knows nothing of the guard; the provider's network is imitated (exchange.py). Each scene says what it expects
and looks whether it came so: `run` is true only if all of them did.
"""

import asyncio
import json
import signal
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console

from ivrguard import flowfile
from ivrguard.core import audit
from ivrguard.core.assurance import Kind
from ivrguard.phone import bank
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Queued
from ivrguard.phone.rig import AUTH_TOKEN, PUBLIC_URL, Rig, rig
from ivrguard.phone.screen import Screen
from ivrguard.ports import Account, Credential
from ivrguard.stores.sqlite import SqliteStore

FLOWS = Path("flows")
ACCOUNT = "123456789"
PIN = "24681357"
OWNER = "+15551230001"
STRANGER = "+15559870002"
LAST_GUESS = 8
ENTRIES_PER_PAGE = 1_000


class NotAsTold(Exception):
    """A scene went otherwise than it was told."""


class Scene:
    """One call on the stage: prints what is heard and done, and insists on what is told."""

    def __init__(self, out: Console, centre: Rig, line: Line) -> None:
        self._out = out
        self._centre = centre
        self.line = line
        self._screen = Screen(line)
        self._texts = len(centre.carrier.sent)

    def hears(self, *parts: str) -> None:
        """Everything new on the line, printed; each of `parts` must be in it."""
        news = self._screen.news()
        for text in news:
            self._out.print(f"   [cyan]◂[/] {text}", soft_wrap=True)
        for message in self._centre.carrier.sent[self._texts :]:
            self._out.print(f"   [magenta]✉ to {message.to}:[/] {message.body}", soft_wrap=True)
        self._texts = len(self._centre.carrier.sent)
        heard = " ".join(news).lower()
        for part in parts:
            if part.lower() not in heard:
                raise NotAsTold(f"expected to hear {part!r}")

    async def dials(self, *parts: str) -> None:
        """The call begins."""
        await self.line.until_input()
        self.hears(*parts)

    async def keys(self, keys: str, *parts: str, why: str) -> None:
        """The caller keys something, and hears."""
        self._out.print(f"   [yellow]▸[/] {keys}  [dim]({why})[/]", soft_wrap=True)
        await self.line.press(keys)
        self.hears(*parts)

    async def keys_code(self, *parts: str) -> None:
        """The caller keys the code that his phone got."""
        await self.keys(self._centre.carrier.code_for(OWNER), *parts, why="the code from the text message")


def insist(holds: bool, otherwise: str) -> None:
    """Raise `NotAsTold` unless it holds."""
    if not holds:
        raise NotAsTold(otherwise)


async def run(out: Console, *, once: bool) -> bool:
    """Play every scene; then stay up until Ctrl-C, unless `once`. Whether all went as told."""
    loaded = flowfile.load_all(FLOWS)
    flow = next((flow for flow in loaded.flows if flow.name == "bank"), None)
    if flow is None:
        for fault in loaded.faults:
            out.print(str(fault), markup=False)
        out.print(f"[red]{FLOWS}/bank.yaml is needed; run this from the project's folder[/]")
        return False
    with tempfile.TemporaryDirectory(prefix="ivrguard-demo-") as folder:
        store = await SqliteStore.open(Path(folder) / "demo.db", migrate=True)
        async with rig(flow, bank.app, store=store) as centre:
            await centre.enrol(
                Account(ACCOUNT, (OWNER,), (Credential(Kind.SMS_CODE, number=OWNER),)), pin=PIN
            )
            told = await _play(out, centre)
            if told and not once:
                await _stay(out, centre)
    return told


async def _play(out: Console, centre: Rig) -> bool:
    scenes: tuple[tuple[str, Callable[[Console, Rig], Awaitable[None]]], ...] = (
        ("An honest caller hears his balance: one factor, the PIN", balance),
        ("A wire needs a second factor: a code to the number on file", wire),
        ("To an agent: one factor once more, a token, a receipt, and never twice", agent),
        ("A guesser is locked out, and hears the same words as before", guesser),
        ("The owner's own lane stays open all the while", owner),
        ("Everything is on record, and the record holds", record),
    )
    for number, (title, scene) in enumerate(scenes, 1):
        out.print(f"\n[bold]{number}. {title}[/]")
        try:
            await scene(out, centre)
        except NotAsTold as otherwise:
            out.print(f"   [red]✗ not as told: {otherwise}[/]")
            return False
    out.print(f"\n[green bold]All {len(scenes)} scenes went as told.[/]")
    return True


async def _verified(out: Console, centre: Rig) -> Scene:
    scene = Scene(out, centre, centre.call(OWNER, attested=True))
    await scene.dials("account number")
    await scene.keys(f"{ACCOUNT}#", "PIN", why="account number")
    await scene.keys(PIN, "press 1", why="the PIN")
    return scene


async def balance(out: Console, centre: Rig) -> None:
    """Identify, PIN, and the IVR says what it would have said anyway."""
    scene = await _verified(out, centre)
    await scene.keys("1", "balance", why="balance")
    await scene.line.hang_up()


async def wire(out: Console, centre: Rig) -> None:
    """Step-up: the menu's own key 3 asks for a second factor first."""
    scene = await _verified(out, centre)
    await scene.keys("3", "code", why="a wire transfer")
    await scene.keys_code("wire")
    await scene.line.hang_up()


async def agent(out: Console, centre: Rig) -> None:
    """The IVR transfers; the guard asks again, and the agent's desk redeems the token."""
    key = await centre.desk("ann", "workflow:*")
    scene = await _verified(out, centre)
    await scene.keys("3", "code", why="a wire transfer")
    await scene.keys_code("dollars")
    await scene.keys("250#", "press 1", why="the amount")
    await scene.keys("1", "press 0", why="yes, wire it")
    await scene.keys("0", "PIN", why="an agent, please")
    await scene.keys(PIN, why="the PIN, once more: both factors are proved, but none for this agent")
    queued = scene.line.waiting
    insist(isinstance(queued, Queued), "the caller should be waiting for an agent")
    assert isinstance(queued, Queued)
    token = str(json.loads(queued.task)["ivrguard_token"])
    out.print(f"   [blue]☎ the agent's task holds a token: {token[:4]}…[/]")
    status, receipt = await centre.redeem(key, token, scene.line.call_sid)
    insist(status == 201, f"the desk got {status}")
    claims = centre.keyring.verify(
        str(receipt["receipt"]),
        typ="ivrguard-receipt+jwt",
        iss=PUBLIC_URL,
        aud=f"workflow:{queued.workflow}",
        now_ms=centre.clock(),
    )
    out.print(
        f"   [blue]☎ ann's desk: account {claims['sub']}, {claims['acr']} by {claims['amr']}, "
        f"for {claims['intent']}; the signature holds[/]",
        soft_wrap=True,
    )
    again, _ = await centre.redeem(key, token, scene.line.call_sid)
    insist(again == 403, f"the same token again got {again}")
    out.print("   [blue]☎ the same token again: refused[/]")
    await scene.line.dequeued("ann")
    await scene.line.hang_up()


async def guesser(out: Console, centre: Rig) -> None:
    """Three guesses a call, five an hour: then nothing is judged, and the words stay the same."""
    refused: list[str] = []
    for first in (0, 3, 6):
        scene = Scene(out, centre, centre.call(STRANGER))
        await scene.dials("account number")
        await scene.keys(f"{ACCOUNT}#", "PIN", why="somebody else's account")
        for guess in range(first, first + 3):
            if guess == LAST_GUESS:
                await scene.keys(PIN, why="a guess that is right, and too late")
            else:
                await scene.keys(f"1111222{guess}", why="a guess")
        insist(scene.line.over, "after three tries the call should be over")
        refused.append(" ".join(Screen(scene.line).news()))
    insist(len(set(refused)) == 1, "a locked call should sound like any other")
    events = [linked.entry for linked in await centre.store.entries(limit=ENTRIES_PER_PAGE)]
    judged = sum(entry.event == "authn_login_fail" and entry.reason == "wrong" for entry in events)
    unheard = sum(entry.event == "authn_login_fail" and entry.reason == "locked" for entry in events)
    insist((judged, unheard) == (5, 4), f"judged {judged} guesses, and {unheard} not")
    out.print(f"   [dim]9 guesses in 3 calls: {judged} were judged, {unheard} were not even looked at[/]")


async def owner(out: Console, centre: Rig) -> None:
    """Failures from elsewhere do not close the lane of a caller who verified from this number before."""
    scene = await _verified(out, centre)
    await scene.keys("1", "balance", why="balance")
    await scene.line.hang_up()


async def record(out: Console, centre: Rig) -> None:
    """The chain of audit entries is whole."""
    entries = await centre.store.entries(limit=ENTRIES_PER_PAGE)
    found = audit.verify(entries, head=await centre.store.head())
    insist(isinstance(found, int), f"the chain is broken: {found}")
    out.print(f"   [dim]{found} entries, each linked to the one before; the last three:[/]")
    for linked in entries[-3:]:
        entry = linked.entry
        out.print(f"   [dim]{linked.seq}  {entry.event}  {entry.reason}  {entry.account}[/]")


async def _stay(out: Console, centre: Rig) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, over.set)
    out.print(f"\nThe server stays up. The guard: {centre.guard_url}  the sample IVR: {centre.ivr_url}")
    out.print("Try, in another terminal:")
    out.print(f"  curl -i -d CallSid=CA1 {centre.guard_url}/         (unsigned: 403, and nothing else)")
    out.print(f"  curl -s {centre.guard_url}/.ivrguard/jwks.json     (the keys that sign receipts)")
    out.print(f"  curl -s {centre.ops_url}/metrics                   (what was counted)")
    out.print("  .venv/bin/python -m ivrguard play flows/bank.yaml  (call it yourself)")
    out.print(f"It signs as a pretend Twilio would, with the token {AUTH_TOKEN!r}. Ctrl-C ends it.")
    await over.wait()
