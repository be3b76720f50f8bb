"""
The forms of forms.py as JSON Schema, and what is said of each key.

The law of this file: a form has one shape, wherever it stands. Patterns are ECMA-262's and match anywhere unless they
are anchored, so they are.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ivrguard.flowfile import forms
from ivrguard.flowfile.forms import Duration, Glob, Number, Word, spoken

Json = dict[str, Any]


def key(form: Json, says: str, *, default: object = None, example: object = None) -> Json:
    """A key: what stands under it, and in words what it says, its default and an example."""
    words = [f"{says}."]
    if default is not None:
        words.append(f"Default: {_shown(default)}.")
        form = {**form, "default": default}
    if example is not None:
        words.append(f"Example: {_shown(example)}")
        form = {**form, "examples": [example]}
    return {"description": " ".join(words), **form}


def _shown(value: object) -> str:
    """A value as it stands in a flow file."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return f"{{{', '.join(f'{key}: {_shown(entry)}' for key, entry in value.items())}}}"
        case list():
            return f"[{', '.join(map(_shown, value))}]"
        case str() if not value[:1].isalpha() and not value[:1].isdigit() and not value.startswith("/"):
            return f'"{value}"'
        case _:
            return str(value)


def fields(keys: Collection[str], of: Mapping[str, Json], needed: Collection[str] = ()) -> Json:
    """A mapping with these keys and no others."""
    assert of.keys() == set(keys), of.keys() ^ set(keys)
    found: Json = {
        "type": "object",
        "properties": {key: of[key] for key in keys},
        "additionalProperties": False,
    }
    return {**found, "required": list(needed)} if needed else found


def word(form: Word) -> Json:
    """A text of that form."""
    whole: Json = {"type": "string", "pattern": f"^(?:{form.pattern})$"}
    if isinstance(form, Glob):
        few = rf"^[^*?]*(?:(?:\*+|\?)[^*?]*){{0,{forms.PATTERN_WILDCARDS_MAX}}}$"
        return {**whole, "maxLength": forms.PATTERN_CHARS_MAX, "allOf": [{"pattern": few}]}
    return whole


def phone_keys(form: Word, most: int | None = None) -> Json:
    """Keys that an admin may have written without quotes, as a number (of at most `most`)."""
    bare = {"type": "integer", "minimum": 0}
    return {"anyOf": [word(form), bare if most is None else {**bare, "maximum": most}]}


def number(form: Number, low: int | None = None) -> Json:
    """A whole number; `low`: the least that is good for anything, where that is more than can be read."""
    return {"type": "integer", "minimum": form.low if low is None else low, "maximum": form.high}


def duration(form: Duration, says: str, *, default: str | None = None, example: str | None = None) -> Json:
    """A key with a duration, which its words bound: a pattern cannot."""
    span = f"A duration (s, m, h or d) from {spoken(form.low_s)} to {spoken(form.high_s)}"
    return key(word(forms.DURATION), f"{says}. {span}", default=default, example=example)


def choice(options: Collection[str]) -> Json:
    """One of a few words."""
    return {"type": "boolean"} if options == forms.BOOL.keys() else {"enum": list(options)}


def items(of: Json, most: int = forms.ENTRIES_MAX) -> Json:
    """A list with at least one entry."""
    return {"type": "array", "items": of, "minItems": 1, "maxItems": most}


def named(of: Json) -> Json:
    """A mapping whose keys are names of the admin's choice."""
    return {
        "type": "object",
        "propertyNames": word(forms.NAME),
        "additionalProperties": of,
        "maxProperties": forms.ENTRIES_MAX,
    }


def one_of_keys(keys: Sequence[str]) -> list[Json]:
    """For `oneOf` and `anyOf`: this key is there, or that one."""
    return [{"required": [key]} for key in keys]
