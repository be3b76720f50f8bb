"""Stories: read, written, played against a tiny IVR, and the message of one that does not come true."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.phone.heard import AgentBehaviour
from ivrguard.phone.story import (
    Act,
    Call,
    Hear,
    NotHear,
    Plain,
    Press,
    Say,
    Step,
    Story,
    StoryFailed,
    StoryFault,
    Transferred,
    Wait,
    World,
    play,
)

CALLER = "+14155550123"
NUMBER = "+18005550100"
TOKEN = "0123456789abcdefghijklmnop"

# ---- reading and writing

LINES = [
    (f"call from {CALLER} to {NUMBER} attested A", Call(CALLER, NUMBER, "A")),
    (f"call from anonymous to {NUMBER}", Call("anonymous", NUMBER)),
    ('hear "part of text"', Hear("part of text")),
    (r'hear "say \"yes\" \\ no"', Hear(r'say "yes" \ no')),
    ('not hear "sorry"', NotHear("sorry")),
    ("press 1234#", Press("1234#")),
    ("press 1{pin}*{code_2}#", Press("1{pin}*{code_2}#")),
    ('say "my balance"', Say("my balance")),
    ("silence", Plain("silence")),
    ("hang up", Plain("hang up")),
    ("hung up", Plain("hung up")),
    ("agent answers", Plain("agent answers")),
    ("agent hangs up", Plain("agent hangs up")),
    ("wait 45s", Wait(45)),
    ("wait 30m", Wait(1_800)),
    ("wait 2h", Wait(7_200)),
    ("wait 1d", Wait(86_400)),
    ('transferred to enqueue "fraud line"', Transferred("enqueue", "fraud line")),
    ('transferred to sip "sip:a@b" with token', Transferred("sip", "sip:a@b", with_token=True)),
    ("redeem as ada", Act("redeem", "as ada")),
    ("redeem", Act("redeem")),
]


@pytest.mark.parametrize(("line", "does"), LINES)
def test_a_line_is_a_step_and_a_step_is_a_line(line, does):
    """The table of the format, both ways."""
    story = Story.parse(f"call from a to b\n{line}", "a.call", actions={"redeem"})

    assert story.steps[1] == Step(does, 2)
    assert format(story) == f"call from a to b\n{line}\n"


def test_a_story_has_a_title_and_comments():
    """Blank lines and comments are for people; the title is kept."""
    story = Story.parse("# why\n title: The balance \n\n  call from a to b  \n", "a.call")

    assert story == Story("The balance", (Step(Call("a", "b")),))
    assert (story.name, story.steps[0].line) == ("a.call", 4)
    assert format(story) == "title: The balance\n\ncall from a to b\n"


_words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(
    lambda text: " ".join(text.split())
)
_texts = _words.filter(bool)
_addresses = st.from_regex(r"\+1[0-9]{10}|anonymous|sip:[a-z]+@[a-z]+", fullmatch=True)
_steps = st.one_of(
    st.builds(Call, _addresses, _addresses, st.sampled_from(["", "A", "B", "C"])),
    st.builds(Hear, _texts),
    st.builds(NotHear, _texts),
    st.builds(Say, _texts),
    st.builds(Press, st.from_regex(r"([0-9*#]|\{[a-z][a-z0-9_]*\})+", fullmatch=True)),
    st.builds(Plain, st.sampled_from(["silence", "hang up", "hung up", "agent answers", "agent hangs up"])),
    st.builds(Wait, st.integers(0, 999_999)),
    st.builds(
        Transferred, st.sampled_from(["enqueue", "workflow", "number", "queue"]), _texts, st.booleans()
    ),
    st.builds(Act, st.just("redeem"), st.sampled_from(["", "as ada"])),
)


@given(st.builds(Story, st.sampled_from(["", "A title"]), st.lists(_steps.map(Step), max_size=8).map(tuple)))
def test_a_story_written_and_read_is_the_same_story(story):
    """Law 4, for every story that begins with a call."""
    begun = Story(story.title, (Step(Call("a", "b")), *story.steps))

    assert begun == Story.parse(format(begun), "a.call", actions=["redeem"])


def test_every_fault_is_told_at_once_with_its_line():
    """A story is refused whole; misspelt verbs get a suggestion, the others their form."""
    text = "\n".join(
        [
            'hear "too early"',
            f"call from {CALLER}",
            'hera "x"',
            "press 12a#",
            "redeam it",
            "title of a play",
            'hear "open',
            "xyzzy",
            "wait 5 minutes",
            'transferred to pub "x"',
        ]
    )

    with pytest.raises(StoryFault) as fault:
        Story.parse(text, "flows/a.call", actions=["redeem"])

    assert str(fault.value).split("\n") == [
        "flows/a.call:1: nobody has called yet",
        "flows/a.call:2: it should read: call from NUMBER to NUMBER [attested A|B|C]",
        "flows/a.call:3: there is no verb 'hera'; did you mean 'hear'?",
        "flows/a.call:4: it should read: press KEYS, of 0 to 9, * # and {name}",
        "flows/a.call:5: there is no verb 'redeam'; did you mean 'redeem'?",
        "flows/a.call:6: there is no verb 'title'; did you mean 'title:'?",
        'flows/a.call:7: it should read: hear "words"',
        "flows/a.call:8: there is no verb 'xyzzy'",
        "flows/a.call:9: it should read: wait NUMBER with s, m, h or d",
        (
            "flows/a.call:10: it should read: transferred to "
            'enqueue|workflow|number|client|sip|conference|queue "name" [with token]'
        ),
    ]


# ---- playing


class Clock:
    """A world in which time passes, and codes are sent."""

    def __init__(self):
        self.passed = []

    def advance(self, seconds):
        self.passed.append(seconds)

    async def advance_slowly(self, seconds):
        self.passed.append(seconds)

    def code_for(self, number):
        if number != CALLER:
            raise LookupError(f"no code was sent to {number}")
        return "424242"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def world(clock):
    return World({"pin": lambda: "80311"}, clock.code_for, clock.advance)


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


def read(*lines, actions=()):
    return Story.parse(
        "\n".join([f"call from {CALLER} to {NUMBER} attested A", *lines]), "bank.call", actions=actions
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
    """An action gets the scene and the rest of the line, may tell, and may fail."""
    seen = []

    async def redeem(scene, rest):
        seen.append((rest, list(scene.tokens), scene.line.call_sid))
        scene.tell("the agent sees: verified")
        if rest == "badly":
            raise scene.fail("the agent has dropped it")

    world = World(world.values, world.code_for, world.advance, {"redeem": redeem})
    story = read("press 1#", "silence", "redeem as ada", "redeem badly", actions=world.actions)

    with pytest.raises(StoryFailed, match=r"bank\.call:5: the agent has dropped it") as failed:
        await play(story, exchange, world=world)

    assert [(rest, tokens) for rest, tokens, _ in seen] == [("as ada", [TOKEN]), ("badly", [TOKEN])]
    assert "       the agent sees: verified\n" in str(failed.value)


async def test_an_action_may_come_before_any_call(exchange):
    """To prepare the world."""

    async def enrol(scene, rest):
        scene.tell(rest)

    story = Story.parse("enrol ada", "a.call", actions=["enrol"])
    transcript = await play(story, exchange, world=World(actions={"enrol": enrol}))

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
        (["press {pan}#"], "2: the world has no value 'pan'"),
        ([f"call from {CALLER} to {NUMBER}"], "2: the call before is not over"),
        (["hang up", f"call from {CALLER} to +1999"], "3: the account has no number +1999"),
        (["hang up", f"call from +1 to {NUMBER}", "press {code}"], "4: no code was sent to +1"),
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
        (["redeem"], "no verb 'redeem'"),
    ],
)
async def test_a_poor_world_says_what_it_lacks(exchange, bank, steps, why):
    """A story asks for more than the world has."""
    with pytest.raises(StoryFailed, match=why):
        await play(read(*steps, actions=["redeem"]), exchange, world=World())


async def test_no_value_is_in_a_message(exchange, bank, world):
    """Nobody learns a secret from a transcript, whether the story comes true or not."""
    with pytest.raises(StoryFailed) as failed:
        await play(read("press {pin}#", "press {code}#", 'hear "nothing"'), exchange, world=world)

    assert "80311" not in str(failed.value)
    assert "424242" not in str(failed.value)
    assert "80311" not in repr(world)


async def test_a_refusal_to_answer_is_heard(exchange, bank, world):
    """Words for busy agents: a dial that nobody answers goes on in the story."""
    bank.documents["/menu"] = "<Dial>+1</Dial><Say>All agents are busy.</Say>"
    exchange.otherwise = AgentBehaviour("busy")

    transcript = await play(read("press 1#", 'hear "agents are busy"', "hung up"), exchange, world=world)

    assert "<< dials number +1: busy" in transcript.text
