"""The risk team told: tried again, bounded, one way not holding up another."""

import asyncio

from ivrguard.core.errors import NotifyFault
from ivrguard.guard import alarms
from ivrguard.guard.alarms import NOTICES_MAX, RETRIES_S, RiskTeam
from ivrguard.ports import Notice

NOTICE = Notice("bank/spray/1/raised", "attack.suspected", 1, {}, "a spray")


class Way:
    """One that does not take the first `faults` notices."""

    def __init__(self, name="desk", faults=0, why="outage"):
        self.name, self.faults, self.why = name, faults, why
        self.got, self.tries, self.closed = [], 0, False

    async def send(self, notice):
        self.tries += 1
        if self.tries <= self.faults:
            raise NotifyFault("it was not taken", why=self.why)
        self.got.append(notice.id)

    async def close(self):
        self.closed = True


async def told(*ways):
    """Tell them, wait for all; how long each try waited."""
    waited = []

    async def wait(seconds):
        waited.append(seconds)

    team = RiskTeam(ways, wait=wait)
    team.tell(NOTICE)
    await asyncio.gather(*team._running)
    await team.close()
    assert all(way.closed for way in ways)
    return waited


async def test_what_is_not_taken_is_sent_again(logged):
    """After longer and longer waits, with the same id; the other way had it at once."""
    slow, quick = Way("slow", faults=2), Way("quick")
    assert await told(slow, quick) == list(RETRIES_S[:2])
    assert slow.got == quick.got == [NOTICE.id]
    said = [(line["event"], line["to"]) for line in logged]
    assert sorted(said) == sorted(
        [("alert_not_taken", "slow")] * 2 + [("alert_sent", "slow"), ("alert_sent", "quick")]
    )


async def test_what_is_never_taken_is_in_the_log(logged):
    """Once more than there are waits; and a way that is gone is tried once."""
    never, gone = Way(faults=99), Way(faults=99, why="gone")
    assert await told(never) == list(RETRIES_S)
    assert await told(gone) == []
    assert (never.tries, gone.tries) == (len(RETRIES_S) + 1, 1)
    assert [line["event"] for line in logged].count("alert_lost") == 2


async def test_without_a_way_there_is_nothing_to_do(logged):
    """An alert is in log, metrics and record in any case."""
    assert await told() == []
    assert logged == []


async def test_bounded(logged, monkeypatch):
    """A receiver that hangs does not pile up memory; at the end of the process nobody waits for it for long."""
    monkeypatch.setattr(alarms, "DRAIN_S", 0)
    never = asyncio.Event()
    way = Way()
    way.send = lambda _: never.wait()
    team = RiskTeam([way])
    for _ in range(NOTICES_MAX + 5):
        team.tell(NOTICE)
    assert [line["event"] for line in logged] == ["alert_dropped"] * 5
    await team.close()
    assert (logged[-1]["event"], logged[-1]["count"]) == ("alerts_lost", NOTICES_MAX)
