"""
The caller's request as the IVR shall get it, and what its replies ask for.

The laws of this file: a request is handed on as it came (its own URL, method and parameters, and no other); a redirect
becomes a request of its own, as Twilio would make it; what is held up is kept whole.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode, urlsplit

from ivrguard.core.call import Call
from ivrguard.ports import Reply, Request
from ivrguard.telephony.delivery import Delivery
from ivrguard.telephony.links import Inward, Kind, Links, Refused, resolve

INSUFFICIENT = "insufficient_user_authentication"
PARAMETER = re.compile(r"""([A-Za-z_]+)\s*=\s*(?:"([^"\\]*)"|([!#$%&'*+.^`|~\w-]+))""", re.ASCII)
"""A parameter of a challenge: its value is quoted or a token, and a reader takes both (RFC 9110, 11.2)."""
MAX_AGE_DIGITS = 9
FORM = "application/x-www-form-urlencoded"

_ABOUT_THE_CALL = re.compile(
    r"AccountSid|(?:Parent)?CallSid|CallStatus|CallerName|ApiVersion|Direction|ForwardedFrom|Stir[A-Za-z]+"
    r"|Sip(?:Domain(?:Sid)?|Username|CallId|SourceIp|Header_.+)"
    r"|(?:From|To|Caller|Called)(?:City|State|Zip|Country)?"
)
"""
Parameters that come with every request about a call, whatever happened in it
(https://www.twilio.com/docs/voice/twiml#request-parameters).
"""


@dataclass(frozen=True, slots=True)
class Hook:
    """
    One webhook of a caller's leg: authenticated, well shaped, not yet looked up.

    `target`: path and query as received. `nonce`: which of the guard's own questions it answers; None when it
    asks something of the IVR. `led`: which of the documents that the IVR gave by REST it asks for (guard/side_door.py).
    `fingerprint`: under the current naming key; `older_fingerprints`: under each of the others, by its id.
    """

    delivery: Delivery
    method: str
    target: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...]
    fingerprint: str
    nonce: str | None = None
    content_type: str = FORM
    led: str | None = None
    older_fingerprints: Mapping[str, str] = field(default_factory=dict)

    def of(self, call: Call) -> "Hook":
        """The same, with the fingerprint under the naming key that the call began with."""
        return replace(self, fingerprint=self.older_fingerprints.get(call.naming, self.fingerprint))


@contextmanager
def about(url: str) -> Iterator[None]:
    """What is refused of the document at `url` says so by its path: whoever mends the IVR needs to know."""
    try:
        yield
    except Refused as refused:
        raise refused.at(urlsplit(url).path) from None


def incoming(hook: Hook, inward: Inward) -> Request:
    """The provider's request as the IVR shall get it: its own URL and method, the same parameters."""
    method, params = inward.method or hook.method, hook.delivery.params
    if hook.method == "POST":
        return Request(method, inward.url, params, hook.body, hook.content_type, hook.headers)
    url, query = _parted(inward.url)
    return Request(method, url, params, query, headers=hook.headers)


def meant(inward: Inward, request: Request) -> Request:
    """`request` at the URL and with the method that the IVR wrote into its document; the same parameters."""
    return replace(request, method=inward.method or request.method, url=inward.url)


def led_on(links: Links, request: Request, reply: Reply) -> tuple[Inward, Request]:
    """
    Where a redirect of the IVR leads, as a request of its own.

    301, 302, 303 make it a GET without what the caller did
    (https://www.twilio.com/docs/usage/troubleshooting/debugging-your-application). Raises `Refused` for an origin
    that is not listed.
    """
    url = resolve(reply.url, reply.location or "")
    parts = urlsplit(links.outward(url, kind=Kind.T, method="GET", turn=0))
    inward = links.inward(f"{parts.path}?{parts.query}")
    if reply.status in {307, 308}:
        return inward, replace(request, url=inward.url)
    kept = tuple(one for one in request.params if _ABOUT_THE_CALL.fullmatch(one[0]))
    return inward, Request("GET", inward.url, kept, urlencode(kept).encode(), headers=request.headers)


def _parted(url: str) -> tuple[str, bytes]:
    """The URL that was asked by GET, and the parameters that the provider put behind its query."""
    start, _, query = url.partition("?")
    pieces = query.split("&")
    names = [piece.partition("=")[0] for piece in pieces]
    own = next((n for n, name in enumerate(names) if _ABOUT_THE_CALL.fullmatch(name)), len(pieces))
    mark = "?" if own else ""
    return f"{start}{mark}{'&'.join(pieces[:own])}", "&".join(pieces[own:]).encode()


def packed(request: Request) -> bytes:
    """A request that is held up, to be sealed."""
    body = request.body.decode("latin-1")
    parts = [request.method, request.url, request.params, body, request.content_type, request.headers]
    return json.dumps(parts).encode()


def unpacked(plain: bytes) -> Request:
    """The request that was packed."""
    method, url, params, body, content_type, headers = json.loads(plain)
    return Request(
        method,
        url,
        tuple((name, value) for name, value in params),
        body.encode("latin-1"),
        content_type,
        tuple((name, value) for name, value in headers),
    )


def asked_for_more(reply: Reply) -> tuple[tuple[str, ...], int | None] | None:
    """The `acr_values` and `max_age` of an RFC 9470 challenge; None if the reply is none."""
    if reply.status != 401 or not reply.challenge:
        return None
    scheme, _, rest = reply.challenge.strip().partition(" ")
    found = {name.lower(): quoted or token for name, quoted, token in PARAMETER.findall(rest)}
    if scheme.lower() != "bearer" or found.get("error") != INSUFFICIENT:
        return None
    max_age = found.get("max_age", "")
    whole = max_age.isascii() and max_age.isdigit() and len(max_age) <= MAX_AGE_DIGITS
    return tuple(found.get("acr_values", "").split()), int(max_age) if whole else None
