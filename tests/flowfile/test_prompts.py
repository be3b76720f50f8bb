"""Prompt files: words, audio, what is filled in, and faults in their own file."""

import re
from pathlib import Path

import pytest

from ivrguard.core.flow import PLACEHOLDERS_NEEDED, PROMPTS, WRITTEN
from ivrguard.flowfile import read
from ivrguard.flowfile.prompts import SAID, catalogue, is_prompt, may_play
from ivrguard.flowfile.tree import Reader


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("\npin: Please", "\npinn: Please", "pinn: unknown key 'pinn'; did you mean 'pin'?"),
        ("intent.wire:", "intent.a wire:", "intent.a wire: unknown key 'intent.a wire'"),
        ("\nsms_text: >-\n  {code} is", "\nsms_text: >-\n  {cod} {code} is", "sms_text: there is no {cod} to fill in here; known: {code}, {intent}"),
        ("not_heard: We", "not_heard: We {digits}", "not_heard: there is no {digits} to fill in here; known: none"),
        ("code is {code}", "code is", "whisper: without {code} this says nothing; put it in"),
        ("your {digits} digit PIN", "your {digits digit PIN", "pin: a brace stands alone"),
        ("hold: One moment, please.", "hold:", "hold: here is nothing; what is wanted: words to be said"),
        ("hold: One moment, please.", "hold: [One moment]", "hold: here is a list; what is wanted: words"),
        ("hold: One moment, please.", f"hold: {'a' * 601}", f"hold: here is '{'a' * 60}…'; what is wanted: words"),
        ("hold: One moment, please.", "hold: 'One", "this is not YAML: "),
    ],
)  # fmt: skip
def test_faults_of_prompts_are_reported_in_their_own_file(files, old, new, expected):
    """What is filled in is what there is to fill in; nothing else is said about a language that cannot be read."""
    prompts = files.words.decode().replace(old, new)
    assert prompts != files.words.decode()
    found = files.reading(files.small_text, prompts.encode())

    assert found.flow is None
    assert [fault.file for fault in found.faults] == ["flows/prompts/en-US.yaml"]
    assert str(found.faults[0]).split(" ", 1)[1].startswith(expected)


def test_a_prompt_that_is_missing_is_reported_at_the_language(files):
    """It is a fault of the flow that names the language."""
    prompts = re.sub(rb"(?m)^hold:.*\n", b"", files.words)

    assert files.only(files.small_text + "language: en-US\n", prompts) == (
        "11:11 language: prompts/en-US.yaml has no 'hold'; add it"
    )
    assert files.only(files.small_text, prompts).startswith("1:1 language: ")


def test_line_breaks_in_a_prompt_are_blanks(files):
    """However an admin folds the text."""
    flow = files.reading(
        files.small_text, files.words.replace(b"hold: One moment,", b"hold: |\n  One\n   moment, ")
    ).flow

    assert flow is not None
    assert flow.prompts["hold"] == "One moment, please."


def played(files, name, say, play, **said):
    """The example's prompts with one of them as audio: what reading gives."""
    value = f'{{say: "{say}", play: "{play}"}}'.encode()
    lines = re.sub(rb"(?m)^%s: *(?:>-\n(?:  .*\n)+|.*\n)" % re.escape(name.encode()), b"", files.words)
    assert lines != files.words
    return files.reading(files.small_text, lines + name.encode() + b": " + value + b"\n", **said)


AUDIO = "https://media.bank.example/en/audio.mp3?v=2"


def test_audio_is_played_instead_of_the_words(files):
    """The words stay: they are what the audio says."""
    loaded = played(files, "goodbye", "Good  bye.", AUDIO)

    assert loaded.faults == loaded.doubts == ()
    assert loaded.flow.audio == {"goodbye": AUDIO}
    assert loaded.flow.prompts["goodbye"] == "Good bye."


@pytest.mark.parametrize(
    "name", sorted({*WRITTEN, *PLACEHOLDERS_NEEDED, "intent.wire", "ask.account_number"})
)
def test_what_must_be_filled_in_or_written_is_not_played(files, name):
    """A recording cannot say a code, nor be sent as a message."""
    needed = PLACEHOLDERS_NEEDED.get(name)
    loaded = played(files, name, f"Words {{{needed}}}." if needed else "Words.", AUDIO)

    (fault,) = loaded.faults
    assert (fault.file, fault.path) == ("flows/prompts/en-US.yaml", f"{name}.play")
    assert fault.message.startswith("this prompt cannot be played: ")
    assert ("a recording cannot say" in fault.message) is (name in {*PLACEHOLDERS_NEEDED} - {*WRITTEN})
    assert ("filled in where other prompts" in fault.message) is ("." in name)


def test_every_prompt_may_be_played_but_those(files):
    """Nothing else stands in the way of audio."""
    assert {name for name in PROMPTS if not may_play(name)} == WRITTEN | PLACEHOLDERS_NEEDED.keys()


@pytest.mark.parametrize(
    "url",
    [
        "http://media.bank.example/a.mp3", "ftp://media.bank.example/a.mp3", "https://u@media.bank.example/a.mp3",
        "https://media.bank.example", "https://media.bank.example/a#b", "/a.mp3", "https://bücher.example/a.mp3",
        "https://media.bank.example:x/a.mp3", "https://media.bank.example/a b.mp3",
    ],
)  # fmt: skip
def test_audio_comes_by_https(files, url):
    """Callers would hear what anyone on the way makes of it."""
    (fault,) = played(files, "goodbye", "Good bye.", url).faults

    assert fault.path == "goodbye.play"
    assert "what is wanted: an https URL" in fault.message


def test_audio_on_this_machine_is_doubted(files):
    """A pretend provider can fetch it, the real one cannot."""
    loaded = played(files, "goodbye", "Good bye.", "http://localhost:8000/a.mp3")

    assert loaded.faults == ()
    assert [doubt.path for doubt in loaded.doubts] == ["goodbye.play"]
    assert "use https before callers do" in loaded.doubts[0].message


def test_audio_in_the_place_of_what_is_filled_in_is_doubted(files):
    """It must say the number of digits itself. Words that say none are no reason to doubt."""
    doubted = played(files, "totp.short", "Your {digits} digits, please.", AUDIO)
    fine = played(files, "totp.short", "Your code, please.", AUDIO)

    assert doubted.faults == fine.faults == fine.doubts == ()
    assert [doubt.path for doubt in doubted.doubts] == ["totp.short.play"]
    assert "the text says {digits}" in doubted.doubts[0].message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{say: One moment.}", "hold.play: this key is missing; add `play: https://"),
        ("{play: 'https://a.example/a.mp3'}", "hold.say: this key is missing; add `say: "),
        ("{say: '', play: 'https://a.example/a.mp3'}", "hold.say: here is nothing; what is wanted: words"),
        (
            "{say: Wait., plya: 'https://a.example/a.mp3'}",
            "hold.plya: unknown key 'plya'; did you mean 'play'?",
        ),
        (
            "{say: '{digits}', play: 'https://a.example/a.mp3'}",
            "hold.say: there is no {digits} to fill in here",
        ),
        (
            "{say: [Wait.], play: 'https://a.example/a.mp3'}",
            "hold.say: here is a list; what is wanted: words",
        ),
    ],
)
def test_a_prompt_with_audio_has_both_and_nothing_else(files, value, expected):
    """What is said stands there in any case."""
    prompts = files.words.replace(b"hold: One moment, please.", f"hold: {value}".encode())
    found = [f"{fault.path}: {fault.message}" for fault in files.reading(files.small_text, prompts).faults]

    assert any(one.startswith(expected) for one in found), found


def test_a_doubt_about_a_language_is_told_with_the_flow(files):
    """Once, however many flows and languages have that file."""
    prompts = files.words.replace(
        b"hold: One moment, please.", b'hold: {say: "Wait.", play: "http://localhost/a.mp3"}'
    )
    text = files.small_text + "languages: [{language: es}]\n"
    loaded = files.reading(text, prompts, es=files.words)

    assert [(doubt.file, doubt.path) for doubt in loaded.doubts] == [
        ("flows/prompts/en-US.yaml", "hold.play")
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pin", True),
        ("pin.short", True),
        ("intent.wire", True),
        ("ask.policy_number", True),
        ("intent.a b", False),
        ("ask.", False),
    ],
)
def test_prompts_that_there_are(name, expected):
    """The guard's own, and one for each intent."""
    assert is_prompt(name) is expected


def test_it_is_written_down_when_each_prompt_is_said():
    """Also of those for the second time."""
    assert {name.removesuffix(".short") for name in PROMPTS} == SAID.keys()


def test_a_file_that_cannot_be_read_is_a_fault_of_the_flow(files):
    """At the place of the language, with the name of the file."""

    def prompts(language):
        raise PermissionError(13, "Permission denied")

    loaded = read("flows/f.yaml", files.small_text.encode(), prompts)

    assert [str(fault) for fault in loaded.faults] == [
        (
            "flows/f.yaml:1:1: language: flows/prompts/en-US.yaml cannot be read: Permission denied; "
            "add it, or name another language"
        )
    ]


# ── the catalogues that stand beside the examples ────────────────────────────────────────────────────────

FLOWS = Path(__file__).parents[2] / "flows"
GSM_7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The letters of which a text message holds 160; with one other it holds 70 (3GPP TS 23.038, 6.2.1)."""
SMS_CHARS_MAX = 160


def words_of(path):
    """What a prompt file says: name -> words."""
    reader = Reader(str(path))
    said, _ = catalogue(reader, path.stem, (), lambda _: path.read_bytes())
    assert reader.faults == []
    return said.prompts


ENGLISH, SPANISH = words_of(FLOWS / "prompts/en-US.yaml"), words_of(FLOWS / "prompts/es-US.yaml")


def test_every_language_says_everything():
    """Every prompt, every number that is asked for, every intent; nothing that the other lacks, or has only copied."""
    assert {*PROMPTS} <= ENGLISH.keys() == SPANISH.keys()
    assert {path.stem for path in FLOWS.glob("prompts/*.yaml")} == {"en-US", "es-US"}
    assert not [name for name, words in SPANISH.items() if words == ENGLISH[name]]


@pytest.mark.parametrize("said", [ENGLISH, SPANISH], ids=["en-US", "es-US"])
def test_the_second_time_is_shorter(said):
    """Who has heard a question in this call knows it."""
    short = [name for name in said if name.endswith(".short")]

    assert len(short) == 5
    for name in short:
        assert len(said[name]) < len(said[name.removesuffix(".short")]), name


@pytest.mark.parametrize("said", [ENGLISH, SPANISH], ids=["en-US", "es-US"])
def test_a_code_is_one_message_and_costs_one(said):
    """With the longest intent and a code of ten digits; no message has a letter that makes it three."""
    intents = [words for name, words in said.items() if name.startswith("intent.") or name == "no_intent"]
    for name in {*WRITTEN} - {"no_intent"}:
        for intent in intents:
            text = said[name].replace("{code}", "0" * 10).replace("{intent}", intent)
            assert set(text) <= GSM_7, (name, set(text) - GSM_7)
            assert name != "sms_text" or len(text) <= SMS_CHARS_MAX, len(text)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_key_that_one_language_lacks_is_a_fault(name):
    """Of the flow that names that language, whichever it is: nobody is met with silence."""
    words = (FLOWS / "prompts/es-US.yaml").read_text()
    lacking = re.sub(rf"(?m)^{re.escape(name)}: *(?:>-\n(?:  .*\n)+|.*\n)", "", words)
    assert lacking != words
    for flow, place in (("insurer", "languages[0].language"), ("clinic", "language")):
        path = FLOWS / f"{flow}.yaml"

        def prompts(language):
            text = lacking if language == "es-US" else (FLOWS / f"prompts/{language}.yaml").read_text()
            return text.encode()

        loaded = read(str(path), path.read_bytes(), prompts)

        assert loaded.flow is None
        assert [(fault.path, fault.message) for fault in loaded.faults] == [
            (place, f"prompts/es-US.yaml has no '{name}'; add it")
        ]
