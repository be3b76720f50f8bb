"""
The talk that somebody has at the telephone, written down as a story that comes true when it is played.

Laws of this file
 1. **No secret is written down.** What is keyed at a question of the guard's becomes the name of what it was: `{pin}`
    when it was right, `{wrong}` when it was not. Of what does not even look like an answer, noughts are left. The same
    goes for digits that are a secret here and are keyed, spoken or heard elsewhere.
 2. What was heard is an expectation: how each saying began, in order; where the call went; that the other side has hung
    up.
 3. Time passes as it is written down (`wait`), so the clock must stand still otherwise.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from ivrguard.core.assurance import Kind
from ivrguard.core.call import About, Call, Keyed, keyed
from ivrguard.factors.pin import weak
from ivrguard.guard.books import call_key
from ivrguard.phone import story
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Asked, Dialled, Event, HungUp, Played, Queued, Said
from ivrguard.phone.stage import tokens_of
from ivrguard.phone.story import Does, Hear, Plain, Press, Say, Story, Transferred, Wait
from ivrguard.phone.world import OWN_QUESTIONS, SECRET_DIGITS_MIN, Telling

HEARD_CHARACTERS_MAX = 70
"""How much of a saying is written down, at most: enough to know it by."""
_WRONG = {Kind.PIN: "wrong", Kind.SMS_CODE: "wrong_code", Kind.TOTP: "wrong_app"}
_AS_IT_IS = {
    Keyed.NOTHING,
    Keyed.REPEAT,
    Keyed.LANGUAGE,
    Keyed.ANOTHER_CODE,
    Keyed.OTHER_FACTOR,
}


class Recorder:
    """
    Follows one line; `steps` are what has been written down so far.

    Before the caller does something, `meant` makes a step of it; once it is done, `did` writes it down, with all that
    was heard.
    """

    def __init__(self, telling: Telling, line: Line, attested: str) -> None:
        self.steps: list[Does] = []
        self._telling, self._line = telling, line
        self._values = telling.world().values
        self._told = 0
        self._chosen = ""
        self._call = story.Call(line.from_, line.to, attested)

    def begun(self) -> None:
        """The call has begun."""
        self.did(self._call)

    async def meant(self, keys: str) -> Press:
        """The keys that the caller is about to press, as a step."""
        waiting = self._line.waiting
        if not isinstance(waiting, Asked):
            return Press(keys[:1])
        digits, finish, _ = waiting.collect(keys)
        if waiting.action.startswith(OWN_QUESTIONS):
            return Press(await self._answer(digits) + finish)
        return Press(self._veiled(digits, "{{{}}}") + finish)

    def said(self, words: str) -> Say:
        """Words of the caller's, as a step."""
        return Say(self._veiled(words, "…"))

    def waits(self, seconds: int) -> None:
        """Time passes."""
        self.steps.append(Wait(seconds))

    def did(self, does: Does) -> None:
        """The caller has done this, and has heard what there was to hear."""
        self.steps.append(does)
        heard = self._line.heard[self._told :]
        self._told += len(heard)
        for event in heard:
            self.steps.extend(self._expected(event))

    def _expected(self, event: Event) -> Iterator[Does]:
        match event:
            case Said(text) if words := self._beginning(text):
                yield Hear(words)
            case Played(url) if name := urlsplit(url).path.rpartition("/")[2]:
                yield Hear(name)
            case HungUp(by) if by != "caller":
                yield Plain("hung up")
            case Queued(name, workflow):
                token = bool(tokens_of(event))
                kind: story.Kind = "workflow" if workflow else "enqueue"
                yield Transferred(kind, workflow or name, with_token=token)
            case Dialled(targets):
                for target in targets:
                    if target.kind in story.KINDS:
                        yield Transferred(target.kind, target.name, with_token=bool(tokens_of(event)))
            case _:
                pass

    def _beginning(self, text: str) -> str:
        """The first sentence, or as much of it as is enough, up to the first secret."""
        text = self._veiled(text, "\n").partition("\n")[0]
        sentence = re.split(r"(?<=[.?!]) ", text, maxsplit=1)[0]
        if len(sentence) <= HEARD_CHARACTERS_MAX:
            return sentence.strip()
        return (
            sentence[: HEARD_CHARACTERS_MAX + 1].rpartition(" ")[0].strip() or sentence[:HEARD_CHARACTERS_MAX]
        )

    async def _answer(self, digits: str) -> str:
        """What stands for the answer to a question of the guard's."""
        flow = self._telling.at.flow
        call = await self._telling.at.store.read(call_key(self._line.call_sid))
        assert isinstance(call, Call)
        assert call.question is not None
        looks, question = keyed(flow, call, digits), call.question
        if looks in _AS_IT_IS or len(digits) < SECRET_DIGITS_MIN:
            return digits
        if looks is Keyed.MISFIT:
            return re.sub("[0-9]", "0", digits)
        if question.factor:
            return f"{{{self._named(digits) or _WRONG[flow.factors[question.factor].kind]}}}"
        if question.about is About.ACCOUNT:
            return f"{{{self._named(digits) or 'unknown'}}}"
        if question.about is About.NEW_PIN:
            self._chosen = digits
        return f"{{{self._named(digits) or 'wrong'}}}"

    def _named(self, digits: str) -> str:
        """The name of a secret; "": these digits are none."""
        return next((name for name, secret in self._secrets() if secret == digits), "")

    def _veiled(self, text: str, veil: str) -> str:
        """A text in which each secret, also one that is read digit by digit, has become `veil`."""
        for name, secret in self._secrets():
            text = re.sub("[ ,.]*".join(secret), veil.format(name), text)
        return text

    def _secrets(self) -> Iterator[tuple[str, str]]:
        """What is a secret now: its name, and the digits."""
        for name in ("pin", "account", "code", "app", "old_app"):
            with suppress(LookupError):
                yield name, self._values[name]()
        if self._chosen:
            yield "weak_pin" if weak(self._chosen) else "new_pin", self._chosen


def keep(path: Path, recorded: Story, *, force: bool, remark: str = "") -> None:
    """
    Write a story to a file that is not there yet, or with `force` over the one that is; `remark`: for people.

    Raises `OSError`.
    """
    with path.open("w" if force else "x") as file:
        file.write(f"# {remark}\n{recorded}" if remark else str(recorded))
