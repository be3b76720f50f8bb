"""
`sense`: which attacks a flow looks for, and what callers need while one seems to be under way.

The law of this file: the section is read and described here by one table, `LIMITS`; what the counts mean is
core/sense.py's.
"""

from ivrguard.core.sense import SAID, Attack, Sense, Threshold
from ivrguard.flowfile import forms, shapes
from ivrguard.flowfile.forms import DAY_S, Word, spoken
from ivrguard.flowfile.shapes import Json
from ivrguard.flowfile.tree import Node, Reader

OFF = "off"
LIMITS: dict[Attack, tuple[int, int]] = {
    Attack.SPRAY: (5, 1_000),
    Attack.MANY_NUMBERS: (3, 60),
    Attack.MANY_ACCOUNTS: (3, 60),
    Attack.STUFFING: (10, 1_000_000),
    Attack.FLOOD: (10, 1_000_000),
}
"""The fewest and the most that may raise an alert: fewer is every day's, and of more nothing is told apart."""

WITHIN_S_MIN, WITHIN_S_MAX = 60, 7 * DAY_S
AS_MANY_IN = Word(
    f"([0-9]{{1,7}}) in ({forms.DURATION.pattern})", 'so many in a time, such as "20 in 6h", or off'
)
KEYS = (*(attack.value for attack in Attack), "raise")


def read_sense(reader: Reader, node: Node | None) -> Sense:
    """The section as values; what is left out is as usual."""
    of, usual = reader.fields(node, KEYS), Sense()

    def threshold(attack: Attack) -> Threshold | None:
        low, high = LIMITS[attack]

        def accept(text: str) -> tuple[Threshold | None] | None:
            if text == OFF:
                return (None,)
            match = AS_MANY_IN.match(text)
            within_s = forms.seconds(match[2]) if match else None
            if match is None or not within_s or not WITHIN_S_MIN <= within_s <= WITHIN_S_MAX:
                return None
            return (Threshold(int(match[1]), within_s),) if low <= int(match[1]) <= high else None

        return reader.text(of.get(attack.value), wanted(attack), accept, (usual.of(attack),))[0]

    return Sense(
        threshold(Attack.SPRAY),
        threshold(Attack.MANY_NUMBERS),
        threshold(Attack.MANY_ACCOUNTS),
        threshold(Attack.STUFFING),
        threshold(Attack.FLOOD),
        raise_to=reader.text(of.get("raise"), "the name of a level", forms.NAME.accept, None),
    )


def wanted(attack: Attack) -> str:
    """What may stand under the attack's key."""
    low, high = LIMITS[attack]
    return f"{AS_MANY_IN.wanted} ({low} to {high}, in {spoken(WITHIN_S_MIN)} to {spoken(WITHIN_S_MAX)})"


def shape() -> Json:
    """The section's JSON Schema."""
    of: dict[str, Json] = {}
    for attack in Attack:
        usual = Sense().of(attack)
        assert usual is not None
        shown = f"{usual.count} in {spoken(usual.within_s)}"
        form = {"anyOf": [{"const": OFF}, shapes.word(AS_MANY_IN)]}
        says = f"{SAID[attack].capitalize()}: as many in this time raise an alert; `off`: not looked for"
        of[attack.value] = shapes.key(form, says, default=shown, example=shown)
    of["raise"] = shapes.key(
        shapes.word(forms.NAME),
        "The level that callers need while an alert stands, where a rule wants less; without it they need no more",
        example="two_factor",
    )
    return shapes.key(
        shapes.fields(KEYS, of),
        "What looks like an attack, and the level that callers need meanwhile",
        example={"raise": "two_factor"},
    )
