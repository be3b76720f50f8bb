"""
Flow files: YAML with places -> core/flow.py, and every fault in them.

The laws of this package:

1. A flow with a fault does not exist (`flow` is None): what runs stays. All faults are told at once, with file, line
   and column, and none that only follows from another one.
2. Nothing here raises, whatever the bytes are: what cannot be read is a fault.
3. A flow's version is a hash of every file that was read for it, and the flow carries their text: whoever has the text
   has the flow (`restored`).

forms.py: what may stand where. tree.py: YAML with places. flow.py: the keys of a flow. prompts.py: what is said.
sense.py: one section of it. schema.py: the JSON Schema of all that. What a flow means, and what is wrong with it, is
core/check.py's.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ivrguard.core.check import check
from ivrguard.core.flow import Finding, Flow, Place
from ivrguard.flowfile.flow import read_flow
from ivrguard.flowfile.forms import SIZE_BYTES_MAX
from ivrguard.flowfile.tree import Claim, Fault, Reader, unreadable

__all__ = ["Claim", "Fault", "Loaded", "LoadedAll", "load", "load_all", "read", "restored"]

VERSION_CHARS = 16

RESTS_ON = {
    "sensitive": ("rules", "levels", "factors"),
    "pin_change": ("levels", "factors"),
    "ceiling": ("factors", "lockout"),
    "sense": ("rules", "levels", "factors"),
    "within": ("levels", "factors"),
    "dialled": ("numbers",),
    "path": ("upstream",),
    "ask": ("language", "languages"),
}
"""What findings about a section or a key follow from: where one of these cannot be read, nothing is said of it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    One flow file: the flow, or None and why not. `doubts` are for a person to weigh and block nothing.

    `told` gives what else is said of a place in the file its line and column: there where the flow is.
    """

    flow: Flow | None
    faults: tuple[Fault, ...] = ()
    doubts: tuple[Fault, ...] = ()
    claims: tuple[Claim, ...] = field(default=(), repr=False)
    told: Callable[[Place, str], Fault] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class LoadedAll:
    """A folder of flow files: the flows without fault, every fault and doubt of all of them, and each file by itself."""

    flows: tuple[Flow, ...]
    faults: tuple[Fault, ...] = ()
    doubts: tuple[Fault, ...] = ()
    files: tuple[Loaded, ...] = field(default=(), repr=False)


def load_all(folder: Path) -> LoadedAll:
    """
    Every `*.yaml` in `folder` itself, each with the `prompts/<language>.yaml` beside it that it names.

    Faults of the folder as a whole: no flow in it, a file that would be overlooked (`.yml`), a name or a
    number that two flows claim.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        return LoadedAll((), (Fault(str(folder), 1, 1, "", unreadable(error)),))
    faults = [
        Fault(str(path), 1, 1, "", "would be overlooked: flow files end in .yaml; rename it")
        for path in entries
        if path.suffix == ".yml"
    ]
    loaded = [load(path) for path in entries if path.suffix == ".yaml"]
    if not loaded:
        faults.append(Fault(str(folder), 1, 1, "", "there is no flow (*.yaml) in this folder; add one"))
    faults.extend(fault for one in loaded for fault in one.faults)
    faults.extend(_claimed_twice(claim for one in loaded for claim in one.claims))
    doubts = dict.fromkeys(doubt for one in loaded for doubt in one.doubts)
    flows = tuple(one.flow for one in loaded if one.flow is not None)
    return LoadedAll(flows, tuple(dict.fromkeys(faults)), tuple(doubts), tuple(loaded))


def load(path: Path) -> Loaded:
    """One flow file, and the prompts it names. Raises nothing: what cannot be read is a fault."""
    try:
        data = _bytes(path)
    except OSError as error:
        return Loaded(None, (Fault(str(path), 1, 1, "", unreadable(error)),))
    return read(str(path), data, lambda language: _bytes(path.parent / "prompts" / f"{language}.yaml"))


def read(file: str, data: bytes, prompts: Callable[[str], bytes]) -> Loaded:
    """
    The flow in `data`; `file` is what faults call it. `prompts` returns the file of a language, or raises
    `OSError`. The flow's version is a hash of all these files' bytes.
    """
    reader = Reader(file)
    root = reader.tree(data)
    if root is None:
        return Loaded(None, tuple(sorted(reader.faults)))
    flow, said = read_flow(reader, root, prompts)
    if reader.faults:
        _add_findings(reader, flow, errors_only=True)
    else:
        tags = (flow.language, *(other.language for other in flow.languages))
        files = {"": data, **dict(zip(tags, said, strict=True))}
        texts = {tag: text.decode() for tag, text in files.items()}
        flow = replace(flow, version=_version(data, *said), files=texts)
        _add_findings(reader, flow, errors_only=False)
    faults = tuple(sorted(dict.fromkeys(reader.faults)))
    doubts = tuple(sorted(dict.fromkeys(reader.doubts)))
    if faults:
        return Loaded(None, faults, doubts, tuple(reader.claims))
    return Loaded(flow, faults, doubts, tuple(reader.claims), reader.told)


def restored(files: Mapping[str, str]) -> Flow | None:
    """
    The flow that was read from these files (`Flow.files`), in its very version.

    None if it has a fault by now: what an earlier release of ivrguard let pass need not pass this one.
    """

    def prompts(language: str) -> bytes:
        if language not in files:
            raise FileNotFoundError(language)
        return files[language].encode()

    return read("restored", files.get("", "").encode(), prompts).flow


def _version(*files: bytes) -> str:
    """One hash of the files, each with its length before it: no byte can wander from one file into the next."""
    digest = hashlib.sha256()
    for data in files:
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:VERSION_CHARS]


def _add_findings(reader: Reader, flow: Flow, *, errors_only: bool) -> None:
    """
    What core/check.py finds, with places. Where the reading had faults already, what may only follow from
    them is left out: findings at, above or below such a place, those that rest on its section, and all doubts.
    """
    tainted = frozenset(reader.tainted)
    if ("factors",) in tainted or ("levels",) in tainted:
        return
    for finding in check(flow):
        if _follows(finding, tainted) or (errors_only and not finding.error):
            continue
        (reader.fault if finding.error else reader.doubt)(reader.spot(finding.place), finding.message)


def _follows(finding: Finding, tainted: frozenset[Place]) -> bool:
    """Whether the finding may only be there because something could not be read."""
    at = finding.place
    if any(at[: len(place)] == place or place[: len(at)] == at for place in tainted):
        return True
    rests_on = {section for key in (at[0], at[-1]) for section in RESTS_ON.get(str(key), ())}
    return any(place and place[0] in rests_on for place in tainted)


def _claimed_twice(claims: Iterable[Claim]) -> Iterable[Fault]:
    first: dict[str, Claim] = {}
    for claim in claims:
        other = first.setdefault(claim.what, claim)
        if other.file != claim.file:
            message = (
                f"{claim.what} is claimed at {other.file}:{other.line}:{other.column} too; one flow only"
            )
            yield Fault(claim.file, claim.line, claim.column, claim.path, message)


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SIZE_BYTES_MAX + 1)
