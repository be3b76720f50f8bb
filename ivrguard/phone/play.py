"""
A telephone in the terminal: `ivrguard play FLOW`.

The flow is the admin's own; behind it stand the sample bank and one made-up customer, so that a rule can be
heard before a caller hears it. Everything runs on loopback and is gone at the end.
"""

import asyncio
import sys

import pyotp
from rich.console import Console

from ivrguard.core.assurance import Kind
from ivrguard.core.flow import Flow
from ivrguard.factors.totp import TotpJudge, new_secret
from ivrguard.phone import bank
from ivrguard.phone.exchange import LineError
from ivrguard.phone.rig import Rig, rig
from ivrguard.phone.screen import Screen
from ivrguard.ports import Account, Credential

ACCOUNT = "123456789"
OWN_NUMBER = "+15551230001"
HELP = "Type keys and Enter (finish with # where you are asked to). Enter alone: silence. h: hang up."


async def run(out: Console, flow: Flow, *, caller: str, attested: bool) -> None:
    """Call the flow until somebody hangs up, or the input ends."""
    async with rig(flow, bank.app) as centre:
        digits = next((f.digits for f in flow.factors.values() if f.kind is Kind.PIN), 8)
        pin = "2468135790864"[:digits]
        secret = new_secret(centre.server.world.chance)
        await centre.enrol(
            Account(
                ACCOUNT,
                (OWN_NUMBER,),
                (
                    Credential(Kind.SMS_CODE, number=OWN_NUMBER),
                    TotpJudge(centre.keyring).enrol(secret),
                ),
            ),
            pin=pin,
        )
        out.print(f"You call {flow.numbers[0]} from {caller}. {HELP}", markup=False)
        out.print(f"The customer: account {ACCOUNT}, PIN {pin}, number {OWN_NUMBER}.", markup=False)
        out.print("App codes: type t for the present one.", markup=False)
        await _talk(out, centre, secret, caller, attested)


async def _talk(out: Console, centre: Rig, secret: str, caller: str, attested: bool) -> None:
    line = centre.call(caller, attested=attested)
    screen, texts = Screen(line), 0
    await line.until_input()
    while True:
        for text in screen.news():
            out.print(f"  {text}", markup=False)
        for message in centre.carrier.sent[texts:]:
            out.print(f"  ✉ {message.to}: {message.body}", markup=False)
        texts = len(centre.carrier.sent)
        if line.over:
            return
        out.print("keys> ", end="", markup=False)
        typed = await asyncio.to_thread(sys.stdin.readline)
        keys = typed.strip()
        if not typed or keys == "h":
            await line.hang_up()
            return
        if keys == "t":
            out.print(f"  {pyotp.TOTP(secret).at(centre.clock() // 1000)}", markup=False)
            continue
        try:
            await (line.press(keys) if keys else line.silent())
        except LineError as error:
            out.print(f"  ({error}) {HELP}", markup=False)
