"""
A telephone in the terminal: `ivrguard play FLOW`.

The flow is the admin's own; behind it stand the sample bank and one made-up customer, so that a rule can be
heard before a caller hears it. Everything runs on loopback and is gone at the end.

At a terminal one is asked for keys; lines from a pipe or a file are shown as they are pressed, so that the output
reads as the talk it was. Standard input is read on a thread of its own: Ctrl-C need not wait for an Enter.
"""

import asyncio
import os
import threading
from contextlib import suppress

import pyotp
from rich.console import Console

from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Flow
from ivrguard.factors.totp import TotpJudge, new_secret
from ivrguard.phone import bank
from ivrguard.phone.exchange import LineError
from ivrguard.phone.rig import Rig, dialled, rig
from ivrguard.phone.screen import Screen
from ivrguard.ports import Account, Credential

STDIN = 0
READ_BYTES = 4096
OWN_NUMBER = "+15551230001"
ACCOUNT_DIGITS = 9
ACCOUNT = "123456789" * 4
PIN_DIGITS = 8
PIN = "7392641850829374"
"""Account and PIN are cut from these, as long as the flow wants them; no beginning of the PIN is a weak one."""
HELP = "Type keys and Enter (finish with # where you are asked to). Enter alone: silence. t: the app's code. h: hang up."


async def run(out: Console, flow: Flow, *, caller: str, attested: bool, keyboard: int = STDIN) -> None:
    """
    Call the flow until somebody hangs up, or the input ends.

    `caller`: the number it comes from; `attested`: its carrier vouches for it. `keyboard`: a file descriptor.
    """
    async with rig(flow, bank.app) as centre:
        account, pin = made_up(flow)
        secret = new_secret(centre.server.world.chance)
        credentials = (
            Credential(Kind.SMS_CODE, number=OWN_NUMBER),
            TotpJudge(centre.keyring).enrol(secret),
        )
        await centre.enrol(Account(account, (OWN_NUMBER,), credentials), pin=pin)
        out.print(f"You call {dialled(flow)[0]} from {caller}. {HELP}")
        out.print(f"The customer: account {account}, PIN {pin}, number {OWN_NUMBER}.")
        await _talk(out, centre, secret, caller, attested, keyboard)


def made_up(flow: Flow) -> tuple[str, str]:
    """An account and a PIN of as many digits as the flow wants."""
    pin_digits = next(
        (factor.digits for factor in flow.factors.values() if factor.kind is Kind.PIN), PIN_DIGITS
    )
    account_digits = min(max(ACCOUNT_DIGITS, flow.identify.digits_min), flow.identify.digits_max)
    return ACCOUNT[:account_digits], PIN[:pin_digits]


async def _talk(out: Console, centre: Rig, secret: str, caller: str, attested: bool, keyboard: int) -> None:
    line = centre.call(caller, attested=attested)
    screen, typed, asks = Screen(out, line, centre.carrier), _lines(keyboard), os.isatty(keyboard)
    await line.until_input()
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
            match keys:
                case "h":
                    await line.hang_up()
                case "t":
                    screen.print("⚿", pyotp.TOTP(secret).at(centre.clock() // 1000), "magenta")
                case "":
                    await line.silent()
                case _:
                    await line.press(keys)
        except LineError as error:
            out.print(f"   ({error}) {HELP}")


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
