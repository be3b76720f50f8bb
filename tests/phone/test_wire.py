"""One webhook, as Twilio sends it, against real sockets; twilio's own validator judges the signatures."""

import asyncio
import socket

import aiohttp
import pytest
from aiohttp import web

from ivrguard.phone.wire import (
    DOCUMENT_BYTES_MAX,
    REDIRECTS_MAX,
    Account,
    FetchError,
    Overrides,
    Wire,
)


def standard(method):
    """Parameters that every request of this leg carries."""
    return (("CallSid", "CA1"), ("Blank", "")) + ((("CallToken", "t"),) if method == "POST" else ())


@pytest.fixture
def account(session):
    return Account(session, "AC" + "0" * 32, "a-token-of-the-test")


@pytest.fixture
async def wire(account):
    return Wire(account)


def redirect_to(location, status):
    async def handler(request):
        return web.Response(status=status, headers={"Location": location})

    return handler


# ---- what goes out


async def test_a_post_is_a_signed_form(wire, webhooks):
    """The URL, the sorted fields, blanks included, HMAC-SHA1 (https://www.twilio.com/docs/usage/security)."""
    webhooks.documents["/voice"] = "<Hangup/>"

    url, answer = await wire.fetch(
        "voice", "POST", f"{webhooks.origin}/voice?a=1&b=%2B", standard, (("Digits", "12"),)
    )

    [got] = webhooks.got
    assert got.signed
    assert got.method == "POST"
    assert dict(got.params) == {"CallSid": "CA1", "Blank": "", "CallToken": "t", "Digits": "12"}
    assert url == f"{webhooks.origin}/voice?a=1&b=%2B"
    assert answer.text == "<Response><Hangup/></Response>"
    assert answer.content_type == "text/xml; charset=utf-8"


@pytest.mark.parametrize("query", ["", "?a=1"])
async def test_a_get_has_its_parameters_in_the_query(wire, webhooks, query):
    """Twilio appends its parameters to your own query with `&` and signs the URL alone."""
    webhooks.documents["/voice"] = ""

    url, _ = await wire.fetch("voice", "GET", f"{webhooks.origin}/voice{query}", standard)

    [got] = webhooks.got
    assert got.signed
    assert got.params["CallSid"] == "CA1"
    assert "CallToken" not in got.params
    assert url == f"{webhooks.origin}/voice{query}"


async def test_a_sound_is_fetched_without_parameters(wire, webhooks):
    """`<Play>`: a plain GET, cached by whoever likes; nothing about the call is in its URL."""
    webhooks.documents["/hello.mp3"] = ""

    await wire.fetch("media", "GET", f"{webhooks.origin}/hello.mp3", lambda _: ())

    assert [(got.method, dict(got.params)) for got in webhooks.got] == [("GET", {})]


async def test_the_headers_are_those_of_twilio(wire, webhooks):
    """As somleng imitates them; no Accept-Encoding, and a token that tells retries apart."""
    webhooks.documents["/voice"] = ""

    await wire.fetch("voice", "POST", f"{webhooks.origin}/voice", standard)

    headers = webhooks.got[0].headers
    assert headers["User-Agent"] == "TwilioProxy/1.1"
    assert headers["Content-Type"] == "application/x-www-form-urlencoded; charset=utf-8"
    assert headers["Accept"] == "text/xml, application/xml, text/html"
    assert len(headers["I-Twilio-Idempotency-Token"]) == 32
    assert "Accept-Encoding" not in headers


async def test_a_public_name_may_listen_elsewhere(webhooks, session):
    """`routes`: signed and resolved by the public name, sent to where it really listens."""
    webhooks.public = "https://guard.example"
    webhooks.documents["/voice"] = ""
    account = Account(session, "AC1", "a-token-of-the-test", routes={webhooks.public: webhooks.origin})
    wire = Wire(account)

    url, _ = await wire.fetch("voice", "POST", "https://guard.example/voice", standard)

    assert webhooks.got[0].signed
    assert webhooks.got[0].headers["Host"] == "guard.example"
    assert url == "https://guard.example/voice"


async def test_cookies_are_kept_per_leg(account, webhooks):
    """Twilio: "accepts HTTP cookies and will include them in each request, just like a normal web browser"."""

    async def sets(request):
        response = web.Response()
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        return response

    webhooks.documents["/voice"] = sets
    first, second = Wire(account), Wire(account)
    for wire in (first, first, second):
        await wire.fetch("voice", "POST", f"{webhooks.origin}/voice", standard)

    assert [got.headers.get("Cookie") for got in webhooks.got] == [None, "one=1; two=2", None]


async def test_a_session_with_cookies_of_its_own_is_refused():
    """It would mix the cookies of all calls."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ValueError, match="DummyCookieJar"):
            Account(session, "AC1", "t")


async def test_the_token_is_in_no_repr(account):
    """Nobody learns a secret from a repr."""
    assert "a-token" not in repr(account)


# ---- redirects


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_is_a_get_without_the_event(wire, webhooks, status):
    """Twilio: "After 301/302 the next request is a GET without the event parameters", relative to the answer's URL."""
    webhooks.documents |= {"/a/voice": redirect_to("next?x=1#f", status), "/a/next": "<Leave/>"}

    url, answer = await wire.fetch(
        "voice", "POST", f"{webhooks.origin}/a/voice", standard, (("Digits", "12"),)
    )

    followed = webhooks.got[1]
    assert followed.method == "GET"
    assert dict(followed.params) == {"x": "1", "CallSid": "CA1", "Blank": ""}
    assert followed.signed
    assert url == f"{webhooks.origin}/a/next?x=1"
    assert answer.status == 200


@pytest.mark.parametrize("status", [307, 308])
async def test_a_307_is_the_same_request_again(wire, webhooks, status):
    """Not documented; seen in the field with the signature of the new URL."""
    webhooks.documents |= {"/voice": redirect_to("/next", status), "/next": ""}

    await wire.fetch("voice", "POST", f"{webhooks.origin}/voice", standard, (("Digits", "12"),))

    followed = webhooks.got[1]
    assert (followed.method, followed.params["Digits"], followed.signed) == ("POST", "12", True)


async def test_the_eleventh_redirect_is_an_error(wire, webhooks):
    """HTTP redirects are followed, ten at most, then 11215."""
    webhooks.documents["/voice"] = redirect_to("/voice", 302)

    with pytest.raises(FetchError) as failure:
        await wire.fetch("voice", "POST", f"{webhooks.origin}/voice", standard)

    assert failure.value.code == 11215
    assert len(wire.requests) == REDIRECTS_MAX + 1


# ---- failures and retries


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.parametrize(
    ("fragment", "attempts"), [("", 2), ("#rc=0", 1), ("#rc=3", 4), ("#rc=3&rp=5xx", 1), ("#rc=9&rp=all", 6)]
)
async def test_a_connection_that_fails_is_tried_again(wire, fragment, attempts):
    """`rc`: one retry by default, five at most; `rp`: by default only when the connection fails (`ct`)."""
    with pytest.raises(FetchError) as failure:
        await wire.fetch("voice", "POST", f"http://127.0.0.1:{closed_port()}/{fragment}", standard)

    tokens = {dict(each.headers)["I-Twilio-Idempotency-Token"] for each in wire.requests}
    assert failure.value.code == 11205
    assert failure.value.status == 0
    assert len(wire.requests) == attempts
    assert len(tokens) == 1
    assert {each.status for each in wire.requests} == {0}
    assert wire.requests[0].body == ""


@pytest.mark.parametrize(
    ("fragment", "status", "attempts"),
    [("", 500, 1), ("#rp=5xx", 500, 2), ("#rp=4xx", 500, 1), ("#rp=ct,4xx&rc=2", 404, 3), ("", 300, 1)],
)
async def test_an_error_answer_is_not_tried_again_unless_asked(wire, webhooks, fragment, status, attempts):
    """Only `rp` retries on a status; the failure is 11200 and carries the answer."""
    webhooks.documents["/voice"] = redirect_to("", status)

    with pytest.raises(FetchError) as failure:
        await wire.fetch("voice", "POST", f"{webhooks.origin}/voice{fragment}", standard)

    assert (failure.value.code, failure.value.status) == (11200, status)
    assert len(webhooks.got) == attempts


@pytest.mark.parametrize(
    ("fragment", "attempts"), [("#rt=100", 1), ("#rt=100&rp=rt&rc=2", 3), ("#tt=100&rp=all", 1)]
)
async def test_a_slow_answer_fails(wire, webhooks, fragment, attempts):
    """`rt`: read timeout; `tt`: all attempts together."""
    held = asyncio.Event()

    async def hold(request):
        await held.wait()
        return web.Response()

    webhooks.documents["/voice"] = hold
    with pytest.raises(FetchError) as failure:
        await wire.fetch("voice", "POST", f"{webhooks.origin}/voice{fragment}", standard)
    held.set()

    assert failure.value.code == 11200
    assert [each.status for each in wire.requests] == [0] * attempts


async def test_a_partial_answer_is_never_tried_again(wire, webhooks):
    """No retry on a partial response, whatever `rp` says."""

    async def breaks(request):
        response = web.StreamResponse(headers={"Content-Length": "100", "Content-Type": "text/xml"})
        await response.prepare(request)
        await response.write(b"<Response>")
        request.transport.close()
        return response

    webhooks.documents["/voice"] = breaks
    with pytest.raises(FetchError) as failure:
        await wire.fetch("voice", "POST", f"{webhooks.origin}/voice#rp=all&rc=5", standard)

    assert failure.value.code == 11200
    assert len(webhooks.got) == 1


@pytest.mark.parametrize(
    "url", ["ftp://x/", "http://under_score.example/", "http://x/a b", "//x", "http://[x/"]
)
async def test_what_is_no_webhook_url_is_not_tried(wire, url):
    """11100: hostnames must not contain underscores; a URL is absolute http(s) of printable ASCII."""
    with pytest.raises(FetchError) as failure:
        await wire.fetch("voice", "POST", url, standard)

    assert failure.value.code == 11100
    assert wire.requests == []


async def test_a_long_answer_is_cut(wire, webhooks):
    """More than 64 kB is never read to the end."""
    webhooks.documents["/voice"] = "x" * (4 * DOCUMENT_BYTES_MAX)

    _, answer = await wire.fetch("voice", "POST", f"{webhooks.origin}/voice", standard)

    assert DOCUMENT_BYTES_MAX < len(answer.body) < 2 * DOCUMENT_BYTES_MAX


@pytest.mark.parametrize(
    ("fragment", "read"),
    [
        ("", (5.0, 15.0, 15.0, 1, {"ct"})),
        ("ct=100&rt=200&tt=300&rc=5&rp=4xx,rt", (0.1, 0.2, 0.3, 5, {"4xx", "rt"})),
        ("ct=1&rt=99999&tt=x&rc=77", (0.1, 15.0, 15.0, 5, {"ct"})),
    ],
)
def test_connection_overrides_stay_in_their_ranges(fragment, read):
    """https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides ."""
    overrides = Overrides.of(fragment, 15.0)

    assert read == (
        overrides.connect_s,
        overrides.read_s,
        overrides.total_s,
        overrides.retries,
        overrides.retry_on,
    )


# ---- for tests of servers


async def test_a_request_is_kept_with_its_answer(wire, webhooks):
    """What was sent can be looked at, but shows no keys in a repr."""
    webhooks.documents["/voice"] = "<Leave/>"

    await wire.fetch("voice", "POST", f"{webhooks.origin}/voice", standard, (("Digits", "31337"),))

    [request] = wire.requests
    assert request.status == 200
    assert request.body == "<Response><Leave/></Response>"
    assert request.param("Digits") == "31337"
    assert request.param("Nothing") is None
    assert "31337" not in repr(request)


async def test_a_request_is_repeated_byte_for_byte(wire, webhooks):
    """The same signature, token, cookies and body: a redelivery that nothing can tell from the first."""
    webhooks.documents["/voice"] = "<Leave/>"
    await wire.fetch("voice", "POST", f"{webhooks.origin}/voice", standard, (("Digits", "1"),))

    answer = await wire.repeat(wire.requests[0])

    assert answer.status == 200
    assert webhooks.got[0] == webhooks.got[1]
    assert len(wire.requests) == 1


async def test_every_request_may_go_out_twice_at_once(wire, webhooks):
    """Both are under way at the same moment; the answer to the second is kept as the twin."""
    both = asyncio.Barrier(2)

    async def meet(request):
        return web.Response(text=str(await both.wait()))

    webhooks.documents["/voice"] = meet
    wire.twice = True
    _, answer = await wire.fetch("voice", "POST", f"{webhooks.origin}/voice", standard)

    [request] = wire.requests
    assert {answer.text, request.twin.text} == {"0", "1"}


async def test_a_twin_that_fails_is_no_answer(wire):
    """When both fail there is neither answer nor twin, and the failure is the first one's."""
    wire.twice = True
    with pytest.raises(FetchError):
        await wire.fetch("voice", "POST", f"http://127.0.0.1:{closed_port()}/#rc=0", standard)

    [request] = wire.requests
    assert (request.answer, request.twin) == (None, None)
