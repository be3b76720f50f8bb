"""
Many stories, one after the other: `ivrguard test`.

Stories stand beside the flows that they are about: `stories/` in the flows' folder, and the folders in it.

Laws of this file
 1. Each story has a world of its own: nothing of one is left for the next.
 2. A story that cannot be read has not come true. The others are played all the same.
 3. What came of it is told as it comes (`each`), and once more as a whole, for people, for programs (`record`) and for
    build servers (`junit`).
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ivrguard.core.flow import Flow
from ivrguard.phone import stage, world
from ivrguard.phone.stage import StoryFailed
from ivrguard.phone.story import Story, StoryFault, load
from ivrguard.phone.world import Real, told

FOLDER = "stories"
SUFFIX = ".call"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document may hold (https://www.w3.org/TR/xml/#charsets)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What came of one story. `faults`: why it has not come true, each with its file and line; none: it has.

    `flow` "": it could not be read so far. `talk`: as it went, up to the step that failed.
    """

    file: str
    flow: str
    title: str
    faults: tuple[str, ...] = ()
    talk: tuple[str, ...] = ()
    seconds: float = 0.0


def found(path: Path, flow: str = "") -> tuple[Path, ...]:
    """Every story in a folder and the folders in it, in order; with `flow`: but for those about another one."""
    stories = sorted(path.rglob(f"*{SUFFIX}"))
    return tuple(story for story in stories if not flow or _about(story) in ("", flow))


def _about(path: Path) -> str:
    """The flow that a story names; "" for none, and for one that cannot be read."""
    try:
        head = re.search(r"^flow:[ \t]*(\S+)", load(path), re.MULTILINE)
    except StoryFault:
        return ""
    return head[1] if head is not None else ""


def read(path: Path, flows: Iterable[str]) -> Story:
    """The story in a file, about one of these flows. Raises `StoryFault`."""
    return Story.parse(load(path), str(path), verbs=world.VERBS, flows=tuple(flows), values=world.VALUES)


async def rehearse(
    paths: Sequence[Path],
    flows: Sequence[Flow],
    *,
    real: Real | None = None,
    each: Callable[[Outcome], None],
) -> tuple[Outcome, ...]:
    """Play every story. `real`: against an IVR that runs, instead of the pretend ones. `each`: see law 3."""
    by_name = {flow.name: flow for flow in flows}
    outcomes = []
    for path in paths:
        outcome = await _played(path, by_name, real)
        each(outcome)
        outcomes.append(outcome)
    return tuple(outcomes)


async def _played(path: Path, flows: Mapping[str, Flow], real: Real | None) -> Outcome:
    began_s = time.perf_counter()
    try:
        story = read(path, flows)
    except StoryFault as fault:
        return Outcome(str(path), "", path.stem, tuple(str(fault).split("\n")))
    flow = flows[story.flow or next(iter(flows))]
    title = story.title or path.stem
    faults: tuple[str, ...] = ()
    try:
        async with told(flow, story, real=real) as telling:
            transcript = await stage.play(story, telling.at.exchange, world=telling.world())
        talk = transcript.text
    except StoryFailed as failed:
        faults, talk = (f"{failed.where}: {failed.why}",), (*failed.talk, f"-> {failed.step}")
    return Outcome(str(path), flow.name, title, faults, talk, time.perf_counter() - began_s)


def record(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """All of it for programs."""
    return {
        "played": len(outcomes),
        "failed": sum(bool(one.faults) for one in outcomes),
        "seconds": round(sum(one.seconds for one in outcomes), 3),
        "stories": [
            {
                "file": one.file,
                "flow": one.flow,
                "title": one.title,
                "came_true": not one.faults,
                "faults": list(one.faults),
                "talk": list(one.talk),
                "seconds": round(one.seconds, 3),
            }
            for one in outcomes
        ],
    }


def junit(outcomes: Sequence[Outcome]) -> str:
    """All of it for build servers: JUnit's XML, as they commonly read it (https://github.com/testmoapp/junitxml)."""
    failed = sum(bool(one.faults) for one in outcomes)
    counted = {"tests": str(len(outcomes)), "failures": str(failed), "errors": "0"}
    root = Element("testsuites", counted | {"name": "ivrguard test", "time": _s(outcomes)})
    for flow in dict.fromkeys(one.flow for one in outcomes):
        of_it = [one for one in outcomes if one.flow == flow]
        failures = str(sum(bool(one.faults) for one in of_it))
        counted = {"tests": str(len(of_it)), "failures": failures, "errors": "0"}
        suite = SubElement(root, "testsuite", {"name": flow or "unreadable"} | counted | {"time": _s(of_it)})
        for one in of_it:
            about = {"name": one.title, "classname": flow or "unreadable", "file": one.file}
            case = SubElement(suite, "testcase", {name: _clean(text) for name, text in about.items()})
            case.set("time", _s([one]))
            if one.faults:
                SubElement(case, "failure", {"message": _clean(one.faults[0])}).text = _clean(
                    "\n".join((*one.faults, *one.talk))
                )
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _s(outcomes: Iterable[Outcome]) -> str:
    return f"{sum(one.seconds for one in outcomes):.3f}"


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
