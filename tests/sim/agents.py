"""
Who answers callers, as agents and their desks' programs do: redeems tokens, has codes read to him, names accounts, passes
callers on. Honest ones and hasty ones, ones who guess, and ones who pry into calls that are not theirs.
"""

import asyncio
import random
from dataclasses import dataclass

from tests.sim import town
from tests.sim.hands import NOBODY
from tests.sim.phone import Line
from tests.sim.stage import Stage, pause, wrong

HOPS_MAX = 3
REDEEMED = 201


async def whisper(stage: Stage, line: Line, url: str) -> str:
    """What the agent on a plain phone hears before he has the caller: the code."""
    child = [
        (name, {"CallSid": f"CA{line.sid[4:]}00", "Direction": "outbound-dial"}.get(name, value))
        for name, value in line.fields
    ]
    params = [*child, ("ParentCallSid", line.sid), ("CallStatus", "in-progress")]
    body = await stage.provider.post(line, url, params)
    line.posted.pop()
    return "".join(filter(str.isdigit, (body or b"").decode().partition("code is")[2].partition("<")[0]))


async def agent(
    stage: Stage,
    chance: random.Random,
    line: Line,
    queue: str,
    told: str,
    person: town.Person,
    *,
    slow: bool = False,
    steady: bool = False,
    bent: bool = False,
    hops: int = 0,
) -> None:
    """
    Redeems the token: at once, or late, or twice, or in the wrong place; and if he has the caller then, looks after him.

    `steady`: he redeems it as he should. `bent`: he guesses codes.
    """
    token = line.sid if queue == "enqueue:support" else told
    if not token:
        return
    leg_of = stage.oracle.leg_of
    present = stage.provider.present
    how = chance.choice(("right", "right", "right", "twice", "ten", "queue", "call", "late"))
    how = "right" if steady else how
    how = "slow" if slow and chance.random() < 0.7 else how
    await pause(chance, 1, 20)
    if how == "late":  # the caller has gone, mostly
        await asyncio.sleep(chance.choice((60, 300)))
    if how == "slow":
        await asyncio.sleep(town.TOKEN_MS / 1000 + chance.uniform(-30, 60))
    if how == "queue":
        queue = chance.choice(list(stage.desks))
    sid = f"CA{chance.getrandbits(128):032x}" if how == "call" else chance.choice((None, line.sid))
    times = {"twice": 2, "ten": 10}.get(how, 1)
    asked = [present(queue, stage.desks[queue], token, sid, leg_of(token)) for _ in range(times)]
    answered = await asyncio.gather(*asked)
    if not steady and chance.random() < 0.3:  # and once more, if only to see
        await present(queue, stage.desks[queue], token, sid, leg_of(token))
    if REDEEMED in answered:
        await Desk(stage, chance, line, queue, person, hops, bent).work()


@dataclass
class Desk:
    """An agent with a caller, or one who would like to have him. `hops`: how often he was passed on before."""

    stage: Stage
    chance: random.Random
    line: Line
    queue: str
    person: town.Person
    hops: int = 0
    bent: bool = False

    async def asks(self, what: str = "", *, times: int = 1, **body: str) -> tuple[int, dict]:
        """One request, or the same a few times at once; what came of the first."""
        key, ask = self.stage.desks[self.queue], self.stage.provider.ask
        sent = body if what else None
        posts = [ask(self.queue, key, self.line.sid, what, sent) for _ in range(times)]
        return (await asyncio.gather(*posts))[0]

    def request(self) -> str:
        return f"{self.chance.getrandbits(64):016x}"

    def times(self) -> int:
        return self.chance.choice((1, 1, 1, 1, 2, 3))

    async def work(self) -> None:
        """Look at the call, name an account, have a code read, pass the caller on; whatever comes to mind."""
        chance = self.chance
        await self.asks()
        if chance.random() < 0.1:
            other = chance.choice(self.stage.town.people).account
            told = chance.choice((self.person.account, other, wrong(chance, 9)))
            await self.asks("claims", account=told)
        if self.bent or chance.random() < 0.8:
            for _ in range(2 if self.bent else chance.choice((1, 1, 2))):
                await self.reads()
        if chance.random() < 0.5 and self.hops < HOPS_MAX:
            await self.passes()

    async def reads(self) -> None:
        """A code goes to the caller's phone; he reads it, or something else, or the agent makes it up."""
        chance = self.chance
        await self.asks("codes", request=self.request(), times=self.times())
        await pause(chance, 1, 6)
        for _ in range(4 if self.bent else chance.choice((1, 1, 2))):
            await self.types(wrong(chance, 6) if self.bent else self.heard())
            await pause(chance, 0, 4)

    def heard(self) -> str:
        """What the caller reads out."""
        chance, own = self.chance, [code for _, code in self.person.inbox]
        other = [code for _, code in chance.choice(self.stage.town.people).inbox]
        odd = chance.random()
        if odd < 0.6 and own:
            return own[-1]
        if odd < 0.75 and own:  # one from before
            return chance.choice(own[-4:])
        if odd < 0.85 and (other or self.stage.read):
            return chance.choice(self.stage.read[-6:] or other)
        return chance.choice((wrong(chance, 6), wrong(chance, 6), wrong(chance, 5)))

    async def types(self, digits: str) -> None:
        """An answer; the same again with other digits is no other one, and a code that was right once is spent."""
        chance, request = self.chance, self.request()
        self.stage.read.append(digits)
        status, _ = await self.asks("answers", request=request, digits=digits, times=self.times())
        if chance.random() < 0.2:
            await self.asks("answers", request=request, digits=wrong(chance, 6))
        if status == 200 and chance.random() < 0.3:
            await self.asks("answers", request=self.request(), digits=digits)

    async def passes(self) -> None:
        """To another agent, or to two; and then he tries what he still may."""
        chance, stage = self.chance, self.stage
        tokens: list[tuple[str, str]] = []
        for _ in range(chance.choice((1, 1, 1, 2))):
            queue = chance.choice(list(stage.desks))
            status, said = await self.asks(
                "transfers", queue=queue, request=self.request(), times=self.times()
            )
            if status == REDEEMED:
                tokens.append((queue, said["token"]))
        for queue, token in reversed(tokens):
            own = random.Random(chance.random())
            work = agent(stage, own, self.line, queue, token, self.person, steady=True, hops=self.hops + 1)
            stage.provider.errand(work)
        await pause(chance, 2, 30)
        await self.pries()

    async def pries(self) -> None:
        """Whatever an agent can ask for, whether the caller is his or not."""
        chance = self.chance
        for _ in range(chance.choice((1, 2, 3))):
            match chance.choice(("", "codes", "answers", "transfers", "claims")):
                case "codes" as what:
                    await self.asks(what, request=self.request())
                case "answers" as what:
                    await self.asks(what, request=self.request(), digits=self.heard())
                case "transfers" as what:
                    await self.asks(what, queue=self.queue, request=self.request())
                case "claims" as what:
                    await self.asks(what, account=chance.choice(self.stage.town.people).account)
                case _:
                    await self.asks()
            await pause(chance, 0, 2)


async def rogue(stage: Stage, chance: random.Random) -> None:
    """Somebody at a desk tries tokens, codes and calls that are none of his."""
    queue = chance.choice(list(stage.desks))
    for _ in range(chance.randint(3, 12)):
        guess = chance.choice(
            (
                "".join(chance.choices("0123456789ABCDEFGHJKMNPQRSTVWXYZ", k=26)),
                wrong(chance),
                chance.choice(stage.lines).sid if stage.lines else wrong(chance),
                chance.choice(list(stage.oracle.tokens) or [wrong(chance)]),
            )
        )
        await stage.provider.present(queue, stage.desks[queue], guess, None, stage.oracle.leg_of(guess))
        await pause(chance, 0, 3)
    for _ in range(4 if stage.lines else 0):
        line = chance.choice(stage.lines[-60:])
        await Desk(stage, chance, line, queue, chance.choice(stage.town.people)).pries()
    key = wrong(chance, 43)
    await stage.provider.present(NOBODY, key, wrong(chance), None, None)
