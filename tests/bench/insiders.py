"""
A month of agents at work, with insiders among them, put through the guard's own watch over the record: how many are found, and how
often an honest one is suspected.

The honest part is made to be awkward: whisper codes mistyped, callers who hang up before their token is redeemed, an outage of
two hours in which two hand-overs of five break, agents in their first week who get five times as much wrong, tabs left open on calls
that went on, wrong desks, callers whom nobody asked (first contact), a night crew, evenings that grew late, and supervisors who end locks all day long,
once a month of somebody whom they have just served. One seed makes one month. Strong insiders must be found, which
tests/guard/test_insiders.py asserts; the weak ones show where the limit is.
"""

import asyncio
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from ivrguard import log
from ivrguard.core.audit import Entry
from ivrguard.core.insiders import Sign, Watch, usual
from ivrguard.core.rules import Hours
from ivrguard.guard.insiders import Insiders
from ivrguard.ports import Change, Key, Notice
from ivrguard.stores.memory import MemoryStore

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
MONDAY_MS = 20_605 * DAY_MS
"""2026-06-01, 00:00 UTC."""

DAYS = 28
PAGE, LOOK_MS = 400, 30 * MINUTE_MS
"""A look comes after so many entries, or so long: a server's comes after twenty seconds, costs as much and finds no more."""

CUSTOMERS = 20_000
WATCH = usual(
    {},
    [
        ("night-*", Hours(frozenset(range(7)), 20 * 60, 6 * 60)),
        ("op-*", Hours(frozenset(range(7)), 0, 24 * 60)),
        ("*", Hours(frozenset(range(5)), 7 * 60, 20 * 60)),
    ],
)
GRACE_MS = DAY_MS


@dataclass(frozen=True, slots=True)
class Planted:
    """One insider: what he does, in words; who, the sign of it, and whether it must be found."""

    says: str
    who: str
    sign: Sign
    strong: bool
    begins_ms: int
    ends_ms: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a month: each insider with the hours until he was suspected (None: he was not), and the honest ones who were."""

    found: tuple[tuple[Planted, float | None], ...]
    false: tuple[Notice, ...]
    entries: int
    agents: int

    def missed(self) -> list[str]:
        """The strong ones that were not found."""
        return [planted.says for planted, after in self.found if planted.strong and after is None]


class Month:
    """What goes on record in a month, in no order."""

    def __init__(self, chance: random.Random, agents: int) -> None:
        self._chance = chance
        self.entries: list[Entry] = []
        self.planted: list[Planted] = []
        self._calls = 0
        self.agents = [f"agent-{nth}" for nth in range(agents)]
        self.agents += [f"night-{nth}" for nth in range(max(1, agents // 10))]

    def _put(
        self, at_ms: int, event: str, reason: str, who: str, *, call: str = "", account: str = ""
    ) -> None:
        detail = (("by" if event == "authn_login_unlock" else "agent", who),)
        self.entries.append(Entry(at_ms, event, call, account, reason, detail))

    def _call(self) -> str:
        self._calls += 1
        return f"CA{self._calls:032x}"

    def _account(self) -> str:
        return f"acc_{self._chance.randrange(CUSTOMERS)}"

    def work(self) -> None:
        """Every agent's calls, and the supervisors'."""
        for nth, who in enumerate(self.agents):
            for day in range(DAYS):
                night = who.startswith("night-")
                if night or day % 7 < 5:
                    self._day(
                        who,
                        MONDAY_MS + day * DAY_MS,
                        new=nth % 10 == 3 and day < 7,
                        night=night,
                        outage=day == 15,
                    )
        for nth in range(3):
            for day in range(DAYS):
                self._supervisor(f"op-{nth}", MONDAY_MS + day * DAY_MS, own=day == 7 + nth)

    def _day(self, who: str, day_ms: int, *, new: bool, night: bool, outage: bool) -> None:
        chance = self._chance
        begin, hours = (21, 8) if night else (8, 10)
        late = chance.random() < 0.01  # an evening that grew late: two hours after the shift's end
        for _ in range(chance.randrange(25, 45)):
            at_ms = day_ms + begin * HOUR_MS + chance.randrange(hours * HOUR_MS)
            broken = outage and 10 <= (at_ms % DAY_MS) // HOUR_MS < 12
            self._hand_over(who, at_ms, trouble=5 if new else 1, broken=broken)
        if late and not night:
            for at_ms in (day_ms + 20 * HOUR_MS + 60_000, day_ms + 21 * HOUR_MS + 60_000):
                self._hand_over(who, at_ms, trouble=1, broken=False)

    def _hand_over(self, who: str, at_ms: int, *, trouble: int, broken: bool) -> None:
        chance, call, account = self._chance, self._call(), self._account()
        luck = chance.random()
        if luck < 0.015 * trouble:
            self._put(at_ms, "authn_token_refused", "forged", who)
        elif luck < 0.019 * trouble:
            self._put(at_ms, "authn_token_refused", "expired", who, call=call, account=account)
        elif luck < 0.0195 * trouble:
            self._put(at_ms, "authn_token_refused", "other_queue", who, call=call, account=account)
        if broken and chance.random() < 0.4:
            self._put(at_ms, "authn_token_refused", "ended", who, call=call, account=account)
            return
        self._put(at_ms + 5_000, "authn_token_redeemed", "right", who, call=call, account=account)
        self._put(at_ms + 6_000, "call_viewed", "held", who, call=call, account=account)
        if chance.random() < 0.03:
            self._put(at_ms + 20_000, "account_claimed", "known", who, call=call, account=self._account())
        if chance.random() < 0.004 * trouble:
            self._put(at_ms + 90_000, "call_view_refused", "not_held", who, call=call)

    def _supervisor(self, who: str, day_ms: int, *, own: bool) -> None:
        for _ in range(10):
            at_ms = day_ms + 9 * HOUR_MS + self._chance.randrange(8 * HOUR_MS)
            self._put(at_ms, "authn_login_unlock", "unlocked", who, account=self._account())
        call, account = self._call(), self._account()
        self._put(day_ms + 10 * HOUR_MS, "authn_token_redeemed", "right", who, call=call, account=account)
        if own:  # a customer who was put through to him because he was locked out
            self._put(
                day_ms + 10 * HOUR_MS + MINUTE_MS, "authn_login_unlock", "unlocked", who, account=account
            )

    def plant(self, says: str, sign: Sign, times: int, days: int, *, strong: bool) -> None:
        """An insider who does it so many times over so many days, beside an honest agent's work."""
        nth = len(self.planted)
        who = self.agents[nth % (len(self.agents) - max(1, len(self.agents) // 11))]
        day_ms = MONDAY_MS + (7 + nth % 2) * DAY_MS  # a Monday or a Tuesday of the second week
        done = [
            self._does(sign, who, day_ms + each * days // times * DAY_MS + 9 * HOUR_MS + each * 7 * MINUTE_MS)
            for each in range(times)
        ]
        self.planted.append(Planted(says, who, sign, strong, min(done), max(done)))

    def _does(self, sign: Sign, who: str, at_ms: int) -> int:
        """One such act, some time after this; when."""
        call, account = self._call(), self._account()
        match sign:
            case Sign.NO_CALL:
                self._put(at_ms, "authn_token_refused", "forged", who)
            case Sign.OFF_QUEUE:
                self._put(at_ms, "authn_token_refused", "other_queue", who, call=call, account=account)
            case Sign.NOT_HELD:
                self._put(at_ms, "call_view_refused", "not_held", who, call=call)
            case Sign.LOOK_UPS:
                self._put(at_ms, "account_claimed", "known", who, call=call, account=account)
            case Sign.MANY_CALLS:
                at_ms = at_ms // DAY_MS * DAY_MS + 9 * HOUR_MS + self._calls % 400 * MINUTE_MS
                self._put(at_ms, "call_viewed", "held", who, call=call, account=account)
            case Sign.OFF_SHIFT:
                at_ms = at_ms // DAY_MS * DAY_MS + 23 * HOUR_MS
                self._put(at_ms, "call_viewed", "held", who, call=call, account=account)
            case Sign.OWN_CUSTOMERS:
                self._put(at_ms, "authn_token_redeemed", "right", who, call=call, account=account)
                at_ms += 5 * HOUR_MS
                self._put(at_ms, "authn_login_unlock", "unlocked", who, account=account)
        return at_ms


def month_of_insiders(chance: random.Random, agents: int) -> Month:
    """Thirteen insiders in four weeks of work."""
    month = Month(chance, agents)
    month.work()
    month.plant("30 made-up tokens in a day", Sign.NO_CALL, 30, 1, strong=True)
    month.plant("6 made-up tokens a day, for 5 days", Sign.NO_CALL, 30, 5, strong=False)
    month.plant("tokens of 6 other queues' calls in 3 days", Sign.OFF_QUEUE, 6, 3, strong=True)
    month.plant("tokens of 2 other queues' calls in 3 days", Sign.OFF_QUEUE, 2, 3, strong=False)
    month.plant("15 of others' calls asked for in a day", Sign.NOT_HELD, 15, 1, strong=True)
    month.plant("4 of others' calls asked for in a day", Sign.NOT_HELD, 4, 1, strong=False)
    month.plant("60 accounts named in a day", Sign.LOOK_UPS, 60, 1, strong=True)
    month.plant("15 accounts named in a day", Sign.LOOK_UPS, 15, 1, strong=False)
    month.plant("400 calls looked at in a day", Sign.MANY_CALLS, 400, 1, strong=True)
    month.plant("at work in 4 nights of a week", Sign.OFF_SHIFT, 4, 4, strong=True)
    month.plant("at work in 1 night", Sign.OFF_SHIFT, 1, 1, strong=False)
    month.plant("3 of his own customers unlocked in 2 days", Sign.OWN_CUSTOMERS, 3, 2, strong=True)
    month.plant("1 of his own customers unlocked", Sign.OWN_CUSTOMERS, 1, 1, strong=False)
    return month


class Clock:
    """The month's time."""

    now_ms = MONDAY_MS

    def __call__(self) -> int:
        return self.now_ms


async def lived(entries: Iterable[Entry], watch: Watch = WATCH) -> list[Notice]:
    """Put these entries, in order, on a record in memory that is read on as it grows; what the risk team was told."""
    clock, store, told = Clock(), MemoryStore(values_max=10**6, entries_max=10**7), list[Notice]()
    reader = Insiders(store, clock, watch, zone=ZoneInfo("UTC"), tell=told.append)
    await reader.look()
    key: Key[object] = Key("spent", "month")
    page: list[Entry] = []

    async def put() -> None:
        rows = tuple(page)
        await store.amend([key], lambda _: Change(None, (), rows))
        page.clear()
        await reader.look()

    for entry in entries:
        if page and (len(page) >= PAGE or entry.at_ms - page[0].at_ms > LOOK_MS):
            await put()
        clock.now_ms = entry.at_ms
        page.append(entry)
    await put()
    return told


def month(seed: int, agents: int, watch: Watch = WATCH) -> Result:
    """One month of 28 days."""
    made = month_of_insiders(random.Random(seed), agents)
    entries = sorted(made.entries, key=lambda one: one.at_ms)
    raised = [notice for notice in asyncio.run(lived(entries, watch)) if notice.type == "insider.suspected"]
    found = tuple((one, _found_after(one, raised)) for one in made.planted)
    culprits = {(one.who, one.sign.value) for one in made.planted}
    false = tuple(one for one in raised if (one.data["person"], one.data["sign"]) not in culprits)
    return Result(found, false, len(entries), len(made.agents))


def _found_after(planted: Planted, raised: Iterable[Notice]) -> float | None:
    """Hours until he was suspected of it."""
    times = [
        (one.at_ms - planted.begins_ms) / HOUR_MS
        for one in raised
        if one.data["person"] == planted.who
        and one.data["sign"] == planted.sign
        and planted.begins_ms <= one.at_ms < planted.ends_ms + GRACE_MS
    ]
    return min(times, default=None)


def report(months: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Months, as (agents, seed), lived through: a table in Markdown."""
    log.configure("critical")
    results = [(agents, month(seed, agents)) for agents, seed in months]
    sizes = sorted({agents for agents, _ in results})
    yield "| insider | must be found | " + " | ".join(f"{size:,} agents" for size in sizes) + " |"
    yield "| --- | --- |" + " --- |" * len(sizes)
    for place, (planted, _) in enumerate(results[0][1].found):
        cells = []
        for size in sizes:
            after = [result.found[place][1] for its, result in results if its == size]
            times = sorted(hours for hours in after if hours is not None)
            middle = f", after {times[len(times) // 2]:,.0f} h" if times else ""
            cells.append(f"{len(times)} of {len(after)}{middle}")
        yield f"| {planted.says} | {'yes' if planted.strong else 'no'} | {' | '.join(cells)} |"
    for sign in Sign:
        counts = [
            str(
                sum(
                    one.data["sign"] == sign for its, result in results if its == size for one in result.false
                )
            )
            for size in sizes
        ]
        yield f"| honest ones suspected: {sign} | | {' | '.join(counts)} |"
    entries = [f"{sum(result.entries for its, result in results if its == size):,}" for size in sizes]
    yield f"| entries of the record | | {' | '.join(entries)} |"
