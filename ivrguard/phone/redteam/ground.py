"""
The ground of an attack: a contact centre with the admin's flow, its owner's account, and what an attacker can do there.

Laws of this file
 1. Each attack has a ground of its own: a real guard on a real socket, with real hashes; only the provider's network and
    the IVR are pretended, and time passes when the attack says so.
 2. What counts as a guess is what reached the judge of a factor with something to compare with, in the attack's own time.
 3. Whom an attacker is, he says: what he `knows` of the owner's secrets. He keys nothing else but what he makes up.
 4. The owner calls before the attack and after it, from his own phone, which the carrier attests, and from another one.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from ivrguard.core.assurance import Kind
from ivrguard.core.call import OTHER_FACTOR_KEY, About, Call
from ivrguard.core.errors import Busy
from ivrguard.core.flow import Flow, Place
from ivrguard.factors.totp import STEP_S
from ivrguard.guard import books
from ivrguard.phone import world
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Asked, Connected, Dialled, Event, Queued, Referred, Said
from ivrguard.phone.redteam.goals import Goal, protected
from ivrguard.phone.rig import Clock, Rig
from ivrguard.phone.stub import GOES_ON, Stub
from ivrguard.phone.world import MadeUp, Telling
from ivrguard.ports import Account, Challenge, Credential, Judge, Verdict, Verifications

REPORT_IT = "the guard should not have let it: please report it (SECURITY.md says how)"
TURNS_MAX = 14
"""Questions and answers in one call; more is a circle."""
STRANGERS = "+1555600"
"""Numbers of attackers begin so; four digits follow."""
ELSEWHERE = "+15559870009"
"""Another telephone of the owner's, which nobody has on file."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Something that was let through: `what`, the flow's `place` that lets it (None: the guard does), and the `mend`."""

    what: str
    place: Place | None = None
    mend: str = REPORT_IT


@dataclass(frozen=True, slots=True)
class Talk:
    """One call of the owner's: whether he got where he wanted, what was asked, and what he heard."""

    got_in: bool
    questions: int
    words: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Honest:
    """What the owner felt: his call from there (`phone`), before the attack and after it."""

    phone: str
    before: Talk
    after: Talk

    @property
    def same(self) -> bool:
        """Whether he noticed nothing."""
        return self.before == self.after


class Stuck(Exception):
    """An attack cannot be played: what it needs never comes about in this flow. The reason, for the report."""


Way = tuple[Goal, tuple[str, ...]]
"""What to go for so that a factor is asked for, and which others one must have for that."""


class Watch:
    """What the judges of factors have been given since the last `forget`."""

    def __init__(self) -> None:
        self.judged: list[Kind] = []
        self.looked = 0
        """Every answer that was judged, also for show."""
        self.looks, self.rests = asyncio.Event(), asyncio.Event()
        """Set when an answer comes to be judged; and while none is."""
        self.rests.set()
        self._judging = 0

    def forget(self) -> None:
        """Count anew."""
        self.judged, self.looked = [], 0

    @contextmanager
    def judging(self, kinds: Sequence[Kind]) -> Iterator[None]:
        """An answer is being judged. One that found no free thread was not looked at."""
        self.looked += 1
        self.judged += kinds
        self._judging += 1
        self.looks.set()
        self.rests.clear()
        try:
            yield
        except Busy:
            self.looked -= 1
            for kind in kinds:
                self.judged.remove(kind)
            raise
        finally:
            self._judging -= 1
            if not self._judging:
                self.rests.set()


class WatchedJudge:
    """A judge, and a count of what it was asked."""

    def __init__(self, real: Judge, watch: Watch) -> None:
        self.kind = real.kind
        self._real, self._watch = real, watch

    async def judge(
        self, credential: Credential | None, digits: str, challenge: Challenge | None, now_ms: int
    ) -> Verdict:
        """Count, and hand on."""
        with self._watch.judging([self.kind] if credential is not None else []):
            return await self._real.judge(credential, digits, challenge, now_ms)


class WatchedVerifications:
    """A service that judges codes, and a count of what it was asked."""

    def __init__(self, real: Verifications, watch: Watch) -> None:
        self._real, self._watch = real, watch

    async def start(self, to: str, *, again: bool, intent: str, language: str, deadline_s: float) -> str:
        """See `ports.Verifications`."""
        return await self._real.start(
            to, again=again, intent=intent, language=language, deadline_s=deadline_s
        )

    async def check(self, verification: str | None, digits: str, *, deadline_s: float) -> Verdict:
        """See `ports.Verifications`."""
        with self._watch.judging([Kind.SMS_CODE] if verification is not None else []):
            return await self._real.check(verification, digits, deadline_s=deadline_s)


@dataclass
class Ground:
    """
    Where one attack is played. `chance`: seeded. `goal`: the weakest thing that the flow protects.

    The attack writes down what it `tried`, the `holes` that it found, and what is worth knowing (`notes`).
    """

    telling: Telling
    flow: Flow
    watch: Watch
    chance: random.Random
    goal: Goal | None
    tried: Counter[str] = field(default_factory=Counter)
    holes: list[Hole] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _step: int = 0
    _strangers: int = 0
    _guessed: set[str] = field(default_factory=set, repr=False)

    # ── what is there ────────────────────────────────────────────────────────────────────────────────────

    @property
    def at(self) -> Rig:
        """The contact centre."""
        return self.telling.at

    @property
    def ivr(self) -> Stub:
        """What stands behind the guard."""
        assert isinstance(self.telling.ivr, Stub)
        return self.telling.ivr

    @property
    def who(self) -> MadeUp:
        """The owner's account and PIN."""
        return self.telling.who

    @property
    def clock(self) -> Clock:
        """The time."""
        return self.at.clock

    @property
    def aim(self) -> Goal:
        """The weakest thing that the flow protects; an attack that needs one lacks it elsewhere."""
        assert self.goal is not None
        return self.goal

    def through(self, what: str, place: Place | None = None, mend: str = REPORT_IT) -> None:
        """Write down something that was let through."""
        hole = Hole(what, place, mend)
        if hole not in self.holes:
            self.holes.append(hole)

    def stranger(self) -> str:
        """A number that nobody has called from."""
        self._strangers += 1
        return f"{STRANGERS}{self._strangers:04}"

    def call(self, from_: str | None = None, **how: object) -> Line:
        """A call of a stranger's that has not begun; `how`: as in `Rig.call`."""
        return self.at.call(from_ or self.stranger(), **how)  # type: ignore[arg-type]  # as Rig.call has them

    async def account(self, number: int) -> str:
        """Another customer's account: the owner's PIN and app, and a number of its own."""
        own = await self.at.server.directory.by_id(self.who.account)
        assert own is not None
        account, phone = f"{number:0{len(self.who.account)}}", f"+1555700{number:04}"
        kept = (replace(one, number=phone if one.number else "") for one in own.credentials)
        await self.at.enrol(Account(account, (phone,), tuple(kept)))
        return account

    async def state(self, line: Line) -> Call:
        """The call as the guard keeps it: what honest callers hear in words is read here, in any language."""
        call = await self.at.store.read(books.call_key(line.call_sid))
        assert call is not None
        return call

    async def proved(self, line: Line) -> frozenset[str]:
        """The factors that the call has proved."""
        return frozenset(proof.factor for proof in (await self.state(line)).proofs)

    async def asked(self, line: Line) -> str | None:
        """What the guard asks on this line: `account`, a factor's name, `new_pin`; None when it asks nothing."""
        waiting = line.waiting
        if not isinstance(waiting, Asked) or not waiting.action.startswith(world.OWN_QUESTIONS):
            return None
        question = (await self.state(line)).question
        about = "account" if question is None or question.about is About.ACCOUNT else "new_pin"
        return None if question is None else question.factor or about

    async def at_the_ivr(self, line: Line) -> bool:
        """Whether the IVR, and not the guard, waits for keys."""
        return isinstance(line.waiting, Asked) and await self.asked(line) is None

    def reached(self, line: Line, goal: Goal, since: int = 0) -> bool:
        """Whether the call got there, by what its caller heard from event `since` on."""
        heard = line.heard[since:]
        if goal.target is None:
            return any(isinstance(event, Said) and event.text == f"path {goal.path}" for event in heard)
        return any(_went_to(event, goal) for event in heard)

    # ── what is keyed ────────────────────────────────────────────────────────────────────────────────────

    async def right(self, factor: str) -> str:
        """The right answer; where the app's code was used already, half a minute passes."""
        match self.flow.factors[factor].kind:
            case Kind.PIN:
                return self.who.pin
            case Kind.SMS_CODE:
                await self.at.server.guard.drain()
                return self.telling.code()
            case _:
                if self.clock() // 1000 // STEP_S <= self._step:
                    self.clock.advance((self._step + 1) * STEP_S - self.clock() / 1000)
                self._step = self.clock() // 1000 // STEP_S
                return self.telling.app()

    def wrong(self, factor: str) -> str:
        """A guess that was not made before, and is wrong."""
        of = self.flow.factors[factor]
        shown = {self.telling.app(steps) for steps in (-1, 0, 1)} if of.kind is Kind.TOTP else set()
        while True:
            guess = f"{self.chance.randrange(10**of.digits):0{of.digits}}"
            if guess not in {self.who.pin, *shown, *self._guessed}:
                self._guessed.add(guess)
                return guess

    async def lead(self, line: Line, goal: Goal) -> None:
        """Have the IVR lead a caller to the goal, from a question of its own."""
        assert isinstance(line.waiting, Asked)
        back = f"<Redirect>{self.ivr.first}</Redirect>" if goal.target is not None else ""
        self.ivr.answers(urlsplit(line.waiting.action).path, goal.document() + back, GOES_ON)
        await line.press(GOES_ON)
        if goal.digits and await self.at_the_ivr(line):
            await line.press(goal.digits)

    async def to(
        self,
        line: Line,
        goal: Goal,
        *,
        stop: str = "",
        knows: Collection[str] = (),
        account: str = "",
    ) -> str:
        """
        Go for the goal: answer right what one `knows` (factors), decline the rest, up to the question for `stop`.

        What came of it: `there`, `asked` (the question for `stop` is open), `stuck` (something else is asked), `over`.
        """
        since, led, declined = len(line.heard), False, set[str]()
        await line.until_input()
        for _ in range(TURNS_MAX):
            if self.reached(line, goal, since):
                return "there"
            if line.over or not isinstance(line.waiting, Asked):
                return "over"
            question = await self.asked(line)
            if question is None:
                if led:
                    return "stuck"
                led, since = True, len(line.heard)
                await self.lead(line, goal)
            elif question == stop:
                await self.at.server.guard.drain()  # its code is on its way
                return "asked"
            elif question == "account":
                await line.press(f"{account or self.who.account}#")
            elif question in knows:
                await line.press(await self.right(question))
            elif question in declined:
                return "stuck"
            else:
                declined.add(question)
                await line.press(f"{OTHER_FACTOR_KEY}#")
        return "stuck"

    def everything(self) -> tuple[str, ...]:
        """All the factors of the flow: what its owner knows and holds."""
        return tuple(self.flow.factors)

    async def way(self, factor: str) -> Way:
        """The way to this factor's question. Raises `Stuck` when it is asked for nowhere."""
        found = await self.way_to(factor)
        if found is None:
            raise Stuck(f"'{factor}' is asked for nowhere")
        return found

    async def first(self) -> tuple[str, Way]:
        """The first factor of the flow that is asked for, and the way to its question. Raises `Stuck`."""
        for factor in self.flow.factors:
            way = await self.way_to(factor)
            if way is not None:
                return factor, way
        raise Stuck("no factor is asked for")

    async def question(self, factor: str, way: Way, account: str = "") -> Line:
        """A call at this factor's question. Raises `Stuck` when it does not get there."""
        line = self.call()
        if not await self.to_question(line, way[0], factor, way[1], account):
            await self.leave(line)
            raise Stuck(f"'{factor}' was not asked for")
        return line

    async def there(self, goal: Goal, without: str = "") -> Line:
        """
        A call whose caller proves all that it takes, and is there; `without`: a factor that he has not. Raises `Stuck` when he does not
        get there.
        """
        line = self.call()
        if (
            await self.to(line, goal, knows=[name for name in self.flow.factors if name != without])
            != "there"
        ):
            await self.leave(line)
            raise Stuck(
                f"nobody got to {goal} without '{without}'" if without else f"the owner did not get to {goal}"
            )
        return line

    async def way_to(self, factor: str) -> Way | None:
        """What to go for so that this factor is asked for, and what else one must know for that; None: nothing."""
        others = tuple(name for name in self.flow.factors if name != factor)
        for knows in ((), *((name,) for name in others), others):
            for goal in protected(self.flow, self.clock()):
                line = self.call(world.OWN_NUMBER)
                found = await self.to(line, goal, stop=factor, knows=knows)
                await self.leave(line)
                if found == "asked":
                    return goal, knows
        return None

    async def guess(
        self,
        factor: str,
        way: Way,
        *,
        most: int,
        account: str = "",
        from_: Callable[[], str] | None = None,
    ) -> int:
        """Make `most` wrong guesses, with as many calls as that takes; how many were judged."""
        before, keyed = len(self.watch.judged), 0
        goal, knows = way
        while keyed < most:
            line = self.call(from_() if from_ else None)
            began = keyed
            while keyed < most and await self.to_question(line, goal, factor, knows, account):
                await line.press(self.wrong(factor))
                keyed += 1
            await self.leave(line)
            if keyed == began:
                break
        self.tried["guesses keyed"] += keyed
        return self._judged(factor, before)

    async def to_question(
        self, line: Line, goal: Goal, factor: str, knows: Collection[str], account: str = ""
    ) -> bool:
        """Whether the call is at the question for this factor, or got there."""
        if await self.asked(line) == factor:
            return True
        return (
            not line.heard and await self.to(line, goal, stop=factor, knows=knows, account=account) == "asked"
        )

    def _judged(self, factor: str, since: int) -> int:
        kind = self.flow.factors[factor].kind
        return self.watch.judged[since:].count(kind)

    async def leave(self, line: Line) -> None:
        """Hang up, if the call is not over."""
        self.tried["calls"] += 1
        if not line.over:
            await line.hang_up()

    # ── the owner ────────────────────────────────────────────────────────────────────────────────────────

    async def owner_calls(self, *, elsewhere: bool = False) -> Talk:
        """The owner calls, for the weakest thing that is protected, and answers right."""
        line = self.at.call(ELSEWHERE) if elsewhere else self.at.call(world.OWN_NUMBER, attested=True)
        found = "there"
        if self.goal is not None:
            found = await self.to(line, self.goal, knows=self.everything())
        else:
            await line.until_input()
        questions = (await self.state(line)).asks
        words = tuple(event.text for event in line.heard if isinstance(event, Said))
        if not line.over:
            await line.hang_up()
        await self.at.server.guard.drain()
        return Talk(found == "there", questions, words)


def _went_to(event: Event, goal: Goal) -> bool:
    target = goal.target
    assert target is not None
    match event:
        case Queued(name=name, workflow=workflow):
            return target.value in (name, workflow)
        case Dialled(targets):
            return any(each.name == target.value for each in targets)
        case Referred(where):
            return where == target.value
        case _:
            return False


def handed_on(line: Line, since: int = 0) -> Iterator[str]:
    """Everybody to whom the caller was really handed: `kind:name`."""
    for event in line.heard[since:]:
        match event:
            case Queued(name, workflow):
                yield f"workflow:{workflow}" if workflow else f"enqueue:{name}"
            case Dialled(targets):
                yield from (f"{target.kind}:{target.name}" for target in targets)
            case Referred(target):
                yield f"refer:{target}"
            case Connected(noun):
                yield f"connect:{noun}"
            case _:
                pass


@asynccontextmanager
async def ground(flow: Flow, seed: int) -> AsyncIterator[Ground]:
    """A ground for one attack on this flow; it ends with the block."""
    clock = Clock(world.begin_ms(flow, None))
    async with world.told(flow, ivr="stub", clock=clock) as telling:
        watch, guard = Watch(), telling.at.server.guard
        judges = {kind: WatchedJudge(judge, watch) for kind, judge in guard.world.judges.items()}
        service = guard.world.verifications
        watched = WatchedVerifications(service, watch) if service is not None else None
        guard.world = replace(guard.world, judges=judges, verifications=watched)
        weakest = next(iter(protected(flow, clock())), None)
        yield Ground(telling, telling.at.flow, watch, random.Random(seed), weakest)
        await asyncio.wait_for(guard.drain(), 5)
