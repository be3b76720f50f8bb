"""TwiML as it is read: content types, attributes, URLs. https://www.twilio.com/docs/voice/twiml ."""

from xml.etree.ElementTree import fromstring

import pytest

from ivrguard.phone import twiml
from ivrguard.phone.heard import Asked, Target
from ivrguard.phone.wire import DOCUMENT_BYTES_MAX, Answer, FetchError

BASE = "https://ivr.example/a/b?c=1"


@pytest.mark.parametrize(
    ("content_type", "body", "read"),
    [
        ("text/xml", b"<Response><Say>Hi</Say><Hangup/></Response>", ["Say", "Hangup"]),
        ("application/xml; charset=utf-8", b"<Response/>", []),
        ("TEXT/HTML", b"<?xml version='1.0'?><Response><!-- c --><Pause/></Response>", ["Pause"]),
        # text/plain: TwiML if it is valid, read aloud otherwise
        ("text/plain", b"<Response><Leave/></Response>", ["Leave"]),
        ("text/plain", "Grüß Gott".encode(), ["Say"]),
        # audio: played
        ("audio/mpeg", b"\xff\xfb" * DOCUMENT_BYTES_MAX, [twiml.SOUND]),
        # error 12300: no content type, or a foreign one
        (None, b"<Response/>", 12300),
        ("application/json", b"{}", 12300),
        # error 12100: not TwiML; names are case-sensitive
        ("text/xml", b"", 12100),
        ("text/xml", b"<Response><Say></Response>", 12100),
        ("text/xml", b"<response/>", 12100),
        ("text/html", b"<html><body/></html>", 12100),
        # error 11750: more than 64 kB
        ("text/xml", b"<Response>" + b" " * DOCUMENT_BYTES_MAX, 11750),
    ],
)
def test_a_document_is_what_its_content_type_says(content_type, body, read):
    """XML and HTML are TwiML, plain text is spoken, audio played, anything else is an error."""
    answer = Answer(200, content_type, body)

    if isinstance(read, int):
        with pytest.raises(FetchError) as failure:
            twiml.verbs(BASE, answer)
        assert (read, BASE, 200) == (failure.value.code, failure.value.url, failure.value.status)
    else:
        assert read == [verb.tag for verb in twiml.verbs(BASE, answer)]


def test_plain_text_is_spoken_as_it_is():
    """text/plain that is no TwiML is read aloud."""
    [verb] = twiml.verbs(BASE, Answer(200, "text/plain", "Grüß\n Gott".encode()))

    assert twiml.words(verb) == "Grüß Gott"


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("next", "https://ivr.example/a/next"),
        ("/next", "https://ivr.example/next"),
        ("../next", "https://ivr.example/next"),
        ("?d=2", "https://ivr.example/a/b?d=2"),
        ("", BASE),
        ("\n   https://other.example/x#rc=2 \n", "https://other.example/x#rc=2"),
        ("http://[bad", "http://[bad"),
    ],
)
def test_urls_are_relative_to_their_document(reference, url):
    """`<Redirect>../nextInstructions</Redirect>` is "relative to the current URL"; blanks do not count."""
    assert url == twiml.resolve(BASE, reference)


@pytest.mark.parametrize(
    ("verb", "asked"),
    [
        # "action: default is the current document URL"; method POST; finishOnKey #; timeout 5
        ("<Gather/>", Asked(BASE)),
        ("<Gather action='menu' method='get'/>", Asked("https://ivr.example/a/menu", "GET")),
        ("<Gather numDigits='4' finishOnKey='' timeout='10'/>", Asked(BASE, "POST", 4, "", 10.0)),
        ("<Gather numDigits='four' timeout='auto' method='PUT'/>", Asked(BASE)),
        (
            "<Gather input='dtmf speech' actionOnEmptyResult='true'/>",
            Asked(BASE, input="dtmf speech", action_on_empty=True),
        ),
    ],
)
def test_the_attributes_of_gather(verb, asked):
    """https://www.twilio.com/docs/voice/twiml/gather."""
    assert asked == twiml.asked(fromstring(verb), BASE)


@pytest.mark.parametrize(
    ("noun", "target"),
    [
        (
            "<Number url='whisper' method='GET'> +14155550111 </Number>",
            Target("number", "+14155550111", (), "https://ivr.example/a/whisper", "GET"),
        ),
        (
            "<Client><Identity>ada</Identity><Parameter name='t' value='1'/></Client>",
            Target("client", "ada", (("t", "1"),)),
        ),
        (
            "<Sip>sip:a@b?X-One=1&amp;X-Two=a%26b</Sip>",
            Target("sip", "sip:a@b", (("X-One", "1"), ("X-Two", "a&b"))),
        ),
        (
            "<Sip><Uri>sip:a@b</Uri><Headers><Header name='X-One' value='1'/></Headers></Sip>",
            Target("sip", "sip:a@b", (("X-One", "1"),)),
        ),
        (
            "<Conference waitUrl='/hold' waitMethod='GET'>room</Conference>",
            Target("conference", "room", wait_url="https://ivr.example/hold", wait_method="GET"),
        ),
        ("<Conference waitUrl=''>room</Conference>", Target("conference", "room")),
        ("<Queue url='/whisper'>support</Queue>", Target("queue", "support")),
        (
            "<Number statusCallback='/s' statusCallbackMethod='GET' statusCallbackEvent='answered ringing'>1</Number>",
            Target(
                "number",
                "1",
                status_callback="https://ivr.example/s",
                status_method="GET",
                status_events=frozenset({"answered", "ringing"}),
            ),
        ),
    ],
)
def test_the_nouns_of_dial(noun, target):
    """https://www.twilio.com/docs/voice/twiml/dial: Number, Client, Sip, Conference, Queue."""
    assert target == twiml.target(fromstring(noun), BASE)


def test_durations_are_numbers_of_seconds():
    """What is not a number counts as absent."""
    verb = fromstring("<Pause length='3' loop='x'/>")

    assert (
        twiml.seconds(verb, "length", 1.0),
        twiml.seconds(verb, "loop", 1.0),
        twiml.seconds(verb, "none", 2.5),
    ) == (3.0, 1.0, 2.5)


@pytest.mark.parametrize(
    ("verbs", "readable"),
    [
        ("<Say>Hi &amp; bye</Say><Hangup/>", True),
        ("", True),
        ("<Say>Hi & bye</Say>", False),
        ("<Say>Hi", False),
        ("</Response><Response>", False),
    ],
)
def test_verbs_make_a_document_or_do_not(verbs, readable):
    """For whoever writes one by hand."""
    assert twiml.readable(verbs) == readable
