"""
`ivrguard demo`: the mission, once, whole and for real, on this machine.

Server and SQLite file are the embedded default; the IVRs are a sample bank and a sample clinic written with the twilio
library, which know nothing of the guard; the provider's network is imitated (exchange.py). Two of the example flows are
played, in English and in Spanish. Each scene says what it expects and looks whether it came so: `run` is true only if all
of them did.
"""

import asyncio
import re
import signal
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pyotp
from rich.console import Console

from ivrguard import flowfile
from ivrguard.core import audit
from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Flow
from ivrguard.factors.totp import TotpJudge, new_secret
from ivrguard.phone import bank, clinic
from ivrguard.phone.exchange import Line, LineError
from ivrguard.phone.heard import Dialled, Queued
from ivrguard.phone.rig import AUTH_TOKEN, PUBLIC_URL, Rig, rig
from ivrguard.phone.screen import Screen
from ivrguard.ports import Account, Credential
from ivrguard.stores.sqlite import SqliteStore

FLOW, CLINIC_FLOW = Path("flows/bank.yaml"), Path("flows/clinic.yaml")
ACCOUNT = "123456789"
PATIENT = "1234567"
PIN = "24681357"
OWNER = "+15551230001"
STRANGER = "+15559870002"
LAST_GUESS = 8
DIGITS_SHOWN_CHARS = 5
"""Of a code that is read digit by digit: three digits, and the blanks between them."""
STOPS = (signal.SIGINT, signal.SIGTERM)
HTTP_OK = 200
HTTP_CREATED = 201
HTTP_ACCEPTED = 202
HTTP_FORBIDDEN = 403
HTTP_NOT_FOUND = 404
ENTRIES_PER_PAGE = 1_000


class NotAsTold(Exception):
    """A scene went otherwise than it was told."""


class Scene:
    """One call on the stage: prints what is heard and done, and insists on what is told."""

    def __init__(self, out: Console, centre: Rig, line: Line) -> None:
        self._carrier = centre.carrier
        self.line = line
        self.screen = Screen(out, line, centre.carrier)

    def hears(self, *parts: str) -> None:
        """Everything new on the line, printed; each of `parts` must be in it."""
        heard = self.screen.show().lower()
        for part in parts:
            insist(part.lower() in heard, f"expected to hear {part!r}")

    async def dials(self, *parts: str) -> None:
        """The call begins."""
        await self.line.until_input()
        self.hears(*parts)

    async def keys(self, keys: str, *parts: str, why: str) -> None:
        """The caller keys something, and hears."""
        self.screen.keyed(keys, why)
        try:
            await self.line.press(keys)
        except LineError as error:
            raise NotAsTold(f"{why}: {error}") from error
        self.hears(*parts)

    async def keys_code(self, *parts: str) -> None:
        """The caller keys the code that his phone got."""
        try:
            code = self._carrier.code_for(OWNER)
        except LookupError as error:
            raise NotAsTold(f"no code came: {error}") from error
        await self.keys(code, *parts, why="the code from the text message")


def insist(holds: bool, otherwise: str) -> None:
    """Raise `NotAsTold` unless it holds."""
    if not holds:
        raise NotAsTold(otherwise)


async def run(out: Console, *, once: bool) -> bool:
    """Play every scene; then stay up until Ctrl-C, unless `once`. Whether all went as told."""
    flows = _flows(out)
    if flows is None:
        return False
    with tempfile.TemporaryDirectory(prefix="ivrguard-demo-") as folder:
        store = await SqliteStore.open(Path(folder) / "demo.db", migrate=True)
        async with rig(flows[0], bank.app, store=store) as centre, rig(flows[1], clinic.app) as practice:
            await centre.enrol(
                Account(ACCOUNT, (OWNER,), (Credential(Kind.SMS_CODE, number=OWNER),)), pin=PIN
            )
            told = await _play(out, centre, practice)
            if told and not once:
                await _stay(out, centre)
    return told


def _flows(out: Console) -> tuple[Flow, ...] | None:
    """The flows that are played; None, and what is wrong with one."""
    flows: list[Flow] = []
    for path in (FLOW, CLINIC_FLOW):
        loaded = flowfile.load(path)
        if loaded.flow is None:
            for fault in loaded.faults:
                out.print(str(fault))
            out.print(f"The demo plays {path}: mend it, or run this in the project's folder.", style="red")
            return None
        flows.append(loaded.flow)
    return tuple(flows)


async def _play(out: Console, centre: Rig, practice: Rig) -> bool:
    scenes: tuple[tuple[str, Callable[[Console, Rig], Awaitable[None]], Rig], ...] = (
        ("An honest caller hears his balance: one factor, the PIN", balance, centre),
        ("A wire needs a second factor: a code to the number on file", wire, centre),
        ("To an agent: one factor once more, a token, a receipt, and never twice", agent, centre),
        ("At the desk: a code read back, a threat reported, the caller passed on", desk, centre),
        ("A guesser is locked out, and hears the same words as before", guesser, centre),
        ("The owner's own lane stays open all the while", owner, centre),
        ("Everything is on record, and the record holds", record, centre),
        ("Another flow, in Spanish: a clinic's menu is open, its results are not", patient, practice),
    )
    for number, (title, scene, where) in enumerate(scenes, 1):
        out.print(f"\n{number}. {title}", style="bold")
        try:
            await scene(out, where)
        except NotAsTold as otherwise:
            out.print(f"   ✗ not as told: {otherwise}", style="red")
            return False
    out.print(f"\nAll {len(scenes)} scenes went as told.", style="green bold")
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
    queued = _queued(scene)
    token = _token(scene)
    scene.screen.print("☎", f"the agent's task holds a token: {token[:4]}…", "blue")
    status, receipt = await centre.redeem(key, token, scene.line.call_sid)
    insist(status == HTTP_CREATED, f"the desk got {status}")
    claims = centre.keyring.verify(
        str(receipt["receipt"]),
        typ="ivrguard-receipt+jwt",
        iss=PUBLIC_URL,
        aud=f"workflow:{queued.workflow}",
        now_ms=centre.clock(),
    )
    said = f"account {claims['sub']}, {claims['acr']} by {claims['amr']}, for {claims['intent']}"
    scene.screen.print("☎", f"ann's desk: {said}; the signature holds", "blue")
    again, _ = await centre.redeem(key, token, scene.line.call_sid)
    insist(again == HTTP_FORBIDDEN, f"the same token again got {again}")
    scene.screen.print("☎", "the same token again: refused", "blue")
    await scene.line.dequeued("ann")
    await scene.line.hang_up()


async def desk(out: Console, centre: Rig) -> None:
    """What an agent does with a caller whom he holds, over the API that the panel and a CRM use: nothing of it is heard on the line."""
    eve, bob = await centre.desk("eve", "workflow:*"), await centre.desk("bob", "client:bob")
    scene = await _verified(out, centre)
    await scene.keys("0", "code", why="an agent, please")
    await scene.keys_code()
    call = f"calls/{scene.line.call_sid}"
    status, answered = await centre.redeem(eve, _token(scene), scene.line.call_sid)
    insist(status == HTTP_CREATED, f"eve got {status}")
    status, _ = await centre.asked(bob, call)
    insist(status == HTTP_NOT_FOUND, f"bob, who does not hold the call, got {status}")
    _, seen = await centre.asked(eve, call)
    scene.screen.print(
        "☎", f"eve sees: {seen['status']}, reference {seen['reference']}; bob sees nothing of it", "blue"
    )
    status, _ = await centre.asked(eve, f"{call}/codes", {})
    insist(status == HTTP_ACCEPTED, f"eve asked for a code and got {status}")
    code = centre.carrier.code_for(OWNER)
    status, answered = await centre.asked(eve, f"{call}/answers", {"digits": code})
    insist((status, answered.get("right")) == (HTTP_OK, True), f"the code read back got {status} {answered}")
    scene.screen.print("☎", "eve types the code that the caller reads out: right", "blue")
    status, _ = await centre.asked(eve, "reports", {"call_sid": scene.line.call_sid})
    insist(status == HTTP_CREATED, f"the report got {status}")
    scene.screen.print("☎", "eve reports a threat, quietly: only the risk team hears of it", "blue")
    status, answered = await centre.asked(eve, f"{call}/transfers", {"queue": "client:bob"})
    insist(status == HTTP_CREATED, f"passing on got {status}")
    status, receipt = await centre.redeem(bob, str(answered["token"]), scene.line.call_sid)
    insist(status == HTTP_CREATED, f"bob got {status}")
    status, _ = await centre.asked(eve, call)
    insist(status == HTTP_NOT_FOUND, f"eve, who has passed him on, got {status}")
    scene.screen.print(
        "☎", f"passed on to bob with a new token: {receipt['acr']}; eve sees nothing any more", "blue"
    )
    await scene.line.dequeued("bob")
    await scene.line.hang_up()


def _queued(scene: Scene) -> Queued:
    queued = scene.line.waiting
    if not isinstance(queued, Queued):
        raise NotAsTold("the caller should be waiting for an agent")
    return queued


def _token(scene: Scene) -> str:
    """What the agent's task holds."""
    token = str(_queued(scene).attributes.get("ivrguard_token", ""))
    insist(bool(token), "the agent's task should hold a token")
    return token


async def guesser(out: Console, centre: Rig) -> None:
    """Three guesses a call, five an hour: then nothing is judged, and the words stay the same."""
    calls: set[tuple[str, ...]] = set()
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
        calls.add(tuple(scene.screen.heard))
    insist(len(calls) == 1, "a locked call should sound like any other")
    events = [linked.entry for linked in await centre.store.entries(limit=ENTRIES_PER_PAGE)]
    judged = sum(entry.event == "authn_login_fail" and entry.reason == "wrong" for entry in events)
    unheard = sum(entry.event == "authn_login_fail" and entry.reason == "locked" for entry in events)
    insist((judged, unheard) == (5, 4), f"judged {judged} guesses, and {unheard} not")
    out.print(
        f"   9 guesses in 3 calls: {judged} were judged, {unheard} were not even looked at", style="dim"
    )


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
    out.print(f"   {found} entries, each linked to the one before; the last three:", style="dim")
    for linked in entries[-3:]:
        entry = linked.entry
        out.print(f"   {linked.seq}  {entry.event}  {entry.reason}  {entry.account}", style="dim")


async def patient(out: Console, practice: Rig) -> None:
    """What is open asks for nothing; results take the PIN and the app; an agent at a plain phone gets a code by ear."""
    secret = new_secret(practice.server.world.chance)
    await practice.enrol(Account(PATIENT, (), (TotpJudge(practice.keyring).enrol(secret),)), pin=PIN)
    key = await practice.desk("recepción", f"number:{clinic.DESK_NUMBER}")
    scene = Scene(out, practice, practice.call(STRANGER))
    await scene.dials("oprima 1")
    await scene.keys("1", "primera cita", why="an appointment: nothing is asked")
    await scene.keys("3", "número de paciente", why="his results")
    await scene.keys(f"{PATIENT}#", "8 dígitos", why="patient number")
    await scene.keys(PIN, "aplicación", why="the PIN")
    await scene.keys(pyotp.TOTP(secret).at(practice.clock() // 1000), "análisis", why="what the app shows")
    await scene.keys("0", "Su PIN, por favor", why="somebody to talk to: asked once more, and shorter")
    await scene.keys(PIN, "connects", why="the PIN")
    (dialled,) = [event for event in scene.line.heard if isinstance(event, Dialled)]
    insist(len(dialled.whispered) > 0, "the desk should have been told a code")
    words, code = _without_digits(dialled.whispered[0])
    scene.screen.print("☎", f"the desk alone hears: {words}", "blue")
    status, receipt = await practice.redeem(key, code, scene.line.call_sid)
    insist(status == HTTP_CREATED, f"the desk got {status}")
    scene.screen.print("☎", f"the desk types it in: patient {receipt['account']}, {receipt['acr']}", "blue")
    await scene.line.hang_up()


def _without_digits(words: str) -> tuple[str, str]:
    """A whisper as it may be shown, the end of its code left out; and the code."""
    code = "".join(re.findall("[0-9]", words))
    spelled = " ".join(code)
    return words.replace(spelled, f"{spelled[:DIGITS_SHOWN_CHARS]}…"), code


async def _stay(out: Console, centre: Rig) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in STOPS:
        loop.add_signal_handler(name, over.set)
    out.print(f"\nThe server stays up. The guard: {centre.guard_url}  the sample IVR: {centre.ivr_url}")
    out.print("Try, in another terminal:")
    out.print(f"  curl -i -d CallSid=CA1 {centre.guard_url}/         (unsigned: 403, and nothing else)")
    out.print(f"  curl -s {centre.guard_url}/.ivrguard/jwks.json     (the keys that sign receipts)")
    out.print(f"  curl -s {centre.ops_url}/metrics                   (what was counted)")
    out.print("  .venv/bin/python -m ivrguard play flows/bank.yaml  (call it yourself)")
    out.print(f"It signs as a pretend Twilio would, with the token {AUTH_TOKEN!r}. Ctrl-C ends it.")
    try:
        await over.wait()
    finally:
        for name in STOPS:
            loop.remove_signal_handler(name)
