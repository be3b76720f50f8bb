"""
What the fuzzers share: real inputs, and what becomes of them when bytes are cut, doubled, swapped and made up.

Each of these files throws what nobody means at a part of the guard that strangers reach. How much: hypothesis' profiles
(tests/conftest.py); `HYPOTHESIS_PROFILE=night` for a long run. A bound is on work (steps, hashes, bytes) where it can be.
"""

import json
from pathlib import Path

import pytest
from hypothesis import strategies as st

from ivrguard.factors import pin

HERE = Path(__file__).parent
DOCUMENTS = json.loads((HERE / "documents.json").read_text())
"""Real TwiML documents, from the provider's pages and public samples: every verb and attribute in them stands in one."""

NASTY = (
    *(
        b"\x00",
        b"\xff",
        b"\xc3\x28",
        b"%00",
        b"%",
        b"%zz",
        b"&",
        b"=",
        b"+",
        b";",
        b"\r\n",
        b"\n",
        b'"',
        b"'",
        b"<",
        b">",
    ),
    *(
        b"]]>",
        b"<!--",
        b"<!DOCTYPE x>",
        b"&#0;",
        b"&x;",
        b"//",
        b"/../",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"*",
        b"#",
        b"-1",
        b"1e99",
    ),
    *(
        b"9" * 40,
        b"A" * 400,
        "\u202e".encode(),
        "\u0661\u0662".encode(),
        b"https://evil.example",
        b"Digits",
        b"no",
        b"~",
    ),
)


@st.composite
def mutated(draw, originals):
    """One of these, with up to six cuts, copies, swaps and insertions."""
    data = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.integers(0, 24)))
        match draw(st.integers(0, 4)):
            case 0:
                data = data[:at] + data[to:]
            case 1:
                data = data[:to] + data[at:]
            case 2:
                data = data[:at] + draw(st.sampled_from(NASTY)) + data[to:]
            case 3:
                data = data[:at] + draw(st.binary(max_size=8)) + data[at:]
            case _:
                data = data[to:] + data[:at]
    return data


@pytest.fixture(scope="session")
def documents():
    return [text.encode() for text in DOCUMENTS]


@pytest.fixture(scope="session")
def mutations():
    """A strategy of what becomes of the bytes given."""
    return mutated


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch):
    """The real argon2 with small parameters."""
    monkeypatch.setattr(pin, "MEMORY_KIB", 8)
    monkeypatch.setattr(pin, "PASSES", 1)
