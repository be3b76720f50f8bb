"""Stories on the stage: played against a tiny IVR, and the message of one that does not come true."""

from dataclasses import replace

import pytest

from ivrguard.phone.heard import AgentBehaviour
from ivrguard.phone.stage import StoryFailed, World, play
from ivrguard.phone.story import Step, Story, Wait

CALLER = "+14155550123"
NUMBER = "+18005550100"
TOKEN = "0123456789abcdefghijklmnop"


class Clock:
    """A world in which time passes, and codes are sent."""

    def __init__(self):
        self.passed = []

    def advance(self, seconds):
        self.passed.append(seconds)

    async def advance_slowly(self, seconds):
        self.passed.append(seconds)

    def code(self):
        if self.passed:
            raise LookupError("the code is too old")
        return "424242"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def world(clock):
    return World({"pin": lambda: "80311", "code": clock.code}, clock.advance)


BANK = {
    "/voice": (
        "<Say>Welcome to the bank.</Say><Play>chime.mp3</Play>"
        "<Gather input='dtmf speech' action='menu'><Say>Your PIN,\n please.</Say></Gather><Say>Goodbye.</Say>"
    ),
    "/chime.mp3": "",
    "/menu": "<Say>Thank you.</Say><Gather action='code'><Say>Your code?</Say></Gather><Redirect>agent</Redirect>",
    "/code": "<Say>Your balance is ten dollars.</Say>",
    "/agent": f'<Enqueue action="after" workflowSid="WW1"><Task>{{"who": {{"token": "{TOKEN}"}}, "n": 1}}</Task></Enqueue>',
    "/after": "<Say>Rate us.</Say>",
}


@pytest.fixture
def bank(webhooks):
    webhooks.documents |= BANK
    return webhooks


def read(*lines, verbs=()):
    return Story.parse(
        "\n".join([f"call from {CALLER} to {NUMBER} attested A", *lines]), "bank.call", verbs=verbs
    )


async def test_a_story_comes_true(exchange, bank, world):
    """What is heard must be heard in order; values stand in for secrets."""
    story = read(
        'hear "WELCOME"',
        'hear "chime.mp3"',
        'hear "pin, please"',
        'not hear "sorry"',
        "press {pin}#",
        'hear "thank you"',
        "press {code}#",
        'hear "ten dollars"',
        "hung up",
    )

    transcript = await play(story, exchange, world=world)

    assert str(transcript).replace(bank.origin, "").split("\n") == [
        f">> call from {CALLER} to {NUMBER} attested A",
        '<< "Welcome to the bank."',
        "<< plays /chime.mp3",
        '<< "Your PIN, please."',
        "<< waits for keys or words",
        '== hear "WELCOME"',
        '== hear "chime.mp3"',
        '== hear "pin, please"',
        '== not hear "sorry"',
        ">> press {pin}#",
        '<< "Thank you."',
        '<< "Your code?"',
        "<< waits for keys",
        '== hear "thank you"',
        ">> press {code}#",
        '<< "Your balance is ten dollars."',
        "<< hangs up",
        '== hear "ten dollars"',
        "== hung up",
    ]
    assert [(bank.asked("/menu")[0]["Digits"], bank.asked("/code")[0]["Digits"])] == [("80311", "424242")]
    assert bank.asked("/voice")[0]["StirVerstat"] == "TN-Validation-Passed-A"
    assert transcript.lines[0].over
    assert transcript.story == story


async def test_a_story_may_have_several_calls(exchange, bank, world, clock):
    """One after the other has ended, with time in between; the last is hung up at the end of the story."""
    story = read(
        "hang up", "wait 30m", f"call from anonymous to {NUMBER}", 'say "let me in"', 'hear "thank you"'
    )

    transcript = await play(story, exchange, world=world)

    assert clock.passed == [1800]
    assert [line.from_ for line in transcript.lines] == [CALLER, "anonymous"]
    assert transcript.text[-2:] == (">> hang up (the story ends here)", "<< the caller has hung up")
    assert "StirVerstat" not in bank.asked("/voice")[1]
    assert bank.asked("/menu")[0]["SpeechResult"] == "let me in"


async def test_time_may_pass_slowly(exchange, bank, clock):
    """`advance` may be a coroutine; a story need not have a call."""
    transcript = await play(Story("", (Step(Wait(5)),)), exchange, world=World(advance=clock.advance_slowly))

    assert clock.passed == [5]
    assert transcript.text == (">> wait 5s",)


async def test_a_story_may_follow_a_transfer(exchange, bank, world):
    """Where the call went, what went along, and what the caller hears afterwards."""
    story = read(
        "press 1#",
        "silence",
        'transferred to workflow "WW1" with token',
        "agent answers",
        "agent hangs up",
        'hear "rate us"',
    )

    transcript = await play(story, exchange, world=world)

    assert transcript.tokens == (TOKEN,)
    assert TOKEN not in str(transcript)
    assert TOKEN not in repr(transcript)


@pytest.mark.parametrize(
    ("document", "step", "tokens"),
    [
        ("<Enqueue>support</Enqueue>", 'enqueue "support"', ()),
        ("<Enqueue workflowSid='WW1'><Task>not json</Task></Enqueue>", 'workflow "WW1"', ()),
        ("<Dial>+1</Dial>", 'number "+1"', ()),
        ("<Dial><Conference>room</Conference></Dial>", 'conference "room"', ()),
        ("<Dial><Queue>q</Queue></Dial>", 'queue "q"', ()),
        (
            f"<Dial><Client>ada<Parameter name='token' value='{TOKEN}'/><Parameter name='a' value='b'/></Client></Dial>",
            'client "ada" with token',
            (TOKEN,),
        ),
        (f"<Dial><Sip>sip:a@b?X-Ivrguard-Token={TOKEN}</Sip></Dial>", 'sip "sip:a@b" with token', (TOKEN,)),
        ("<Dial><Number url='/whisper'>+1</Number></Dial>", 'number "+1" with token', ("12345678",)),
    ],
)
async def test_every_kind_of_transfer_is_recognised(exchange, webhooks, world, document, step, tokens):
    """Tokens travel in a task, a parameter, a header, or a whisper."""
    webhooks.documents = {
        "/voice": document,
        "/whisper": "<Say>The code is 1 2 3 4, 5 6 7 8. Thank you.</Say>",
    }

    transcript = await play(read(f"transferred to {step}"), exchange, world=world)

    assert tokens == transcript.tokens


async def test_the_world_may_have_verbs_of_its_own(exchange, bank, world):
    """An action gets the scene and what its line fills in, may tell, and may fail."""
    seen = []

    async def redeem(scene, how):
        seen.append((how, list(scene.tokens), scene.line.call_sid))
        scene.tell("the agent sees: verified")
        if how == "badly":
            raise scene.fail("the agent has dropped it")

    world = replace(world, actions={"redeem well|badly": redeem})
    story = read("press 1#", "silence", "redeem well", "redeem badly", verbs=world.actions)

    with pytest.raises(StoryFailed, match=r"bank\.call:5: the agent has dropped it") as failed:
        await play(story, exchange, world=world)

    assert [(how, tokens) for how, tokens, _ in seen] == [("well", [TOKEN]), ("badly", [TOKEN])]
    assert "       the agent sees: verified\n" in str(failed.value)


async def test_an_action_may_come_before_any_call(exchange):
    """To prepare the world."""

    async def enrol(scene, who):
        scene.tell(who)

    world = World(actions={"enrol NAME": enrol})
    story = Story.parse("enrol ada", "a.call", verbs=world.actions)
    transcript = await play(story, exchange, world=world)

    assert transcript.text == (">> enrol ada", "   ada")


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (['hear "balance"'], '2: expected to hear "balance": nobody said it'),
        (
            ['hear "pin"', 'hear "welcome"'],
            '3: expected to hear "welcome": not after what was heard before it',
        ),
        (["press 1#", 'hear "welcome"'], '3: expected to hear "welcome": nobody said it'),
        (['not hear "bank"'], '2: somebody said "bank"'),
        (["hung up"], "2: the other side has not hung up"),
        (["hang up", "hung up"], "3: the other side has not hung up"),
        (["hang up", "press 1"], "3: nobody waits for keys or words: the call is over"),
        (["agent answers"], "2: the caller is in no queue"),
        (['transferred to enqueue "support"'], '2: the call has not gone to enqueue "support"'),
        (
            ["press 1#", "silence", 'transferred to enqueue "WW1"'],
            '4: the call has not gone to enqueue "WW1"',
        ),
        (["press 1#", "silence", 'transferred to number "WW1"'], '4: the call has not gone to number "WW1"'),
        (["press {pan}#"], "2: the world has no value 'pan'; there is: pin, code"),
        ([f"call from {CALLER} to {NUMBER}"], "2: the call before is not over"),
        (["hang up", f"call from {CALLER} to +1999"], "3: the account has no number +1999"),
        (["wait 1m", "press {code}"], "3: the code is too old"),
    ],
)
async def test_a_story_that_does_not_come_true_says_where_and_why(exchange, bank, world, steps, why):
    """The line, the reason, the talk so far, and the step that failed."""
    with pytest.raises(StoryFailed) as failed:
        await play(read(*steps), exchange, world=world)

    message = str(failed.value).split("\n")
    assert message[0] == f"bank.call:{why}"
    assert message[1] == f"    >> call from {CALLER} to {NUMBER} attested A"
    assert message[2] == '    << "Welcome to the bank."'
    assert message[-1] == f" -> {steps[-1]}"


async def test_a_transfer_without_its_token_fails(exchange, webhooks, world):
    """A token is looked for in what went to that very place."""
    webhooks.documents["/voice"] = "<Dial><Client>ada</Client></Dial>"

    with pytest.raises(StoryFailed, match="without a token"):
        await play(read('transferred to client "ada" with token'), exchange, world=world)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (["wait 1m"], "no time passes"),
        (["press {code}"], "no value 'code'"),
        (["redeem"], "no such verb"),
    ],
)
async def test_a_poor_world_says_what_it_lacks(exchange, bank, steps, why):
    """A story asks for more than the world has."""
    with pytest.raises(StoryFailed, match=why):
        await play(read(*steps, verbs=["redeem"]), exchange, world=World())


async def test_no_value_is_in_a_message(exchange, bank, world):
    """Nobody learns a secret from a transcript, whether the story comes true or not."""
    with pytest.raises(StoryFailed) as failed:
        await play(read("press {pin}#", "press {code}#", 'hear "nothing"'), exchange, world=world)

    assert "80311" not in str(failed.value)
    assert "424242" not in str(failed.value)
    assert "80311" not in repr(world)


async def test_what_a_verb_does_for_the_caller_is_heard_afresh(exchange, bank, world):
    """A verb that keys something says so: what was said before it is no longer what is expected."""

    async def knock(scene):
        scene.afresh()
        await scene.line.press("1#")

    world = replace(world, actions={"knock": knock})
    story = read("knock", 'hear "thank you"', 'not hear "welcome"', verbs=world.actions)

    assert (await play(story, exchange, world=world)).text[-1].startswith("<<")


async def test_a_verb_that_needs_a_call_says_that_there_is_none(exchange):
    """A line of the world's may stand before any call, whether it makes sense there or not."""

    async def record(scene):
        scene.line.heard.clear()

    world = World(actions={"record": record})
    with pytest.raises(StoryFailed, match=r"a\.call:1: nobody has called yet"):
        await play(Story.parse("record", "a.call", verbs=["record"]), exchange, world=world)


async def test_a_person_can_follow(exchange, bank, world):
    """Each line is told as it comes, but for what makes no sound; the transcript has it all."""
    told = []
    story = read('hear "welcome"', "hang up")

    transcript = await play(story, exchange, world=world, listener=lambda *line: told.append(line))

    assert told == [
        (">>", f"call from {CALLER} to {NUMBER} attested A"),
        ("<<", '"Welcome to the bank."'),
        ("<<", f"plays {bank.origin}/chime.mp3"),
        ("<<", '"Your PIN, please."'),
        ("==", 'hear "welcome"'),
        (">>", "hang up"),
    ]
    assert "<< waits for keys or words" in transcript.text


async def test_the_world_has_the_last_word(exchange, bank, world):
    """What must hold once the story is over can make it fail: behind its last line, and after the hanging up."""

    async def ends(scene):
        if scene.line.over:
            raise scene.fail("not like that")

    with pytest.raises(StoryFailed) as failed:
        await play(read('hear "welcome"'), exchange, world=replace(world, ends=ends))

    assert (failed.value.where, failed.value.why, failed.value.step) == (
        "bank.call:2",
        "not like that",
        "the end",
    )
    assert failed.value.talk[-1] == "<< the caller has hung up"


async def test_a_refusal_to_answer_is_heard(exchange, bank, world):
    """Words for busy agents: a dial that nobody answers goes on in the story."""
    bank.documents["/menu"] = "<Dial>+1</Dial><Say>All agents are busy.</Say>"
    exchange.otherwise = AgentBehaviour("busy")

    transcript = await play(read("press 1#", 'hear "agents are busy"', "hung up"), exchange, world=world)

    assert "<< dials number +1: busy" in transcript.text
