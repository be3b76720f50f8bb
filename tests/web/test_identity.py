"""Who asks: a desk's program by its key; everybody else is nobody."""

import pytest
from aiohttp.test_utils import make_mocked_request

from ivrguard.core.agents import Agent, Role
from ivrguard.guard import desk as desks
from ivrguard.web.identity import Identity, bearer


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, ""),
        ("", ""),
        ("Bearer", ""),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("BEARER abc", "abc"),
        ("Basic abc", ""),
        ("Bearer äbc", ""),
        ("abc", ""),
    ],
)
def test_a_bearer_token_as_rfc_6750_writes_it(header, expected):
    headers = {} if header is None else {"Authorization": header}
    assert expected == bearer(make_mocked_request("GET", "/", headers=headers))


async def test_a_desks_program_by_its_key_until_it_is_revoked(guarded):
    """Of the desk's bare name and queues; the role of one who talks to callers, and no other one."""
    key, identity = await guarded.desk("ann", "workflow:*"), Identity(guarded.server.guard)
    asks = make_mocked_request("GET", "/", headers={"Authorization": f"Bearer {key}"})
    agent = await identity.of(asks)

    assert agent is not None
    assert agent == Agent("ann", "ann", queues=("workflow:*",), shown_ms=agent.shown_ms, desk=True)
    assert agent.roles == {Role.AGENT}
    await desks.revoke(guarded.store, "ann", now_ms=guarded.clock())
    assert await identity.of(asks) is None


@pytest.mark.parametrize("key", ["", "guessed"])
async def test_who_cannot_be_told_is_nobody(guarded, key):
    await guarded.desk("ann", "*")
    identity = Identity(guarded.server.guard)
    assert (
        await identity.of(make_mocked_request("GET", "/", headers={"Authorization": f"Bearer {key}"})) is None
    )
    assert await identity.of(make_mocked_request("GET", "/")) is None
