"""
`threats`: the phrases that are a threat when a caller says them.

The law of this file: the section is read and described here; what becomes of a phrase that was heard is
core/incidents.py's.
"""

from ivrguard.core.incidents import words_of
from ivrguard.flowfile import shapes
from ivrguard.flowfile.forms import Word
from ivrguard.flowfile.shapes import Json
from ivrguard.flowfile.tree import Node, Reader, quoted

KEYS = ("phrases",)
NEEDED = {"phrases": "phrases: [there is a bomb]"}
PHRASES_MAX = 100
CHARS_MIN, CHARS_MAX = 4, 100
LETTERS_MIN = 3
PHRASE = Word(
    rf"[^\x00-\x1f\x7f]{{{CHARS_MIN},{CHARS_MAX}}}",
    f"words that a caller may say ({CHARS_MIN} to {CHARS_MAX} characters, {LETTERS_MIN} of them letters or digits at least)",
)


def read_phrases(reader: Reader, node: Node | None) -> tuple[str, ...]:
    """The phrases as they are looked for; none, where the section is left out."""
    if node is None:
        return ()
    of = reader.fields(node, KEYS, needed=NEEDED)
    found: list[str] = []
    for item in reader.items(of["phrases"], PHRASE.wanted, PHRASES_MAX) if "phrases" in of else []:
        phrase = reader.text(item, PHRASE.wanted, _phrase, "")
        words = quoted(phrase.strip())
        if phrase in found:
            reader.fault(item.spot, f"{words} stands twice, case and signs aside; take one out")
        elif phrase:
            found.append(phrase)
            if " " not in phrase.strip():
                doubt = "is one word, which callers may say who threaten nobody; a phrase is better"
                reader.doubt(item.spot, f"{words} {doubt}")
    return tuple(found)


def _phrase(text: str) -> str | None:
    """A phrase in the form in which it is looked for."""
    words = words_of(text) if PHRASE.match(text) else ""
    return words if sum(map(str.isalnum, words)) >= LETTERS_MIN else None


def shape() -> Json:
    """The section's JSON Schema."""
    phrases = shapes.key(
        shapes.items(shapes.word(PHRASE), PHRASES_MAX),
        "What is a threat when a caller says it to your IVR, in whatever sentence; case, accents' spelling and signs aside",
        example=["there is a bomb"],
    )
    return shapes.key(
        shapes.fields(KEYS, {"phrases": phrases}, NEEDED),
        "What opens an incident at the threat desk, while the caller notices nothing; nothing, where it is left out",
        example={"phrases": ["there is a bomb"]},
    )
