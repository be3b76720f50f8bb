"""
Attacks by a caller's leg that goes where nobody sent it: protected paths in every spelling, links of other calls and of
other turns, another caller's questions.

Laws of this file
 1. What counts is what the IVR was asked for: a path that a flow protects, on a call that proved nothing.
 2. Each request is signed, as Twilio would sign it: a document, a REST call or a mistake of the IVR's led the leg there.
"""

import re
from urllib.parse import quote, unquote, urlsplit

from ivrguard.core.flow import Flow
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Asked
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.goals import Goal, protected
from ivrguard.phone.redteam.ground import Ground
from ivrguard.phone.redteam.guessing import unprotected
from ivrguard.phone.rig import PUBLIC_URL
from ivrguard.phone.wire import FetchError
from ivrguard.phone.world import OWN_QUESTIONS, begin_ms

CONTROL = re.compile(r"_ivrguard=([twqsm])([gp])\.([0-9]+)\.([\w-]{22})")


def _paths(flow: Flow, now_ms: int) -> tuple[Goal, ...]:
    """What is protected, is a path, and needs no key."""
    return tuple(one for one in protected(flow, now_ms) if one.path and not one.digits)


def _lacks(flow: Flow) -> str:
    return "" if _paths(flow, begin_ms(flow, None)) else "the flow protects no path, transfers alone"


def spellings(path: str) -> tuple[str, ...]:
    """A path as somebody may write it who wants a guard to read another one than the IVR does."""
    head, _, tail = path.rpartition("/")
    escaped = "".join(f"%{ord(char):02x}" for char in tail[:1]) + quote(tail[1:])
    return (
        path,
        f"/%{ord(path[1]):02x}{path[2:]}",
        f"{path}/",
        f"/{path}",
        f"{head}//{tail}",
        f"/open/..{path}",
        f"/open/%2e%2e{path}",
        f"/open/..%2f{path[1:]}",
        f"/open/%252e%252e{path}",
        f"{head}/{escaped}",
        f"{head}/.;/{tail}",
        f"{path};open=1",
        f"{path}%00",
        f"{path}?open=/hours",
        f"{path}#/hours",
        f"{head}\\{tail}",
        f"/.ivrguard/at/127.0.0.1{path}",
        f"/.ivrguard/..{path}",
    )


def credulous(path: str) -> str:
    """A path as a server reads it that decodes all it can, resolves dots, and drops parameters and double slashes."""
    for _ in range(3):
        path = unquote(path)
    kept: list[str] = []
    for segment in path.replace("\\", "/").split("/"):
        name = segment.partition(";")[0].partition("\0")[0]
        if name == "..":
            kept = kept[:-1]
        elif name not in {"", "."}:
            kept.append(name)
    return "/" + "/".join(kept)


async def _straight_there(ground: Ground) -> None:
    """Ask for what is protected by its path, in every spelling, with a call that has proved nothing."""
    for goal in _paths(ground.flow, ground.clock()):
        line = ground.call()
        await line.until_input()
        seen = len(ground.ivr.paths_seen())
        for written in spellings(goal.path):
            for method in ("POST", "GET"):
                await _send(ground, line, f"{PUBLIC_URL}{written}", method)
        await ground.leave(line)
        child = ground.call()
        await child.until_input()
        await _as_a_callee(ground, child, goal)
        await ground.leave(child)
        if _asked_for(ground, goal, seen):
            ground.through(f"{goal} was reached with nothing proved")


async def _send(ground: Ground, line: Line, url: str, method: str = "POST", **event: str) -> None:
    """One signed request; that it cannot be sent is the guard's way of refusing it."""
    ground.tried["requests"] += 1
    try:
        await line.send(url, event, method)
    except FetchError:
        ground.tried["requests without an answer"] += 1


async def _as_a_callee(ground: Ground, line: Line, goal: Goal) -> None:
    """The same from a leg that somebody dialled."""
    for event in ({"Direction": "outbound-dial"}, {"ParentCallSid": "CA" + "0" * 32}):
        await _send(ground, line, f"{PUBLIC_URL}{goal.path}", **event)


def _asked_for(ground: Ground, goal: Goal, since: int) -> int:
    return [credulous(path) for path in ground.ivr.paths_seen()[since:]].count(goal.path)


async def _owners_link(ground: Ground, goal: Goal) -> str:
    """The guard's own link to what is protected, from a call of the owner's that may follow it."""
    line = await ground.there(goal)
    links = [each.url for each in line.requests if urlsplit(each.url).path == goal.path]
    await ground.leave(line)
    return next(link for link in reversed(links) if CONTROL.search(link))


async def _with_others_links(ground: Ground) -> None:
    """Follow the owner's own links from another call, and change what they say: the use, the method, the turn, the MAC."""
    for goal in _paths(ground.flow, ground.clock()):
        link = await _owners_link(ground, goal)
        changed = CONTROL.search(link)
        assert changed is not None
        use, method, turn, mac = changed.groups()
        seen = len(ground.ivr.paths_seen())
        written = {
            f"{other}{way}.{number}.{mac}"
            for other in "twqsm"
            for way in "gp"
            for number in (turn, "0", "1", "2")
        }
        written |= {
            f"{use}{method}.{turn}.{'A' * 22}",
            f"{use}{method}.{turn}.",
            "",
            f"q{method}.{turn}.{'B' * 22}",
        }
        line = ground.call()
        await line.until_input()
        for control in sorted(written):
            await _send(ground, line, CONTROL.sub(f"_ivrguard={control}", link))
            await _send(ground, line, f"{link}&_ivrguard={control}")
        await ground.leave(line)
        if _asked_for(ground, goal, seen):
            ground.through(f"{goal} was reached by a link that was changed, or was another call's")


async def _others_questions(ground: Ground) -> None:
    """Answer a question of the owner's from another call, and one's own question with the owner's call gone on."""
    factor, way = await ground.first()
    owner, other = await ground.question(factor, way), await ground.question(factor, way)
    assert isinstance(owner.waiting, Asked)
    question = owner.waiting.action
    await _send(ground, other, question, Digits=await ground.right(factor))
    if await ground.proved(other) - set(way[1]):
        ground.through("a question of one call was answered by another one")
    await owner.press(await ground.right(factor))
    before = await ground.state(owner)
    for digits in (await ground.right(factor), "1", ""):
        await _send(ground, owner, question, Digits=digits)
    for nonce in ("0" * 32, "f" * 32):
        await _send(ground, other, f"{OWN_QUESTIONS}call/{nonce}", Digits="1")
    after = await ground.state(owner)
    if after.proofs != before.proofs:
        ground.through("an answer to a question that is over was taken")
    await ground.leave(owner)
    await ground.leave(other)


ATTACKS = (
    Attack(
        "go-straight-there",
        "Ask for every protected path by its name, in every spelling, with nothing proved",
        "OWASP ASVS 5.0, 8.3.1; field H11: a second path without the limit; CWE-425, CWE-22",
        _straight_there,
        _lacks,
    ),
    Attack(
        "follow-others-links",
        "Follow the links of the owner's call from another one, with their use, turn and MAC changed",
        "field C: webhook forgery and replay; CWE-639, CWE-345",
        _with_others_links,
        _lacks,
    ),
    Attack(
        "answer-others-questions",
        "Answer a question of another call's, one that is over, and ones that never were",
        "OWASP ASVS 5.0, 7.2.4, 2.3.1; CWE-384",
        _others_questions,
        unprotected,
    ),
)
