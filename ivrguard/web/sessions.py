"""
The browser's half of a session: its cookie, and how a request shows that our own page made it.

The laws of this file:

1. **The cookie** is `__Host-ivrguard`: 256 bits of chance and nothing else. `__Host-` means Secure, Path=/ and no Domain, so that
   neither plain http nor a neighbour under the same domain can plant one (RFC 6265bis, 4.1.3.2). HttpOnly: no script reads it.
   On http://localhost and 127.0.0.1 it works all the same, as browsers take these for secure; it is never sent without Secure.
2. **SameSite=Lax**, not Strict: whoever comes from the identity provider, or follows a link of an alert, arrives by a navigation
   from another site, and with Strict he would seem logged out. Nothing is changed by a GET, so Lax gives nothing away. Where pages may
   be embedded in others' (a CRM, Flex), it is SameSite=None and Partitioned (CHIPS): kept apart for each site that embeds them.
3. **A request that changes something** is believed only if it comes from our own origin (`Sec-Fetch-Site`, `Origin`) *and* has the
   session's token (`X-CSRF-Token`, or the field `csrf` of a form). The token is made of the session's secret, so one session's is
   no good in another, and whoever reads a page of ours has no session (OWASP CSRF Prevention Cheat Sheet).
"""

import base64
import hmac
from urllib.parse import urlsplit

from aiohttp import web

COOKIE = "__Host-ivrguard"
SECRET_CHARS = 43
"""32 bytes in base64url."""
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORM = "application/x-www-form-urlencoded"


def new_secret(chance: bytes) -> str:
    """32 bytes of chance as a cookie's value."""
    return base64.urlsafe_b64encode(chance).rstrip(b"=").decode()


def secret_of(request: web.Request, cookie: str = COOKIE) -> str:
    """The secret that a request's cookie holds; "" if there is none, or none of its form."""
    text = request.cookies.get(cookie, "")
    return text if len(text) == SECRET_CHARS and text.isascii() and text.isprintable() else ""


def set_cookie(
    response: web.StreamResponse,
    value: str,
    *,
    cookie: str = COOKIE,
    embedded: bool = False,
    age_s: int | None = None,
) -> None:
    """Give a cookie as law 1 and 2 want it. `age_s`: None until the browser is closed."""
    site = "None; Partitioned" if embedded else "Lax"
    age = "" if age_s is None else f"; Max-Age={age_s}"
    response.headers.add("Set-Cookie", f"{cookie}={value}; Path=/; Secure; HttpOnly; SameSite={site}{age}")


def csrf_of(secret: str) -> str:
    """The token that forms and scripts of this session send along."""
    return new_secret(hmac.digest(secret.encode(), b"ivrguard csrf", "sha256"))


def from_ourselves(request: web.Request, public_url: str) -> bool:
    """
    Whether a page of our own origin made this request: each header that a browser sends must say so, and one must be there.

    The origin is that of `public_url`, or whatever host was asked for (a guard on loopback is reached by its own name).
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is None and origin is None:
        return False
    return site in {None, "same-origin"} and (origin is None or _is_own(origin, request, public_url))


def _is_own(origin: str, request: web.Request, public_url: str) -> bool:
    if origin == public_url:
        return True
    parts = urlsplit(origin)
    return parts.scheme in {"http", "https"} and parts.netloc != "" and parts.netloc == request.host


async def shown(request: web.Request, secret: str, public_url: str) -> bool:
    """Whether a request may change something in the name of this session: law 3."""
    if request.method in SAFE_METHODS:
        return True
    if not from_ourselves(request, public_url):
        return False
    token = request.headers.get(CSRF_HEADER)
    if token is None and request.content_type == FORM:
        field = (await request.post()).get(CSRF_FIELD)
        token = field if isinstance(field, str) else None
    return token is not None and hmac.compare_digest(token.encode(), csrf_of(secret).encode())
