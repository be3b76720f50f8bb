"""What is heard, as values."""

import pytest

from ivrguard.phone.heard import (
    HANGS_UP,
    SILENCES_MAX,
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
    describe,
    makes_a_sound,
)


@pytest.mark.parametrize(
    ("asked", "keys", "collected"),
    [
        # finishOnKey, default "#": not included in Digits; what follows it is lost
        (Asked("/a"), "1234#", ("1234", "#", True)),
        (Asked("/a"), "12#34", ("12", "#", True)),
        (Asked("/a"), "*7", ("*7", "", False)),
        (Asked("/a"), "#", ("", "#", True)),
        (Asked("/a"), "", ("", "", False)),
        # finishOnKey="*", and "": no key ends it
        (Asked("/a", finish_on_key="*"), "1#2*", ("1#2", "*", True)),
        (Asked("/a", finish_on_key=""), "1#", ("1#", "", False)),
        # numDigits: submits as soon as it is reached
        (Asked("/a", num_digits=1), "1", ("1", "", True)),
        (Asked("/a", num_digits=4), "123456", ("1234", "", True)),
        (Asked("/a", num_digits=4), "123", ("123", "", False)),
        (Asked("/a", num_digits=4), "12#", ("12", "#", True)),
    ],
)
def test_a_gather_takes_the_keys_up_to_its_end(asked, keys, collected):
    """https://www.twilio.com/docs/voice/twiml/gather: finishOnKey, numDigits, timeout."""
    assert collected == asked.collect(keys)


async def test_a_script_is_pressed_in_turn_and_ends_in_silence_and_a_hang_up():
    """No call is without end because nobody wrote the next key."""
    script = Script("1", None, HANGS_UP)

    assert await script.hears(Said("Welcome")) == ""
    assert [await script.keys(Asked("/")) for _ in range(3)] == ["1", None, HANGS_UP]
    assert [await script.keys(Asked("/")) for _ in range(SILENCES_MAX)] == [None] * SILENCES_MAX
    assert await script.keys(Asked("/")) == HANGS_UP


def test_the_attributes_of_a_task_are_its_json():
    """Task attributes are one JSON object in the text of `<Task>`."""
    assert Queued("", "WW1", '{"name": "Ada"}').attributes == {"name": "Ada"}
    assert Queued("support").attributes == {}


def test_a_client_is_addressed_by_its_scheme():
    """To of a client's leg is client:name; a number or a SIP address stands as it is."""
    assert Target("client", "ada").address == "client:ada"
    assert Target("number", "+14155550100").address == "+14155550100"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Said("Welcome."), '"Welcome."'),
        (Played("https://x/a.mp3"), "plays https://x/a.mp3"),
        (Played("https://x/a.mp3", 404), "cannot play https://x/a.mp3"),
        (Paused(1.5), "pauses for 1.5 s"),
        (Asked("/menu"), "waits for keys"),
        (Asked("/menu", input="dtmf speech"), "waits for keys or words"),
        (Recording("/kept"), "beeps and records"),
        (Recorded("/r", 3, "#"), "has recorded 3 s"),
        (
            Dialled((Target("number", "+1"), Target("client", "ada")), "busy", False),
            "dials number +1, client ada: busy",
        ),
        (Dialled((), "failed", False), "dials nobody: failed"),
        (Bridged("ada"), "connects the caller with ada"),
        (Queued("support"), "puts the caller into queue support"),
        (Queued("", "WW1", "{}"), "puts the caller into workflow WW1"),
        (Referred("sip:a@b"), "refers the caller to sip:a@b"),
        (Connected("Stream", "wss://x"), "connects the caller with a machine (Stream wss://x)"),
        (HungUp("caller"), "the caller has hung up"),
        (HungUp("document"), "hangs up"),
        (HungUp("error"), "breaks off"),
        (Failed(12100, "/voice"), "fails with error 12100 at /voice"),
        (Warned(12200, "Ninja"), "warns with 12200 about Ninja"),
    ],
)
def test_every_event_has_a_line(event, line):
    """A transcript tells what happened, in words."""
    assert line == describe(event)


@pytest.mark.parametrize(
    ("event", "sounds"),
    [
        (Said("Hi"), True),
        (HungUp("document"), True),
        (HungUp("error"), True),
        (Failed(12100, "/voice"), True),
        (HungUp("caller"), False),
        (Asked("/menu"), False),
        (Paused(2), False),
    ],
)
def test_silence_is_no_sound(event, sounds):
    """The caller knows that he hung up; he does hear it when somebody else does."""
    assert makes_a_sound(event) == sounds


def test_what_may_hold_a_secret_is_in_no_repr():
    """Tokens travel in tasks, parameters, headers and whispers."""
    secret = "S3CRET"
    target = Target("sip", "sip:a@b", (("X-Token", secret),))
    events = [
        target,
        Dialled((target,), "completed", True, (secret,)),
        Queued("", "WW1", secret),
        Connected("Stream", "wss://x", (("token", secret),)),
        AgentBehaviour(keys=(secret,)),
    ]

    assert [event for event in events if secret in repr(event)] == []
