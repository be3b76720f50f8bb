"""What stands behind the guard: an IVR and a carrier that are slow, drop, and lie; each in every way, all at once."""

import asyncio

from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Asked
from tests.faults.counts import APOLOGY, Count, count, said
from tests.faults.house import Caller, House
from tests.faults.others import Carrier, Ivr


async def ivr_fails(house: House) -> Count:
    """One call for each way; every caller hears the guard's own apology, and the record is what the IVR got."""
    callers = [await house.caller() for _ in Ivr.BAD]
    lines = [
        house.call(caller, path=f"/bad/{way}") for caller, (way, _) in zip(callers, Ivr.BAD, strict=True)
    ]
    await asyncio.gather(*(line.until_input() for line in lines))
    found = await count(house, callers)
    found.lost += [f"{line.heard}: no apology" for line in lines if APOLOGY not in " ".join(said(line))]
    found.through += [f"{line.heard}: it went on" for line in lines if not line.over]
    return found


async def carrier_fails(house: House) -> Count:
    """One call for each way, and one to a number that texts reach: that caller alone may wire."""
    digits = [*(digit for digit, _ in Carrier.BAD), "0"]
    callers = [await house.caller(texted=digit) for digit in digits]
    lines = [house.call(caller, path="/wire/amount") for caller in callers]
    await asyncio.gather(
        *(
            _wires(house, caller, line, digit)
            for caller, line, digit in zip(callers, lines, digits, strict=True)
        )
    )
    found = await count(house, callers)
    for line, digit in zip(lines, digits, strict=True):
        wired = any(one.path == "/wire/amount" and one.call == line.call_sid for one in house.ivr.got)
        if wired != (digit == "0"):
            (found.through if wired else found.lost).append(f"{digit}: {line.heard}")
        if digit != "0" and APOLOGY not in " ".join(said(line)):
            found.lost.append(f"{digit}: {line.heard}: no apology")
    return found


async def _wires(house: House, caller: Caller, line: Line, digit: str) -> None:
    await line.until_input()
    await line.press(f"{caller.account}#")
    await line.press(caller.right())
    if digit == "0":
        assert isinstance(line.waiting, Asked), line.heard
        await line.press(house.carrier.code_for(caller.texted))
