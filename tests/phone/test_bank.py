"""The sample bank, called by the pretend Twilio without any guard between them."""

import pytest

from ivrguard.phone import bank
from ivrguard.phone.bank import Bank
from ivrguard.phone.heard import AgentBehaviour, Bridged, Dialled, Queued

AUTH_TOKEN = "a-token-of-the-test"
CALLER = "+14155550123"
NUMBER = "+18005550100"


@pytest.fixture
def example():
    return Bank()


@pytest.fixture
async def line(example, samples):
    return await samples.serve(example.app(AUTH_TOKEN))


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
async def test_the_menu(line, example, keys, words, samples):
    """What a caller of the bank can do, and how it answers."""
    await samples.press(line, *keys)

    assert words in samples.said(line)
    assert (["500"] if "on their way" in words else []) == example.wired
    assert all(seen.signed for seen in example.seen)


async def test_the_usual_bank_reaches_its_agents_through_a_workflow(exchange, samples):
    """`app(token)`: Enqueue with workflowSid and a Task in JSON; what follows the conversation."""
    line = await samples.serve(bank.app(AUTH_TOKEN))

    await samples.press(line, "0")
    queued = line.waiting
    await line.dequeued()
    await line.agent_hangs_up()

    assert isinstance(queued, Queued)
    assert queued.workflow == bank.WORKFLOW_SID
    assert queued.attributes == {"type": "voice", "language": "en", "caller": CALLER}
    assert samples.said(line).endswith(
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
async def test_a_bank_may_dial_its_agents(line, example, transfer, kind, name, samples):
    """Dial with each noun; the action thanks the caller."""
    example.transfer = transfer

    await samples.press(line, "0")
    [dialled] = [each for each in line.heard if isinstance(each, Dialled)]
    assert isinstance(line.waiting, Bridged)
    await line.agent_hangs_up()

    assert [(kind, name)] == [(target.kind, target.name) for target in dialled.targets]
    assert samples.said(line).endswith("Thank you for calling Example Bank.")
    assert all(seen.signed for seen in example.seen)


async def test_a_bank_without_a_free_agent_takes_a_message(line, example, exchange, samples):
    """Dial's action leads to the voicemail; the recording is told to a status callback."""
    example.transfer = "number"
    exchange.otherwise = AgentBehaviour("no-answer")

    await samples.press(line, "0")
    await line.speak("Call me back", then="#")

    assert samples.said(line).endswith("after the tone. We will call you back. Goodbye.")
    assert example.paths_seen()[-4:] == ["/voicemail", "/voicemail/done", "/events", "/status"]


async def test_queues_by_name(line, example, exchange, samples):
    """The fraud line is a queue of its own; support is another."""
    example.transfer = "queue"
    await samples.press(line, "9")
    other = samples.call()
    await samples.press(other, "0")

    assert [each.waiting.name for each in (line, other)] == [bank.FRAUD_QUEUE, bank.AGENT_QUEUE]
