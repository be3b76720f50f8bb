"""Calls against tiny webhook servers: documents, what the person does, and what must follow.

Each test quotes the documented rule that it shows. The pages are named in `ivrguard/phone/exchange.py`.
"""

import asyncio

import pytest
from aiohttp import web

from ivrguard.phone.exchange import APOLOGY, DOCUMENTS_UNASKED_MAX, Exchange, LineError
from ivrguard.phone.heard import (
    HANGS_UP,
    AgentBehaviour,
    Asked,
    Bridged,
    Connected,
    Dialled,
    Failed,
    HungUp,
    Paused,
    Played,
    Queued,
    Recorded,
    Recording,
    Referred,
    Said,
    Script,
    Target,
    Warned,
)
from ivrguard.phone.wire import FetchError

CALLER = "+14155550123"
NUMBER = "+18005550100"
AGENT = "+14155550199"


@pytest.fixture
async def line(exchange):
    return exchange.call(CALLER, NUMBER)


async def act(line, *acts):
    """A keypad in words: `1#` presses, `.` is silence, `!` hangs up, `"words"` are spoken."""
    await line.until_input()
    for each in acts:
        match each[0]:
            case ".":
                await line.silent()
            case "!":
                await line.hang_up()
            case '"':
                await line.speak(each.strip('"'))
            case _:
                await line.press(each)


def told(line, origin=""):
    """What was heard, one short line an event."""
    return [_short(event).replace(origin, "") for event in line.heard]


def _short(event):
    match event:
        case Said(text, "en-US"):
            return text
        case Said(text, language):
            return f"{text} ({language})"
        case Played(url, status):
            return f"play {url} {status}"
        case Paused(seconds):
            return f"pause {seconds:g}"
        case Asked(action):
            return f"ask {action}"
        case Recording(action):
            return f"beep {action}"
        case Recorded(_, seconds, ended_by):
            return f"recorded {seconds} {ended_by}".strip()
        case Dialled(targets, status, bridged):
            return f"dial {' '.join(each.name for each in targets)} {status} {bridged}"
        case Bridged(agent):
            return f"talks to {agent}"
        case Queued(name, workflow):
            return f"queue {name or workflow}"
        case Referred(target):
            return f"refer {target}"
        case Connected(noun, url):
            return f"connect {noun} {url}"
        case Failed(code, url):
            return f"failed {code} {url}"
        case Warned(code, about):
            return f"warned {code} {about}"
        case HungUp(by):
            return f"end by {by}"


BYE = "end by document"

CONVERSATIONS = {
    # "If Twilio reaches the end of the document, the call hangs up."
    "the end of a document": ({"/voice": "<Say>Hi</Say>"}, [], ["Hi", BYE]),
    "hangup": ({"/voice": "<Hangup/><Say>never</Say>"}, [], [BYE]),
    # Say: marks of SSML are not words; Pause: 1 s unless told
    "say and pause": (
        {"/voice": "<Say language='de-DE'>Guten\n <emphasis>Tag</emphasis></Say><Pause/><Pause length='3'/>"},
        [],
        ["Guten Tag (de-DE)", "pause 1", "pause 3", BYE],
    ),
    # "Elements are case-sensitive"; 12200 is a warning; Sms goes to somebody else; Leave outside a queue is nothing
    "unknown verbs are ignored": (
        {"/voice": "<say>x</say><Ninja/><Sms>x</Sms><Leave/><Say>Hi</Say>"},
        [],
        ["warned 12200 say", "warned 12200 Ninja", "Hi", BYE],
    ),
    # Redirect: "relative to the current URL"; empty: this document again; "verbs after it are unreachable"
    "redirect": (
        {
            "/voice": "<Redirect>\n a/b\n</Redirect><Say>never</Say>",
            "/a/b": "<Redirect>../c</Redirect>",
            "/c": "",
        },
        [],
        [BYE],
    ),
    # Gather: prompts, then the action with Digits
    "gather": (
        {
            "/voice": "<Gather action='menu'><Say>Press</Say><Pause/></Gather><Say>never</Say>",
            "/menu": "<Say>Two</Say>",
        },
        ["2#"],
        ["Press", "pause 1", "ask /menu", "Two", BYE],
    ),
    # "If no input is received, the call falls through to the next verb"
    "gather falls through on silence": (
        {"/voice": "<Gather action='menu'/><Say>Nothing heard</Say>"},
        ["."],
        ["ask /menu", "Nothing heard", BYE],
    ),
    # "the finish key with no digit before it counts as no input"
    "gather falls through on a bare finish key": (
        {"/voice": "<Gather action='menu'/><Say>Nothing heard</Say>"},
        ["#"],
        ["ask /menu", "Nothing heard", BYE],
    ),
    # actionOnEmptyResult: "send a webhook to the action url even when there is no DTMF input"
    "gather asks even for nothing": (
        {"/voice": "<Gather action='menu' actionOnEmptyResult='true'/>", "/menu": "<Say>So?</Say>"},
        ["#"],
        ["ask /menu", "So?", BYE],
    ),
    # "without action, Twilio requests the current document's URL"
    "gather without action": (
        {"/a/b": "<Gather/>", "/voice": "<Redirect>a/b</Redirect>"},
        ["1#", "2#", "."],
        ["ask /a/b", "ask /a/b", "ask /a/b", BYE],
    ),
    # "Only Say, Play, Pause nest"
    "gather with a stranger inside": (
        {"/voice": "<Gather><Dial>1</Dial></Gather>"},
        ["."],
        ["warned 12200 Dial in Gather", "ask /voice", BYE],
    ),
    # input='speech': keys are not heard; 'dtmf': words are not
    "words": (
        {"/voice": "<Gather input='speech' action='heard'/>", "/heard": "<Gather><Say>Yes?</Say></Gather>"},
        ['"balance please"', '"hello?"'],
        ["ask /heard", "Yes?", "ask /heard", BYE],
    ),
    "keys into a gather for words": (
        {"/voice": "<Gather input='speech' action='heard'/><Say>Pardon?</Say>"},
        ["1#"],
        ["ask /heard", "Pardon?", BYE],
    ),
    # Play: "Twilio fetches the audio"; what cannot be had is passed over
    "play": (
        {
            "/voice": "<Play>a.mp3</Play><Play>gone.mp3</Play><Play digits='1'/><Play>http://x_y/</Play>",
            "/a.mp3": "",
        },
        [],
        [
            "play /a.mp3 200",
            "warned 11200 /gone.mp3",
            "play /gone.mp3 404",
            "warned 11100 http://x_y/",
            "play http://x_y/ 0",
            BYE,
        ],
    ),
    # Record: "action: default is the current document URL"; Digits is the key that ended it
    "record": (
        {"/voice": "<Record action='kept'/><Say>never</Say>", "/kept": "<Say>Thanks</Say>"},
        ["#"],
        ["beep /kept", "recorded 1 #", "Thanks", BYE],
    ),
    "record ended by silence": (
        {"/voice": "<Record finishOnKey='*' action='kept'/>", "/kept": ""},
        ['"my name"'],
        ["beep /kept", "recorded 2", BYE],
    ),
    "record with a key that does not end it": (
        {"/voice": "<Record finishOnKey='*' action='kept'/>", "/kept": ""},
        ["1"],
        ["beep /kept", "recorded 1", BYE],
    ),
    # "If Twilio receives an empty recording, it will not make a request to the action URL"
    "record of nothing": (
        {"/voice": "<Record/><Say>Nothing heard</Say>"},
        ["."],
        ["beep /voice", "Nothing heard", BYE],
    ),
    # Dial: "without an action URL, the call falls through to the next verb" when the other hangs up
    "refer": (
        {"/voice": "<Refer><Sip> sip:a@b </Sip></Refer><Say>Bye</Say>"},
        [],
        ["refer sip:a@b", "Bye", BYE],
    ),
    "refer with an action": (
        {"/voice": "<Refer action='referred'><Sip>sip:a@b</Sip></Refer><Say>never</Say>", "/referred": ""},
        [],
        ["refer sip:a@b", BYE],
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_a_conversation_is_as_documented(name, webhooks, line):
    """The rule stands above each case."""
    documents, acts, expected = CONVERSATIONS[name]
    webhooks.documents = documents

    await act(line, *acts)

    assert expected == told(line, webhooks.origin)
    assert line.over
    assert line.waiting is None
    assert all(got.signed for got in webhooks.got)


# ---- what the requests say


async def test_a_us_call_has_the_full_set_of_parameters(exchange, webhooks):
    """Twilio: "Every TwiML request": the standard set, geography, older doubles; StirVerstat when attested."""
    webhooks.documents["/voice"] = ""

    line = exchange.call(
        CALLER, NUMBER, stir_verstat="TN-Validation-Passed-A", extra_params={"CallerName": "ADA"}
    )
    await line.until_input()

    [params] = webhooks.asked("/voice")
    token = params.pop("CallToken")
    assert token.startswith("%7B")
    assert dict(params) == {
        "CallSid": line.call_sid,
        "AccountSid": "AC" + "0" * 32,
        "From": CALLER,
        "Caller": CALLER,
        "To": NUMBER,
        "Called": NUMBER,
        "CallStatus": "ringing",
        "ApiVersion": "2010-04-01",
        "Direction": "inbound",
        "CallerName": "ADA",
        "StirVerstat": "TN-Validation-Passed-A",
    } | {
        f"{party}{part}": value
        for party in ("From", "Caller")
        for part, value in (("City", "SAN FRANCISCO"), ("State", "CA"), ("Zip", "94105"), ("Country", "US"))
    } | {
        f"{party}{part}": value
        for party in ("To", "Called")
        for part, value in (("City", ""), ("State", ""), ("Zip", ""), ("Country", "US"))
    }


@pytest.mark.parametrize(
    ("from_", "country"),
    [("+442071234567", ""), ("client:ada", None), ("anonymous", None), ("sip:a@b", None)],
)
async def test_parties_that_are_no_american_number(exchange, webhooks, from_, country):
    """From may be E.164, client:name, a SIP URI, anonymous: geography only where there is a number."""
    webhooks.documents["/voice"] = ""

    await exchange.call(from_, NUMBER).until_input()

    assert country == webhooks.asked("/voice")[0].get("FromCountry")


async def test_a_get_number_has_no_call_token(exchange, webhooks):
    """CallToken "is sent only when the webhook method is POST"."""
    webhooks.documents["/voice"] = ""
    exchange.number(NUMBER, f"{webhooks.origin}/voice", method="GET")

    await exchange.call(CALLER, NUMBER).until_input()

    [got] = webhooks.got
    assert (got.method, got.signed) == ("GET", True)
    assert "CallToken" not in got.params


async def test_an_outbound_api_call_is_ours_from_the_beginning(exchange, webhooks):
    """Direction outbound-api: the person is To, the number of the account is From; answered already."""
    webhooks.documents["/voice"] = ""

    line = exchange.call(NUMBER, CALLER, direction="outbound-api")
    await line.until_input()

    [params] = webhooks.asked("/voice")
    assert (
        params["Direction"],
        params["CallStatus"],
        params["To"],
    ) == ("outbound-api", "in-progress", CALLER)
    assert "CallToken" not in params


def test_a_number_of_somebody_else_is_refused(exchange):
    """A call needs a number of the account."""
    with pytest.raises(LookupError, match=r"\+1999"):
        exchange.call(CALLER, "+1999")


async def test_the_keys_arrive_without_the_finish_key(webhooks, line):
    """Digits without the finish key; FinishedOnKey and msg as they were captured in the field."""
    webhooks.documents = {"/voice": "<Gather action='menu'/>", "/menu": ""}

    await act(line, "12*#34")

    [params] = webhooks.asked("/menu")
    assert (params["Digits"], params["FinishedOnKey"], params["msg"]) == ("12*", "#", "Gather End")
    assert params["CallStatus"] == "in-progress"


async def test_words_arrive_with_their_confidence(webhooks, line):
    """Speech: SpeechResult and Confidence."""
    webhooks.documents = {"/voice": "<Gather input='dtmf speech' action='menu'/>", "/menu": ""}

    await act(line, '"my balance"')

    [params] = webhooks.asked("/menu")
    assert (params["SpeechResult"], params["Confidence"]) == ("my balance", "0.95")
    assert "Digits" not in params


@pytest.mark.parametrize(
    ("document", "statuses"),
    [
        # "Say, Play, Record, Dial, Gather answer the call; Redirect keeps it ringing"
        ("<Redirect>next</Redirect>", ["ringing"]),
        ("<Pause/><Redirect>next</Redirect>", ["ringing"]),
        ("<Say>Hi</Say><Redirect>next</Redirect>", ["in-progress"]),
        ("<Play/><Redirect>next</Redirect>", ["in-progress"]),
    ],
)
async def test_the_first_verb_answers_or_does_not(webhooks, line, document, statuses):
    """CallStatus tells whether the call was answered."""
    webhooks.documents = {"/voice": document, "/next": ""}

    await line.until_input()

    assert statuses == [params["CallStatus"] for params in webhooks.asked("/next")]


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ("<Reject/>", "no-answer"),
        ("<Reject reason='busy'/>", "busy"),
        ("<Say>Hi</Say><Reject/>", "completed"),
        ("<Hangup/>", "completed"),
    ],
)
async def test_the_end_is_told_to_the_status_callback(exchange, webhooks, document, status):
    """`completed` with CallDuration at the end of a call; Reject refuses a call that rings still."""
    webhooks.documents = {"/voice": document, "/status": ""}
    exchange.number(NUMBER, f"{webhooks.origin}/voice", status_callback=f"{webhooks.origin}/status")

    line = exchange.call(CALLER, NUMBER)
    await line.until_input()

    [params] = webhooks.asked("/status")
    assert status == params["CallStatus"] == line.status
    assert params["CallDuration"].isdigit()


async def test_the_clock_is_the_calls_own(exchange, webhooks):
    """Nothing sleeps: pauses, speech and timeouts add up in `elapsed_s`; `pace` is told of each."""
    webhooks.documents["/voice"] = (
        "<Pause length='30'/><Say>One two three four five</Say><Gather timeout='8'/>"
    )
    paced = []

    async def pace(seconds):
        paced.append(seconds)

    exchange.pace = pace
    line = exchange.call(CALLER, NUMBER)
    await act(line, ".")

    assert line.elapsed_s == 40.0
    assert paced == [30.0, 2.0, 8.0]


async def test_a_finish_key_spares_the_timeout(webhooks, line):
    """The timeout passes only when nothing else ends the gather."""
    webhooks.documents["/voice"] = "<Gather numDigits='2'/>"

    await act(line, "12", "1#")
    assert line.elapsed_s == 0.0
    await line.press("1")
    assert line.elapsed_s == 5.0


# ---- pressing over prompts


class Impatient(Script):
    """Presses `over[text]` while hearing those words."""

    def __init__(self, over, *keys):
        super().__init__(*keys)
        self.over = over

    async def hears(self, event):
        return self.over.get(getattr(event, "text", None), "")


@pytest.mark.parametrize(
    ("over", "keys", "digits"),
    [
        # complete over the prompt: nothing more is awaited
        ({"One": "12#"}, [], "12"),
        # the first key over the prompt, the rest afterwards
        ({"One": "1"}, ["2#"], "12"),
    ],
)
async def test_a_key_stops_the_prompts(webhooks, line, over, keys, digits):
    """Twilio: "A key press stops nested Say and Play"; digits keyed over them count."""
    webhooks.documents = {
        "/voice": "<Gather action='menu'><Say>One</Say><Say>Two</Say></Gather>",
        "/menu": "<Say>Done</Say>",
    }

    await line.converse(Impatient(over, *keys))

    assert told(line, webhooks.origin) == ["One", "ask /menu", "Done", BYE]
    assert [digits] == [params["Digits"] for params in webhooks.asked("/menu")]


async def test_a_key_outside_a_gather_is_lost(webhooks, line):
    """Nobody listens while a Say stands alone."""
    webhooks.documents["/voice"] = "<Say>One</Say><Gather/>"

    await line.converse(Impatient({"One": "1#"}, None))

    assert told(line, webhooks.origin) == ["One", "ask /voice", BYE]


async def test_a_person_may_hang_up_when_asked(webhooks, line):
    """The other end is a person: keys, silence, or the receiver put down."""
    webhooks.documents["/voice"] = "<Gather/><Gather/>"

    await line.converse(Script("1#", None, HANGS_UP))

    assert told(line, webhooks.origin) == ["ask /voice"] * 3 + ["end by caller"]


# ---- what a telephone cannot do


async def test_what_nobody_waits_for_is_a_fault_of_the_test(webhooks, line):
    """Each act needs the line to rest where it makes sense."""
    webhooks.documents["/voice"] = "<Gather/>"

    with pytest.raises(LineError, match="keypad"):
        await line.press("1a")
    with pytest.raises(LineError, match="no queue"):
        await line.dequeued()
    with pytest.raises(LineError, match="nobody"):
        await line.agent_hangs_up()
    with pytest.raises(LineError, match="no machine"):
        await line.relay_ends()
    await line.hang_up()
    for act_ in (line.press("1"), line.silent(), line.speak("x"), line.hang_up()):
        with pytest.raises(LineError, match="over"):
            await act_


async def test_documents_without_end_are_a_fault_of_the_test(webhooks, line):
    """A loop that never asks anybody anything is found, not run for ever."""
    webhooks.documents["/voice"] = "<Redirect/>"

    with pytest.raises(LineError, match="without asking"):
        await line.until_input()
    assert len(webhooks.got) == DOCUMENTS_UNASKED_MAX


# ---- failures


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [("text/xml", "<Response>", 12100), ("application/json", "{}", 12300), ("text/xml", "x" * 70_000, 11750)],
)
async def test_a_failure_is_told_to_the_fallback_url(exchange, webhooks, content_type, body, code):
    """Twilio: "VoiceFallbackUrl is requested with ErrorCode and ErrorUrl" when TwiML cannot be had or run."""

    async def broken(request):
        return web.Response(text=body, content_type=content_type)

    webhooks.documents = {"/voice": broken, "/fallback": "<Say>Sorry</Say><Gather/>"}
    exchange.number(NUMBER, f"{webhooks.origin}/voice", fallback_url=f"{webhooks.origin}/fallback")

    line = exchange.call(CALLER, NUMBER)
    await act(line, ".")

    [params] = webhooks.asked("/fallback")
    assert (str(code), f"{webhooks.origin}/voice") == (params["ErrorCode"], params["ErrorUrl"])
    assert [f"failed {code} /voice", "Sorry", "ask /fallback", BYE] == told(line, webhooks.origin)


async def test_without_a_fallback_an_error_is_played(webhooks, line):
    """Twilio: "Without one an error is logged and a recorded error message is played"; a ringing call has failed."""
    await line.until_input()

    assert told(line, webhooks.origin) == ["failed 11200 /voice", APOLOGY, "end by error"]
    assert line.status == "failed"


async def test_a_fallback_that_fails_ends_the_call(exchange, webhooks):
    """There is no fallback of a fallback."""
    webhooks.documents["/voice"] = "<Say>Hi</Say><Redirect>gone</Redirect>"
    exchange.number(NUMBER, f"{webhooks.origin}/voice", fallback_url=f"{webhooks.origin}/fallback")

    line = exchange.call(CALLER, NUMBER)
    await line.until_input()

    assert told(line, webhooks.origin) == [
        "Hi",
        "failed 11200 /gone",
        "failed 11200 /fallback",
        APOLOGY,
        "end by error",
    ]
    assert line.status == "completed"


async def test_the_deadline_is_a_ceiling(webhooks, session):
    """15 s, or what the test says, for every call-related request."""
    never = asyncio.Event()

    async def hold(request):
        await never.wait()

    webhooks.documents["/voice"] = hold
    exchange = Exchange(session, "AC1", "a-token-of-the-test", deadline_s=0.1)
    exchange.number(NUMBER, f"{webhooks.origin}/voice")

    line = exchange.call(CALLER, NUMBER)
    await line.until_input()
    never.set()

    assert isinstance(line.heard[0], Failed)


async def test_text_is_read_aloud_and_sound_played_in_place_of_a_document(webhooks, line):
    """text/plain is read aloud; audio is played; then the call hangs up."""

    async def text(request):
        return web.Response(text="Good morning.")

    async def sound(request):
        return web.Response(body=b"RIFF", content_type="audio/wav")

    webhooks.documents = {
        "/voice": "<Gather action='text'/><Redirect>sound</Redirect>",
        "/text": text,
        "/sound": sound,
    }
    await act(line, "1#")
    assert told(line, webhooks.origin) == ["ask /text", "Good morning.", BYE]

    again = line.exchange.call(CALLER, NUMBER)
    await act(again, ".")
    assert told(again, webhooks.origin) == ["ask /text", "play /sound 200", BYE]


# ---- recordings


async def test_a_recording_is_told_with_its_url(webhooks, line):
    """Action: RecordingUrl, RecordingDuration, Digits; recordingStatusCallback: when it is ready."""
    webhooks.documents = {
        "/voice": "<Record action='kept' recordingStatusCallback='ready'/>",
        "/kept": "",
        "/ready": "",
    }

    await line.until_input()
    await line.speak("my name", seconds=3, then="#")

    [kept] = webhooks.asked("/kept")
    [ready] = webhooks.asked("/ready")
    assert kept["RecordingUrl"] == ready["RecordingUrl"] == line.heard[1].url
    assert (kept["RecordingDuration"], kept["Digits"]) == ("3", "#")
    assert ready["RecordingStatus"] == "completed"


async def test_hanging_up_ends_a_recording(webhooks, line):
    """Digits is `hangup` when the caller hung up; what the action answers means nothing."""
    webhooks.documents = {"/voice": "<Record action='kept'/>", "/kept": "<Say>never</Say>"}

    await act(line, "!")

    [kept] = webhooks.asked("/kept")
    assert (kept["Digits"], kept["CallStatus"]) == ("hangup", "completed")
    assert told(line, webhooks.origin) == ["beep /kept", "recorded 1 hangup", "end by caller"]


# ---- dialling

DIALS = {
    # "When the other hangs up: action if there is one, otherwise the next verb"
    "falls through": (
        "<Dial>+14155550199</Dial>",
        [f"dial {AGENT} completed True", f"talks to {AGENT}", "Next", BYE],
    ),
    "action": (
        "<Dial action='dialled'><Number>+14155550199</Number></Dial>",
        [f"dial {AGENT} completed True", f"talks to {AGENT}", "Dialled", BYE],
    ),
    "client": ("<Dial><Client>ada</Client></Dial>", ["dial ada completed True", "talks to ada", "Next", BYE]),
    "conference": (
        "<Dial action='dialled'><Conference>room</Conference></Dial>",
        ["dial room answered True", "talks to room", "Dialled", BYE],
    ),
    "queue": (
        "<Dial><Queue>support</Queue></Dial>",
        ["dial support completed True", "talks to support", "Next", BYE],
    ),
    "nobody": ("<Dial/>", ["dial  failed False", "Next", BYE]),
}


@pytest.mark.parametrize("name", DIALS)
async def test_dialling(name, webhooks, line):
    """https://www.twilio.com/docs/voice/twiml/dial: nouns, and what follows a finished conversation."""
    document, expected = DIALS[name]
    webhooks.documents = {"/voice": f"{document}<Say>Next</Say>", "/dialled": "<Say>Dialled</Say>"}

    await line.until_input()
    if not line.over:
        assert isinstance(line.waiting, Bridged)
        await line.agent_hangs_up()

    assert expected == told(line)


@pytest.mark.parametrize(
    ("behaviour", "status", "bridged"),
    [
        (AgentBehaviour(talk_s=12), "completed", "true"),
        (AgentBehaviour("busy"), "busy", "false"),
        (AgentBehaviour("no-answer"), "no-answer", "false"),
        (AgentBehaviour("failed"), "failed", "false"),
    ],
)
async def test_the_outcome_of_a_dial_is_told_to_its_action(
    exchange, webhooks, line, behaviour, status, bridged
):
    """DialCallStatus, DialCallSid, DialCallDuration, DialBridged."""
    exchange.agents[AGENT] = behaviour
    webhooks.documents = {"/voice": f"<Dial action='dialled'>{AGENT}</Dial>", "/dialled": ""}

    await line.until_input()

    [params] = webhooks.asked("/dialled")
    assert (status, bridged) == (params["DialCallStatus"], params["DialBridged"])
    assert line.legs[0].call_sid == params["DialCallSid"]
    assert ("12" if behaviour.talk_s else "0") == params["DialCallDuration"]
    assert params["CallSid"] == line.call_sid


async def test_a_conference_has_no_call_of_its_own(exchange, webhooks, line):
    """Twilio: "answered" only for a conference; no DialCallSid and DialCallDuration. Its wait document plays first."""
    webhooks.documents = {
        "/voice": "<Dial action='dialled'><Conference waitUrl='hold'>room</Conference></Dial>",
        "/hold": "<Say>Please hold</Say><Redirect/>",
        "/dialled": "",
    }
    exchange.agents["room"] = AgentBehaviour(talk_s=3)

    await line.until_input()

    [params] = webhooks.asked("/dialled")
    assert (params["DialCallStatus"], params["DialBridged"]) == ("answered", "true")
    assert "DialCallSid" not in params
    assert told(line)[0] == "Please hold"


async def test_a_conference_nobody_joins_or_whose_music_is_gone(exchange, webhooks, line):
    """What is played to one who waits may fail; the call goes on."""
    webhooks.documents["/voice"] = "<Dial><Conference waitUrl='hold'>room</Conference></Dial>"
    exchange.agents["room"] = AgentBehaviour("failed")

    await line.until_input()

    assert told(line, webhooks.origin) == ["failed 11200 /hold", "dial room failed False", BYE]


async def test_targets_ring_until_one_answers(exchange, webhooks, line):
    """Twilio: "The first to answer is connected"."""
    exchange.agents |= {"+1": AgentBehaviour("busy"), "ada": AgentBehaviour()}
    webhooks.documents["/voice"] = (
        "<Dial><Number>+1</Number><Client>ada</Client><Sip>sip:a@b</Sip><Ninja/></Dial>"
    )

    await line.until_input()

    assert told(line) == ["dial +1 ada sip:a@b completed True", "talks to ada"]
    assert [leg.to for leg in line.legs] == ["+1", "client:ada"]


async def test_a_whisper_is_heard_by_the_callee_alone(exchange, webhooks, line):
    """`url`: TwiML on the callee's leg before bridging, with its own CallSid, ParentCallSid, outbound-dial."""
    webhooks.documents = {
        "/voice": f"<Dial callerId='{NUMBER}'><Number url='whisper'>{AGENT}</Number></Dial>",
        "/whisper": "<Say>Code 1 2 3</Say><Dial>+1</Dial>",
    }

    await line.until_input()

    [leg] = line.legs
    [params] = webhooks.asked("/whisper")
    assert leg.call_sid == params["CallSid"] != line.call_sid
    assert (line.call_sid, "outbound-dial") == (params["ParentCallSid"], params["Direction"])
    assert (params["From"], params["To"]) == (NUMBER, AGENT)
    assert "CallToken" not in params
    assert told(leg) == ["Code 1 2 3", "warned 12200 Dial"]
    assert line.heard[0].whispered == ("Code 1 2 3",)
    assert isinstance(line.waiting, Bridged)


@pytest.mark.parametrize(
    ("behaviour", "bridged"),
    [
        (AgentBehaviour(keys=("1",)), True),
        (AgentBehaviour(person=Script("1")), True),
        (AgentBehaviour(keys=("2",)), False),
        (AgentBehaviour(), False),
        (AgentBehaviour(keys=(HANGS_UP,)), False),
    ],
)
async def test_a_callee_may_decline_in_the_whisper(exchange, webhooks, line, behaviour, bridged):
    """Twilio: "DialCallStatus=completed with DialBridged=false means that nobody accepted the whisper"."""

    async def judge(request):
        accepted = (await request.post())["Digits"] == "1"
        return web.Response(text=f"<Response>{'' if accepted else '<Hangup/>'}</Response>")

    webhooks.documents = {
        "/voice": f"<Dial action='dialled'><Number url='whisper'>{AGENT}</Number></Dial>",
        "/whisper": "<Gather numDigits='1' action='judge'><Say>Press 1</Say></Gather><Redirect/>",
        "/judge": judge,
        "/dialled": "",
    }
    exchange.otherwise = behaviour

    await line.until_input()

    assert Dialled(line.heard[0].targets, "completed", bridged, line.heard[0].whispered) == line.heard[0]
    if not bridged:
        assert webhooks.asked("/dialled")[0]["DialBridged"] == "false"


async def test_the_progress_of_a_leg_is_told_to_those_who_asked(exchange, webhooks, line):
    """statusCallbackEvent: initiated ringing answered completed; by default completed alone."""
    events = "initiated ringing answered completed"
    webhooks.documents = {
        "/voice": f"<Dial><Number statusCallback='all' statusCallbackEvent='{events}'>{AGENT}</Number></Dial>"
        f"<Dial><Client statusCallback='last'>ada</Client></Dial>"
        f"<Dial><Client statusCallback='gone'>bob</Client></Dial>",
        "/all": "<Say>never</Say>",
        "/last": "",
    }
    exchange.otherwise = AgentBehaviour(talk_s=7)
    exchange.agents["bob"] = AgentBehaviour("busy")

    await line.until_input()

    steps = [(each["CallStatus"], each["SequenceNumber"]) for each in webhooks.asked("/all")]
    assert steps == [("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3")]
    assert [(each["CallStatus"], each["CallDuration"]) for each in webhooks.asked("/last")] == [
        ("completed", "7")
    ]
    assert line.legs[2].heard[-1] == Warned(11200, f"{webhooks.origin}/gone")


async def test_a_call_rings_on_until_the_bridge_when_told_so(exchange, webhooks, line):
    """answerOnBridge: the caller keeps ringing until somebody is there."""
    webhooks.documents = {
        "/voice": f"<Dial answerOnBridge='true' action='dialled'>{AGENT}</Dial>",
        "/dialled": "<Dial answerOnBridge='true' action='dialled'>+1</Dial>",
    }
    exchange.agents[AGENT] = AgentBehaviour("busy")

    await line.until_input()

    assert [params["CallStatus"] for params in webhooks.asked("/dialled")] == ["ringing"]
    assert line.status == "in-progress"


@pytest.mark.parametrize("by_test", [True, False])
async def test_the_caller_may_leave_the_conversation(exchange, webhooks, line, by_test):
    """The action is told, and its answer means nothing: nobody is there to hear it."""
    webhooks.documents = {"/voice": "<Dial action='dialled'>+1</Dial>", "/dialled": "<Say>never</Say>"}
    exchange.otherwise = AgentBehaviour(talk_s=None if by_test else 5, leaves="caller")

    await line.until_input()
    if by_test:
        await line.hang_up()

    assert told(line) == ["dial +1 completed True", "talks to +1", "end by caller"]
    assert webhooks.asked("/dialled")[0]["CallStatus"] == "completed"


async def test_the_caller_may_leave_where_nobody_is_told(webhooks, line):
    """Without an action there is nobody to tell."""
    webhooks.documents["/voice"] = "<Dial>+1</Dial>"

    await act(line, "!")

    assert len(webhooks.got) == 1
    assert line.legs[0].over


async def test_parameters_reach_the_callee(webhooks, line):
    """`<Parameter>` of a client, headers of a SIP address, in the order written."""
    webhooks.documents["/voice"] = (
        "<Dial><Client><Identity>ada</Identity><Parameter name='a' value='1'/></Client></Dial>"
    )

    await line.until_input()

    assert line.heard[0].targets == (Target("client", "ada", (("a", "1"),)),)


# ---- queues


async def test_a_queue_plays_its_wait_document_and_rests(webhooks, line):
    """WaitUrl is re-requested for ever (here twice), with QueuePosition, QueueSid, QueueTime."""
    webhooks.documents = {
        "/voice": "<Enqueue waitUrl='wait' waitUrlMethod='GET'>support</Enqueue><Say>Bye</Say>",
        "/wait": "<Say>Hold on</Say><Dial>+1</Dial>",
    }

    await line.until_input()
    assert line.waiting == Queued("support", wait_url=f"{webhooks.origin}/wait")
    await line.silent()
    await line.dequeued("ada")
    await line.agent_hangs_up()

    round_ = ["Hold on", "warned 12200 Dial"]
    assert ["queue support", *round_ * 3, "talks to ada", "Bye", BYE] == told(line)
    assert {each["QueuePosition"] for each in webhooks.asked("/wait")} == {"1"}
    assert {each.method for each in webhooks.got if each.path == "/wait"} == {"GET"}


async def test_a_workflow_gets_the_task(webhooks, line):
    """`<Enqueue workflowSid><Task>{json}</Task>`: the JSON is the task's attributes. No waitUrl: music."""
    webhooks.documents["/voice"] = (
        '<Enqueue workflowSid="WW1"><Task priority="1"> {"name": "Ada"} </Task></Enqueue>'
    )

    await line.until_input()

    assert line.waiting == Queued("", "WW1", '{"name": "Ada"}')
    assert line.waiting.attributes == {"name": "Ada"}


@pytest.mark.parametrize(("leave", "result"), [("agent", "bridged"), ("caller", "hangup")])
async def test_the_action_of_a_queue_tells_how_it_was_left(webhooks, line, leave, result):
    """QueueResult: bridged once an agent was there, hangup when the caller gave up."""
    webhooks.documents = {"/voice": "<Enqueue action='left'>support</Enqueue>", "/left": "<Say>Rate us</Say>"}

    await line.until_input()
    if leave == "agent":
        await line.dequeued()
        await line.agent_hangs_up()
    else:
        await line.hang_up()

    [params] = webhooks.asked("/left")
    assert result == params["QueueResult"]
    assert params["QueueSid"].startswith("QU")
    assert ("Rate us" in told(line)) == (leave == "agent")


async def test_the_wait_document_may_ask_and_let_go(webhooks, line):
    """The wait document "allows Play Say Pause Hangup Redirect Leave Gather"; QueueResult=leave."""
    webhooks.documents = {
        "/voice": "<Enqueue waitUrl='wait' action='left'>support</Enqueue>",
        "/wait": "<Gather numDigits='1' action='choose'><Say>1 to leave</Say></Gather><Redirect>wait2</Redirect>",
        "/wait2": "<Gather action='choose'/>",
        "/choose": "<Leave/>",
        "/left": "<Say>Bye</Say>",
    }

    await act(line, ".", "1#")

    assert told(line, webhooks.origin) == [
        "queue support",
        "1 to leave",
        "ask /choose",
        "ask /choose",
        "Bye",
        BYE,
    ]
    assert webhooks.asked("/left")[0]["QueueResult"] == "leave"


async def test_a_wait_document_that_fails_leaves_silence(webhooks, line):
    """A queue outlives its music."""
    webhooks.documents["/voice"] = "<Enqueue waitUrl='wait'>support</Enqueue>"

    await line.until_input()

    assert told(line, webhooks.origin) == ["queue support", "failed 11200 /wait"]
    assert isinstance(line.waiting, Queued)


# ---- machines


@pytest.mark.parametrize(
    ("ends", "sent"),
    [
        ({"handoff_data": '{"to": "agent"}'}, {"SessionStatus": "ended", "HandoffData": '{"to": "agent"}'}),
        ({}, {"SessionStatus": "ended", "HandoffData": None}),
        (
            {"session_status": "failed", "error_code": 64105},
            {"SessionStatus": "failed", "ErrorCode": "64105"},
        ),
    ],
)
async def test_the_end_of_a_relay_is_told_to_its_action(webhooks, line, ends, sent):
    """`<Connect action>`: SessionId SessionStatus SessionDuration, and HandoffData verbatim or ErrorCode."""
    webhooks.documents = {
        "/voice": (
            "<Connect action='done'><ConversationRelay url='wss://bot.example/ws'>"
            "<Parameter name='a' value='1'/></ConversationRelay></Connect><Say>never</Say>"
        ),
        "/done": "<Enqueue>support</Enqueue>",
    }

    await line.until_input()
    assert line.waiting == Connected(
        "ConversationRelay", "wss://bot.example/ws", (("a", "1"),), f"{webhooks.origin}/done"
    )
    await line.relay_ends(**ends)

    [params] = webhooks.asked("/done")
    assert sent == {name: params.get(name) for name in sent}
    assert told(line) == ["connect ConversationRelay wss://bot.example/ws", "queue support"]


@pytest.mark.parametrize(("status", "then"), [("ended", ["Next", BYE]), ("failed", ["end by error"])])
async def test_a_machine_without_an_action(webhooks, line, status, then):
    """Twilio: "Without action the call drops as failed" when the machine fails; otherwise the next verb."""
    webhooks.documents["/voice"] = "<Connect><Stream url='wss://x'/></Connect><Say>Next</Say>"

    await line.until_input()
    await line.relay_ends(session_status=status)

    assert ["connect Stream wss://x", *then] == told(line)


async def test_hanging_up_on_a_machine(webhooks, line):
    """The caller hung up: SessionStatus and CallStatus completed; the answer means nothing."""
    webhooks.documents = {"/voice": "<Connect action='done'><Stream url='wss://x'/></Connect>", "/done": ""}

    await act(line, "!")

    [params] = webhooks.asked("/done")
    assert (params["SessionStatus"], params["CallStatus"]) == ("completed", "completed")


# ---- off the path


async def test_a_webhook_may_be_delivered_again(webhooks, line):
    """Byte for byte, same signature; the answer is shown and not carried out."""
    webhooks.documents = {"/voice": "<Gather action='menu'/>", "/menu": "<Say>Two</Say>"}
    await act(line, "2#")
    heard = list(line.heard)

    last, first = await line.repeat(), await line.repeat(0)

    assert "<Say>Two</Say>" in last.text
    assert "<Gather" in first.text
    assert webhooks.got[1] == webhooks.got[2]
    assert webhooks.got[0] == webhooks.got[3]
    assert heard == line.heard


async def test_everything_may_be_sent_twice_at_once(webhooks, line):
    """Two deliveries at the same moment: one is carried out, both answers are kept."""
    webhooks.documents = {"/voice": "<Gather action='menu'/>", "/menu": "<Say>Two</Say>"}
    line.send_twice = True

    await act(line, "2#")

    assert line.send_twice
    assert told(line, webhooks.origin) == ["ask /menu", "Two", BYE]
    assert [(2, each.answer) for each in line.requests] == [
        (len(webhooks.asked("/voice")), each.twin) for each in line.requests
    ]


async def test_a_signed_request_may_go_anywhere(webhooks, line):
    """For tests that leave the path: signed, of this call, whatever the status; not carried out."""
    webhooks.documents = {"/voice": "<Gather/>", "/wire": "<Say>Wired</Say>"}
    await line.until_input()

    wired = await line.send(f"{webhooks.origin}/wire", {"Digits": "1"})
    gone = await line.send(f"{webhooks.origin}/gone", method="GET")

    assert "Wired" in wired.text
    assert gone.status == 404
    assert all(got.signed for got in webhooks.got)
    with pytest.raises(FetchError):
        await line.send("nowhere")
