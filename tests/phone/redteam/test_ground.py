"""The ground of an attack: what callers do on it, and what is counted."""

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.core.errors import Busy
from ivrguard.core.rules import Demand, Target
from ivrguard.phone.heard import Dialled, Queued, Referred, Said
from ivrguard.phone.heard import Target as Party
from ivrguard.phone.redteam import ground as module
from ivrguard.phone.redteam.goals import Goal
from ivrguard.phone.redteam.ground import Ground, Honest, Stuck, Talk, Watch, WatchedJudge, ground, handed_on


@pytest.fixture
async def at(flow_with):
    async with ground(flow_with("bank"), 3) as made:
        yield made


def goal(at: Ground, name: str) -> Goal:
    from ivrguard.phone.redteam.goals import protected

    return next(one for one in protected(at.flow, at.clock()) if str(one) == name)


async def test_the_owner_gets_everywhere(at):
    """With what he knows and holds, and no other."""
    for name in (
        "/redteam-no-rule-names-this",
        "/menu with key 3",
        "/wire/redteam",
        "a transfer to workflow:redteam",
    ):
        line = at.call()
        assert await at.to(line, goal(at, name), knows=at.everything()) == "there"
        await at.leave(line)
    assert list(handed_on(line)) == ["workflow:redteam"]


async def test_a_stranger_is_stuck_where_he_knows_nothing(at):
    line = at.call()
    assert await at.to(line, goal(at, "/wire/redteam")) == "stuck"
    assert await at.to(line, goal(at, "/wire/redteam"), stop="code", knows=("pin",)) in ("stuck", "over")
    await at.leave(line)


async def test_a_question_is_asked_for_by_name(at):
    assert await at.way_to("pin") == (at.goal, ())
    assert await at.way_to("code") == (at.goal, ())
    line = at.call()
    assert await at.to(line, at.aim, stop="account") == "asked"
    assert await at.asked(line) == "account"
    assert not await at.at_the_ivr(line)
    await at.leave(line)
    assert await at.asked(line) is None


async def test_a_factor_that_nothing_asks_for_has_no_way(flow_with):
    flow = flow_with(
        "bank", ("{any: [pin, code, app]}", "{any: [pin, code]}"), ("{any: [code, app]}", "{any: [code]}")
    )
    async with ground(flow, 3) as at:
        assert await at.way_to("app") is None
        assert await at.guess("app", (at.aim, ()), most=2) == 0
        assert at.tried["guesses keyed"] == 0


async def test_guesses_are_counted_where_they_are_judged(at):
    """The sixth is not judged, and a stranger's are not the owner's."""
    way = await at.way_to("pin")
    assert await at.guess("pin", way, most=7) == 5
    assert at.tried["guesses keyed"] == 7
    assert (await at.owner_calls(elsewhere=True)).got_in is False


async def test_an_answer_that_finds_no_thread_is_not_looked_at():
    class Full:
        kind = Kind.PIN

        async def judge(self, *_):
            raise Busy

    watch = Watch()
    with pytest.raises(Busy):
        await WatchedJudge(Full(), watch).judge(object(), "1", None, 0)
    assert (watch.judged, watch.looked) == ([], 0)
    assert watch.rests.is_set()


async def test_the_owners_call_is_the_same_each_time(at):
    first, second = await at.owner_calls(), await at.owner_calls()
    assert first == second
    assert Honest("his own phone", first, second).same
    assert not Honest("his own phone", first, Talk(False, 1, ())).same


async def test_a_transfer_counts_where_the_caller_was_handed_on(at):
    """By each way that a document has of doing it."""
    way = goal(at, "a transfer to workflow:redteam")
    line = at.call()
    await at.to(line, way, knows=at.everything())
    assert at.reached(line, way)
    assert not at.reached(line, Goal(Demand(None), (), target=Target("number", "+1")))
    await at.leave(line)


async def test_holes_are_told_once(at):
    at.through("a hole")
    at.through("a hole")
    assert len(at.holes) == 1


class Drawn:
    """Chance that is none."""

    def __init__(self, *numbers):
        self._numbers = list(numbers)

    def randrange(self, _):
        return self._numbers.pop(0)


async def test_no_guess_is_made_twice_and_none_is_right(at):
    at.chance = Drawn(int(at.who.pin), 11, 11, 12)
    assert [at.wrong("pin"), at.wrong("pin")] == ["00000011", "00000012"]


async def test_who_cannot_get_there_is_stuck(at, monkeypatch):
    """With the reason, which the report tells."""
    at.ivr.answers("/nowhere", "<Gather/>")
    nowhere = Goal(at.aim.demand, (), "/nowhere")
    assert await at.to(at.call(), nowhere, knows=at.everything()) == "stuck"
    with pytest.raises(Stuck, match="the owner did not get to /nowhere"):
        await at.there(nowhere)
    with pytest.raises(Stuck, match="'wire' was not asked for"):
        await at.question("wire", (at.aim, ()))
    monkeypatch.setattr(module, "TURNS_MAX", 1)
    assert await at.to(at.call(), at.aim, knows=at.everything()) == "stuck"
    monkeypatch.setattr(module, "protected", lambda *_: ())
    with pytest.raises(Stuck, match="'pin' is asked for nowhere"):
        await at.way("pin")
    with pytest.raises(Stuck, match="no factor is asked for"):
        await at.first()


@pytest.mark.parametrize(
    ("event", "target", "there"),
    [
        (Dialled((Party("number", "+1555"),), "answered", bridged=True), Target("number", "+1555"), True),
        (Dialled((Party("number", "+1555"),), "answered", bridged=True), Target("number", "+1556"), False),
        (Referred("sip:a@b"), Target("refer", "sip:a@b"), True),
        (Queued("red"), Target("enqueue", "red"), True),
        (Said("red"), Target("enqueue", "red"), False),
    ],
)
def test_where_a_caller_went(event, target, there):
    assert module._went_to(event, Goal(None, (), target=target)) is there
