"""
Who calls, and what for: honest callers with their mistakes, and everybody who tries to get in. Each is a coroutine with its
own chance, so that what one does moves nobody else's dice. The agents they are taken to: agents.py.

`ACTORS` says how often each of them comes. What an actor learns he learns as people do: from what he hears, from his
phone, from the document that the provider got, and attackers from whatever they saw in other calls.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.sim import town
from tests.sim.agents import agent, rogue, whisper
from tests.sim.nodes import TRANSFERS
from tests.sim.phone import Line
from tests.sim.stage import Stage, pause, wrong

ANSWERS_MAX = 16

# ── honest callers ───────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Caller:
    """A person on a line. `sure`: how likely he keys the right thing."""

    stage: Stage
    chance: random.Random
    person: town.Person
    line: Line
    sure: float = 0.93
    dawdles: bool = False
    stays_s: tuple[float, float] = (5, 40)
    """How long he talks to an agent."""
    bent_agent: bool = False

    async def prove(self) -> bool:
        """Answer for as long as the guard asks; whether the line is still there afterwards."""
        for _ in range(ANSWERS_MAX):
            if self.line.over or not self.line.asked:
                break
            await pause(self.chance)
            await self.line.press(await self._answer())
        return not self.line.over

    async def _answer(self) -> str:
        chance, person = self.chance, self.person
        odd = chance.random()
        if odd < 0.02:
            return ""
        if odd < 0.04:
            return chance.choice(("*", "***", "12345", "9" * 13))
        match self.line.asked:
            case "identify":
                return "1" if self.line.number == person.number and odd < 0.6 else person.account
            case "pin":
                return person.pin if chance.random() < self.sure else wrong(chance)
            case "sms_code":
                return await self._code()
            case _:
                return await self._app()

    async def _code(self) -> str:
        """The code on his phone, once it is there."""
        if not self.person.has_phone or (self.person.app is not None and self.chance.random() < 0.5):
            return "2"
        for _ in range(4):
            loop = asyncio.get_running_loop()
            fresh = [code for at_s, code in self.person.inbox if at_s > loop.time() - 30]
            if fresh:
                if self.chance.random() < 0.3:
                    self.stage.overheard.append((self.person, fresh[-1]))
                return fresh[-1] if self.chance.random() < self.sure else wrong(self.chance, 6)
            await asyncio.sleep(3)
        return self.chance.choice(("1", "2", ""))

    async def _app(self) -> str:
        """What his app shows."""
        if self.person.app is None:
            return "2"
        step = (town.BEGAN_MS // 1000 + int(asyncio.get_running_loop().time())) // 30
        code = self.person.totp(step)
        if self.chance.random() < 0.5:
            self.stage.overheard.append((self.person, code))
        return code

    async def choose(self, key: str) -> bool:
        """Press a key of the IVR's main menu, and see it through."""
        await (pause(self.chance, 100, 400) if self.dawdles else pause(self.chance))
        if self.line.asked or not self.line.action:
            return False
        await self.line.press(key)
        if not await self.prove():
            return False
        if key == "3" and "confirm" in self.line.action:
            await pause(self.chance)
            await self.line.press("1")
        if self.line.transfer is not None:
            await self._with_an_agent()
        return not self.line.over

    async def _with_an_agent(self) -> None:
        stage, line, chance = self.stage, self.line, self.chance
        transfer = line.transfer
        assert transfer is not None
        await line.wait_in_queue()
        if transfer.target in stage.desks:
            told = await whisper(stage, line, transfer.whisper) if transfer.whisper else transfer.token
            own = random.Random(chance.random())
            how = {"slow": self.dawdles, "steady": self.sure == 1, "bent": self.bent_agent}
            work = agent(stage, own, line, transfer.target, told, self.person, **how)
            stage.provider.errand(work)
        await (pause(chance, 620, 720) if self.dawdles else pause(chance, *self.stays_s))
        if chance.random() < 0.4:
            await line.hang_up()
        else:
            await line.after_the_agent(bridged=chance.random() < 0.5)


async def honest(stage: Stage, chance: random.Random) -> None:
    """Calls, proves what is asked for, does what he came for; forgets, mistypes, hangs up, calls again."""
    person = chance.choice(stage.town.people)
    own = chance.random() < 0.8
    sure = chance.choice((0.97, 0.97, 0.97, 0.6, 0.05))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if stage.left <= 0:
            return
        number = person.number if own else stage.number(chance)
        line = stage.line(chance, number, attested=chance.random() < 0.75)
        caller = Caller(stage, chance, person, line, sure, dawdles=chance.random() < 0.1)
        await line.dial()
        if chance.random() < 0.05:
            await line.hang_up()
            continue
        if await caller.prove():
            for key in chance.choices("123456789012300", k=chance.randint(1, 3)):
                if not await caller.choose(key):
                    break
        await line.hang_up()
        await pause(chance, 5, 300)


async def visitor(stage: Stage, chance: random.Random) -> None:
    """Calls for an agent, keys what he has to, and talks to him for as long as it takes."""
    person = chance.choice(stage.town.people)
    line = stage.line(chance, person.number, attested=True)
    caller = Caller(
        stage, chance, person, line, sure=1.0, stays_s=(20, 120), bent_agent=chance.random() < 0.2
    )
    await line.dial()
    if await caller.prove():
        await caller.choose(chance.choice(list(TRANSFERS)))
    await line.hang_up()


# ── attackers ────────────────────────────────────────────────────────────────────────────────────────────


async def asked_for(stage: Stage, line: Line, account: str, name: str, chance: random.Random) -> bool:
    """Begin a call, claim an account, and get to a question; whether that came about."""
    await line.dial()
    if line.asked == "identify":
        await pause(chance, 0, 3)
        await line.press(account)
    return line.asked == name and not line.over


async def guess(stage: Stage, chance: random.Random, account: str, times: int, number: str = "") -> None:
    """Guesses at an account, call after call, from another number each time (or this one)."""
    while times > 0 and stage.left > 0:
        line = stage.line(chance, number or stage.number(chance), attested=chance.random() < 0.3)
        if not await asked_for(stage, line, account, "pin", chance):
            times -= 1
            continue
        while line.asked == "pin" and not line.over and times > 0:
            await pause(chance, 0, 2)
            await line.press(wrong(chance))
            times -= 1
        await line.hang_up()


def target(stage: Stage, chance: random.Random) -> str:
    """An account worth attacking, or one that nobody has."""
    if chance.random() < 0.3:
        return str(800_000_000 + chance.randint(0, 20))
    few = stage.town.people[: max(4, len(stage.town.people) // 8)]
    return chance.choice(few).account


async def careful(stage: Stage, chance: random.Random) -> None:
    """Stops one short of the lock, and comes back when the hour is over."""
    account = target(stage, chance)
    for _ in range(chance.randint(1, 3)):
        await guess(stage, chance, account, 4)
        await asyncio.sleep(chance.choice((3590, 3600, 3610)))


async def patient(stage: Stage, chance: random.Random) -> None:
    """Guesses until it is locked, waits for the very end of the lock, and guesses on."""
    account, number = target(stage, chance), stage.number(chance)
    for wait_s in (1_800, 7_200, 86_400):
        await guess(stage, chance, account, 6, number if chance.random() < 0.5 else "")
        if stage.left <= 0:
            return
        await asyncio.sleep(wait_s + chance.choice((-20, 0, 1)))


async def crowd(stage: Stage, chance: random.Random) -> None:
    """Many calls at once, at one account; its owner, or who has his PIN, may be among them."""
    account = target(stage, chance)
    size = min(chance.randint(4, 14), max(stage.left, 0))
    lines = [stage.line(chance, stage.number(chance), attested=True) for _ in range(size)]
    ready = await asyncio.gather(*(asked_for(stage, line, account, "pin", chance) for line in lines))
    waiting = [line for line, there in zip(lines, ready, strict=True) if there]
    keys = [wrong(chance) for _ in waiting]
    owner = stage.town.by_account.get(account)
    if owner is not None and keys and chance.random() < 0.5:
        keys[0] = owner.pin
    await asyncio.gather(*(line.press(each) for line, each in zip(waiting, keys, strict=True)))
    await asyncio.gather(*(line.hang_up() for line in lines))


async def many_answers(stage: Stage, chance: random.Random) -> None:
    """One question, and many answers to it at once, on every node; a right one among them, for who is lucky."""
    person = chance.choice(stage.town.people)
    line = stage.line(chance, stage.number(chance))
    if await asked_for(stage, line, person.account, "pin", chance):
        digits = [wrong(chance) for _ in range(chance.randint(2, 9))]
        if chance.random() < 0.3:
            digits[-1] = person.pin
        url = line.action
        posts = [stage.provider.post(line, url, line.params(each)) for each in digits]
        await asyncio.gather(*posts)
        await asyncio.gather(*(stage.provider.post(line, url, line.params(each)) for each in digits[:2]))
    await line.hang_up()


async def spoofer(stage: Stage, chance: random.Random) -> None:
    """Says that he calls from the owner's phone; no carrier vouches for it."""
    person = chance.choice(stage.town.people[: max(4, len(stage.town.people) // 4)])
    for _ in range(chance.randint(1, 3)):
        if stage.left <= 0:
            return
        line = stage.line(chance, person.number)
        if await asked_for(stage, line, chance.choice(("1", person.account)), "pin", chance):
            for _ in range(3):
                if line.over or line.asked != "pin":
                    break
                await line.press(wrong(chance))
        await line.hang_up()


async def burglar(stage: Stage, chance: random.Random) -> None:
    """Goes to protected paths by himself, with links made up, taken from other calls, or from long ago."""
    line = stage.line(chance, stage.number(chance))
    await line.dial()
    stage.oracle.disturb(line.sid)
    issuer = town.ISSUER
    others = [url for one in stage.recent(40) for url, _ in one.posted[-6:]]
    for _ in range(chance.randint(3, 8)):
        direct = chance.choice(
            ("/wire/confirm", "/wire/amount", "/balance", "/statement", "/agent/0", "/menu", "/wire")
        )
        old = chance.choice(others) if others else f"{issuer}/"
        url = chance.choice(
            (
                f"{issuer}{direct}",
                f"{issuer}{chance.choice(('//', '/./', '/%2e/', '/hours/../', '/;x/'))}{direct[1:]}",
                f"{issuer}{direct}?_ivrguard=tp.{chance.randint(0, 9)}.{'A' * 22}",
                f"{issuer}/.ivrguard/call/{chance.getrandbits(128):032x}",
                old,
                old.replace("_ivrguard=t", "_ivrguard=q"),
                forged_turn(old, chance),
            )
        )
        signed = chance.random() < 0.9
        await stage.provider.post(line, url, line.params(chance.choice((None, "1", "3"))), signed=signed)
        await pause(chance, 0, 3)
    await line.hang_up()


def forged_turn(url: str, chance: random.Random) -> str:
    """The same link, for another turn."""
    head, mark, tail = url.partition("_ivrguard=")
    if not mark:
        return url
    use, _, mac = tail.split(".", 2)
    return f"{head}{mark}{use}.{chance.randint(0, 12)}.{mac}"


async def thief(stage: Stage, chance: random.Random) -> None:
    """Knows the PIN, and has overheard a code: keys it again, in his own call."""
    if not stage.overheard:
        return
    person, code = chance.choice(stage.overheard[-20:])
    line = stage.line(chance, stage.number(chance))
    await line.dial()
    for _ in range(8):
        if line.over or not line.asked:
            break
        keys = {"identify": person.account, "pin": person.pin}.get(line.asked, code)
        await pause(chance, 0, 3)
        await line.press(keys)
    if line.action and not line.asked and not line.over:
        await line.press(chance.choice("3" + "".join(TRANSFERS)))
        for _ in range(3):
            if line.over or not line.asked:
                break
            await line.press(person.pin if line.asked == "pin" else code)
    await line.hang_up()


async def eavesdropper(stage: Stage, chance: random.Random) -> None:
    """Sends other people's last requests again: as they were, and with other keys."""
    calls = stage.recent(60)
    for _ in range(min(6, len(calls))):
        line = chance.choice(calls)
        url, params = chance.choice(line.posted[-4:])
        changed = [(name, wrong(chance) if name == "Digits" else value) for name, value in params]
        again = chance.choice((params, changed))
        if urlsplit(url).path != "/.ivrguard/status" and dict(again)["CallSid"] == line.sid:
            await stage.provider.late(line, url, again)
        await pause(chance, 0, 5)


Actor = Callable[[Stage, random.Random], Awaitable[None]]

ACTORS: Mapping[Actor, float] = {
    honest: 42,
    careful: 4,
    patient: 3,
    crowd: 4,
    many_answers: 7,
    spoofer: 5,
    burglar: 6,
    thief: 6,
    eavesdropper: 5,
    rogue: 1,
    visitor: 5,
}
"""How often each comes, in a hundred or so."""
