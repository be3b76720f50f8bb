"""The sample bank, called by the pretend Twilio without any guard between them."""

import pytest
from aiohttp.test_utils import TestServer

from ivrguard.phone import bank
from ivrguard.phone.bank import Bank
from ivrguard.phone.heard import AgentBehaviour, Bridged, Dialled, Queued, Said

AUTH_TOKEN = "a-token-of-the-test"
CALLER = "+14155550123"
NUMBER = "+18005550100"


async def serve(application, exchange):
    """Serve the bank and point the number at it; the server."""
    server = TestServer(application)
    await server.start_server()
    origin = str(server.make_url("")).rstrip("/")
    exchange.number(NUMBER, f"{origin}/voice", status_callback=f"{origin}/status")
    return server


@pytest.fixture
def example():
    return Bank()


@pytest.fixture
async def line(example, exchange):
    server = await serve(example.app(AUTH_TOKEN), exchange)
    yield exchange.call(CALLER, NUMBER)
    await server.close()


async def press(line, *keys):
    await line.until_input()
    for each in keys:
        await (line.press(each) if each else line.silent())


def said(line):
    return " ".join(each.text for each in line.heard if isinstance(each, Said))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("1",), "Your balance is 1234 dollars. Main menu."),
        (("2",), "open from nine to five"),
        (("7",), "not one of the choices. Main menu."),
        (("",), "We did not hear you. Main menu."),
        (("3", ""), "Nothing was wired. Main menu."),
        (("3", "500#", "1"), "500 dollars are on their way."),
        (("3", "500#", "2"), "Nothing was wired."),
        (("3", "500#", ""), "Nothing was wired."),
        (("3", "*#", "500#", "1"), "500 dollars are on their way."),
    ],
)
async def test_the_menu(line, example, keys, words):
    """What a caller of the bank can do, and how it answers."""
    await press(line, *keys)

    assert words in said(line)
    assert (["500"] if "on their way" in words else []) == example.wired
    assert all(seen.signed for seen in example.seen)


async def test_all_that_reaches_the_bank_is_kept(line, example):
    """A test can tell which digits it has ever seen, and where it was asked."""
    await press(line, "3", "500#", "1")
    await line.hang_up()

    assert example.digits_seen() == {"3", "500", "1"}
    assert example.paths_seen() == [
        "/voice",
        "/menu",
        "/wire/amount",
        "/wire/amount",
        "/wire/confirm",
        "/voice",
        "/status",
    ]
    assert "500" not in repr(example.seen)


async def test_the_amount_lives_in_the_session(line, example, session):
    """The cookie carries the session: without it, the bank has forgotten the amount."""
    await press(line, "3", "500#")
    origin = line.requests[0].url.removesuffix("/voice")

    other = line.exchange.call(CALLER, NUMBER)
    answer = await other.send(f"{origin}/wire/confirm", {"Digits": "1"})

    assert "Nothing was wired." in answer.text
    assert example.wired == []


async def test_there_are_pages_that_the_bank_does_not_have(line, example):
    """404; that somebody asked is kept."""
    await line.until_input()
    answer = await line.send(line.requests[0].url.replace("/voice", "/admin"))

    assert answer.status == 404
    assert example.paths_seen() == ["/voice", "/admin"]


@pytest.mark.parametrize("sign_with", ["another-token", AUTH_TOKEN])
async def test_what_twilio_did_not_sign_is_refused(line, example, exchange, sign_with):
    """403, and no document; the validator is twilio's own."""
    exchange.account.auth_token = sign_with

    await line.until_input()

    assert [sign_with == AUTH_TOKEN] * len(example.seen) == [seen.signed for seen in example.seen]
    assert (sign_with == AUTH_TOKEN) == ("Welcome" in said(line))


async def test_the_bank_checks_its_own_url(exchange):
    """Its configured name counts, not `Host`; a request signed for another name is refused."""
    example = Bank(public_url="https://ivr.bank.example")
    server = await serve(example.app(AUTH_TOKEN), exchange)

    line = exchange.call(CALLER, NUMBER)
    await line.until_input()
    exchange.account.routes = {"https://ivr.bank.example": str(server.make_url("")).rstrip("/")}
    exchange.number(NUMBER, "https://ivr.bank.example/voice", method="GET")
    named = exchange.call(CALLER, NUMBER)
    await named.until_input()
    await server.close()

    assert [seen.signed for seen in example.seen] == [False, False, True]
    assert "Welcome" in said(named)


async def test_the_usual_bank_reaches_its_agents_through_a_workflow(exchange):
    """`app(token)`: Enqueue with workflowSid and a Task in JSON; what follows the conversation."""
    server = await serve(bank.app(AUTH_TOKEN), exchange)
    line = exchange.call(CALLER, NUMBER)

    await press(line, "0")
    queued = line.waiting
    await line.dequeued()
    await line.agent_hangs_up()
    await server.close()

    assert isinstance(queued, Queued)
    assert queued.workflow == bank.WORKFLOW_SID
    assert queued.attributes == {"type": "voice", "language": "en", "caller": CALLER}
    assert said(line).endswith(
        "Please hold. All our agents are busy. Please hold. Thank you for calling Example Bank."
    )


@pytest.mark.parametrize(
    ("transfer", "kind", "name"),
    [
        ("number", "number", bank.AGENT_NUMBER),
        ("client", "client", bank.AGENT_CLIENT),
        ("sip", "sip", bank.AGENT_SIP),
        ("conference", "conference", bank.AGENT_ROOM),
    ],
)
async def test_a_bank_may_dial_its_agents(line, example, transfer, kind, name):
    """Dial with each noun; the action thanks the caller."""
    example.transfer = transfer

    await press(line, "0")
    [dialled] = [each for each in line.heard if isinstance(each, Dialled)]
    assert isinstance(line.waiting, Bridged)
    await line.agent_hangs_up()

    assert [(kind, name)] == [(target.kind, target.name) for target in dialled.targets]
    assert said(line).endswith("Thank you for calling Example Bank.")
    assert all(seen.signed for seen in example.seen)


async def test_a_bank_without_a_free_agent_takes_a_message(line, example, exchange):
    """Dial's action leads to the voicemail; the recording is told to a status callback."""
    example.transfer = "number"
    exchange.otherwise = AgentBehaviour("no-answer")

    await press(line, "0")
    await line.speak("Call me back", then="#")

    assert said(line).endswith("after the tone. We will call you back. Goodbye.")
    assert example.paths_seen()[-4:] == ["/voicemail", "/voicemail/done", "/events", "/status"]


async def test_queues_by_name(line, example, exchange):
    """The fraud line is a queue of its own; support is another."""
    example.transfer = "queue"
    await press(line, "9")
    other = exchange.call(CALLER, NUMBER)
    await press(other, "0")

    assert [each.waiting.name for each in (line, other)] == [bank.FRAUD_QUEUE, bank.AGENT_QUEUE]
