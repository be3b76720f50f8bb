"""
The guard's own words as TwiML: prompts of a catalogue, said or played.

The law of this file: what a caller hears is in his language (core.call.spoken) and from the catalogue alone. Where a
prompt has audio, the audio is played instead (https://www.twilio.com/docs/voice/twiml/play). Keys and codes are read
one by one.
"""

from collections.abc import Sequence

from ivrguard.core import call as calls
from ivrguard.core.call import Call
from ivrguard.core.flow import Catalogue, Flow
from ivrguard.telephony import twiml

GATHER_TIMEOUT_S = 8
HOLD_S = 2


def said(catalogue: Catalogue, name: str, **values: str) -> twiml.Verb:
    """One prompt, with what is filled in."""
    audio = catalogue.audio.get(name)
    if audio is not None:
        return twiml.play(audio)
    text = catalogue.prompts[name].format(**values) if values else catalogue.prompts[name]
    return twiml.say(text, language=catalogue.language, voice=catalogue.voice or None)


def farewell(catalogue: Catalogue | None, *names: str) -> bytes:
    """Say these prompts and hang up. None: there is no flow to take words from."""
    verbs = [said(catalogue, name) for name in names] if catalogue is not None else []
    return twiml.response(*verbs, twiml.hangup())


def rendered(flow: Flow, call: Call, move: calls.Move, *, answer_to: str, goes_on_at: str) -> bytes | None:
    """
    The document of a move, or None for one that is not the last of its webhook.

    `answer_to`: the URL that a question's answer is posted to; `goes_on_at`: where the call goes on after a `GoOn`.
    """
    spoken = calls.spoken(flow, call)
    match move:
        case calls.Ask(question, names, digits_max):
            prompts = _question(flow, call, names, _digits(flow, question))
            asked = twiml.gather(prompts, action=answer_to, digits_max=digits_max, timeout_s=GATHER_TIMEOUT_S)
            return twiml.response(asked)
        case calls.Hold():
            return twiml.response(said(spoken, "hold"), twiml.pause(HOLD_S), twiml.redirect(answer_to))
        case calls.GoOn(name):
            return twiml.response(said(spoken, name), twiml.redirect(goes_on_at))
        case calls.Refuse(name, _, dial):
            return twiml.response(said(spoken, name), twiml.dial(dial) if dial else twiml.hangup())
        case calls.Rest():
            return neutral()
        case _:
            return None


def neutral() -> bytes:
    """The answer to what is stale: nothing happens, and nothing is told."""
    return twiml.response(twiml.hangup())


def _digits(flow: Flow, question: calls.Question) -> int:
    """How many keys an answer has, where the words say it."""
    if question.factor:
        return flow.factors[question.factor].digits
    return calls.pin_factor(flow).digits if question.about is not calls.About.ACCOUNT else 0


def _question(flow: Flow, call: Call, names: Sequence[str], digits: int) -> list[twiml.Verb]:
    """The prompts of a question; each language on offer says so itself."""
    spoken = calls.spoken(flow, call)
    keys = {"another_code": calls.ANOTHER_CODE_KEY, "other_factor": calls.OTHER_FACTOR_KEY}
    verbs: list[twiml.Verb] = []
    for name in names:
        if name == "choose_language":
            others = calls.offered_languages(flow, call)
            verbs.extend(said(other, name, key=twiml.spelled(other.key)) for other in others)
        elif name in keys:
            verbs.append(said(spoken, name, key=twiml.spelled(keys[name])))
        else:
            verbs.append(
                said(spoken, name, digits=str(digits), ask=spoken.prompts[f"ask.{flow.identify.ask}"])
            )
    return verbs
