"""A stub of an IVR: it says which path it was asked for, or what a story tells it to answer.

It stands in for an IVR that is not there, so that a flow's rules can be tried on the paths that they name.

Laws of this file
 1. What nothing was told of says its path. The first document then waits for keys; every other goes back to it, as
    most menus do.
 2. A caller who waits at a question of its own can be led to any path (`leads`).
 3. What was told is a document's verbs, as they are (https://www.twilio.com/docs/voice/twiml), for a path, or for a
    path and the keys that came to it. One that begins with a declaration (`<?xml`, `<!DOCTYPE`) is a whole document.
 4. It believes what Twilio signed, and nothing else, as an IVR should: twilio's own validator judges.
 5. All that reaches it is kept, so that a story can tell what never did.
"""

# mypy: disable-error-code="no-untyped-call"
# The twilio library has no types.

from dataclasses import dataclass, field
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from aiohttp import web
from multidict import MultiDict
from twilio.request_validator import RequestValidator

WAITS_S = 10
GOES_ON = "0"
"""The key that leads a caller to the path that he was told of."""


@dataclass(slots=True)
class Stub:
    """
    The stub: `app(auth_token)` is its IVR. `first`: the path of its first document.

    `unsigned`: paths of requests that it did not believe.
    """

    first: str = "/voice"
    unsigned: list[str] = field(default_factory=list)
    _answers: dict[tuple[str, str | None], str] = field(default_factory=dict)
    _seen: list[tuple[str, str]] = field(default_factory=list, repr=False)

    def answers(self, path: str, document: str, keys: str | None = None) -> None:
        """From now on `path` answers with these verbs; with `keys`: when just those were pressed."""
        self._answers[path, keys] = document

    def leads(self, asked: str, path: str) -> None:
        """From now on the key `GOES_ON` leads to `path`, at the question whose answer goes to the URL `asked`."""
        self.answers(urlsplit(asked).path, f"<Redirect>{escape(path)}</Redirect>", GOES_ON)

    def app(self, auth_token: str) -> web.Application:
        """The IVR as an application, for the account with that auth token."""
        validator = RequestValidator(auth_token)

        async def answer(request: web.Request) -> web.Response:
            form = MultiDict((name, str(value)) for name, value in (await request.post()).items())
            url = f"{request.scheme}://{request.host}{request.raw_path}"
            if not validator.validate(url, form, request.headers.get("X-Twilio-Signature", "")):
                self.unsigned.append(request.path)
                return web.Response(status=403)
            digits = (form or MultiDict(request.query)).get("Digits", "")
            self._seen.append((request.path, digits))
            document = self._document(request.path, digits)
            if not document.startswith(("<?", "<!")):
                document = f"<Response>{document}</Response>"
            return web.Response(text=document, content_type="text/xml")

        served = web.Application()
        served.router.add_route("*", "/{path:.*}", answer)
        return served

    def digits_seen(self) -> set[str]:
        """Every run of digits that any request brought as `Digits`."""
        return {digits for _, digits in self._seen if digits}

    def paths_seen(self) -> list[str]:
        """The paths of all requests, in order."""
        return [path for path, _ in self._seen]

    def _document(self, path: str, digits: str) -> str:
        told = self._answers.get((path, digits)) or self._answers.get((path, None))
        if told is not None:
            return told
        says = f"<Say>path {escape(path)}</Say>"
        if path == self.first:
            return f'<Gather timeout="{WAITS_S}">{says}</Gather>'
        return f"{says}<Redirect>{escape(self.first)}</Redirect>"
