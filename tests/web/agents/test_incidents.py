"""The threat desk over a socket: for the risk team alone; who acts is told who was faster, and nobody decides in his own affair."""

from dataclasses import dataclass, replace

import orjson
import pytest

from ivrguard.core import incidents
from ivrguard.core.agents import REAUTHENTICATED_S, Agent, Role
from ivrguard.core.checklist import Checklist, Voice
from ivrguard.core.incidents import Source, standing
from ivrguard.phone.rig import PUBLIC_URL, Rig
from ivrguard.web import sessions as browser

TEAM = frozenset({Role.RISK})
ANN = Agent("agent:ann", manager="agent:max")
PEOPLE = {
    "ann": ANN,
    "rita": Agent("agent:rita", roles=TEAM),
    "paul": Agent("agent:paul", roles=TEAM),
    "max": Agent("agent:max", roles=TEAM | {Role.SUPERVISOR}),
}
SID = "CA" + "1" * 32
SAID = "there is a b0mb in locker 4711"
NOTHING = "TH" + "0" * 32


@dataclass
class Centre:
    """A guard, and the sessions of a few people: all of them logged in just now."""

    guarded: Rig
    sessions: dict[str, str]

    def __getattr__(self, name):
        return getattr(self.guarded, name)


@pytest.fixture
async def centre(start, open_flow):
    async with start(replace(open_flow, phrases=(" a b0mb ",))) as guarded:
        people = {who: replace(one, shown_ms=guarded.clock()) for who, one in PEOPLE.items()}
        yield Centre(guarded, {who: await guarded.session_of(one) for who, one in people.items()})


async def asked(centre, who, method, path, body=None):
    url, secret = f"{centre.guard_url}/.ivrguard/agent/v1/{path}", centre.sessions[who]
    headers = {
        "Cookie": f"{browser.COOKIE}={secret}",
        "Origin": PUBLIC_URL,
        browser.CSRF_HEADER: browser.csrf_of(secret),
    }
    async with centre.session.request(method, url, json=body, headers=headers) as answer:
        text = await answer.read()
        return answer.status, orjson.loads(text) if answer.content_type == "application/json" else text


async def opened(centre):
    """A letter that ann has reported, and words heard in a call."""
    desk = centre.server.threats
    done = await desk.report(
        ANN, None, Source.LETTER, Checklist(exact_words=SAID, voice=(Voice.CALM,)), ("exact_words", "voice")
    )
    desk.listen(centre.server.world.flows.first().flow, (("CallSid", SID), ("SpeechResult", SAID)))
    await desk.look()
    return done.incident.about.id


async def test_the_whole_way(centre):
    """Listed without a word of anybody's; read whole, on record; acknowledged, rated, decided and closed."""
    id_ = await opened(centre)
    status, listed = await asked(centre, "rita", "GET", "incidents")
    assert status == 200
    first, second = sorted(listed["incidents"], key=lambda one: one["sources"])
    assert (first["id"], first["reporters"], first["state"], first["mine"]) == (
        id_,
        ["agent:ann"],
        "open",
        True,
    )
    assert (second["id"], second["call_sid"], second["sources"], second["flow"]) == (
        SID,
        SID,
        ["speech"],
        "bank",
    )
    assert SAID not in str(listed)
    _, whole = await asked(centre, "rita", "GET", f"incidents/{id_}")
    assert whole["reports"][0]["checklist"] == {"exact_words": SAID, "voice": ["calm"]}
    assert [one["what"] for one in whole["timeline"]] == ["reported"]
    _, spoken = await asked(centre, "rita", "GET", f"incidents/{SID}")
    assert [one["words"] for one in spoken["heard"]] == [SAID]
    steps = [
        ("acknowledgements", {}),
        ("assessments", {"rating": "low", "acts": 1}),
        ("decisions", {"decision": "watch", "because": "wait", "acts": 2}),
        ("decisions", {"decision": "no_action", "because": "a hoax", "acts": 3, "close": True}),
    ]
    states = [await asked(centre, "rita", "POST", f"incidents/{id_}/{what}", body) for what, body in steps]
    assert [(status, said["state"], said["acts"]) for status, said in states] == [
        (201, "acknowledged", 1),
        (201, "acknowledged", 2),
        (201, "acknowledged", 3),
        (201, "closed", 5),
    ]
    _, over = await asked(centre, "rita", "GET", "incidents?state=closed")
    assert [(one["id"], one["rating"], one["acknowledged_by"]) for one in over["incidents"]] == [
        (id_, "low", "agent:rita")
    ]
    events = [linked.entry.event for linked in await centre.store.entries()]
    assert events.count("threat_read") == 2
    assert SAID not in repr(await centre.store.entries())


async def test_who_may_not(centre):
    """No agent learns anything; a reporter's manager reads it, and acts not; a desk's program has no such role."""
    id_ = await opened(centre)
    for path in ("incidents", f"incidents/{id_}", f"incidents/{NOTHING}", f"incidents/{id_}/export"):
        assert (await asked(centre, "ann", "GET", path))[0] == 403
    _, whole = await asked(centre, "max", "GET", f"incidents/{id_}")
    assert whole["mine"] is False
    for what, body in (
        ("acknowledgements", {}),
        ("assessments", {"rating": "low", "acts": 0}),
        ("decisions", {"decision": "no_action", "because": "he always calls", "acts": 0, "close": True}),
    ):
        status, said = await asked(centre, "max", "POST", f"incidents/{id_}/{what}", body)
        assert (status, said["error"]) == (403, "not_apart")
    key = await centre.desk("flex", "*")
    url, headers = f"{centre.guard_url}/.ivrguard/agent/v1/incidents", {"Authorization": f"Bearer {key}"}
    async with centre.session.get(url, headers=headers) as answer:
        assert answer.status == 403
    assert standing(await centre.server.threats.find(id_)).acts == 0


async def test_somebody_was_faster(centre):
    """And is named."""
    id_ = await opened(centre)
    await asked(centre, "rita", "POST", f"incidents/{id_}/acknowledgements", {})
    status, said = await asked(centre, "paul", "POST", f"incidents/{id_}/acknowledgements", {})
    assert (status, said["error"], said["mend"]) == (409, "faster", "agent:rita was faster: read it again")
    close = {"decision": "no_action", "because": "a hoax", "acts": 1, "close": True}
    assert (await asked(centre, "paul", "POST", f"incidents/{id_}/decisions", close))[0] == 201
    status, said = await asked(centre, "rita", "POST", f"incidents/{id_}/decisions", close)
    assert (status, said["mend"]) == (409, "agent:paul closed it")


async def test_what_a_decision_wants(centre, monkeypatch):
    """A reason; to close it, somebody who showed who he is lately; and room."""
    id_ = await opened(centre)
    empty = {"decision": "watch", "because": " ", "acts": 0}
    assert (await asked(centre, "rita", "POST", f"incidents/{id_}/decisions", empty))[1][
        "error"
    ] == "no_reason"
    centre.clock.advance(REAUTHENTICATED_S + 1)
    close = {"decision": "no_action", "because": "a hoax", "acts": 0, "close": True}
    status, said = await asked(centre, "rita", "POST", f"incidents/{id_}/decisions", close)
    assert (status, said["error"]) == (401, "insufficient_user_authentication")
    monkeypatch.setattr(incidents, "MOMENTS_MAX", 1)
    rate = {"rating": "low", "acts": 0}
    status, said = await asked(centre, "rita", "POST", f"incidents/{id_}/assessments", rate)
    assert (status, said["error"]) == (409, "full")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/export", None),
        ("POST", "/acknowledgements", {}),
        ("POST", "/assessments", {"rating": "low", "acts": 0}),
        ("POST", "/decisions", {"decision": "watch", "because": "why", "acts": 0}),
    ],
)
async def test_what_is_not_there(centre, method, path, body):
    assert (await asked(centre, "rita", method, f"incidents/{NOTHING}{path}", body))[0] == 404


async def test_export(centre):
    """Lines of JSON, the incident first; that it was exported is the last of them."""
    id_ = await opened(centre)
    status, text = await asked(centre, "rita", "GET", f"incidents/{id_}/export")
    lines = [orjson.loads(line) for line in text.splitlines()]
    assert (status, lines[0]["incident"]["id"]) == (200, id_)
    assert [line["entry"]["event"] for line in lines[1:]] == ["threat_reported", "threat_read"]
