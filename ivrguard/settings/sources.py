"""
Where settings are read from: the environment, files that it names, and the flat file.

Each is a sequence of readings; what cannot be read is a fault among them, which shows nothing of a secret. What the names mean, and
which of them are secret, is told: `names`, setting to variable, and `secret`.
"""

from collections.abc import Container, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from ivrguard.settings.flat import NotFlatError, read, words

Reading = tuple[str, str, str, str]
"""Name of a setting, where it was read, its text; and the fault if it cannot be read."""


def from_environment(
    environ: Mapping[str, str], names: Mapping[str, str], secret: Container[str]
) -> Iterator[Reading]:
    """The variables that are settings, and those that only look so."""
    plain = {variable: name for name, variable in names.items()}
    files = {f"{variable}_FILE": name for name, variable in names.items() if name in secret}
    for place, text in sorted(environ.items()):
        if not text or not (place in plain or place in files or place.startswith("IVRGUARD_")):
            continue
        if place in plain:
            yield plain[place], place, text, ""
        elif place in files:
            yield _from_secret_file(files[place], place, text, names[files[place]], environ)
        else:
            yield "", place, "", f"unknown variable{_did_you_mean(place, [*plain, *files])}"


def _from_secret_file(name: str, place: str, path: str, variable: str, environ: Mapping[str, str]) -> Reading:
    if environ.get(variable):
        return name, place, "", f"{variable} is set too; take one of them out"
    text, fault = read(Path(path))
    # The path is not shown: whoever mixes up the two variables has put the secret there.
    return name, place, text.strip(), f"the file that it names {fault}" if fault else ""


def from_file(path: Path, names: Mapping[str, str], secret: Container[str]) -> Iterator[Reading]:
    """The flat YAML file, its values as they stand there."""
    text, fault = read(path)
    if fault and fault != "is empty":
        yield "", str(path), "", fault
        return
    try:
        said_words = list(words(text))
    except NotFlatError as error:
        yield "", f"{path}:{error.line}", "", error.why
        return
    seen: dict[str, str] = {}
    for (name, line), (said, _) in zip(said_words[::2], said_words[1::2], strict=True):
        place = f"{path}:{line}"
        before, seen[name] = seen.get(name), place
        if before is not None:
            yield "", place, "", f"'{name}' stands twice, first at {before}; take one out"
        elif name not in names:
            yield "", place, "", f"unknown key '{name}'{_did_you_mean(name, [*names])}"
        elif name in secret:
            mend = f"set {names[name]} or {names[name]}_FILE instead"
            yield "", place, "", f"'{name}' is a secret; {mend}"
        else:
            yield name, f"{place}: {name}", said, "" if said else "there is nothing behind it"


def _did_you_mean(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.7)
    return f"; did you mean '{close[0]}'?" if close else "; take it out"
