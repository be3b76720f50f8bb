"""
The one door to the templates: pages and what they load, each with the headers that keep it alone.

The laws of this file:

1. **Nothing but ours.** A page loads its script, its style sheet and its own events from this server, and no other; nothing in it
   is inline (Content Security Policy Level 3, https://www.w3.org/TR/CSP3/ ; OWASP ASVS 5.0, 3.4).
2. **In nobody's frame** but those of the origins that an operator named.
3. Whatever is filled in is text: autoescape is on, and a name that a template does not get is a fault, not a blank.
4. A page is kept nowhere; what it loads is kept for ever, under a name that changes with what is in it.
5. Templates and files are read once, when the first server is made.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

STATIC = "/.ivrguard/console/static/"
HASH_CHARS = 12
FOR_EVER = "public, max-age=31536000, immutable"
TYPES: Mapping[str, str] = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Not `no-referrer`: with that a browser sends `Origin: null` with our own forms, and nobody could tell them from a stranger's."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages load: where, and what is in it."""

    path: str
    content_type: str
    body: bytes = field(repr=False)


@cache
def assets() -> Mapping[str, Asset]:
    """Every file of static/, by its name there."""
    found = {}
    for file in resources.files("ivrguard.web.console").joinpath("static").iterdir():
        stem, _, ending = file.name.rpartition(".")
        body = file.read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:HASH_CHARS]
        found[file.name] = Asset(f"{STATIC}{stem}.{digest}.{ending}", TYPES[ending], body)
    return found


@cache
def templates() -> Mapping[str, Template]:
    """Every page, compiled."""
    environment = Environment(
        loader=PackageLoader("ivrguard.web.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals["assets"] = {name: asset.path for name, asset in assets().items()}
    return {name: environment.get_template(name) for name in environment.list_templates()}


class Pages:
    """
    Renders pages, and serves what they load.

    `embedders`: the origins that may show them in a frame (`https://flex.twilio.com`); () for none.
    """

    def __init__(self, embedders: Sequence[str] = ()) -> None:
        self.embedders = tuple(embedders)
        frames = " ".join(self.embedders) or "'none'"
        policy = (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            f"frame-ancestors {frames}",
        )
        self._headers = {**HEADERS, "Content-Security-Policy": "; ".join(policy), "Cache-Control": "no-store"}
        self._templates = templates()
        self._by_path = {asset.path: asset for asset in assets().values()}

    def routes(self) -> list[web.RouteDef]:
        """Where pages load from."""
        return [web.get(f"{STATIC}{{name}}", self.asset)]

    def page(self, template: str, status: int = 200, **filled_in: object) -> web.Response:
        """A page, or a piece of one. Raises `jinja2.UndefinedError` for a name that the template wants and does not get."""
        text = self._templates[template].render(filled_in)
        return web.Response(
            status=status, text=text, content_type="text/html", charset="utf-8", headers=self._headers
        )

    def to(self, path: str) -> web.Response:
        """Go there, with a GET (303): what a form is answered, so that going back or loading anew sends nothing twice."""
        return web.Response(status=303, headers={**self._headers, "Location": path})

    async def asset(self, request: web.Request) -> web.Response:
        """A file, under the name that it has as it is now; 404 under any other one."""
        asset = self._by_path.get(request.path)
        if asset is None:
            return web.Response(status=404, headers=dict(HEADERS))
        headers = {**HEADERS, "Cache-Control": FOR_EVER, "Content-Type": asset.content_type}
        return web.Response(body=asset.body, headers=headers)
