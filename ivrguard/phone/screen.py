"""What a caller hears and does, as lines of text: for the demo and for the telephone in the terminal."""

from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import (
    Asked,
    Bridged,
    Connected,
    Dialled,
    Event,
    Failed,
    HungUp,
    Paused,
    Played,
    Queued,
    Recorded,
    Recording,
    Referred,
    Said,
    Warned,
)


def told(event: Event) -> str | None:
    """One thing heard, in a line; None for what makes no sound."""
    match event:
        case Said(text):
            return text
        case Played(url):
            return f"♪ {url}"
        case Dialled(targets, status):
            names = ", ".join(f"{target.kind} {target.name}" for target in targets)
            return f"☎ {names}: {status}"
        case Bridged(agent):
            return f"☎ talking to {agent}"
        case Queued(name, workflow):
            return f"☎ waiting in {workflow or name}"
        case Referred(target):
            return f"☎ handed over to {target}"
        case Connected(noun):
            return f"☎ connected to {noun}"
        case Recorded() | Recording():
            return "● recording"
        case Failed(code):
            return f"✗ an application error has occurred ({code})"
        case HungUp(by):
            return None if by == "caller" else "✗ the other end hung up"
        case Warned(code, about):
            return f"(Twilio warns, {code}: {about})"
        case Asked() | Paused():
            return None


class Screen:
    """Follows one line and gives what is new on it."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._shown = 0

    def news(self) -> list[str]:
        """What was heard since the last time, a line each."""
        heard = self._line.heard[self._shown :]
        self._shown = len(self._line.heard)
        return [text for event in heard if (text := told(event)) is not None]
