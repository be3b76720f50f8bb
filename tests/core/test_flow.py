"""A flow as values: its kinds, its catalogues, and tables that agree."""

import pytest

from ivrguard.core.assurance import Kind
from ivrguard.core.flow import (
    PLACEHOLDERS,
    PLACEHOLDERS_NEEDED,
    PROMPTS,
    WRITTEN,
    Catalogue,
    Factor,
    Flow,
    Identify,
    Upstream,
)
from ivrguard.core.rules import Demand

SPANISH = Catalogue("es-US", {"hold": "Un momento."}, "Polly.Lupe", key="2")
FRENCH = Catalogue("fr", {"hold": "Un instant."})
FLOW = Flow(
    name="bank",
    version="0123456789abcdef",
    numbers=("+18005550100",),
    upstream=Upstream("https://ivr.bank.example/voice"),
    identify=Identify("account_number", 6, 12),
    factors={"pin": Factor(Kind.PIN, 8), "code": Factor(Kind.SMS_CODE, 6)},
    levels={"one": "pin"},
    rules=(),
    default=Demand("one"),
    language="en-US",
    voice="Polly.Joanna",
    prompts={"hold": "One moment."},
    audio={"hold": "https://media.bank.example/hold.mp3"},
    languages=(SPANISH, FRENCH),
)
OWN = Catalogue("en-US", FLOW.prompts, "Polly.Joanna", FLOW.audio)


def test_the_kinds_of_its_factors():
    """By name."""
    assert FLOW.kinds() == {"pin": Kind.PIN, "code": Kind.SMS_CODE}


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("es-US", SPANISH), ("es-MX", SPANISH), ("es", SPANISH), ("fr", FRENCH), ("fr-CA", FRENCH),
        ("en-US", OWN), ("en-GB", OWN), ("de", OWN), ("", OWN), ("e", OWN),
    ],
)  # fmt: skip
def test_what_is_said_in_a_language(language, expected):
    """That very tag, or the same tongue of another country, or the flow's own."""
    assert FLOW.catalogue(language) == expected


def test_what_is_filled_in_is_filled_into_a_prompt_that_there_is():
    """The two tables speak of the same prompts."""
    assert PLACEHOLDERS.keys() <= set(PROMPTS)
    assert all(name in PLACEHOLDERS[key] for key, name in PLACEHOLDERS_NEEDED.items())


def test_what_is_written_is_a_prompt():
    """And so is what is said shorter the second time."""
    assert set(PROMPTS) >= WRITTEN
    assert all(name.removesuffix(".short") in PROMPTS for name in PROMPTS)
    assert len(set(PROMPTS)) == len(PROMPTS)
