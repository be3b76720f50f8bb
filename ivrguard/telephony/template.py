"""
A document of the IVR written once with blanks where its links stand, to be filled in again and again.

The laws of this file:

1. An IVR says the same to many callers. What changes from one to the next is the turn in each link, and its MAC: so
   a document that comes again is filled in, not rewritten.
2. Each link is still judged and signed each time by `Links.outward`; nothing of a MAC is kept.
3. Where the blanks cannot be found again without a doubt, there is no template.
"""

from dataclasses import dataclass, field

from ivrguard.telephony.links import Kind, Links

MARK = "\ue000"
"""Stands before and after a blank's number: for private use, so no text in any language holds it."""

_Blank = tuple[str, Kind, str]


@dataclass(frozen=True, slots=True)
class Blanks:
    """Stands in for `links` while a document is rewritten: puts blanks where links go, and remembers them."""

    links: Links
    blanks: list[_Blank] = field(default_factory=list)

    def outward(self, url: str, *, kind: Kind, method: str, turn: int) -> str:
        """A blank for this link; its turn comes later. Raises as `Links.outward`."""
        self.links.outward(url, kind=kind, method=method, turn=turn)
        self.blanks.append((url, kind, method))
        return f"{MARK}{len(self.blanks) - 1}{MARK}"

    def allowed_socket(self, url: str) -> bool:
        """See `Links.allowed_socket`."""
        return self.links.allowed_socket(url)

    def template(self, written: bytes) -> "Template | None":
        """The document with its blanks, ready to be filled in; None if it holds a mark of its own."""
        pieces = written.decode().split(MARK)
        if pieces[1::2] != [str(number) for number in range(len(self.blanks))]:
            return None
        return Template(self.links, tuple(pieces[::2]), tuple(self.blanks))


@dataclass(frozen=True, slots=True)
class Template:
    """A document's text between its links, and the links: URL, kind, method."""

    links: Links
    texts: tuple[str, ...] = field(repr=False)
    blanks: tuple[_Blank, ...] = field(repr=False)

    def filled(self, turn: int) -> bytes:
        """The document, its links written at this turn. Raises as `Links.outward`."""
        out = [self.texts[0]]
        for (url, kind, method), text in zip(self.blanks, self.texts[1:], strict=True):
            link = self.links.outward(url, kind=kind, method=method, turn=turn)
            out.append(link.replace("&", "&amp;"))  # of what XML would escape, a link holds nothing else
            out.append(text)
        return "".join(out).encode()
