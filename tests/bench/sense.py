"""
A month of calls with attacks in it, put through the guard's own sensor: how many are found, and how often it cries wolf.

The honest part is made to be awkward: a day's rhythm and Monday's rush; callers who mistype, who try the PIN of another
card, often a popular one, and give up; families that share a telephone; switchboards that show one number for hundreds of
people; numbers withheld; an outage after which everybody calls again; a day on which new PINs have gone out. One seed
makes one month. The attacks are those of which figures are published (one PIN over ten thousand accounts, lists of stolen
pairs, one account from many numbers, floods), strong and weak: the strong ones must be found, which tests/guard/test_sense.py asserts; the weak
ones show where the limit is.
"""

import asyncio
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ivrguard import log
from ivrguard.core.alerts import Alert
from ivrguard.core.assurance import AnyOf, Kind
from ivrguard.core.call import Call
from ivrguard.core.caller import address_of
from ivrguard.core.flow import Factor, Flow, Identify, Upstream
from ivrguard.core.rules import Demand
from ivrguard.core.sense import Attack
from ivrguard.guard.sense import Sensor
from ivrguard.keyring import Keyring
from ivrguard.stores.memory import MemoryStore

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
MONDAY_MS = 20_601 * DAY_MS
"""A Monday, 00:00 UTC."""

HOURS = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 18, 16, 13, 14, 16, 16, 14, 12, 9, 7, 5, 4, 2, 1)
WEEKDAYS = (1.5, 1.1, 1.0, 1.0, 1.05, 0.5, 0.3)
POPULAR = ("123456", "111111", "000000", "121212", "123123", "654321", "666666", "112233", "159753", "222222")
GRACE_MS = 2 * HOUR_MS
"""What is raised so long after an attack is still that attack's: its window has not ended, or its alert went quiet."""

FLOW = Flow(
    name="month",
    version="0",
    numbers=("*",),
    upstream=Upstream("https://ivr.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={"pin": Factor(Kind.PIN, 6)},
    levels={"one": AnyOf(("pin",))},
    rules=(),
    default=Demand("one"),
)
CALL = Call(
    sid="CA" + "0" * 32,
    account_sid="AC" + "0" * 32,
    flow="month",
    version="0",
    caller=address_of("+15550000000"),
    dialled="+18005550100",
    attested=False,
    began_ms=0,
)


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """A new call (`answer` ""), or an answer in one."""

    at_ms: int
    number: str
    account: str = ""
    answer: str = field(default="", repr=False)
    right: bool = False


@dataclass(frozen=True, slots=True)
class Planted:
    """One attack: what it is, in words; the kind of alert that it should raise, and whether it must."""

    says: str
    attack: Attack
    strong: bool
    begins_ms: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a month: each attack with the minutes until it was found (None: it was not), and the false alarms."""

    found: tuple[tuple[Planted, float | None], ...]
    false: tuple[Alert, ...]
    calls: int
    answers: int
    values: int
    """The most values that the sensor had in the store at once."""

    def missed(self) -> list[str]:
        """The strong attacks that were not found."""
        return [planted.says for planted, after in self.found if planted.strong and after is None]


def _pin(chance: random.Random) -> str:
    return chance.choice(POPULAR) if chance.random() < 0.15 else f"{chance.randrange(10**6):06d}"


def _slip(chance: random.Random, pin: str) -> str:
    place = chance.randrange(len(pin))
    return pin[:place] + str((int(pin[place]) + chance.randrange(1, 10)) % 10) + pin[place + 1 :]


def honest(chance: random.Random, days: int, calls_a_day: int) -> Iterator[Event]:
    """The calls of customers, in no order."""
    customers = calls_a_day * 12
    switchboards = [f"+1800{number:07d}" for number in range(10)]
    for day in range(days):
        for _ in range(round(calls_a_day * WEEKDAYS[day % 7])):
            at_ms = MONDAY_MS + day * DAY_MS + _time_of_day(chance)
            if day % 28 == 10 and 11 * HOUR_MS <= at_ms % DAY_MS < 12 * HOUR_MS:
                for again in range(2):  # an outage: nobody gets through, and they all call at noon, twice
                    yield from _customer(
                        chance,
                        at_ms // DAY_MS * DAY_MS + 12 * HOUR_MS + again * 10 * MINUTE_MS,
                        customers,
                        switchboards,
                        1,
                    )
            else:
                yield from _customer(chance, at_ms, customers, switchboards, 2 if day % 28 == 17 else 1)


def _time_of_day(chance: random.Random) -> int:
    (hour,) = chance.choices(range(24), HOURS)
    return hour * HOUR_MS + chance.randrange(HOUR_MS)


def _customer(
    chance: random.Random, at_ms: int, customers: int, switchboards: list[str], trouble: int
) -> Iterator[Event]:
    """One call of a customer: nine of ten get it right at once. `trouble`: how much likelier the rest is."""
    at_ms += chance.randrange(15 * MINUTE_MS)
    who = chance.randrange(customers)
    match chance.random():
        case share if share < 0.04:
            number = "anonymous"
        case share if share < 0.10:
            number = switchboards[who % len(switchboards)]
        case share if share < 0.30:
            number = f"+1555{who // 4:07d}"  # four of a family
        case _:
            number = f"+1666{who:07d}"
    account, pin = f"{10**8 + who}", f"{who * 7919 % 10**6:06d}"
    yield Event(at_ms, number)
    luck = chance.random()
    answers = [(pin, True)]
    if luck < 0.08 * trouble:
        answers = [(_slip(chance, pin), False), (pin, True)]
    elif luck < 0.11 * trouble:
        answers = [(_pin(chance), False) for _ in range(3)]
    elif luck < 0.12 * trouble:
        answers = [(_pin(chance), False), (_pin(chance), False), (pin, True)]
    for place, (answer, right) in enumerate(answers, 1):
        yield Event(at_ms + place * 15_000, number, account, answer, right)


class Plan:
    """The attacks of a month, one after the other, so that each alert has one cause."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.events: list[Event] = []
        self.planted: list[Planted] = []

    def add(
        self,
        says: str,
        attack: Attack,
        begins_ms: int,
        lasts_ms: int,
        guesses: int,
        *,
        strong: bool,
        accounts: int = 0,
        numbers: int = 0,
        pins: int = 0,
        calls: int = 1,
    ) -> None:
        """`guesses` in this time, over so many accounts, numbers and PINs (0: another one each time)."""
        self.planted.append(Planted(says, attack, strong, begins_ms, begins_ms + lasts_ms))
        first = self._chance.randrange(10**6)
        tried = [f"{self._chance.randrange(10**6):06d}" for _ in range(pins)]
        for nth in range(guesses):
            at_ms = begins_ms + nth * lasts_ms // guesses
            number = f"+1777{first + (nth % numbers if numbers else nth):07d}"
            account = f"{2 * 10**8 + first + (nth % accounts if accounts else nth)}"
            answer = tried[nth % pins] if pins else f"{self._chance.randrange(10**6):06d}"
            self.events.extend(Event(at_ms, number) for _ in range(calls))
            if attack is not Attack.FLOOD:
                self.events.append(Event(at_ms + 20_000, number, account, answer))


def month_of_attacks(chance: random.Random) -> Plan:
    """Seventeen attacks in four weeks, from the third day on."""
    plan, day = Plan(chance), MONDAY_MS + 2 * DAY_MS
    add = plan.add
    add(
        "one PIN, 200 accounts in 10 minutes",
        Attack.SPRAY,
        day + 10 * HOUR_MS,
        10 * MINUTE_MS,
        200,
        pins=1,
        strong=True,
    )
    add(
        "20 PINs, 60 accounts each in 4 hours",
        Attack.SPRAY,
        day + 18 * HOUR_MS + MINUTE_MS,
        4 * HOUR_MS,
        1_200,
        pins=20,
        strong=True,
    )
    day += 2 * DAY_MS
    add("one PIN, 10,000 accounts in 5 days", Attack.SPRAY, day, 5 * DAY_MS, 10_000, pins=1, strong=True)
    day += 6 * DAY_MS
    add("one PIN, 480 accounts in 2 days", Attack.SPRAY, day, 2 * DAY_MS, 480, pins=1, strong=True)
    day += 3 * DAY_MS
    add("one PIN, 40 accounts in a day", Attack.SPRAY, day, DAY_MS, 40, pins=1, strong=False)
    day += 2 * DAY_MS
    add(
        "stolen pairs: 60 accounts in an hour from one number",
        Attack.MANY_ACCOUNTS,
        day + 9 * HOUR_MS,
        HOUR_MS,
        60,
        numbers=1,
        strong=True,
    )
    add(
        "stolen pairs: 24 accounts in 10 hours from one number",
        Attack.MANY_ACCOUNTS,
        day + 13 * HOUR_MS,
        10 * HOUR_MS,
        24,
        numbers=1,
        strong=True,
    )
    day += DAY_MS + HOUR_MS
    add(
        "stolen pairs: 6 accounts in a day from one number",
        Attack.MANY_ACCOUNTS,
        day,
        DAY_MS,
        6,
        numbers=1,
        strong=False,
    )
    day += 2 * DAY_MS
    add(
        "stolen pairs: 600 accounts in an hour from as many numbers",
        Attack.STUFFING,
        day + 9 * HOUR_MS,
        HOUR_MS,
        600,
        strong=True,
    )
    add(
        "stolen pairs: 1,500 accounts in 5 hours from as many numbers",
        Attack.STUFFING,
        day + 14 * HOUR_MS,
        5 * HOUR_MS,
        1_500,
        strong=True,
    )
    day += DAY_MS
    add(
        "stolen pairs: 40 accounts in an hour from as many numbers",
        Attack.STUFFING,
        day + 10 * HOUR_MS,
        HOUR_MS,
        40,
        strong=False,
    )
    day += DAY_MS
    add(
        "one account, 50 numbers in 6 hours",
        Attack.MANY_NUMBERS,
        day + HOUR_MS,
        6 * HOUR_MS,
        150,
        accounts=1,
        numbers=50,
        strong=True,
    )
    add(
        "one account, 20 numbers in 12 hours",
        Attack.MANY_NUMBERS,
        day + 10 * HOUR_MS,
        12 * HOUR_MS,
        40,
        accounts=1,
        numbers=20,
        strong=True,
    )
    day += DAY_MS + HOUR_MS
    add(
        "one account, 5 numbers in a day",
        Attack.MANY_NUMBERS,
        day,
        DAY_MS,
        15,
        accounts=1,
        numbers=5,
        strong=False,
    )
    day += 2 * DAY_MS
    add(
        "a flood of 1,000 calls a minute for 5 minutes",
        Attack.FLOOD,
        day + 10 * HOUR_MS,
        5 * MINUTE_MS,
        5_000,
        strong=True,
    )
    add(
        "a flood of 600 calls a minute for 3 minutes",
        Attack.FLOOD,
        day + 16 * HOUR_MS,
        3 * MINUTE_MS,
        1_800,
        strong=True,
    )
    add(
        "a flood of 100 calls a minute for 10 minutes",
        Attack.FLOOD,
        day + 22 * HOUR_MS,
        10 * MINUTE_MS,
        1_000,
        strong=False,
    )
    return plan


class Clock:
    """The month's time."""

    now_ms = MONDAY_MS

    def __call__(self) -> int:
        return self.now_ms


def silent() -> None:
    """The sensor's own words about hundreds of alerts would hide the table."""
    log.configure("critical")


async def lived(
    events: Iterable[Event], planted: Iterable[Planted], flow: Flow = FLOW, merge_ms: int = 30_000
) -> Result:
    """
    Put these events, in order, through a sensor on a store in memory; what it found.

    `merge_ms`: how long answers wait for a merge at most; a server's wait a second, which costs as much and shows no more.
    """
    keys = Keyring(
        sealing={"s": b"s" * 32}, peppers={"p": b"p" * 32}, naming={"n": b"n" * 32}, signing={"g": b"g" * 32}
    )
    clock, store, raised = Clock(), MemoryStore(values_max=10**6), list[Alert]()
    sensor = Sensor(store, keys, clock, lambda _: flow, told=raised.append)
    calls = answers = waiting = values = 0
    swept_ms = merged_ms = MONDAY_MS
    for event in events:
        if waiting >= 32 or event.at_ms - merged_ms > merge_ms:
            await sensor.merge()
            waiting, merged_ms = 0, event.at_ms
        if event.at_ms - swept_ms > HOUR_MS:
            values = max(values, len(store._rows))
            while await store.sweep(event.at_ms, limit=1_000):
                pass
            swept_ms = event.at_ms
        clock.now_ms = event.at_ms
        if event.account:
            answers, waiting = answers + 1, waiting + 1
            call = replace(CALL, account=event.account, caller=address_of(event.number))
            sensor.judged(flow, call, Kind.PIN, event.answer, right=event.right)
        else:
            calls += 1
            sensor.called(flow)
    await sensor.merge()
    begun = [alert for alert in raised if alert.over_ms is None]
    planted = tuple(planted)
    found = tuple((one, _found_after(one, begun)) for one in planted)
    false = tuple(
        alert
        for alert in begun
        if not any(one.begins_ms <= alert.raised_ms < one.ends_ms + GRACE_MS for one in planted)
    )
    return Result(found, false, calls, answers, values)


def _found_after(planted: Planted, raised: list[Alert]) -> float | None:
    """Minutes until an alert of its kind."""
    times = [
        (alert.raised_ms - planted.begins_ms) / MINUTE_MS
        for alert in raised
        if alert.attack is planted.attack
        and planted.begins_ms <= alert.raised_ms < planted.ends_ms + GRACE_MS
    ]
    return min(times, default=None)


def month(seed: int, calls_a_day: int, flow: Flow = FLOW, merge_ms: int = 30_000) -> Result:
    """One month of 28 days."""
    chance = random.Random(seed)
    plan = month_of_attacks(chance)
    events = sorted([*honest(chance, 28, calls_a_day), *plan.events])
    return asyncio.run(lived(events, plan.planted, flow, merge_ms))


def report(months: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Months, as (calls a day, seed), lived through: a table in Markdown."""
    silent()
    results = [(calls_a_day, month(seed, calls_a_day)) for calls_a_day, seed in months]
    sizes = sorted({calls_a_day for calls_a_day, _ in results})
    yield "| attack | must be found | " + " | ".join(f"{size:,} calls a day" for size in sizes) + " |"
    yield "| --- | --- |" + " --- |" * len(sizes)
    for place, (planted, _) in enumerate(results[0][1].found):
        cells = []
        for size in sizes:
            after = [result.found[place][1] for its, result in results if its == size]
            times = sorted(minutes for minutes in after if minutes is not None)
            middle = f", after {times[len(times) // 2]:,.0f} min" if times else ""
            cells.append(f"{len(times)} of {len(after)}{middle}")
        yield f"| {planted.says} | {'yes' if planted.strong else 'no'} | {' | '.join(cells)} |"
    for attack in Attack:
        counts = [
            str(
                sum(
                    alert.attack is attack for its, result in results if its == size for alert in result.false
                )
            )
            for size in sizes
        ]
        yield f"| false alarms: {attack} | | {' | '.join(counts)} |"
    most = [str(max(result.values for its, result in results if its == size)) for size in sizes]
    yield f"| values in the store, at most | | {' | '.join(most)} |"
