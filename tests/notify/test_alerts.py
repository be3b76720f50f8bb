"""Alerts out: signed as Standard Webhooks has it, handed over once, telling no secret. The receiver is a real one."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ivrguard.core.errors import NotifyFault
from ivrguard.notify.alerts import Receiver, Text, Webhook, signed
from ivrguard.ports import Notice

SECRET, NEXT = b"s" * 32, b"n" * 32
NOTICE = Notice(
    "bank/spray/1/raised",
    "attack.suspected",
    1_790_000_000_000,
    {"alert": "bank/spray/1", "subjects": ["acc_1"]},
    "ivrguard, flow bank: the same wrong answer on many accounts",
)
NOW_MS = 1_790_000_001_234


@dataclass
class Desk:
    """The risk team's receiver: keeps what it got, and answers what it is told to, then 204."""

    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((dict(request.headers), await request.read()))
        status = self.answers.pop(0) if self.answers else 204
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    one = Desk()
    app = web.Application()
    app.add_routes([web.post("/alerts", one.take)])
    async with TestServer(app) as server:
        one.url = str(server.make_url("/alerts"))
        yield one


async def sent(url: str, secrets: dict[str, bytes] | None = None) -> None:
    way = Webhook(Receiver(url, secrets or {"a1": SECRET}), clock=lambda: NOW_MS)
    try:
        await way.send(NOTICE)
    finally:
        await way.close()
        await way.close()


async def test_a_webhook_is_signed_so_that_anybody_can_verify_it(desk: Desk) -> None:
    """As docs/alerts.md tells receivers: HMAC-SHA256 over id, time and the very bytes of the body."""
    await sent(desk.url)
    ((headers, body),) = desk.got
    assert headers["webhook-id"] == NOTICE.id
    assert headers["webhook-timestamp"] == str(NOW_MS // 1000)
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert json.loads(body) == {
        "type": "attack.suspected",
        "timestamp": NOTICE.at_ms,
        "data": {"alert": "bank/spray/1", "subjects": ["acc_1"], "text": NOTICE.text},
    }


def test_the_vector_of_the_specification() -> None:
    """Standard Webhooks' own test vector (its libraries' tests): they verify ours."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    notice = Notice("msg_p5jXN8AQM9LWM0D4loKWxJek", "", 0, {}, "")
    headers = signed(Receiver("", {"k": secret}), notice, b'{"test": 2432232314}', 1_614_265_330_000)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_one_connection_serves_many(desk: Desk) -> None:
    """And one that was never needed is closed as quietly."""
    way = Webhook(Receiver(desk.url, {"a1": SECRET}), clock=lambda: NOW_MS)
    await way.close()
    await way.send(NOTICE)
    await way.send(NOTICE)
    await way.close()
    assert len(desk.got) == 2


async def test_during_a_rotation_there_are_two_signatures(desk: Desk) -> None:
    """Whoever knows one of the secrets can verify."""
    await sent(desk.url, {"a2": NEXT, "a1": SECRET})
    first, second = desk.got[0][0]["webhook-signature"].split(" ")
    assert first.startswith("v1,")
    assert second.startswith("v1,")
    assert first != second


@pytest.mark.parametrize(
    ("status", "why"), [(500, "refused"), (302, "refused"), (404, "refused"), (410, "gone")]
)
async def test_what_is_not_taken_is_a_fault(desk: Desk, status: int, why: str) -> None:
    """A redirect is no success, and is not followed."""
    desk.answers = [status]
    with pytest.raises(NotifyFault, match=f"the receiver answered {status}") as caught:
        await sent(desk.url)
    assert caught.value.why == why
    assert len(desk.got) == 1


async def test_a_receiver_that_is_not_there() -> None:
    """A refused connection is an outage; neither path nor secret is in the fault, nor in a repr."""
    url = "http://127.0.0.1:9/hooks/S3CRET"
    with pytest.raises(NotifyFault) as caught:
        await sent(url)
    assert caught.value.why == "outage"
    assert "S3CRET" not in str(caught.value)
    assert "ssss" not in repr(Receiver(url, {"a1": SECRET}))
    assert Webhook(Receiver(url, {}), clock=lambda: 0).name == "127.0.0.1:9"
    known = Receiver("https://team:canary@hooks.example/canary?key=canary", {"a1": b"canary"})
    assert Webhook(known, clock=lambda: 0).name == "hooks.example"
    assert "canary" not in repr(known)


async def test_a_number_gets_a_line() -> None:
    """The log knows it by its place in the settings only."""
    taken = []

    class Carrier:
        async def send(self, to: str, text: str, *, deadline_s: float) -> None:
            assert deadline_s > 0
            taken.append((to, text))

    way = Text(2, "+15551110001", Carrier())
    await way.send(NOTICE)
    await way.close()
    assert taken == [("+15551110001", NOTICE.text)]
    assert way.name == "number 2"
