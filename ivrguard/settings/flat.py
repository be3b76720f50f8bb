"""
A small file read: its text, and, where it is YAML, lines of `key: value` and nothing else.

PyYAML is the reader, up to its events: no tags, no anchors, no nesting, and every word stays the text that it was.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

FILE_BYTES_MAX = 64 * 1024

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class NotFlatError(Exception):
    """The file has something else than lines of `key: value`: where, and why it cannot be read."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(line, why)
        self.line = line
        self.why = why


def read(path: Path) -> tuple[str, str]:
    """A small file's text, and what is wrong with it, "" if nothing is. What is in it stays out of the message."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        text = data.decode()
    except OSError as error:
        return "", f"cannot be read: {error.strerror or type(error).__name__}"
    except UnicodeDecodeError:
        return "", "is not UTF-8; save it as UTF-8"
    if len(data) > FILE_BYTES_MAX:
        return "", f"is larger than {FILE_BYTES_MAX // 1024} kB; is it the right file?"
    return text.removeprefix("\ufeff"), "" if text.strip() else "is empty"


def words(text: str) -> Iterator[tuple[str, int]]:
    """
    Keys and values in turn, each with its line.

    Raises `NotFlatError` at the first thing that is no word: nested brackets without end cost PyYAML time without end.
    """
    in_mapping = False
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if not isinstance(event, yaml.NodeEvent):
                continue
            mark = event.start_mark
            assert mark is not None, "PyYAML gives every event a place"
            if in_mapping and isinstance(event, yaml.ScalarEvent) and event.anchor is event.tag is None:
                yield str(event.value), mark.line + 1
            elif in_mapping or not isinstance(event, yaml.MappingStartEvent):
                raise NotFlatError(mark.line + 1, "only lines of the form `key: value` are read; write it so")
            in_mapping = True
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = "this is not YAML; look at quotes, colons and indentation"
        raise NotFlatError(mark.line + 1 if mark else 1, why) from None
