"""
What the IVR asks of calls by REST, held against the rules: who is dialled into a caller's conference, and whose a document is.

Who is in which conference is the provider's word, here a table. The door over real sockets: tests/web/test_side_door.py.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ivrguard.core.errors import NotifyFault, RecordFault
from ivrguard.core.rules import ANYONE, Demand, Rule, Target
from ivrguard.guard import books, desk
from ivrguard.guard.side_door import SideDoor
from ivrguard.ports import Leg
from ivrguard.telephony.rest import Unfit, asked

Centre = Any
Line = Any

ACCOUNT_SID = "AC" + "5e" * 16
NUMBER = "+18005550100"
OWNER = "+15551230001"
ROOM = "CF" + "0c" * 16
BASE = f"/2010-04-01/Accounts/{ACCOUNT_SID}"
RULES = (
    Rule(ANYONE, transfer=Target("number", "*")),
    Rule(Demand("one_factor", within_s=300, intent="agent"), transfer=Target("client", "*")),
    Rule(Demand("one_factor", reverify="one_factor", fresh_s=60), transfer=Target("sip", "*")),
    Rule(Demand("two_factor", reverify="one_factor"), transfer=Target("*", "*")),
)


@dataclass
class Table:
    """What the provider says: legs by CallSid, members by conference; a fault, when there is one."""

    legs: dict[str, Leg] = field(default_factory=dict)
    rooms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    fault: Exception | None = None

    async def leg(self, account_sid: str, call_sid: str) -> Leg | None:
        assert account_sid == ACCOUNT_SID
        if self.fault is not None:
            raise self.fault
        return self.legs.get(call_sid)

    async def members(self, account_sid: str, conference: str) -> tuple[str, ...]:
        assert account_sid == ACCOUNT_SID
        if self.fault is not None:
            raise self.fault
        return self.rooms.get(conference, ())


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def door(centre: Centre, table: Table) -> SideDoor:
    centre.having(rules=RULES)
    return SideDoor(centre.node().world, table)


async def ask(door: SideDoor, below: str, **form: str) -> dict[str, str]:
    return dict(await door.admit(asked("POST", f"{BASE}/{below}.json"), tuple(form.items())))


async def join(door: SideDoor, to: str) -> str:
    return (await ask(door, f"Conferences/{ROOM}/Participants", To=to, From=NUMBER))["To"]


async def refusal(asking: Any) -> str:
    with pytest.raises(Unfit) as unfit:
        await asking
    return unfit.value.reason


async def test_an_agent_joins_with_a_token_that_is_good_once(centre: Centre, door: SideDoor, table: Table):
    """As one whom a document dials: for this call, this target, once; on record when it is minted."""
    line = await centre.verified()
    table.rooms[ROOM] = (line.sid,)
    to = await join(door, "client:ada?skill=1")
    address, _, token = to.rpartition("&ivrguard_token=")
    assert address == "client:ada?skill=1"
    [minted] = [one for one in await centre.record() if one.event == "authn_token_created"]
    assert (minted.reason, dict(minted.detail)) == ("rest", {"intent": "agent", "queues": "client:ada"})
    assert token not in str(await centre.record())

    for name, queues, good in (
        ("bob", "client:bob", False),
        ("ada", "client:ada", True),
        ("ann", "client:*", False),
    ):
        await desk.add(centre.store, name, (queues,), secret=name, now_ms=centre.clock())
        receipt = await centre.node().redeem(await centre.node().desk(name), token, line.sid)
        assert (receipt is not None) is good, name


async def test_an_open_target_needs_no_token_and_a_plain_phone_carries_none(
    centre: Centre, door: SideDoor, table: Table
):
    """The desk then redeems by the CallSid."""
    line = await centre.verified()
    table.rooms[ROOM] = (line.sid,)
    assert await join(door, "+18005550142") == "+18005550142"
    assert await centre.events("authn_token_created") == []
    centre.nodes.clear()
    centre.having(rules=(Rule(Demand("one_factor"), transfer=Target("*", "*")),))
    plain = SideDoor(centre.node().world, table)
    stored = replace(await centre.stored(line), version=centre.flow.version)
    assert stored.proofs
    assert await join(plain, "+18005550142") == "+18005550142"
    assert await centre.events("authn_token_created") == ["rest"]
    await desk.add(centre.store, "ann", ("number:*",), secret="ann", now_ms=centre.clock())
    assert await centre.node().redeem(await centre.node().desk("ann"), line.sid, line.sid) is not None


@pytest.mark.parametrize(
    ("to", "later_s", "said"),
    [
        ("client:ada", 0, None),
        ("client:ada", 400, "level"),
        ("sip:desk@pbx.example", 0, None),
        ("sip:desk@pbx.example", 100, "level"),
        ("sim:DE1", 0, "level"),
    ],
)
async def test_what_the_rule_wants_must_hold_at_that_moment(
    centre: Centre, door: SideDoor, table: Table, to: str, later_s: int, said: str | None
):
    """Nobody can be asked here: an old proof, a higher level, a proof made anew are refused, on record."""
    line = await centre.verified()
    table.rooms[ROOM] = (line.sid,)
    centre.clock.advance(later_s)
    if said is None:
        assert "oken=" in await join(door, to)
    else:
        assert await refusal(join(door, to)) == said
        assert await centre.events("rest_refused") == [said]


async def test_each_caller_in_the_room_must_hold_it(centre: Centre, door: SideDoor, table: Table):
    """One who proved nothing keeps everybody's agent out; of two who did, each has a token."""
    first, second = await centre.verified(), await centre.verified()
    stranger = centre.line()
    await stranger.dial()
    table.rooms[ROOM] = (first.sid, second.sid, "CA" + "9" * 32)
    token = (await join(door, "client:ada")).partition("=")[2]
    legs = [(await centre.stored(line)).legs for line in (first, second)]
    assert [len(each) for each in legs] == [1, 1]
    assert token == books.token_of(centre.keys, legs[0][0])
    table.rooms[ROOM] = (stranger.sid, first.sid)
    assert await refusal(join(door, "client:ada")) == "level"


async def test_a_caller_who_is_gone_is_handed_to_nobody(centre: Centre, door: SideDoor, table: Table):
    line = await centre.verified()
    table.rooms[ROOM] = (line.sid,)
    await centre.node().status(line.delivery(status="completed"))
    assert await refusal(join(door, "client:ada")) == "level"
    assert await centre.events("rest_refused") == []


async def test_a_document_is_its_calls_own(centre: Centre, door: SideDoor):
    """Another call that asks for it hears nothing; again is answered as before; a name that nobody gave is stale."""
    line, other = await centre.verified(), await centre.verified()
    form = await ask(door, f"Calls/{line.sid}", Twiml="<Response><Say>For you.</Say></Response>")
    assert await centre.events("rest_call_led") == ["twiml"]
    assert (await other.post(form["Url"])).outcome == "stale"
    assert (await line.post("https://guard.example/.ivrguard/call/led/" + "0" * 32)).outcome == "stale"
    assert (await line.post(form["Url"])).outcome == "led"
    assert line.said == "For you."
    assert (await line.again()).outcome == "repeated"
    assert line.said == "For you."


async def test_a_transfer_in_a_document_waits_for_its_proofs(centre: Centre, door: SideDoor):
    """As in any document of the IVR: cut out, asked for, connected with its token."""
    line = await centre.verified()
    twiml = "<Response><Say>One moment.</Say><Dial><Client>ada</Client></Dial></Response>"
    form = await ask(door, f"Calls/{line.sid}", Twiml=twiml)
    await line.post(form["Url"])
    assert line.verbs == ["Say", "Redirect"]
    await line.go_on()
    assert (line.outcome, line.verbs) == ("transfer", ["Dial"])
    assert b"ivrguard_token" in line.body


async def test_a_document_gives_way_to_a_question(centre: Centre, door: SideDoor):
    """It came while nothing was asked, and is asked for when something is: the question is put again."""
    line = await centre.verified()
    form = await ask(door, f"Calls/{line.sid}", Twiml="<Response><Gather/></Response>")
    centre.ivr.pages["/menu"] = "<Enqueue>support</Enqueue>"
    await line.press("0")
    await line.go_on()
    assert line.outcome == "ask"
    assert (await line.post(form["Url"])).outcome == "ask"
    assert (await centre.stored(line)).question is not None
    assert await refusal(ask(door, f"Calls/{line.sid}", Url="https://ivr.example/menu")) == "asked"


async def test_a_call_that_is_not_known_is_looked_up(centre: Centre, door: SideDoor, table: Table):
    """By the number that is the flow's: dialled by a caller, or calling. What the provider does not know, nobody does."""
    sid = "CA" + "1" * 32
    url = {"Url": "https://ivr.example/voice"}
    assert await refusal(ask(door, f"Calls/{sid}", **url)) == "no_call"
    for leg, known in (
        (Leg(OWNER, NUMBER, "inbound"), True),
        (Leg(NUMBER, OWNER, "outbound-api"), True),
        (Leg(OWNER, NUMBER, "outbound-api"), False),
        (Leg(OWNER, "+18005550111", "inbound"), False),
        (Leg(OWNER, NUMBER, "outbound-dial", "CA" + "2" * 32), False),
    ):
        table.legs[sid] = leg
        if known:
            assert "_ivrguard=tp.0." in (await ask(door, f"Calls/{sid}", **url))["Url"]
        else:
            assert await refusal(ask(door, f"Calls/{sid}", **url)) == "no_flow"


async def test_another_accounts_call_is_no_call(centre: Centre, door: SideDoor):
    """The door of one account does not lead to the calls of another one."""
    line = await centre.verified()
    await centre.store.store.amend(
        [books.call_key(line.sid)], lambda values: moved(values[books.call_key(line.sid)])
    )
    assert await refusal(ask(door, f"Calls/{line.sid}", Url="https://ivr.example/voice")) == "no_call"


def moved(call: Any) -> Any:
    from ivrguard.ports import Change, Put

    return Change(None, (Put(books.call_key(call.sid), replace(call, account_sid="AC" + "0" * 32)),))


async def test_a_call_whose_flow_is_gone(centre: Centre, door: SideDoor, table: Table):
    line = await centre.verified()
    table.rooms[ROOM] = (line.sid,)
    for later_ms in (0, 10**9):  # a version that was replaced is kept for a day
        door._world.flows.replace((), centre.clock() + later_ms)
    assert await refusal(ask(door, f"Calls/{line.sid}", Url="https://ivr.example/voice")) == "no_flow"
    assert await refusal(join(door, "client:ada")) == "no_flow"


async def test_while_nobody_can_say_nothing_is_done(centre: Centre, door: SideDoor, table: Table):
    """The provider does not answer, or nothing can be recorded."""
    table.fault = NotifyFault("no answer")
    with pytest.raises(NotifyFault):
        await join(door, "client:ada")
    unrecorded = SideDoor(replace(centre.node().world, refusal=lambda: "no copy"), table)
    with pytest.raises(RecordFault):
        await ask(unrecorded, "Calls", To=OWNER, From=NUMBER, Url="https://ivr.example/voice")


async def test_text_that_no_document_can_hold(centre: Centre, door: SideDoor):
    line = await centre.verified()
    assert await refusal(ask(door, f"Calls/{line.sid}", Twiml="\ud800")) == "document.parse"


LED = "<Response><Dial><Conference>lobby</Conference></Dial></Response>"


async def led(centre: Centre, table: Table, line: Line) -> str:
    """Lead a call into the lobby, which anybody may enter; what becomes of it."""
    world = centre.node("d", provider=table).world
    form = await ask(SideDoor(world, table), f"Calls/{line.sid}", Twiml=LED)
    line.node = "d"
    return (await line.post(form["Url"])).outcome + "".join(f" {verb}" for verb in line.verbs)


async def test_a_customer_whom_we_called_is_a_caller_like_any_other(centre: Centre, table: Table):
    """He does not meet himself, is connected with whoever is there, and is somebody whom others are connected with."""
    centre.having(rules=(Rule(ANYONE, transfer=Target("conference", "lobby")), *RULES))
    customer = await centre.verified(centre.line(NUMBER, to=OWNER, direction="outbound-api"))
    agent = "CA" + "3" * 32
    table.rooms["lobby"] = (customer.sid, agent)
    table.legs[agent] = Leg(NUMBER, "client:ada", "outbound-api")
    assert await led(centre, table, customer) == "led Redirect"
    table.legs[agent] = Leg("+15550000007", NUMBER, "inbound")
    assert await led(centre, table, customer) == "led Dial"
    table.legs.clear()
    assert await led(centre, table, customer) == "led Dial"

    stranger = centre.line()
    await stranger.dial()
    table.rooms["lobby"] = (stranger.sid,)
    assert await led(centre, table, customer) == "led Dial"


async def test_a_stranger_is_not_connected_with_whom_the_ivr_calls(centre: Centre, table: Table):
    """The lobby is open to everybody; who is called into it stands with the transfers of the stranger who is there."""
    centre.having(rules=(Rule(ANYONE, transfer=Target("conference", "lobby")), RULES[-1]))
    stranger = centre.line()
    await stranger.dial()
    table.rooms["lobby"] = (stranger.sid,)
    called = await centre.verified(centre.line(NUMBER, to=OWNER, direction="outbound-api"))
    assert await led(centre, table, called) == "upstream_refused Say Hangup"
    assert await centre.events("rest_refused") == ["level"]
