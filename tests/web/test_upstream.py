"""The IVR behind the guard: what reaches it, signed for it, and what its answers may be."""

import asyncio
import base64
import json
import time
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet
from twilio.request_validator import RequestValidator

from ivrguard.core.errors import UpstreamFault
from ivrguard.core.rules import Demand
from ivrguard.phone.heard import Asked, Said
from ivrguard.phone.rig import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL
from ivrguard.ports import Request
from ivrguard.telephony.links import Kind
from ivrguard.telephony.signature import sign
from ivrguard.web import upstream
from ivrguard.web.upstream import Upstream, carried

PIN = "24681357"
SUB_ACCOUNT = "AC" + "7b" * 16


# ── the caller's own request ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_held_up_by_a_question_is_sent_as_it_came(bank, ivr, provider_of, method):
    """
    Law 1: after identify and PIN the IVR gets the very request that began the call: its method, the order and
    bytes of its parameters, its headers and content type; signed for the IVR's own URL.
    """
    provider = provider_of(bank)
    odd = (("b", "2"), ("a", ""), ("Text", "ä & = + %41"), ("a", "again"))
    params = provider.params(CallStatus="ringing") + odd
    headers = {"User-Agent": "TwilioProxy/1.1", "I-Twilio-Idempotency-Token": "one", "X-Odd": "kept"}
    content_type = "application/x-www-form-urlencoded; charset=UTF-8"
    sent = {"headers": headers, "content_type": content_type, "method": method}
    asked = await provider.send("/?lang=en%2DUS", params, **sent)
    assert "account number" in asked.text
    assert ivr.seen == []
    for keys in ("123456", PIN):
        url = asked.text.partition('action="')[2].partition('"')[0]
        asked = await provider.send(url.removeprefix(PUBLIC_URL), provider.params(Digits=keys))

    (seen,) = ivr.seen
    assert (seen.method, seen.path, seen.signed) == (method, "/voice", True)
    wanted = {**headers} if method == "GET" else {**headers, "Content-Type": content_type}
    assert {name: seen.headers.get(name) for name in wanted} == wanted
    if method == "POST":
        assert seen.query == "lang=en%2DUS"
        assert parse_qsl(seen.body.decode(), keep_blank_values=True) == list(params)
    else:
        own, _, rest = seen.query.partition("&")
        assert (own, seen.body) == ("lang=en%2DUS", b"")
        assert parse_qsl(rest, keep_blank_values=True) == list(params)


async def test_the_bytes_of_a_form_are_not_written_anew(guarded, ivr, provider):
    """Two encodings of one form are two bodies: the IVR gets the one that Twilio made."""
    body = b"&".join(
        name.encode() + b"=" + "".join(f"%{byte:02X}" for byte in value.encode()).encode()
        for name, value in provider.params()
    )
    params = tuple(parse_qsl(body.decode()))
    signature = sign(AUTH_TOKEN, f"{PUBLIC_URL}/", params)
    got = await provider.send(body=body, signature=signature)

    assert (got.status, ivr.seen[0].body, ivr.seen[0].signed) == (200, body, True)


async def test_an_ivr_that_asks_by_get_is_asked_by_get(guarded, ivr):
    """
    The caller's keys come by POST and reach such an IVR as it wants them; they stand in no URL of the guard's,
    not even where the document leads back to itself.
    """
    ivr.documents["/voice"] = '<Gather method="GET" action="/menu?lang=en" numDigits="1"/>'
    ivr.documents["/menu"] = '<Gather method="GET" numDigits="1"><Say>Again.</Say></Gather>'
    line = guarded.call()
    await line.until_input()
    for keys in ("7", "8"):
        await line.press(keys)
        seen = ivr.seen[-1]
        assert (seen.method, seen.body, seen.signed) == ("GET", b"", True)
        assert seen.params["Digits"] == keys
        assert seen.query.startswith("lang=en&CallSid=")
        assert seen.query.count("Digits=") == 1

    assert not [each.url for each in line.requests if "Digits" in each.url or "From" in each.url]


async def test_a_number_that_is_asked_by_get_leads_on_without_its_parameters(guarded, ivr, provider):
    """The document's own URL is the one in the console, without what Twilio put behind it."""
    ivr.documents["/voice"] = "<Gather numDigits='1'/>"
    got = await provider.send("/?lang=en", provider.params(FromCity="X"), method="GET")
    assert f'action="{PUBLIC_URL}/voice?lang=en&amp;_ivrguard=' in got.text
    provider.sid = "CA" + "1" * 32
    got = await provider.send("/", method="GET")
    assert f'action="{PUBLIC_URL}/voice?_ivrguard=' in got.text


async def test_our_own_links_are_posted_to(guarded, ivr, provider, link_to):
    """What is put behind the query of one changes it: such a link is no longer ours."""
    got = await provider.send(link_to(guarded, "/menu?a=1", Kind.T), method="GET")

    assert (got.status, ivr.seen) == (200, [])
    assert "cannot take your call" in got.text


# ── headers ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_goes_on_and_what_stays():
    """Law 2: ours, another host's, and hop-by-hop (RFC 9110, 7.6.1) stay, those that Connection names too."""
    stays = {
        "X-Ivrguard-Assertion": "forged",
        "x-ivrguard-anything": "forged",
        "X-Forwarded-For": "1.2.3.4",
        "x-forwarded-host": "evil.example",
        "Forwarded": "for=1.2.3.4",
        "Host": "guard.example",
        "Cookie": "a=1",
        "Authorization": "Basic x",
        "Proxy-Authorization": "Basic x",
        "Connection": "keep-alive, X-Named",
        "X-Named": "hop",
        "Keep-Alive": "timeout=5",
        "Transfer-Encoding": "chunked",
        "TE": "trailers",
        "Trailer": "X",
        "Upgrade": "h2c",
        "Content-Length": "3",
        "Accept-Encoding": "br",
        "Expect": "100-continue",
        "X-Twilio-Signature": "theirs",
        "X-Twilio-Webhooks-Signature-Settings": "key=1",
    }
    goes = {"user-agent": "TwilioProxy/1.1", "i-twilio-idempotency-token": "one", "accept": "*/*"}

    assert carried([*stays.items(), *goes.items()]) == tuple(goes.items())


async def test_nothing_of_the_kind_reaches_the_ivr(guarded, ivr, provider):
    """The same over a socket: what somebody outside says of us is not what the IVR hears."""
    lies = {
        "X-Ivrguard-Assertion": "forged",
        "X-Ivrguard-Level": "two_factor",
        "X-Forwarded-For": "1.2.3.4",
        "X-Named": "hop",
        "Connection": "X-Named",
        "Cookie": "session=stolen",
    }
    await provider.send(headers=lies)

    headers = {name.lower(): value for name, value in ivr.seen[0].headers.items()}
    assert headers["x-ivrguard-assertion"].count(".") == 2
    assert "forged" not in headers.values()
    assert not {"x-ivrguard-level", "x-forwarded-for", "x-named", "cookie"} & headers.keys()
    assert headers["host"] == guarded.ivr_url.removeprefix("http://")


async def test_the_assertion_says_who_and_how_and_holds(bank, ivr, provider_of):
    """A JWT that any library checks with jwks.json; nobody's name before something is proved."""
    asked = bank.call()
    await asked.until_input()
    await asked.press("123456#")
    await asked.press(PIN)
    async with bank.session.get(f"{bank.guard_url}/.ivrguard/jwks.json") as answer:
        assert answer.headers["Content-Type"] == "application/jwk-set+json"
        jwks = await answer.json()
    assert "d" not in jwks["keys"][0]
    with pytest.warns(SecurityWarning, match="RFC 9864"):  # of the name, not of the algorithm
        token = jwt.decode(
            ivr.seen[0].headers["X-Ivrguard-Assertion"], KeySet.import_key_set(jwks), algorithms=["EdDSA"]
        )

    claims, now = token.claims, time.time()
    assert token.header["typ"] == "ivrguard-assertion+jwt"
    assert {name: claims[name] for name in ("iss", "aud", "sub", "acr", "amr", "call_sid", "intent")} == {
        "iss": PUBLIC_URL,
        "aud": bank.ivr_url,
        "sub": "123456",
        "acr": "one_factor",
        "amr": ["pin"],
        "call_sid": asked.call_sid,
        "intent": "",
    }
    assert claims["exp"] - claims["iat"] == 60
    assert 0 <= now - claims["auth_time"] < 60
    assert len(claims["jti"]) == 32


async def test_before_a_proof_the_assertion_names_nobody(start, bank_flow, ivr):
    """Who only claims an account is not its owner."""
    flow = replace(bank_flow, default=Demand(None), rules=())
    async with start(flow) as guarded:
        await guarded.call().until_input()
        payload = ivr.seen[0].headers["X-Ivrguard-Assertion"]
        claims = guarded.keyring.verify(
            payload,
            typ="ivrguard-assertion+jwt",
            iss=PUBLIC_URL,
            aud=guarded.ivr_url,
            now_ms=guarded.clock(),
        )
    assert claims["acr"] == "none"
    assert claims["amr"] == []
    assert not {"sub", "auth_time"} & claims.keys()


# ── signed for the IVR ───────────────────────────────────────────────────────────────────────────────────


async def test_the_ivr_may_have_a_token_of_its_own(start, open_flow, ivr, provider_of):
    """What the IVR checks with is a setting of its own; without it, the first token of the call's account."""
    tokens = {ACCOUNT_SID: (AUTH_TOKEN, "the next token of it"), SUB_ACCOUNT: ("the sub-account's one",)}
    table = [
        (None, ACCOUNT_SID, AUTH_TOKEN, AUTH_TOKEN),
        (None, ACCOUNT_SID, "the next token of it", AUTH_TOKEN),
        (None, SUB_ACCOUNT, "the sub-account's one", "the sub-account's one"),
        ("the IVR's very own one", SUB_ACCOUNT, "the sub-account's one", "the IVR's very own one"),
    ]
    for own, account, token, expected in table:
        ivr.token, ivr.seen = expected, []
        async with start(open_flow, extra={"tokens": tokens, "upstream_token": own}) as guarded:
            provider = provider_of(guarded)
            await provider.send(params=provider.params(AccountSid=account), token=token)
            ivr.documents["/next"] = web.Response(status=302, headers={"Location": "/voice"})
            provider.sid = "CA" + "5" * 32
            await provider.send("/next", provider.params(AccountSid=account), token=token)
        assert [(own, seen.path, seen.signed) for seen in ivr.seen] == [
            (own, path, True) for path in ("/voice", "/next", "/voice")
        ]


async def test_twilios_own_validator_believes_us(guarded, ivr, provider):
    """Over the IVR's URL with port and query, blank and doubled parameters included."""
    params = (*provider.params(Digits=""), ("Empty", ""), ("Extra", "1"))
    await provider.send("/voice?a=1&b=%20x", params)

    seen = ivr.seen[0]
    url = f"{guarded.ivr_url}/voice?a=1&b=%20x"
    assert RequestValidator(AUTH_TOKEN).validate(url, seen.params, seen.headers["X-Twilio-Signature"])
    assert not RequestValidator("another").validate(url, seen.params, seen.headers["X-Twilio-Signature"])


# ── redirects ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "method", "keys"),
    [
        (301, "GET", None),
        (302, "GET", None),
        (303, "GET", None),
        (307, "POST", "5"),
        (308, "POST", "5"),
    ],
)
async def test_redirects_are_followed_here(guarded, ivr, provider, status, method, keys):
    """Law 3, as Twilio does it: a GET about the call without what the caller did, or the same request again."""
    ivr.documents["/choose"] = web.Response(status=status, headers={"Location": "voice?from=there"})
    got = await provider.send("/choose", provider.params(Digits="5", SpeechResult="x"))

    seen = ivr.seen[-1]
    assert (got.status, seen.method, seen.path, seen.signed) == (200, method, "/voice", True)
    assert seen.query.startswith("from=there")
    assert seen.params["CallSid"] == provider.sid
    assert (seen.params.get("Digits"), seen.params.get("SpeechResult")) == (keys, keys and "x")
    assert seen.headers["X-Ivrguard-Assertion"].count(".") == 2


async def test_links_rest_on_the_last_url(guarded, ivr, provider):
    """Relative to the document that was delivered in the end, without the parameters of its request."""
    ivr.documents["/a/choose"] = web.Response(status=302, headers={"Location": "/b/c/voice"})
    ivr.documents["/b/c/voice"] = '<Redirect>next</Redirect><Gather action=""/>'
    got = await provider.send("/a/choose")

    assert f">{PUBLIC_URL}/b/c/next?_ivrguard=" in got.text
    assert f'action="{PUBLIC_URL}/b/c/voice?_ivrguard=' in got.text


# ── cookies ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_ivrs_cookies_are_kept_per_call(guarded, ivr):
    """Set, by path, replaced, taken away; two calls do not share them, and the provider sees none."""

    def with_cookies(*cookies: str, inside: str = '<Gather action="/a/b" numDigits="1"/>') -> web.Response:
        answer = web.Response(text=f"<Response>{inside}</Response>", content_type="text/xml")
        for cookie in cookies:
            answer.headers.add("Set-Cookie", cookie)
        return answer

    ivr.documents["/voice"] = with_cookies(
        'sid="a\\054b"; HttpOnly', "deep=1; Path=/a", "else=1; Path=/other", "gone=1", "none=", "a@b=1"
    )
    ivr.documents["/a/b"] = with_cookies(
        "gone=x; Max-Age=0", "sid=2; Path=/", inside="<Redirect>/a/c</Redirect>"
    )
    ivr.documents["/a/c"] = with_cookies(
        "sid=; Path=/", "deep=; Path=/a; Max-Age=-1", inside="<Redirect>/end</Redirect>"
    )
    ivr.documents["/end"] = "<Say>Done.</Say>"
    line = guarded.call()
    await line.until_input()
    await line.press("1")
    other = guarded.call("+15551230002")
    await other.until_input()

    sent = [(seen.path, seen.headers.get("Cookie")) for seen in ivr.seen]
    assert sent == [
        ("/voice", None),
        ("/a/b", 'deep=1; sid="a\\054b"; gone=1'),
        ("/a/c", "deep=1; sid=2"),
        ("/end", None),
        ("/voice", None),
    ]
    assert not [name for each in line.requests for name, _ in each.headers if name == "Cookie"]


async def test_there_are_only_so_many_cookies(guarded, ivr):
    """An IVR that sets a new one each time does not make the call's value grow without end."""

    async def sets(request: web.Request) -> web.Response:
        answer = web.Response(text="<Response><Redirect>/end</Redirect></Response>", content_type="text/xml")
        for n in range(upstream.COOKIES_MAX + 5):
            answer.headers.add("Set-Cookie", f"c{n}=1")
        answer.headers.add("Set-Cookie", "c0=2")
        return answer

    ivr.documents["/voice"] = sets
    ivr.documents["/end"] = ""
    await guarded.call().until_input()

    cookies = ivr.seen[-1].headers["Cookie"].split("; ")
    assert (len(cookies), cookies[0]) == (upstream.COOKIES_MAX, "c0=2")


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def alone():
    """The IVR's client by itself."""
    made = Upstream(lambda _: "token")
    await made.open()
    yield made
    await made.close()


async def fetched(alone: Upstream, url: str, **changed: object):
    asked = {"assertion": "", "cookies": "", "deadline_s": 2.0, **changed}
    return await alone.fetch(Request("GET", url), **asked)


async def test_the_answer_is_given_back_as_it_is(alone, start, open_flow, ivr):
    """Status, type, body, challenge and place of a redirect; a `Location` of anything else means nothing."""
    async with start(open_flow) as guarded:
        ivr.documents["/a"] = web.Response(
            status=401, headers={"WWW-Authenticate": 'Bearer error="x"', "Location": "/b"}, body=b"no"
        )
        ivr.documents["/b"] = web.Response(status=307, headers={"Location": "/c"})
        reply = await fetched(alone, f"{guarded.ivr_url}/a")
        assert (reply.status, reply.body, reply.challenge, reply.location) == (
            401,
            b"no",
            'Bearer error="x"',
            None,
        )
        assert (await fetched(alone, f"{guarded.ivr_url}/b")).location == "/c"
        assert "X-Ivrguard-Assertion" not in ivr.seen[0].headers


@pytest.mark.parametrize(("size", "taken"), [(65_536, True), (65_537, False), (500_000, False)])
@pytest.mark.parametrize("chunks", [False, True])
async def test_an_answer_has_64_kb(alone, start, open_flow, ivr, size, taken, chunks):
    """Twilio's own limit (error 11750): to the byte, however it comes."""

    async def long(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for place in range(0, size, 10_000):
            await response.write(b"A" * min(10_000, size - place))
            for _ in range(20):  # let the other end have it before there is more
                await asyncio.sleep(0)
        return response

    ivr.documents["/a"] = long if chunks else web.Response(body=b"A" * size)
    async with start(open_flow) as guarded:
        if taken:
            assert len((await fetched(alone, f"{guarded.ivr_url}/a")).body) == size
        else:
            with pytest.raises(UpstreamFault, match="more than 64 kB"):
                await fetched(alone, f"{guarded.ivr_url}/a")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/voice", "127.0.0.1 cannot be reached (ClientConnectorError)"),
        ("http://nobody.invalid/voice", "nobody.invalid cannot be reached"),
    ],
)
async def test_an_ivr_that_is_not_there(alone, url, words):
    """A fault that names the host and the setting, and nothing that a caller keyed."""
    with pytest.raises(UpstreamFault) as fault:
        await fetched(alone, f"{url}?Digits=1234")

    assert words in str(fault.value)
    assert "1234" not in str(fault.value)


async def test_an_ivr_that_takes_its_time(alone, start, open_flow, ivr):
    """The deadline is for everything: the head, and a body that drips."""

    async def never(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def drips(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"A")
        await asyncio.Event().wait()
        return response

    ivr.documents |= {"/never": never, "/drips": drips}
    async with start(open_flow) as guarded:
        for path in ("/never", "/drips"):
            with pytest.raises(UpstreamFault, match=r"did not answer within 0\.05 s"):
                await fetched(alone, guarded.ivr_url + path, deadline_s=0.05)


async def test_connections_are_bounded_and_used_again(alone, start, open_flow, ivr, monkeypatch):
    """As many at once as the bound says; the next one waits its turn."""
    at_once, most = 0, 0

    async def counts(_: web.Request) -> web.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return web.Response(text="<Response/>", content_type="text/xml")

    ivr.documents["/a"] = counts
    monkeypatch.setattr(upstream, "CONNECTIONS_MAX", 2)
    few = Upstream(lambda _: "token")
    await few.open()
    async with start(open_flow) as guarded:
        replies = await asyncio.gather(*(fetched(few, f"{guarded.ivr_url}/a") for _ in range(20)))
    await few.close()

    assert [reply.status for reply in replies] == [200] * 20
    assert most <= 2


async def test_media_is_asked_for_as_twilio_asks(alone, start, open_flow, ivr):
    """A signed GET or HEAD for the thing itself, not packed, and no redirect followed behind our back."""
    ivr.token = "token"
    ivr.documents["/a.wav"] = web.Response(status=302, headers={"Location": "/b.wav"})
    async with start(open_flow) as guarded:
        for method in ("GET", "HEAD"):
            async with alone.media(method, f"{guarded.ivr_url}/a.wav?b=%20") as source:
                assert source.status == 302
    assert [(seen.method, seen.signed, seen.headers["Accept-Encoding"]) for seen in ivr.seen] == [
        ("GET", True, "identity"),
        ("HEAD", True, "identity"),
    ]


async def test_closing_lets_go(start, open_flow, ivr):
    """Twice is once, also before it was opened; afterwards nothing is sent."""
    made = Upstream(lambda _: "token")
    await made.close()
    await made.open()
    await made.close()
    await made.close()
    with pytest.raises((RuntimeError, UpstreamFault)):
        await fetched(made, "http://127.0.0.1:1/")


async def test_what_is_posted_may_be_no_form_and_is_never_put_in_a_query(alone, start, open_flow, ivr):
    """Only a form's fields can stand behind a GET's query; odd bytes are escaped there, escapes are kept."""
    table = [
        (Request("GET", "/a?x=1", body=b"Digits=%31&t=a+b"), "x=1&Digits=%31&t=a+b"),
        (Request("GET", "/a", body=b'q="\xc3\xa4#"'), "q=%22%C3%A4%23%22"),
        (Request("GET", "/a", body=b'{"a":1}', content_type="application/json"), ""),
        (Request("GET", "/a"), ""),
    ]
    ivr.token = "token"
    async with start(open_flow) as guarded:
        for request, query in table:
            asked = replace(request, url=guarded.ivr_url + request.url)
            await alone.fetch(asked, assertion="", cookies="", deadline_s=2)
            assert (ivr.seen[-1].query, ivr.seen[-1].signed) == (query, True)


# ── the IVR asks for more ────────────────────────────────────────────────────────────────────────────────


async def test_an_ivr_may_ask_for_more_and_gets_the_request_again(bank, ivr):
    """RFC 9470: a 401 `insufficient_user_authentication` names a level; then the same request, byte for byte."""
    challenge = 'Bearer error="insufficient_user_authentication", acr_values="gold two_factor", max_age="300"'

    async def wire(request: web.Request) -> web.Response:
        claims = json.loads(_payload(request.headers["X-Ivrguard-Assertion"]))
        if claims["acr"] != "two_factor":
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(text="<Response><Say>The wire.</Say></Response>", content_type="text/xml")

    ivr.documents["/voice"] = '<Gather action="/transfer?x=1" numDigits="1"/>'
    ivr.documents["/transfer"] = wire
    line = bank.call()
    await line.until_input()
    for keys in ("123456#", PIN, "4"):
        await line.press(keys)
    assert isinstance(line.waiting, Asked)
    await line.press(bank.carrier.code_for("+15551230001"))
    # It asked for nothing older than 300 s; both proofs are younger.
    assert [each.text for each in line.heard if isinstance(each, Said)][-1] == "The wire."

    first, again = [seen for seen in ivr.seen if seen.path == "/transfer"]
    assert (first.method, first.query, first.body) == (again.method, again.query, again.body)
    assert again.params["Digits"] == "4"
    volatile = {"X-Ivrguard-Assertion"}
    assert [one for one in first.headers.items() if one[0] not in volatile] == [
        one for one in again.headers.items() if one[0] not in volatile
    ]


def _payload(token: str) -> bytes:
    part = token.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
