"""
Prompt files: what the guard says in one language.

The laws of this file:

1. A prompt is a text, or `{say: text, play: URL}`. What is said stands there in any case: it is what a reader of the
   file sees, and what is left when the audio is taken out.
2. Audio replaces the whole prompt. What must be filled in cannot be heard in it, and what is written in messages has
   none.
3. What is filled in is what there is to fill in (core/flow.py: PLACEHOLDERS).

The provider fetches the audio (https://www.twilio.com/docs/voice/twiml/play): by https, or callers would hear what
anyone on the way makes of it.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ivrguard.core.check import did_you_mean
from ivrguard.core.flow import PLACEHOLDERS, PLACEHOLDERS_NEEDED, PROMPTS, WRITTEN, Catalogue, Place
from ivrguard.flowfile.forms import (
    AUDIO,
    NAME,
    PROMPT_CHARS_MAX,
    PROMPT_KEYS,
    PROMPT_NEEDED,
    in_clear,
    loopback,
    origin,
)
from ivrguard.flowfile.tree import Fields, Node, Reader, Spot, quoted, shortened, unreadable

ASK, INTENT = "ask.", "intent."
"""
What the names begin with of prompts that say an admin's own word as it is spoken: what a caller is asked for, and what he
is about to do. They stand within other prompts.
"""

SAID: Mapping[str, str] = {
    "identify": "which account?",
    "identify_or_known": "which account, or key 1 for the one of the caller's number",
    "choose_language": "at the first question, in each other language: which key gives it",
    "pin": "the PIN, please",
    "sms_code": "a code was sent; please enter it",
    "totp": "the app's code, please",
    "another_code": "which key sends another code",
    "other_factor": "which key takes another factor",
    "again": "not right; said before the question is asked once more",
    "not_heard": "no keys came",
    "mistyped": "not as many keys as were asked for",
    "hold": "one moment: many answers are being checked",
    "refused": "not verified: the call ends, or a human takes it",
    "goodbye": "nothing came for too long",
    "unavailable": "something is down",
    "not_in_service": "no flow answers this number",
    "whisper": "to an agent on a plain phone, before he is connected",
    "sms_text": "the text message with a code",
    "sms_read_back": "the text message with a code that an agent asks the caller to read out",
    "read_back_intent": "what such a code is for, where Twilio Verify writes the message",
    "no_intent": "what a code is for, where no rule states an `intent`",
    "sms_warning": "to the account's owner, written: the first factor was right, the second wrong",
    "new_pin": "a new PIN, please",
    "new_pin_again": "the new PIN once more, please",
    "new_pin_differs": "the two were not the same",
    "new_pin_weak": "the new PIN is too easy to guess",
    "pin_changed": "the new PIN is in force; the call goes on",
    "sms_pin_changed": "to the account's owner, written: the PIN was changed by phone",
}
"""When each prompt is said. `X.short` is what `X` is from the second time in a call on."""


def catalogue(
    reader: Reader, language: str, place: Place, prompts: Callable[[str], bytes]
) -> tuple[Catalogue, bytes]:
    """
    What is said in `language`, and the bytes of its file.

    `place` is where the flow names the language. A fault in the prompts is reported in their own file, and spoils the
    flow too. `prompts` returns the file of a language, or raises `OSError`.
    """
    file = str(Path(reader.file).parent / "prompts" / f"{language}.yaml")
    try:
        data = prompts(language)
    except OSError as error:
        reader.fault(reader.spot(place), f"{file} {unreadable(error)}; add it, or name another language")
        return Catalogue(language, {}), b""
    own = Reader(file)
    root = own.tree(data)
    words: dict[str, str] = {}
    audio: dict[str, str] = {}
    keys = root.keys if root is not None else {}
    for name, node in root.of.items() if root is not None else ():
        words[name], played = _prompt(own, name, keys[name], node)
        if played:
            audio[name] = played
    reader.doubts.extend(own.doubts)
    if own.faults:
        reader.faults.extend(own.faults)
        reader.tainted.add(place)
    return Catalogue(language, words, audio=audio), data


def is_prompt(name: str) -> bool:
    """Whether there is such a prompt: one of the guard's own, or that of a word of the admin's."""
    return name in PROMPTS or any(
        name.startswith(family) and NAME.match(name.removeprefix(family)) for family in (ASK, INTENT)
    )


def may_play(name: str) -> bool:
    """Whether a prompt may have audio."""
    return name not in WRITTEN and name not in PLACEHOLDERS_NEEDED and not name.startswith((ASK, INTENT))


def _prompt(reader: Reader, name: str, key: Spot, node: Node) -> tuple[str, str]:
    """One prompt: its words, blanks and line breaks made one each, and the URL of its audio ("": none)."""
    if not is_prompt(name):
        reader.fault(key, f"unknown key {quoted(name)}{did_you_mean(name, PROMPTS)}")
        return "", ""
    if not isinstance(node, Fields):
        return _words(reader, name, node), ""
    of = reader.fields(node, PROMPT_KEYS, needed=PROMPT_NEEDED)
    return _words(reader, name, of.get("say")), _audio(reader, name, of)


def _words(reader: Reader, name: str, node: Node | None) -> str:
    def accept(text: str) -> str | None:
        words = " ".join(text.split())
        return words if 0 < len(words) <= PROMPT_CHARS_MAX else None

    words = reader.text(node, f"words to be said, at most {PROMPT_CHARS_MAX} characters", accept, "")
    if node is None or not words:
        return ""
    allowed = PLACEHOLDERS.get(name, ())
    shown = ", ".join(f"{{{one}}}" for one in allowed) or "none"
    for one in re.findall(r"\{([^{}]*)\}", words):
        if one not in allowed:
            reader.fault(node.spot, f"there is no {{{shortened(one)}}} to fill in here; known: {shown}")
    if set("{}") & set(re.sub(r"\{[^{}]*\}", "", words)):
        reader.fault(
            node.spot, f"a brace stands alone; what is filled in looks like {{digits}}; known here: {shown}"
        )
    needed = PLACEHOLDERS_NEEDED.get(name)
    if needed is not None and f"{{{needed}}}" not in words:
        reader.fault(node.spot, f"without {{{needed}}} this says nothing; put it in")
    return words


def _audio(reader: Reader, name: str, of: dict[str, Node]) -> str:
    """The URL of a prompt's audio; "" where it has none, or may have none."""
    node = of.get("play")
    if node is None:
        return ""
    if not may_play(name):
        why = "it is written in messages"
        if name in PLACEHOLDERS_NEEDED and name not in WRITTEN:
            why = f"a recording cannot say {{{PLACEHOLDERS_NEEDED[name]}}}"
        elif name.startswith((ASK, INTENT)):
            why = "it is filled in where other prompts are said"
        reader.fault(node.spot, f"this prompt cannot be played: {why}; take `play` out")
        return ""

    def accept(text: str) -> str | None:
        return text if AUDIO.match(text) and origin(text) and not in_clear(text) else None

    url = reader.text(node, AUDIO.wanted, accept, "")
    if url and loopback(url):
        reader.doubt(node.spot, "only a provider on this machine can fetch this; use https before callers do")
    filled = [f"{{{one}}}" for one in PLACEHOLDERS.get(name, ())]
    said = getattr(of.get("say"), "value", "")
    if url and any(one in said for one in filled):
        reader.doubt(
            node.spot,
            f"the text says {', '.join(filled)}, which the audio must say itself: "
            "record it anew whenever that changes",
        )
    return url
