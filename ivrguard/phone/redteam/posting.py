"""
Attacks by webhooks that Twilio did not send, or did not send so.

Laws of this file
 1. Each one carries the right answer to an open question: what would be taken shows as a proof.
 2. What is not signed is answered 403 with nothing in it; what is signed and not of a webhook's shape is answered, and
    decided by nobody.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from ivrguard.phone.exchange import Line
from ivrguard.phone.heard import Asked, Pairs
from ivrguard.phone.redteam.attack import Attack
from ivrguard.phone.redteam.ground import Ground
from ivrguard.phone.redteam.guessing import unprotected
from ivrguard.phone.rig import AUTH_TOKEN
from ivrguard.telephony.signature import sign

OTHER_ACCOUNT = "AC" + "0f" * 16
SIGNATURE = "X-Twilio-Signature"


@dataclass(frozen=True, slots=True)
class Forged:
    """One request. `signed`: Twilio's signature holds over it as it is sent."""

    name: str
    params: Pairs = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    method: str = "POST"
    signed: bool = False
    body: bytes | None = field(default=None, repr=False)


def _forged(url: str, sent: Pairs, right: str) -> Iterator[Forged]:
    """Every way to put `right` before the guard at `url` without Twilio's hand; `sent`: what Twilio sends along."""
    own = (*sent, ("Digits", right))
    wrong = (*sent, ("Digits", "0" * len(right)))
    path = urlsplit(url).path
    yield Forged("unsigned", own, {})
    yield Forged("with a blank signature", own, {SIGNATURE: ""})
    yield Forged("signed with another token", own, {SIGNATURE: sign("guessed", url, own)})
    yield Forged("signed with no token", own, {SIGNATURE: sign("", url, own)})
    yield Forged("with the signature of other digits", own, {SIGNATURE: sign(AUTH_TOKEN, url, wrong)})
    yield Forged("with the signature of no digits", own, {SIGNATURE: sign(AUTH_TOKEN, url, sent)})
    yield Forged("signed for another path", own, {SIGNATURE: sign(AUTH_TOKEN, f"{url}x", own)})
    for host in ("https://other.example", "http://guard.example", "https://guard.example.other.example"):
        elsewhere = {SIGNATURE: sign(AUTH_TOKEN, host + path, own)}
        yield Forged(f"signed for {host}", own, elsewhere)
        name = urlsplit(host).netloc
        proxied = elsewhere | {"X-Forwarded-Host": name, "X-Original-Host": name, "Forwarded": f"host={name}"}
        yield Forged(f"signed for {host}, which a header names", own, proxied)
    foreign = tuple((name, OTHER_ACCOUNT if name == "AccountSid" else value) for name, value in own)
    yield Forged("of another account", foreign, {SIGNATURE: sign(AUTH_TOKEN, url, foreign)})
    key = {"X-Twilio-Webhooks-Signature-Settings": "key=redteam,algorithm=HMAC_SHA1"}
    yield Forged("naming a key of its own", own, key | {SIGNATURE: sign(AUTH_TOKEN, url, own)})
    yield Forged("by GET", own, {SIGNATURE: sign(AUTH_TOKEN, url, own)}, "GET")
    yield Forged("by PUT", own, {SIGNATURE: sign(AUTH_TOKEN, url, own)}, "PUT")
    body = b'{"Digits": "' + right.encode() + b'"}'
    json = {SIGNATURE: sign(AUTH_TOKEN, url), "Content-Type": "application/json"}
    yield Forged("with a body of JSON", (), json, body=body)
    yield from _signed(url, sent, right)


def _signed(url: str, sent: Pairs, right: str) -> Iterator[Forged]:
    """What the signature cannot tell from what Twilio signed: it joins names and values with nothing between."""
    own = (*sent, ("Digits", right))
    for name, params in (
        ("with its digits twice", (*own, ("Digits", right))),
        ("with other digits before", (*sent, ("Digits", "0" * len(right)), ("Digits", right))),
        ("with its CallSid twice", (*own, next(pair for pair in sent if pair[0] == "CallSid"))),
        ("with a boundary moved into the name", (*sent, (f"Digits{right[0]}", right[1:]))),
        ("with a boundary moved into the value", (*sent, ("Digit", f"s{right}"))),
        ("with digits in another alphabet", (*sent, ("Digits", "".join(chr(0x660 + int(d)) for d in right)))),
        ("with a newline behind the digits", (*sent, ("Digits", f"{right}\n"))),
    ):
        yield Forged(name, params, {SIGNATURE: sign(AUTH_TOKEN, url, params)}, signed=True)


async def _post(ground: Ground) -> None:
    """Each forgery against a call of its own that waits for an answer, then against one that only began."""
    factor, way = await ground.first()
    sample: Sequence[Forged] = ()
    nth = 0
    while not nth or nth < len(sample):
        line = await ground.question(factor, way)
        assert isinstance(line.waiting, Asked)
        sent = _standing(line)
        sample = list(_forged(line.waiting.action, sent, await ground.right(factor)))
        await _tried(ground, line, sample[nth])
        await ground.leave(line)
        nth += 1


def _standing(line: Line) -> Pairs:
    """The parameters that Twilio sends with every webhook of this call."""
    last = line.requests[-1].params
    event = {"Digits", "FinishedOnKey", "msg"}
    return tuple(pair for pair in last if pair[0] not in event)


async def _tried(ground: Ground, line: Line, forged: Forged) -> None:
    assert isinstance(line.waiting, Asked)
    seen, before = len(ground.ivr.paths_seen()), await ground.state(line)
    url = line.waiting.action
    path = urlsplit(url)._replace(scheme="", netloc="").geturl()
    body = urlencode(forged.params).encode() if forged.body is None else forged.body
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Host": urlsplit(url).netloc,
    } | forged.headers
    if forged.method == "GET":
        path, body = f"{path}?{body.decode()}", b""
    async with ground.at.session.request(
        forged.method, ground.at.guard_url + path, data=body, headers=headers, allow_redirects=False
    ) as answer:
        status, said = answer.status, await answer.read()
    ground.tried["webhooks forged"] += 1
    after = await ground.state(line)
    if after.proofs != before.proofs or len(ground.ivr.paths_seen()) > seen:
        ground.through(f"a webhook {forged.name} was taken for the caller's")
    elif not forged.signed and (status not in (403, 404, 405) or (status == 403 and said)):
        ground.through(f"a webhook {forged.name} was answered {status} with {len(said)} bytes")


ATTACKS = (
    Attack(
        "forge-webhooks",
        "Post the right answer without Twilio: unsigned, signed for elsewhere, with parts moved or doubled",
        "field C: webhook forgery and replay; field A6; OWASP ASVS 5.0, 4.1; CWE-345",
        _post,
        unprotected,
    ),
)
