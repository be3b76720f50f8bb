"""
The guard's own answers as TwiML, escaped by construction.

The law: text becomes markup only through `_escaped`, and `response` and `gather` take only markup
(`Verb`), so a type checker finds every text that somebody forgot to escape. Any text comes out of
an XML parser as it went in, except the characters that XML 1.0 forbids (section 2.2), which are
dropped. Element and attribute names: https://www.twilio.com/docs/voice/twiml.

Written with f-strings because it stands on the way of every answer: a document costs a few
microseconds, a hundredth of what a tree costs.
"""

import re
from collections.abc import Sequence
from typing import NewType

Verb = NewType("Verb", str)
"""One or more finished TwiML elements; only the functions here make one."""

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def response(*verbs: Verb) -> bytes:
    """Return a whole document, UTF-8; with no verbs, the one that does nothing and hangs up."""
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{"".join(verbs)}</Response>'.encode()


def say(text: str, *, language: str | None = None, voice: str | None = None) -> Verb:
    """Speak `text` (https://www.twilio.com/docs/voice/twiml/say); None leaves Twilio's default."""
    spoken = "" if language is None else f' language="{_escaped(language)}"'
    if voice is not None:
        spoken += f' voice="{_escaped(voice)}"'
    return Verb(f"<Say{spoken}>{_escaped(text)}</Say>")


def play(url: str) -> Verb:
    """Play the audio at `url` (https://www.twilio.com/docs/voice/twiml/play)."""
    return Verb(f"<Play>{_escaped(url)}</Play>")


def gather(
    prompts: Sequence[Verb],
    *,
    action: str,
    digits_max: int | None,
    timeout_s: int,
    finish_on_key: str = "#",
) -> Verb:
    """
    Ask for keys while `prompts` (Say, Play, Pause) are heard, and post them to `action`.

    `digits_max` ends the input at that many keys (None: only the finish key or silence ends it);
    `timeout_s` is the silence that ends it. Silence and a finish key without a digit are posted too
    (`actionOnEmptyResult`), and a Redirect follows, because Twilio falls through where it does not
    post (https://www.twilio.com/docs/voice/twiml/gather).
    """
    url = _escaped(action)
    limit = "" if digits_max is None else f' numDigits="{digits_max:d}"'
    return Verb(
        f'<Gather input="dtmf" action="{url}" method="POST"{limit} timeout="{timeout_s:d}"'
        f' finishOnKey="{_escaped(finish_on_key)}" actionOnEmptyResult="true">{"".join(prompts)}</Gather>'
        f'<Redirect method="POST">{url}</Redirect>'
    )


def redirect(url: str) -> Verb:
    """Go on with the document at `url`, asked for by POST."""
    return Verb(f'<Redirect method="POST">{_escaped(url)}</Redirect>')


def pause(seconds: int) -> Verb:
    """Wait in silence."""
    return Verb(f'<Pause length="{seconds:d}"/>')


def hangup() -> Verb:
    """End the call."""
    return Verb("<Hangup/>")


def dial(number: str) -> Verb:
    """Connect the caller to a phone number; the document goes on when that call ends."""
    return Verb(f"<Dial>{_escaped(number)}</Dial>")


def conference(
    room: str,
    *,
    label: str,
    ends: bool,
    starts: bool = True,
    action: str = "",
    status: str = "",
    wait: str = "",
    time_limit_s: int | None = None,
    hangup_on_star: bool = False,
    record: bool = False,
) -> Verb:
    """
    Join the conference `room` (https://www.twilio.com/docs/voice/twiml/conference), without a beep.

    `starts`: whether it begins when this leg comes; `ends`: whether it is over when this leg leaves; `label`: "" for none. `action`: where
    the leg comes then, asked for by POST; "": its document goes on. `status`: where it is told that somebody joins; `wait`: what is heard
    until two are there. `record`: from when it starts.
    """
    dial = f' action="{_escaped(action)}" method="POST"' if action else ""
    dial += f' timeLimit="{time_limit_s:d}"' if time_limit_s is not None else ""
    dial += ' hangupOnStar="true"' if hangup_on_star else ""
    named = f' participantLabel="{_escaped(label)}"' if label else ""
    told = f' statusCallback="{_escaped(status)}" statusCallbackMethod="POST" statusCallbackEvent="join"'
    heard = f' waitUrl="{_escaped(wait)}" waitMethod="POST"'
    more = (
        (told if status else "") + (heard if wait else "") + (' record="record-from-start"' if record else "")
    )
    return Verb(
        f'<Dial{dial}><Conference beep="false" startConferenceOnEnter="{"true" if starts else "false"}"'
        f' endConferenceOnExit="{"true" if ends else "false"}"{named}{more}>'
        f"{_escaped(room)}</Conference></Dial>"
    )


def spelled(digits: str) -> str:
    """Return digits as text that a voice reads one by one: `1 2 3 4`."""
    return " ".join(digits)


def _escaped(text: str) -> str:
    """Return text fit for content and for attributes in double quotes, whitespace kept."""
    printable = text.isprintable()  # nothing that XML forbids is
    if not printable:
        text = _NOT_IN_XML.sub("", text)
    text = (
        text.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace('"', "&quot;")
        .replace("'", "&#39;")
    )
    if printable:
        return text
    return text.replace("\r", "&#13;").replace("\n", "&#10;").replace("\t", "&#9;")
