"""
Attacks that deny: locking the owner out, pretending to be his telephone, and floods.

The law of this file: a stranger's failures are the stranger's. What they cost the owner is measured by the owner's own
calls, in the middle of it.
"""

import asyncio

from ivrguard.phone import world
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Asked
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.ground import Ground
from ivrguard.phone.redteam.guessing import FAILURES_MAX, MORE, unprotected, ways_of

ATTESTATIONS = (
    None,
    "TN-Validation-Passed-B",
    "TN-Validation-Passed-C",
    "TN-Validation-Failed-A",
    "TN-Validation-Passed-A-Diverted",
    "TN-Validation-Passed-A-Passthrough",
    "tn-validation-passed-a",
)
"""What the carriers may say of a caller who only pretends to be at the owner's number."""
FLOOD = 50
CALLS_EACH_MAX = 2
OWNERS_CALLS = 5
NONSENSE = (
    "",
    "*",
    "**",
    "#",
    "A",
    "ABCD",
    "0" * 4,
    "9" * 60,
    "1*2*3",
    "*0*0*0",
    "D" * 200,
    "00000000000000",
)


async def _lock_out(ground: Ground) -> None:
    """Strangers lock every factor of the owner's account; he calls between."""
    failures = min(ground.flow.locks.account.failures, FAILURES_MAX)
    for factor, way in (await ways_of(ground)).items():
        await ground.guess(factor, way, most=failures + MORE)
    factor, way = await ground.first()
    served = 0
    for _ in range(OWNERS_CALLS):
        await ground.guess(factor, way, most=2)
        served += (await ground.owner_calls()).got_in
    ground.tried["the owner's calls meanwhile"] += OWNERS_CALLS
    if served < OWNERS_CALLS:
        what = f"the owner got in with {served} of {OWNERS_CALLS} calls from his own phone, while strangers guessed"
        if ground.flow.locks.trusted_lane:
            ground.through(what)
        else:
            mend = "write `trusted_lane: true`: a stranger's failures are then counted apart"
            ground.through(what, ("lockout", "trusted_lane"), mend)


async def _spoof(ground: Ground) -> None:
    """Pretend to call from the owner's number, with every attestation short of A: guess, and ask to be let in."""
    failures = min(ground.flow.locks.account.failures, FAILURES_MAX)
    factor, way = await ground.first()
    for verstat in ATTESTATIONS:
        for _ in range(failures):
            line = _spoofed(ground, verstat)
            await ground.to_question(line, way[0], factor, way[1])
            await line.press(ground.wrong(factor))
            ground.tried["guesses keyed"] += 1
            await ground.leave(line)
    for verstat in (*ATTESTATIONS, "TN-Validation-Passed-A"):
        line = _spoofed(ground, verstat)
        ground.tried["calls from the owner's number, with no secret"] += 1
        if await ground.to(line, ground.aim) == "there":
            ground.through(f"{ground.aim} was reached from the owner's number, with nothing proved")
        await ground.leave(line)
    ground.notes.append(
        "whoever is attested A at the owner's own number guesses in the owner's lane, and fills it"
    )


def _spoofed(ground: Ground, verstat: str | None) -> Line:
    to = ground.at.call().to
    return ground.at.exchange.call(world.OWN_NUMBER, to, stir_verstat=verstat)


async def _flood(ground: Ground) -> None:
    """Many calls at once that never answer, and as many webhooks that nobody signed; the owner calls meanwhile."""
    url = f"{ground.at.guard_url}/"

    async def calls_again() -> None:
        """Call, say nothing, hang up, post something unsigned, and call again."""
        for _ in range(CALLS_EACH_MAX):
            line = ground.call()
            await line.until_input()
            await ground.leave(line)
            async with ground.at.session.post(url, data={"CallSid": line.call_sid}):
                ground.tried["unsigned webhooks"] += 1

    flood = asyncio.gather(*(calls_again() for _ in range(FLOOD)))
    talk = await ground.owner_calls()
    await flood
    ground.tried["callers at once"] += FLOOD
    if not talk.got_in:
        ground.through(f"the owner did not get in while {FLOOD} callers called again and again")


async def _nonsense(ground: Ground) -> None:
    """Key nonsense at each question, by fistfuls: nothing may break, and nothing of it may be a guess."""
    factor, way = await ground.first()
    for keys in NONSENSE:
        for stop in ("account", factor):
            line = ground.call()
            await ground.to(line, way[0], stop=stop, knows=way[1])
            assert isinstance(line.waiting, Asked)
            for event in ({"Digits": keys}, {"SpeechResult": "seven eight nine", "Confidence": "0.9"}):
                ground.tried["nonsense keyed and said"] += 1
                await line.send(line.waiting.action, event)
            statuses = {request.status for request in line.requests} - {200}
            if statuses:
                ground.through(
                    f"nonsense was answered with {sorted(statuses)}: the keys are in Twilio's debugger"
                )
            await ground.leave(line)
    if ground.ivr.digits_seen() & set(NONSENSE[6:]):
        ground.through("what was keyed at the guard's question reached the IVR")


ATTACKS = (
    Attack(
        "lock-out-the-owner",
        "Lock every factor of an account from strangers' numbers, while its owner calls",
        "field C: lockout as denial of service; OWASP ASVS 5.0, 6.1.1; field B4",
        _lock_out,
        unprotected,
    ),
    Attack(
        "spoof-the-owner",
        "Call from the owner's own number, with every attestation; guess there, and ask to be let in",
        "field C: ANI spoofing; NIST SP 800-63B-4, 3.2; field H15",
        _spoof,
        unprotected,
    ),
    Attack(
        "flood",
        f"{FLOOD} callers who call again and again, with unsigned webhooks between, while the owner calls",
        "field C: telephone flood (FBI PSA210217); MITRE ATT&CK T1499",
        _flood,
    ),
    Attack(
        "key-nonsense",
        "Stars, letters, fistfuls of keys and words where keys are wanted",
        "field C: DTMF fuzzing of the IVR (Sasi 2012); CWE-20",
        _nonsense,
        unprotected,
    ),
)
