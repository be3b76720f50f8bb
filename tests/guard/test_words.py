"""The guard's own words: in the caller's language, said or played, each move its document."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ivrguard import flowfile
from ivrguard.core import call as calls
from ivrguard.core.call import About, Ask, Call, Judge, Question
from ivrguard.core.caller import ANONYMOUS
from ivrguard.core.flow import PROMPTS, WRITTEN, Catalogue
from ivrguard.guard.words import farewell, neutral, rendered, said
from ivrguard.telephony import twiml

AUDIO = "https://media.bank.example/pin.mp3"


@pytest.fixture
def spanish(flow):
    """The words of the flow with a mark before each."""
    prompts = {name: f"¡{text}" for name, text in flow.prompts.items()}
    return Catalogue("es-US", prompts, voice="Polly.Lupe", key="2")


@pytest.fixture
def call(flow):
    return Call("CA1", "AC1", flow.name, flow.version, ANONYMOUS, "", attested=False, began_ms=0)


def heard(document: bytes | None) -> list[tuple[str, str, str]]:
    """Verb, language, and text or URL, of all that is heard."""
    assert document is not None
    verbs = [verb for verb in ET.fromstring(document).iter() if verb.tag in {"Say", "Play"}]
    return [(verb.tag, verb.get("language", ""), verb.text or "") for verb in verbs]


def test_a_prompt_is_said_in_its_language_and_voice(flow, spanish):
    """The provider's voice is taken where the catalogue names none."""
    assert said(spanish, "hold") == twiml.say("¡One moment, please.", language="es-US", voice="Polly.Lupe")
    assert said(flow.catalogue(), "hold") == twiml.say("One moment, please.", language="en-US")


def test_audio_is_played_instead(spanish):
    """That prompt alone; what would be filled in is in the audio or nowhere."""
    catalogue = replace(spanish, audio={"pin": AUDIO})
    assert said(catalogue, "pin", digits="8") == twiml.play(AUDIO)
    assert "¡" in said(catalogue, "totp", digits="6")


def test_each_language_offers_itself(flow, spanish, call):
    """In its own words and voice, with its key; keys are read one by one."""
    flow = replace(flow, languages=(spanish,))
    move = Ask(Question("n"), ("identify", "choose_language"), 13)

    document = rendered(flow, call, move, answer_to="https://guard.example/n", goes_on_at="")

    assert heard(document) == [
        ("Say", "en-US", flow.prompts["identify"].format(ask="account number")),
        ("Say", "es-US", "¡" + flow.prompts["choose_language"].format(key="2")),
    ]


def test_a_question_says_how_many_keys_and_which_ones(flow, call):
    """Digits of the factor, or of the PIN where a new one is chosen; the keys that are no answer."""
    made = [
        rendered(flow, call, Ask(question, words, 8), answer_to="https://guard.example/n", goes_on_at="")
        for question, words in (
            (Question("n", "code"), ("sms_code.short", "another_code", "other_factor")),
            (Question("n", about=About.NEW_PIN), ("new_pin",)),
        )
    ]

    texts = [[text for _, _, text in heard(each)] for each in made]
    assert texts[0][0].startswith("The 6 digit code")
    assert ["press 1 and" in texts[0][1], "press 2 and" in texts[0][2]] == [True, True]
    assert "8 digits" in texts[1][0]


def test_every_last_move_has_its_document(flow, call, spanish):
    """In the language that the caller chose; a move that goes on has none."""
    flow, call = replace(flow, languages=(spanish,)), replace(call, language="es-US")
    documents = [
        rendered(
            flow, call, move, answer_to="https://guard.example/n", goes_on_at="https://guard.example/menu"
        )
        for move in (
            calls.Hold(Question("n")),
            calls.GoOn("pin_changed", "/menu"),
            calls.Refuse("refused", "tries"),
            calls.Refuse("refused", "tries", "+18005550199"),
            calls.Rest(),
            Judge("pin", allowed=True),
            calls.ChangePin(),
        )
    ]

    assert [document and [verb.tag for verb in ET.fromstring(document)] for document in documents] == [
        ["Say", "Pause", "Redirect"],
        ["Say", "Redirect"],
        ["Say", "Hangup"],
        ["Say", "Dial"],
        ["Hangup"],
        None,
        None,
    ]
    assert {language for document in documents[:4] for _, language, _ in heard(document)} == {"es-US"}
    assert b"https://guard.example/menu" in documents[1]


def test_a_farewell_without_a_flow_is_silent(flow):
    """There are no words to take; the call ends all the same."""
    assert farewell(None, "unavailable") == neutral()
    assert heard(farewell(flow.catalogue(), "unavailable")) == [("Say", "en-US", flow.prompts["unavailable"])]


# ── the examples, in English and in Spanish ──────────────────────────────────────────────────────────────

INSURER = flowfile.load(Path(__file__).parents[2] / "flows/insurer.yaml").flow
LANGUAGES = ["en-US", "es-US"]


def asked(language: str, question: Question, *names: str) -> list[str]:
    """What a caller of the insurer hears of a question, in that language; each prompt's words."""
    call = Call(
        "CA1",
        "AC1",
        "insurer",
        "v",
        ANONYMOUS,
        "",
        attested=False,
        began_ms=0,
        account="1",
        language=language,
    )
    document = rendered(
        INSURER, call, Ask(question, names, 8), answer_to="https://guard.example/n", goes_on_at=""
    )
    return [text for _, _, text in heard(document)]


@pytest.mark.parametrize(
    ("language", "question", "name", "first", "later"),
    [
        (
            "en-US", Question("n"), "identify",
            "Please enter your policy number, followed by the pound key.",
            "Your policy number, please, and the pound key.",
        ),
        (
            "es-US", Question("n"), "identify",
            "Marque su número de póliza y después la tecla numeral.",
            "Su número de póliza, por favor, y la tecla numeral.",
        ),
        ("en-US", Question("n", "pin"), "pin", "Please enter your 8 digit PIN.", "Your PIN, please."),
        ("es-US", Question("n", "pin"), "pin", "Marque su PIN de 8 dígitos.", "Su PIN, por favor."),
    ],
)  # fmt: skip
def test_a_question_is_shorter_the_second_time(language, question, name, first, later):
    """And says the admin's own word for the number, as that language has it."""
    assert asked(language, question, name) == [first]
    assert asked(language, question, f"{name}.short") == [later]


@pytest.mark.parametrize("language", LANGUAGES)
def test_keys_and_codes_are_read_one_by_one(language):
    """
    A voice reads `12345` as twelve thousand, and `1 2 3 4 5` as five digits
    (https://www.twilio.com/docs/voice/twiml/say#hints). Nothing that is said holds two digits in a row.
    """
    catalogue = INSURER.catalogue(language)
    code = twiml.spelled("40718263")
    spoken = [said(catalogue, "whisper", code=code)]
    spoken += [
        said(catalogue, name, digits="8", key=twiml.spelled("2"), ask=catalogue.prompts["ask.policy_number"])
        for name in PROMPTS
        if name not in {*WRITTEN, "whisper"}
    ]

    assert "4 0 7 1 8 2 6 3" in spoken[0]
    assert [one for one in spoken if re.search("[0-9]{2}", ET.fromstring(one).text)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_keys_on_offer_are_named_in_the_caller_s_language(language):
    """Another code and another factor; and each language offers itself in its own words."""
    offers = asked(language, Question("n", "code"), "sms_code.short", "another_code", "other_factor")
    words = {"en-US": "press {} and the pound key", "es-US": "oprima {} y la tecla numeral"}[language]

    assert [words.format(key) in offer for key, offer in zip("12", offers[1:], strict=True)] == [True, True]
    assert asked("", Question("n"), "choose_language") == ["Para español, oprima 2 y la tecla numeral."]
