"""What the tests of flow files share: a small flow, its prompts, and short ways to read them and their faults."""

from pathlib import Path

import pytest

from ivrguard import flowfile

FLOWS = Path(__file__).parents[2] / "flows"

SMALL = """\
flow: small
numbers: ["+18005550100"]
upstream: {url: http://localhost:5000/voice}
identify: {ask: account_number, digits: {min: 6, max: 12}}
factors: {pin: {kind: pin, digits: 8}, code: {kind: sms_code}}
levels: {one: pin, two: {all: [pin, code]}}
rules:
  - {path: /x, require: two}
  - {transfer: any, require: two, reverify: one}
default: {require: one}
"""


class Files:
    """
    A small flow as text, the example's prompts as bytes, and what reading them gives.

    A language that is not in `said` has the example's prompts.
    """

    small_text = SMALL
    bank_text = (FLOWS / "bank.yaml").read_text()
    words = (FLOWS / "prompts/en-US.yaml").read_bytes()

    def reading(self, text, prompts=None, **said):
        data = text if isinstance(text, bytes) else text.encode()
        every = {language.replace("_", "-"): words for language, words in said.items()}
        usual = self.words if prompts is None else prompts
        return flowfile.read("flows/f.yaml", data, lambda language: every.get(language, usual))

    def faults(self, text, prompts=None):
        """Every fault as `line:column path: message`, without the file."""
        loaded = self.reading(text, prompts)
        assert (loaded.flow is None) is bool(loaded.faults)
        return [str(fault).removeprefix("flows/f.yaml:").replace(": ", " ", 1) for fault in loaded.faults]

    def only(self, text, prompts=None):
        """The one fault that there is."""
        found = self.faults(text, prompts)
        assert len(found) == 1, found
        return found[0]

    def flow(self, text, prompts=None):
        """The flow, which has no fault."""
        loaded = self.reading(text, prompts)
        assert loaded.faults == ()
        assert loaded.flow is not None
        return loaded.flow

    def small(self, **changes):
        """The small flow with some of its lines replaced: key -> the whole line, "" to take it out."""
        lines = SMALL.splitlines()
        for key, line in changes.items():
            at = next(number for number, old in enumerate(lines) if old.startswith(f"{key}:"))
            lines[at : at + 1] = [line] if line else []
        return "\n".join(lines) + "\n"

    def with_rule(self, rule):
        """The small flow with one more rule, before the others."""
        first = "  - {path: /x, require: two}\n"
        return SMALL.replace(first, f"  - {rule}\n{first}")


@pytest.fixture(scope="session")
def files():
    """See `Files`."""
    return Files()
