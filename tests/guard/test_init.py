"""Who may speak for a call; what comes twice, or to two nodes; other ears; what a caller hears when something is down."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog.testing

from ivrguard import guard as guards
from ivrguard.core.assurance import AnyOf
from ivrguard.core.errors import StoreFault, UpstreamFault
from ivrguard.core.flow import Flow, Upstream
from ivrguard.core.rules import ANYONE, Demand, Rule, Target
from ivrguard.guard import CONFLICTS_MAX, UNFINISHED_POLLS_MAX, WAIT_S, Guard, books
from ivrguard.keyring import Keyring
from ivrguard.ports import Change, Key, Put, Reply, Request
from ivrguard.telephony.links import Kind

Centre = Any  # conftest.py has it, and Line: a caller and the document he hears
Line = Any
Logged = list[dict[str, Any]]
Page = Callable[..., Reply]

ISSUER = "https://guard.example"
IVR = "https://ivr.example"
OWNER = "+15551230001"
STRANGER = "+15559870002"
AGENT = "+18005550142"
ACCOUNT = "123456789"
PIN = "24681357"
WRONG = "11112229"
OTHER_ACCOUNT_SID = "AC" + "0f" * 16
PARENT = "CA" + "0" * 32


def said(flow: Flow, *prompts: str) -> str:
    """Prompts as a caller hears them."""
    return " ".join(flow.prompts[name].format(ask="account number", digits="8") for name in prompts)


async def touch(centre: Centre, line: Line, **changes: object) -> None:
    """Another node changes the call."""
    key = books.call_key(line.sid)
    changed = replace(await centre.stored(line), **changes)
    await centre.store.store.amend([key], lambda _: Change(None, (Put(key, changed),)))


# ── who may speak for a call ─────────────────────────────────────────────────────────────────────────────


async def test_a_number_of_no_flow_is_not_in_service(centre: Centre, logged: Logged):
    """In the words of some flow, since it has none of its own; without any flow the call just ends."""
    line = centre.line(to="+18005550111")
    await line.dial()
    assert (line.outcome, line.said) == ("not_in_service", said(centre.flow, "not_in_service"))

    bare = centre.line(node="bare")
    centre.node("bare", flows=())
    await bare.dial()
    assert (bare.outcome, bare.verbs) == ("not_in_service", ["Hangup"])
    assert [line["event"] for line in logged] == ["no_flow", "no_flow"]


@pytest.mark.parametrize(
    "leg",
    [{"direction": "outbound-dial"}, {"extra": (("ParentCallSid", PARENT),)}],
    ids=["dialled by another leg", "with a parent"],
)
async def test_a_child_leg_is_not_a_caller(centre: Centre, leg: dict[str, Any], logged: Logged):
    """It gets no question, no call of its own, and nothing of the IVR's."""
    centre.having(numbers=("*",))
    line = centre.line(**leg)

    await line.dial()

    assert (line.outcome, line.said) == ("not_the_callers_leg", said(centre.flow, "refused"))
    assert await centre.store.read(books.call_key(line.sid)) is None
    assert (centre.ivr.asked, logged[-1]["reason"]) == ([], "child")


async def test_another_account_does_not_speak_for_a_call(centre: Centre, logged: Logged):
    """A sub-account's token signs for that account only: its words about this call change nothing, nor end it."""
    line = await centre.verified()
    before = await centre.stored(line)
    line.account_sid = OTHER_ACCOUNT_SID

    await line.press("1")
    await centre.node().status(line.delivery(status="completed"))

    assert (line.outcome, logged[-1]["reason"]) == ("not_the_callers_leg", "account")
    assert before == await centre.stored(line)
    assert centre.ivr.paths() == ["/voice"]


@pytest.mark.parametrize("kind", [Kind.W, Kind.S, Kind.M])
async def test_a_link_for_other_ears_is_none_for_the_callers(centre: Centre, kind: Kind):
    """Its MAC is right, and it says what it is for."""
    line = await centre.verified()
    link = centre.links().outward(f"{IVR}/balance", kind=kind, method="POST", turn=1)

    await line.post(link)

    assert line.outcome == "upstream_refused"
    assert centre.ivr.paths() == ["/voice"]


async def test_a_forged_link_is_refused(centre: Centre):
    """Another path under the MAC of this one."""
    line = await centre.verified()
    await line.post(line.action.replace("/menu", "/wire/amount"))
    assert (line.outcome, centre.ivr.paths()) == ("upstream_refused", ["/voice"])


# ── again is not twice ───────────────────────────────────────────────────────────────────────────────────


async def test_the_last_webhook_again_gets_its_answer_again(centre: Centre):
    """From any node, byte for byte; nothing changes, and the IVR is not asked."""
    line = await centre.verified()
    await line.press("1")
    first, before = line.body, await centre.stored(line)

    for node in ("a", "b"):
        await line.again(node)
        assert (line.outcome, line.body) == ("repeated", first)

    assert before == await centre.stored(line)
    assert centre.ivr.paths() == ["/voice", "/menu"]


async def test_an_older_webhook_again_changes_nothing(centre: Centre):
    """The PIN of before, replayed after the next question was put: neutral, and nothing is judged."""
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    await line.press(WRONG)
    old, ledger = line.hook, await centre.ledger()
    await line.press("*")

    await line.send(old)

    assert (line.outcome, line.verbs) == ("stale", ["Hangup"])
    assert ledger == await centre.ledger()


async def test_what_another_node_is_answering_is_waited_for(centre: Centre, monkeypatch: pytest.MonkeyPatch):
    """It looks now and then; if nothing comes for seconds, that node died, and this one does it again."""
    line = await centre.verified()
    await line.press("1")
    unfinished = await centre.stored(line)
    await touch(centre, line, last=replace(unfinished.last, answer="", node="gone"))
    naps = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", nap)
    await line.again("b")

    assert line.outcome == "forwarded"
    assert len(naps) == UNFINISHED_POLLS_MAX
    assert (
        sum(naps) == 8
    )  # long enough for an IVR that takes its time, short enough for one more try in 11.5 s
    assert centre.ivr.paths() == ["/voice", "/menu", "/menu"]


@pytest.mark.parametrize(
    ("meanwhile", "outcome"),
    [
        (lambda call, last: replace(call, last=last), "repeated"),
        (lambda call, last: replace(call, turn=9, last=replace(last, fingerprint="another's")), "stale"),
        (lambda *_: None, "ask"),
    ],
    ids=["answered", "gone on", "swept"],
)
async def test_what_may_happen_while_it_waits(
    centre: Centre, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[..., Any], outcome: str
):
    """The answer comes; or the call goes on without it; or it is gone, and this is a first webhook again."""
    line = centre.line()
    await line.dial()
    stored, key = await centre.stored(line), books.call_key(line.sid)
    await touch(centre, line, last=replace(stored.last, answer="", node="other"))
    naps = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        changed = meanwhile(await centre.stored(line), stored.last)
        await centre.store.store.amend([key], lambda _: Change(None, (Put(key, changed),)))

    monkeypatch.setattr(asyncio, "sleep", nap)
    await line.again()

    assert (line.outcome, len(naps)) == (outcome, 1)


async def test_nobody_waits_for_a_webhook_that_this_node_lost(
    centre: Centre, crash: type[Exception], monkeypatch: pytest.MonkeyPatch
):
    """Whoever began it here is gone, or he would hold the call's lock: it is done again at once."""
    line = await centre.verified()
    centre.store.acts, centre.store.dies, centre.store.late = 0, 0, True
    with pytest.raises(crash):
        await line.press("1")
    centre.store.live()

    async def nap(_: float) -> None:
        raise AssertionError("there is nobody to wait for")

    monkeypatch.setattr(asyncio, "sleep", nap)
    await line.again()

    assert line.outcome == "forwarded"


async def test_webhooks_of_one_call_are_answered_one_after_the_other(centre: Centre):
    """On one node the second waits for the first; other calls do not; no lock is kept when they are done."""
    line, other = await centre.verified(), centre.line(STRANGER)
    gate = centre.ivr.gate = asyncio.Event()
    guard = centre.node()
    hooks = [line.hook_of(line.action, "1"), line.hook_of("/voice")]
    first, second = (asyncio.create_task(guard.voice(hook)) for hook in hooks)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    await other.dial()
    assert other.outcome == "ask"
    assert (len(centre.ivr.asked), len(guard._lines)) == (2, 1)
    gate.set()

    assert [answer.outcome for answer in await asyncio.gather(first, second)] == ["forwarded", "forwarded"]
    assert centre.ivr.paths() == ["/voice", "/menu", "/voice"]
    assert guard._lines == {}


async def test_a_call_that_never_stands_still_is_let_go(centre: Centre, logged: Logged):
    """Others change it between each look and act: a few attempts, then an apology."""
    line = await centre.verified()
    amend, acts = centre.store.store.amend, []

    async def changed_first(keys: Any, change: Any) -> Any:
        acts.append(len(acts))
        key = books.call_key(line.sid)
        moved = replace(await centre.stored(line), turn=(await centre.stored(line)).turn + 1)
        await amend([key], lambda _: Change(None, (Put(key, moved),)))
        return await amend(keys, change)

    centre.store.amend = changed_first
    await line.press("1")

    assert (line.outcome, line.said) == ("fault_store", said(centre.flow, "unavailable"))
    assert len(acts) == CONFLICTS_MAX
    assert centre.ivr.paths() == ["/voice"]
    assert logged[-1]["event"] == "fault"


# ── a flow that changes under a call ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ["factors", "levels"])
async def test_a_question_that_the_new_flow_does_not_know(centre: Centre, what: str, logged: Logged):
    """After a restart with another file: an apology, never a guess at what was meant."""
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    flow = centre.flow
    changes: dict[str, dict[str, Any]] = {
        "factors": {"factors": {name: one for name, one in flow.factors.items() if name != "pin"}},
        "levels": {"levels": {"one": AnyOf(("pin",))}, "rules": (), "default": Demand("one")},
    }
    centre.nodes.clear()
    centre.having(version="2", **changes[what])

    await line.press(PIN)

    assert (line.outcome, line.said) == ("flow_changed", said(flow, "unavailable"))
    assert logged[-1]["event"] == "flow_changed"
    assert await centre.ledger() is None


async def test_a_call_keeps_its_flow_while_both_versions_are_in_force(centre: Centre):
    """The new file has other words; this call still hears the old ones."""
    new = replace(centre.flow, version="2", prompts={**centre.flow.prompts, "pin": "New words."})
    old = centre.flow
    line, later = centre.line(), centre.line()
    await line.dial()
    centre.nodes.clear()
    centre.node(flows=(old, new))

    await line.press(f"{ACCOUNT}#")
    await later.dial()
    await later.press(f"{ACCOUNT}#")

    assert (line.said, later.said) == (said(old, "pin"), "New words.")


async def test_a_call_whose_flow_is_gone_is_not_in_service(centre: Centre):
    """Nothing is decided by the rules of another flow."""
    line = await centre.verified()
    centre.nodes.clear()
    centre.having(name="another")
    await line.press("1")
    assert (line.outcome, centre.ivr.paths()) == ("not_in_service", ["/voice"])


# ── when something is down ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("at", ["the first webhook", "the PIN", "a document"])
async def test_a_store_that_is_down_lets_nothing_through(centre: Centre, at: str):
    """The caller hears an apology; once the store is back the same webhook goes through, counted once."""
    line = centre.line()
    if at == "a document":
        await centre.verified(line)
    if at == "the PIN":
        await line.dial()
        await line.press(f"{ACCOUNT}#")
    asked = len(centre.ivr.asked)
    centre.store.fault = StoreFault("disk full")
    await {
        "the first webhook": line.dial,
        "the PIN": lambda: line.press(PIN),
        "a document": lambda: line.press("1"),
    }[at]()

    assert (line.outcome, line.said) == ("fault_store", said(centre.flow, "unavailable"))
    assert len(centre.ivr.asked) == asked
    centre.store.fault = None
    await line.again()
    assert line.outcome in {"ask", "forwarded"}


@pytest.mark.parametrize("what", ["the last answer", "the request that waits"])
async def test_a_sealing_key_that_was_taken_away_too_early(
    centre: Centre, keys: Keyring, what: str, logged: Logged
):
    """What the call keeps cannot be opened: an apology, and the operator reads what to mend."""
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    other = Keyring(
        sealing={"k9": b"9" * 32}, peppers=keys.peppers, naming={"n1": b"n" * 32}, signing={"s9": b"s" * 32}
    )
    centre.nodes.clear()
    centre.node(keys=other)

    await (line.again() if what == "the last answer" else line.press(PIN))

    assert (line.outcome, line.said) == ("fault_fault", said(centre.flow, "unavailable"))
    assert "an old sealing key must stay" in logged[-1]["detail"]
    assert centre.ivr.asked == []


async def test_an_apology_is_in_the_words_of_the_flow_that_was_dialled(centre: Centre):
    """Of some flow when it is not known which; without any, the call just ends."""
    bank = centre.flow
    shop = replace(
        bank, name="shop", numbers=("+18005550111",), prompts={**bank.prompts, "unavailable": "Shop closed."}
    )
    guard, bare = centre.node(flows=(bank, shop)), centre.node("bare", flows=())
    dialled = {number: centre.line(to=number).delivery() for number in ("+18005550111", "+18005550222")}

    assert b"Shop closed." in guard.apology(dialled["+18005550111"], "/")
    assert b"Shop closed." not in guard.apology(dialled["+18005550222"], "/")
    assert guard.apology(None, "/") == guard.apology(dialled["+18005550222"], "/")
    assert b"Say" not in bare.apology(None, "/")


# ── what a waiting caller hears ──────────────────────────────────────────────────────────────────────────


async def waiting(centre: Centre, wait: object) -> Line:
    """A verified caller in a queue whose wait document is this; the line's last document is the Enqueue."""
    centre.having(
        rules=(Rule(ANYONE, transfer=Target("*", "*")), Rule(Demand("two_factor"), path="/wire/**"))
    )
    centre.ivr.pages |= {"/menu": '<Enqueue waitUrl="/wait">support</Enqueue>', "/wait": wait}
    line = await centre.verified()
    await line.press("0")
    return line


async def test_a_caller_who_waits_hears_the_ivrs_music(centre: Centre):
    """Again and again, and no turn of the call is used up by it; no question, and no assertion, goes along."""
    line = await waiting(centre, "<Say>Please hold.</Say><Redirect>/wait</Redirect>")
    url, before = line.links("Enqueue", "waitUrl")[0], await centre.stored(line)

    for _ in range(3):
        await line.post(url, QueuePosition="1")
        assert (line.outcome, line.said) == ("passed_on", "Please hold.")
        assert "_ivrguard=qp." in line.redirect

    assert before == await centre.stored(line)
    assert {each.assertion for each in centre.ivr.asked if each.path == "/wait"} == {""}


async def test_the_same_key_twice_in_a_long_wait(centre: Centre):
    """What is keyed there is gated like any request, and each press is one of its own."""
    line = await waiting(centre, '<Gather action="/where" numDigits="1"/>')
    centre.ivr.pages["/where"] = "<Say>You are second.</Say>"
    url = line.links("Enqueue", "waitUrl")[0]

    for _ in range(2):
        await line.post(url)
        await line.press("5")
        assert (line.outcome, line.said) == ("forwarded", "You are second.")

    assert centre.ivr.paths()[2:] == ["/wait", "/where"] * 2


@pytest.mark.parametrize(
    ("wait", "outcome"),
    [
        ("<Dial>+18005550142</Dial>", "upstream_refused"),
        (UpstreamFault("down"), "fault_upstream"),
        (Reply(500, "", None, b""), "fault_upstream"),
        (Reply(302, "", None, b"", location="/wait"), "fault_upstream"),
        (Reply(302, "", None, b"", location="/wire/amount"), "upstream_refused"),
        (Reply(302, "", None, b"", location="https://evil.example/"), "upstream_refused"),
    ],
    ids=["a transfer", "down", "an error", "a circle", "to what he may not hear", "to a place not listed"],
)
async def test_music_that_cannot_be_had_costs_nobody_his_place(centre: Centre, wait: object, outcome: str):
    """No hang-up, which would take him out of the queue; silence, until it is asked for again."""
    line = await waiting(centre, wait)

    await line.post(line.links("Enqueue", "waitUrl")[0])

    assert line.outcome == outcome
    assert line.verbs == ["Say", "Pause"]
    assert line.document.find("Pause").attrib["length"] == str(WAIT_S)
    assert "/wire/amount" not in centre.ivr.paths()


async def test_a_redirect_of_the_music_is_followed(centre: Centre, page: Page):
    """To the document that there is in the end, and its links are seen from there."""
    line = await waiting(centre, page(status=307, location="music/one"))
    centre.ivr.pages["/music/one"] = "<Play>tune.mp3</Play>"

    await line.post(line.links("Enqueue", "waitUrl")[0], QueuePosition="1")

    assert line.outcome == "passed_on"
    assert line.document.find("Play").text.startswith(f"{ISSUER}/music/tune.mp3?_ivrguard=mg.")
    assert dict(centre.ivr.asked[-1].request.params)["QueuePosition"] == "1"


# ── whispers: the callee's ear ───────────────────────────────────────────────────────────────────────────


async def with_phone(centre: Centre, document: str = f"<Dial>{AGENT}</Dial>") -> tuple[Line, Line, str]:
    """A caller on his way to an agent's phone; the agent's leg; and the URL of the guard's whisper."""
    centre.having(rules=(Rule(Demand("one_factor"), transfer=Target("*", "*")),))
    centre.ivr.pages["/menu"] = document
    line = await centre.verified()
    await line.press("0")
    await line.go_on()
    extra = (("ParentCallSid", line.sid),)
    agent = centre.line("+18005550100", to=AGENT, direction="outbound-dial", extra=extra)
    return line, agent, line.links("Number", "url")[0]


async def whispered(centre: Centre, agent: Line, url: str, node: str = "a") -> Line:
    leg = url.rpartition("/")[2]
    agent.take(await centre.node(node).whisper(leg, agent.delivery()))
    return agent


async def test_the_agent_hears_the_code_before_the_two_are_joined(centre: Centre):
    """Twice, digit by digit; then the document ends and the caller is there."""
    line, agent, url = await with_phone(centre)
    code = books.code_of(centre.keys, (await centre.stored(line)).legs[-1], 0)

    await whispered(centre, agent, url)

    assert agent.verbs == ["Say", "Say"]
    assert agent.said.count(" ".join(code)) == 2


async def test_a_whisper_says_the_code_of_before_a_rotation(centre: Centre, rotated: Keyring):
    """The agent's phone rings while the naming key changes: the code that is filed is the one he hears."""
    line, agent, url = await with_phone(centre)
    code = books.code_of(centre.keys, (await centre.stored(line)).legs[-1], 0)
    centre.node("rotated", keys=rotated)

    await whispered(centre, agent, url, "rotated")

    assert " ".join(code) in agent.said


async def test_a_whisper_of_a_call_that_is_gone_says_nothing(centre: Centre):
    """Its leg is kept a little longer than it: nobody is there to be joined."""
    line, agent, url = await with_phone(centre)
    key = books.call_key(line.sid)
    await centre.store.store.amend([key], lambda _: Change(None, (Put(key, None),)))

    await whispered(centre, agent, url)

    assert (agent.outcome, agent.verbs) == ("stale", [])


async def test_a_whisper_says_the_code_that_was_free(centre: Centre, monkeypatch: pytest.MonkeyPatch):
    """The first one drawn belonged to another transfer."""
    free = books.free_code
    monkeypatch.setattr(books, "free_code", lambda keys, leg, *_: books.code_of(keys, leg.id, 1))
    line, agent, url = await with_phone(centre)
    monkeypatch.setattr(books, "free_code", free)
    leg = (await centre.stored(line)).legs[-1]

    await whispered(centre, agent, url)

    assert " ".join(books.code_of(centre.keys, leg, 1)) in agent.said


@pytest.mark.parametrize(
    ("numbers", "heard"),
    [
        ([(AGENT, "/mine")], "/mine"),
        ([("800 555 0142", "/mine")], "/mine"),
        ([("+18005550143", "/hers"), (AGENT, "/mine")], "/mine"),
        ([("+18005550143", "/hers"), ("+18005550144", "/his")], None),
    ],
    ids=["its number", "the only one, spelt otherwise", "one of two", "nobody's"],
)
async def test_the_ivrs_own_whisper_comes_after_ours(
    centre: Centre, numbers: list[tuple[str, str]], heard: str | None
):
    """It was replaced in the document, so it is played here: that of the number that was picked up."""
    nouns = "".join(f'<Number url="{path}" method="GET">{number}</Number>' for number, path in numbers)
    _, agent, url = await with_phone(centre, f"<Dial>{nouns}</Dial>")
    centre.ivr.pages["/mine"] = "<Gather><Say>Press a key to accept.</Say></Gather><Redirect>/more</Redirect>"

    await whispered(centre, agent, url)

    if heard is None:
        assert agent.verbs == ["Say", "Say"]
        return
    assert agent.verbs == ["Say", "Say", "Redirect"]
    agent.take(await centre.node().callee(agent.hook_of(agent.redirect)))
    assert (agent.outcome, agent.said) == ("passed_on", "Press a key to accept.")
    assert "_ivrguard=wp." in agent.action
    assert (centre.ivr.asked[-1].request.method, centre.ivr.asked[-1].path) == ("GET", heard)


async def test_a_whisper_is_for_its_own_leg_and_once_redeemed_no_more(centre: Centre):
    """A leg of another call hears nothing, nor does anybody after the code was used; the caller never."""
    line, agent, url = await with_phone(centre)
    leg = await centre.store.read(books.leg_key(url.rpartition("/")[2]))
    for other in (
        centre.line(AGENT, direction="outbound-dial", extra=(("ParentCallSid", PARENT),)),
        centre.line(AGENT, sid=line.sid),
    ):
        await whispered(centre, other, url)
        assert (other.outcome, other.verbs) == ("stale", ["Hangup"])
    await whispered(centre, agent, f"whisper/{'0' * 32}")
    assert agent.outcome == "stale"

    key = books.leg_key(leg.id)
    await centre.store.amend([key], lambda _: Change(None, (Put(key, replace(leg, redeemed_ms=1)),)))
    await whispered(centre, agent, url)
    assert (agent.outcome, agent.said) == ("stale", "")


async def test_a_whisper_without_a_code_joins_the_two_unannounced(centre: Centre):
    """The caller is verified; the agent hears no code (none is kept, or the call's flow is gone), and sees so."""
    _, agent, url = await with_phone(centre)
    for key in [row.key for row in centre.store.store._rows.values() if row.key.kind == "alias"]:
        await centre.store.amend([key], lambda _, key=key: Change(None, (Put(key, None),)))
    await whispered(centre, agent, url)
    assert (agent.outcome, agent.verbs) == ("stale", [])

    centre.node("later", flows=())
    await whispered(centre, agent, url, "later")
    assert (agent.outcome, agent.verbs) == ("stale", [])


async def test_a_whisper_of_a_call_that_was_swept(centre: Centre):
    """The leg is there still, its call is not: no code."""
    line, agent, url = await with_phone(centre)
    key = books.call_key(line.sid)
    await centre.store.amend([key], lambda _: Change(None, (Put(key, None),)))
    await whispered(centre, agent, url)
    assert (agent.outcome, agent.verbs) == ("stale", [])


async def test_a_whisper_while_the_store_is_down(centre: Centre, logged: Logged):
    """The two are joined without a code; the operator reads why."""
    _, agent, url = await with_phone(centre)

    async def down(_: Key[Any]) -> Any:
        raise StoreFault("down")

    centre.store.read = down
    await whispered(centre, agent, url)
    assert (agent.outcome, agent.verbs, logged[-1]["reason"]) == ("fault_store", [], "store")


@pytest.mark.parametrize("who", ["the caller", "no parent", "another parent", "another use", "flow gone"])
async def test_the_ivrs_own_whisper_is_for_the_callees_leg(centre: Centre, who: str):
    """The caller himself, a leg of no call or of another one, and a link of another use get nothing of it."""
    line, agent, _ = await with_phone(centre)
    use = Kind.T if who == "another use" else Kind.W
    link = centre.links().outward(f"{IVR}/mine", kind=use, method="POST", turn=1)
    match who:
        case "the caller":
            agent.sid = line.sid
        case "no parent":
            agent.extra = ()
        case "another parent":
            agent.extra = (("ParentCallSid", PARENT),)
        case "flow gone":
            centre.nodes.clear()
            centre.having(name="another")

    agent.take(await centre.node().callee(agent.hook_of(link)))

    assert agent.outcome == ("not_the_callees_leg" if who == "the caller" else "callee_refused")
    assert "/mine" not in centre.ivr.paths()


@pytest.mark.parametrize(
    ("page_", "outcome"),
    [
        (UpstreamFault("down"), "fault_upstream"),
        ("<Dial>+18005550143</Dial>", "upstream_refused"),
        (Reply(302, "", None, b"", location="/wire/secret"), "upstream_refused"),
    ],
    ids=["down", "a transfer", "to what the caller does not hold"],
)
async def test_a_whisper_of_the_ivrs_that_cannot_be_had(centre: Centre, page_: object, outcome: str):
    """The two are joined without it; nothing else is let through."""
    _, agent, _ = await with_phone(centre)
    centre.nodes.clear()
    centre.having(rules=(Rule(Demand("two_factor"), path="/wire/**"),))
    centre.ivr.pages["/mine"] = page_
    link = centre.links().outward(f"{IVR}/mine", kind=Kind.W, method="POST", turn=1)

    agent.take(await centre.node().callee(agent.hook_of(link)))

    assert (agent.outcome, agent.verbs) == (outcome, [])
    assert "/wire/secret" not in centre.ivr.paths()


# ── notices, media, the end of a call ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_notice_is_passed_on_with_the_method_the_ivr_wants(centre: Centre, method: str):
    """Same fields; whatever the IVR answers is thrown away. Of two flows, the one whose link it is."""
    first = replace(centre.flow, name="first", numbers=("+1",), upstream=Upstream("https://first.example/"))
    guard = centre.node(flows=(first, centre.flow))
    link = centre.links().outward(f"{IVR}/events?x=1", kind=Kind.S, method=method, turn=3)
    params = (("CallSid", PARENT), ("CallStatus", "completed"))
    came = Request("POST", "", params, b"CallSid=...", "application/json", (("x-odd", "1"),))

    await guard.notice(link.removeprefix(ISSUER), came)

    [asked] = centre.ivr.asked
    assert asked.request == replace(came, method=method, url=f"{IVR}/events?x=1")


@pytest.mark.parametrize(
    ("kind", "page_", "event"),
    [
        (Kind.S, UpstreamFault("down"), "notice_lost"),
        (Kind.S, Reply(500, "", None, b""), "notice_lost"),
        (Kind.S, Reply(302, "", None, b"", location="/on"), "notice_lost"),
        (Kind.T, "", "notice_refused"),
        (None, "", "notice_refused"),
    ],
    ids=["down", "an error", "a redirect", "a link of another use", "no link"],
)
async def test_a_notice_that_gets_lost_is_told(
    centre: Centre, kind: Kind | None, page_: object, event: str, logged: Logged
):
    """To the operator; the provider is not bothered with it."""
    centre.ivr.pages["/events"] = page_
    link = f"{ISSUER}/events"
    if kind is not None:
        link = centre.links().outward(f"{IVR}/events", kind=kind, method="POST", turn=3)

    await centre.node().notice(link.removeprefix(ISSUER), Request("POST", "", ()))

    assert [line["event"] for line in logged] == [event]


def test_a_media_link_names_its_file(centre: Centre):
    """For whichever flow it was written; a link of another use, or without a MAC, names none."""
    first = replace(centre.flow, name="first", numbers=("+1",), upstream=Upstream("https://first.example/"))
    guard, links = centre.node(flows=(first, centre.flow)), centre.links()
    made = [links.outward(f"{IVR}/a.mp3", kind=kind, method="GET", turn=1) for kind in (Kind.M, Kind.T)]

    found = [guard.media(link.removeprefix(ISSUER)) for link in (*made, f"{ISSUER}/a.mp3")]

    assert found == [f"{IVR}/a.mp3", None, None]


async def test_the_end_of_a_call_is_on_record_once(centre: Centre):
    """Told again, late, or of a call that nobody knows: nothing more. Not over: nothing."""
    line, unknown, guard = await centre.verified(), centre.line(), centre.node()
    for status in ("in-progress", "completed", "completed", "canceled"):
        await guard.status(line.delivery(status=status))
        centre.clock.advance(1)
    await guard.status(unknown.delivery(status="completed"))

    assert await centre.events("session_ended") == ["completed"]
    row = centre.store.store._rows[books.call_key(line.sid)]
    ended = (await centre.stored(line)).ended_ms
    assert (ended, row.expires_ms) == (centre.clock() - 3000, ended + books.CALL_KEPT_S * 1000)
    assert await centre.store.read(books.call_key(unknown.sid)) is None


async def test_the_end_of_a_call_while_the_store_is_down(centre: Centre, logged: Logged):
    """It is told to the operator, and to nobody else; the provider does not repeat a status."""
    line = await centre.verified()
    centre.store.fault = StoreFault("down")
    await centre.node().status(line.delivery(status="completed"))
    assert [entry["event"] for entry in logged] == ["fault"]


async def test_the_end_of_a_call_waits_for_the_store(centre: Centre):
    """Once it is back, the next end brings along those that it could not take; or the drain does."""
    lines, guard = [await centre.verified() for _ in range(4)], centre.node()
    centre.store.fault = StoreFault("down")
    for line in lines[:2]:
        await guard.status(line.delivery(status="completed"))
        await guard.status(line.delivery(status="completed"))
    await guard.catch_up()
    assert await centre.events("session_ended") == []
    centre.store.fault = None
    await guard.status(lines[2].delivery(status="completed"))
    await guard._background.drain()
    assert await centre.events("session_ended") == ["completed"] * 3

    centre.store.fault = StoreFault("down")
    await guard.status(lines[3].delivery(status="completed"))
    centre.store.fault = None
    await guard.drain()
    assert await centre.events("session_ended") == ["completed"] * 4
    assert all([(await centre.stored(line)).ended_ms for line in lines])


async def test_one_brings_the_ends_that_wait_along_and_no_more(centre: Centre):
    """After an outage statuses come by the hundred: messages with codes must find a place in the background beside them."""
    lines, guard = [await centre.verified() for _ in range(6)], centre.node()
    centre.store.fault = StoreFault("down")
    await guard.status(lines[0].delivery(status="completed"))
    centre.store.fault = None
    async with guard._catching_up:  # somebody is at it
        for line in lines[1:]:
            await guard.status(line.delivery(status="completed"))
        assert not guard._background._running
    await guard.status(lines[1].delivery(status="completed"))
    await guard._background.drain()

    assert await centre.events("session_ended") == ["completed"] * 6


async def test_so_many_ends_wait_and_no_more(centre: Centre, monkeypatch: pytest.MonkeyPatch):
    """A store that stays away takes no memory: the oldest are given up."""
    monkeypatch.setattr("ivrguard.guard.ENDS_KEPT_MAX", 2)
    lines, guard = [await centre.verified() for _ in range(3)], centre.node()
    centre.store.fault = StoreFault("down")
    for line in lines:
        await guard.status(line.delivery(status="completed"))
    centre.store.fault = None
    await guard.catch_up()

    assert [bool((await centre.stored(line)).ended_ms) for line in lines] == [False, True, True]


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_store_that_does_not_answer_keeps_no_server_from_ending(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
):
    """What waits to be recorded has a moment; then the log says that it is not on record."""

    async def hangs() -> None:
        await asyncio.Event().wait()

    node = Guard(centre.world("ending"))
    monkeypatch.setattr(guards, "CATCH_UP_S", 0.01)
    monkeypatch.setattr(node, "catch_up", hangs)
    with structlog.testing.capture_logs() as said:
        await node.drain()
    assert [(one["event"], one["reason"]) for one in said] == [("fault", "store")]
