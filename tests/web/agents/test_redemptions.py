"""Tokens over a socket: what is asked, what is answered, and what is only on record."""

from dataclasses import replace

import pytest

from ivrguard.core.rules import Demand
from ivrguard.guard import books
from ivrguard.guard import desk as desks
from ivrguard.phone.heard import Queued
from ivrguard.phone.rig import PUBLIC_URL
from ivrguard.ports import Account, Key
from ivrguard.stores.memory import MemoryStore

PIN = "24681357"
CALLER = "+15551230001"
WORKFLOW = "WW" + "a1" * 16
PATH = "/.ivrguard/agent/v1/redemptions"
REFUSED = (403, {"error": "invalid_token"})


async def transferred(centre):
    """A verified caller before the workflow: the line, and his token."""
    line = centre.call()
    await line.until_input()
    await line.press("123456#")
    await line.press(PIN)
    assert isinstance(line.waiting, Queued)
    return line, line.waiting.attributes["ivrguard_token"]


async def asked(centre, body: bytes, key: str | None, scheme: str = "Bearer"):
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"{scheme} {key}"} if key is not None else {}
    async with centre.session.post(centre.guard_url + PATH, data=body, headers=headers) as answer:
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.status, await answer.json()


async def last_entry(centre):
    entry = (await centre.store.entries())[-1].entry
    return entry.event, entry.reason


async def test_a_token_for_a_receipt_once(centre, metric):
    """201 and everything that a desk shows; the receipt holds for whoever has the public keys."""
    key = await centre.desk("ann", f"workflow:{WORKFLOW}")
    line, token = await transferred(centre)
    status, receipt = await centre.redeem(key, token, line.call_sid)

    jwt = receipt.pop("receipt")
    assert (status, receipt) == (
        201,
        {
            "call_sid": line.call_sid,
            "account": "123456",
            "acr": "one_factor",
            "amr": ["pin"],
            "age_s": 0,
            "intent": "agent",
            "may": [{"intent": "agent", "level": "one_factor", "held": True}],
            "notes": [],
        },
    )
    claims = centre.keyring.verify(
        jwt,
        typ="ivrguard-receipt+jwt",
        iss=PUBLIC_URL,
        aud=f"workflow:{WORKFLOW}",
        now_ms=centre.clock(),
    )
    assert (claims["sub"], claims["act"], claims["call_sid"]) == ("123456", {"sub": "ann"}, line.call_sid)
    assert await last_entry(centre) == ("authn_token_redeemed", "right")
    assert await metric(centre, 'ivrguard_redemptions_total{outcome="redeemed"}') == 1

    assert await centre.redeem(key, token, line.call_sid) == REFUSED
    assert await last_entry(centre) == ("authn_token_reuse", "spent")
    assert await metric(centre, 'ivrguard_redemptions_total{outcome="refused"}') == 1


async def test_what_the_caller_may_do_is_told(start, bank_flow, ivr):
    """For each intent that the flow names: the level, and whether the caller holds it now."""
    flow = replace(bank_flow, default=Demand("one_factor"))
    flow = replace(flow, rules=tuple(one for one in flow.rules if one.transfer is None))
    ivr.documents["/voice"] = f'<Enqueue workflowSid="{WORKFLOW}"/>'
    async with start(flow) as centre:
        await centre.enrol(Account("123456"), pin=PIN)
        key = await centre.desk("ann", "*")
        _, token = await transferred(centre)
        _, receipt = await centre.redeem(key, token)
    assert receipt["may"] == [{"intent": "wire", "level": "two_factor", "held": False}]


SPOILED = ["forged", "spent", "expired", "other_call", "other_queue", "ended", "locked", "superseded"]


@pytest.mark.parametrize("why", SPOILED)
async def test_one_answer_for_every_token_that_is_no_good(centre, why):
    """Whoever presents it learns nothing: the same status and words; the record alone knows, in one entry."""
    key = await centre.desk("ann", f"workflow:{WORKFLOW}")
    line, token = await transferred(centre)
    call_sid: str | None = line.call_sid
    match why:
        case "forged":
            token = "0" * 26
        case "spent":
            await centre.redeem(key, token)
        case "expired":
            centre.clock.advance(61)
        case "other_call":
            call_sid = "CA" + "0" * 32
        case "other_queue":
            key = await centre.desk("bob", "workflow:WW" + "b2" * 16)
        case "ended":
            await line.hang_up()
        case "locked":
            for _ in range(5):
                guesser = centre.call("+15559990000")
                await guesser.until_input()
                await guesser.press("123456#")
                await guesser.press("11111111")
        case _:
            answer = await line.send(f"{PUBLIC_URL}/voice")  # the call goes to agents once more
            answer = await line.send(answer.text.partition('"POST">')[2].partition("<")[0])
            assert "ivrguard_token" in answer.text
    before, _ = await centre.store.head()

    assert await centre.redeem(key, token, call_sid) == REFUSED
    event = "authn_token_reuse" if why == "spent" else "authn_token_refused"
    assert await last_entry(centre) == (event, why)
    assert (await centre.store.head())[0] == before + 1


@pytest.mark.parametrize(
    ("key", "scheme"),
    [
        (None, ""),
        ("", "Bearer"),
        ("guessed", "Bearer"),
        ("{key}", "Basic"),
        ("{key}x", "Bearer"),
        ("{key}\xff", "Bearer"),
        ("revoked", "Bearer"),
    ],
)
async def test_an_unknown_desk_is_told_so_and_nothing_else(centre, metric, key, scheme):
    """401, whatever it presents: no token is looked at."""
    right = await centre.desk("ann", "*")
    if key == "revoked":
        assert await desks.revoke(centre.store, "ann", now_ms=centre.clock()) == 1
        key = right
    _, token = await transferred(centre)
    before = await centre.store.head()
    sent = key.replace("{key}", right) if key is not None else None

    assert await asked(centre, b'{"token": "%s"}' % token.encode(), sent, scheme) == (
        401,
        {"error": "invalid_client"},
    )
    assert await metric(centre, 'ivrguard_redemptions_total{outcome="unknown_desk"}') == 1
    assert await centre.store.head() == before


async def test_a_key_in_bytes_that_are_no_text(centre, over_a_socket):
    """Not even UTF-8: an unknown desk, not a fault."""
    request = b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    got = await over_a_socket(
        centre.guard_url, request + b"Authorization: Bearer \xff\xfe\r\nContent-Length: 0\r\n\r\n"
    )
    assert got.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff",
        b"[]",
        b"{}",
        b'{"token": 12345678}',
        b'{"token": null}',
        b'{"token": "short"}',
        b'{"token": "%s"}' % (b"x" * 65),
        b'{"token": "12345678", "call_sid": "CA1"}',
        b'{"token": "12345678", "call_sid": "ca00000000000000000000000000000000"}',
        b'{"token": "12345678", "more": 1}',
        b'{"token": "\\ud800\\ud800\\ud800\\ud800\\ud800\\ud800\\ud800\\ud800"}',
        b'{"token": "12345678"}' + b" " * 70_000,
    ],
    ids=lambda body: repr(body[:60]),
)
async def test_what_is_not_such_json_is_400(centre, body):
    """With what to mend, and without a word of what came."""
    key = await centre.desk("ann", "*")
    before = await centre.store.head()
    status, answer = await asked(centre, body, key)

    assert (status, answer) == (
        400,
        {"error": "invalid_request", "mend": 'send {"token": "…", "call_sid": "CA…"} as JSON'},
    )
    assert await centre.store.head() == before


@pytest.mark.parametrize("token", ["1234567 8", "ÄÖÜäöüßß", "🂡" * 10, "12345678", "CA" + "0" * 32, "CA" * 13])
async def test_a_token_of_any_spelling_is_only_a_bad_one(centre, token):
    """Nothing that can be written in JSON makes it stumble."""
    key = await centre.desk("ann", "*")
    assert await centre.redeem(key, token) == REFUSED


async def test_a_token_is_read_as_people_type_it(centre):
    """Blanks around it and small letters do no harm; `bearer` neither."""
    key = await centre.desk("ann", "workflow:*")
    _, token = await transferred(centre)
    status, _ = await asked(centre, b'{"token": "  %s "}' % token.lower().encode(), f" {key} ", "bearer")
    assert status == 201


async def test_only_digests_of_tokens_are_kept(centre):
    """Also of a token that happens to begin with the letters of a CallSid."""
    legs = (f"{number:032x}" for number in range(100_000))
    leg = next(each for each in legs if books.token_of(centre.keyring, each).startswith("CA"))
    token = books.token_of(centre.keyring, leg)
    name = books.alias_key(centre.keyring, token)

    assert name is not None
    assert name.id.startswith("token:")
    assert token not in name.id
    assert books.alias_key(centre.keyring, "CA" + "0" * 32) == Key("alias", "call:CA" + "0" * 32)


async def test_guessing_desks_are_stopped(centre):
    """Twenty bad ones in an hour, and the desk itself is locked: then not even a good one counts."""
    key = await centre.desk("ann", "*")
    _, token = await transferred(centre)
    for guess in range(20):
        assert await centre.redeem(key, f"{guess:08}") == REFUSED
    assert await centre.redeem(key, token) == REFUSED
    assert await last_entry(centre) == ("authn_token_refused", "desk_locked")
    other = await centre.desk("bob", "*")
    assert (await centre.redeem(other, token))[0] == 201


async def test_when_the_store_is_down_a_desk_may_try_again(start, agents_flow, logged):
    """503, one line for the operator; the token is not spent. The record says for itself that it was not signed."""

    class Flaky(MemoryStore):
        down = ""

        async def amend(self, keys, change):
            if self.down == "amend":
                await self.close()
            return await super().amend(keys, change)

    store = Flaky()
    async with start(agents_flow, store=store) as centre:
        key = await centre.desk("ann", "*")
        store.down = "amend"
        assert await centre.redeem(key, "12345678") == (503, {"error": "temporarily_unavailable"})
        assert await centre.redeem(key, "12345678") == (503, {"error": "temporarily_unavailable"})
    # What the server does by itself meanwhile (signing, counting, following) tells for itself that the store is away.
    assert [line["reason"] for line in logged if line["event"] == "fault"] == ["store"] * 2


async def test_other_methods_are_not_for_tokens(centre):
    """GET would put it into a URL."""
    async with centre.session.get(centre.guard_url + PATH) as answer:
        assert answer.status == 405
