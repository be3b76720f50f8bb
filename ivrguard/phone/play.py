"""
A telephone in the terminal: `ivrguard play FLOW`.

The flow is the admin's own; behind it stand a sample bank, a stub or an IVR that runs, and one made-up customer
(phone/world.py), so that a rule can be heard before a caller hears it. Everything else is on loopback and is gone at
the end.

1. At a terminal one is asked for keys; lines from a pipe or a file are shown as they are pressed, so that the output
   reads as the talk it was. Standard input is read on a thread of its own: Ctrl-C need not wait for an Enter.
2. A story plays in the same world, and its output is the same talk.
3. A talk that is recorded is written down however it ends. While it is recorded, time stands still but for `wait`:
   otherwise it would not come true when it is played.
"""

import asyncio
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from rich.console import Console

from ivrguard.core.flow import Flow
from ivrguard.phone import stage
from ivrguard.phone.exchange import Line, LineError
from ivrguard.phone.heard import Queued
from ivrguard.phone.recorder import Recorder
from ivrguard.phone.rig import Clock, dialled
from ivrguard.phone.screen import Screen, show, show_told
from ivrguard.phone.stage import StoryFailed
from ivrguard.phone.story import Act, Does, Form, Plain, Step, Story, seconds
from ivrguard.phone.world import OWN_NUMBER, Real, Telling, begin_ms, sample, told
from ivrguard.web.app import wall_clock_ms

STDIN = 0
READ_BYTES = 4096
HELP = """Type keys and Enter (finish with # where you are asked to); Enter alone is silence. Or:
   h  hang up        t  what the app shows       a  an agent answers, then hangs up
   say WORDS         wait 30m (s, m, h, d)       go to /PATH  (a stub leads you there)"""

GO = Form("go to PATH")

Keep = Callable[[Story], None]
"""Is given the story of a talk, however the talk has ended."""


async def run(
    out: Console,
    flow: Flow,
    *,
    caller: str,
    attested: bool,
    ivr: str = "",
    real: Real | None = None,
    keep: Keep | None = None,
    keyboard: int = STDIN,
) -> None:
    """
    Call the flow until somebody hangs up, or the input ends.

    `caller`: the number it comes from; `attested`: its carrier vouches for it. `ivr`, `real`: see `world.told`; "": the
    sample that fits the flow. `keep`: the talk is recorded. `keyboard`: a file descriptor.
    """
    ivr = ivr or sample(flow)
    begins, clock = None, Clock()
    if keep is not None and any(rule.hours for rule in flow.rules):
        minute = datetime.fromtimestamp(wall_clock_ms() // 60_000 * 60, ZoneInfo(flow.timezone))
        begins = minute.replace(tzinfo=None)
    if keep is not None:
        clock = Clock(begin_ms(flow, begins))
    async with told(flow, ivr=ivr, real=real, clock=clock) as telling:
        out.print(f"You call {dialled(flow)[0]} from {caller}. {HELP}")
        out.print(f"The customer: account {telling.who.account}, PIN {telling.who.pin}, number {OWN_NUMBER}.")
        line = telling.at.call(caller, attested=attested)
        recorder = Recorder(telling, line, "A" if attested else "")
        if keep is not None:
            out.print("It is recorded, secrets by their names. Time stands still, but for `wait`.")
        try:
            await _talk(out, telling, line, recorder, keyboard)
        finally:
            if keep is not None and recorder.steps:
                head = Story("", (), flow=flow.name, ivr="" if real is not None else ivr, begins=begins)
                keep(replace(head, steps=tuple(map(Step, recorder.steps))))


async def tell(out: Console, flow: Flow, story: Story, *, ivr: str = "", real: Real | None = None) -> bool:
    """Play a story; whether it came true. The talk is printed as it goes, and in the end what went wrong."""
    async with told(flow, story, ivr=ivr, real=real) as telling:
        try:
            await stage.play(
                story, telling.at.exchange, world=telling.world(), listener=partial(show_told, out)
            )
        except StoryFailed as failed:
            show(out, "✗", failed.step, "red")
            out.print(f"{failed.where}: {failed.why}", style="red")
            return False
    out.print(f"{story.name}: it came true", style="green")
    return True


async def _talk(out: Console, telling: Telling, line: Line, recorder: Recorder, keyboard: int) -> None:
    centre = telling.at
    screen, typed, asks = Screen(out, line, centre.carrier), _lines(keyboard), os.isatty(keyboard)
    await line.until_input()
    recorder.begun()
    while True:
        screen.show()
        if line.over:
            return
        if asks:
            out.print("keys> ", end="")
        text = await typed.get()
        keys = "h" if text is None else text.strip()
        if not asks:
            screen.keyed(keys or "(silence)")
        try:
            if keys == "t":
                screen.print("⚿", telling.app(), "magenta")
            elif found := re.fullmatch(r"wait ([0-9]{1,6}[smhd])", keys, re.ASCII):
                centre.clock.advance(seconds(found[1]))
                recorder.waits(seconds(found[1]))
            else:
                await _act(telling, line, keys, recorder)
        except LineError as error:
            out.print(f"   ({error}) {HELP}")


async def _act(telling: Telling, line: Line, keys: str, recorder: Recorder) -> None:
    """Do on the line what was typed, and write it down once it is done."""
    word, _, words = keys.partition(" ")
    does: Does
    match word:
        case "h":
            does = Plain("hang up")
            await line.hang_up()
        case "":
            does = Plain("silence")
            await line.silent()
        case "a" if isinstance(line.waiting, Queued):
            does = Plain("agent answers")
            await line.dequeued()
        case "a":
            does = Plain("agent hangs up")
            await line.agent_hangs_up()
        case "go":
            path = words.removeprefix("to ")
            if GO.read(f"go to {path}") is None:
                raise LineError("go to a path, such as: go to /menu")
            does = Act(f"go to {path}")
            await telling.lead(line, path)
        case "say":
            does = recorder.said(words)
            await line.speak(words)
        case _:
            does = await recorder.meant(keys)
            await line.press(keys)
    recorder.did(does)


def _lines(keyboard: int) -> asyncio.Queue[str | None]:
    """The lines that are typed, as they come; None at their end."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(line: bytes | None) -> None:
        text = None if line is None else line.decode(errors="replace")
        loop.call_soon_threadsafe(lines.put_nowait, text)

    def read() -> None:
        rest = b""
        with suppress(OSError):  # closed, or the terminal is gone: the input has ended
            while chunk := os.read(keyboard, READ_BYTES):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    tell(line)
        if rest:
            tell(rest)
        tell(None)

    def work() -> None:
        with suppress(RuntimeError):  # the loop is closed: the call is over, and somebody still types
            read()

    threading.Thread(target=work, name="keyboard", daemon=True).start()
    return lines
