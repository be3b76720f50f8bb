"""
Documents that come again: filled in, they are to the byte what rewriting makes of them.

The judge is the rewriting itself, done anew for a document that nothing is known of.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.telephony import document as documents
from ivrguard.telephony.document import Carry, Cut, read
from ivrguard.telephony.links import Kind, Links, Refused
from ivrguard.telephony.template import MARK, Blanks

BASE = "https://ivr.example.com/app/voice?line=1"
LINKS = Links(
    "https://guard.test", "https://ivr.example.com/app/voice", ["https://cdn.example.com"], b"k" * 32
)

DOCUMENTS = {
    "no link": "<Say>Hello &amp; goodbye.</Say>",
    "links": "<Gather action='/menu?a=1&amp;b=%2B' partialResultCallback='p'/><Play>menu.mp3</Play><Redirect/>",
    "the same link twice": "<Redirect>/a?x=1&amp;y=2</Redirect><Gather action='/a?x=1&amp;y=2'/>",
    "a link to elsewhere": "<Play>https://cdn.example.com/a b.mp3?q=&quot;'#rc=2</Play>",
    "letters of other languages": "<Say language='ja-JP'>お電話ありがとう</Say><Redirect>/次</Redirect>",
    "text beside": "one<Redirect>/a</Redirect>two<Gather/>three",
    "a transfer": "<Dial action='/done'>+15550100</Dial><Say>x</Say>",
}


def anew(inner, turn, leg=Kind.T, links=LINKS):
    """What rewriting makes of a document that was never seen."""
    return documents._read(f"<Response>{inner}</Response>".encode(), "text/xml", BASE).write(
        links, turn=turn, leg=leg
    )


def known(inner):
    """The document as it is known when it comes again."""
    return read(f"<Response>{inner}</Response>".encode(), "text/xml", BASE)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_filled_in_is_what_rewriting_makes(name):
    """Laws 1 and 2: at every turn, the first time and the tenth."""
    inner = DOCUMENTS[name]
    for turn in (0, 7, 7, 123_456_789, 8, 0):
        assert known(inner).write(LINKS, turn=turn) == anew(inner, turn)


@given(
    turns=st.lists(st.tuples(st.integers(0, 999), st.sampled_from([Kind.T, Kind.W, Kind.Q])), max_size=12),
    name=st.sampled_from([name for name in DOCUMENTS if name != "a transfer"]),
)
def test_whatever_leg_hears_it_and_in_whatever_order(turns, name):
    """A whisper's links stay a whisper's, though a caller heard the same document before."""
    for turn, leg in turns:
        assert known(DOCUMENTS[name]).write(LINKS, turn=turn, leg=leg) == anew(DOCUMENTS[name], turn, leg)


def test_a_document_that_comes_again_is_the_one_that_was_read():
    """It is not parsed again; one from another place, or too large to keep, is."""
    assert known("<Say>a</Say>") is known("<Say>a</Say>")
    body = b"<Response><Say>a</Say></Response>"
    assert read(body, "text/xml", BASE) is not read(body, "text/xml", f"{BASE}&x=1")
    large = b"<Response><Say>" + b"a" * documents.KEPT_BYTES_MAX + b"</Say></Response>"
    assert read(large, "text/xml", BASE) is not read(large, "text/xml", BASE)
    assert documents._read_before.cache_info().maxsize == documents.DOCUMENTS_KEPT_MAX


def test_links_written_with_other_keys_are_written_anew():
    """After a reload or a rotation nothing of the old links comes out."""
    other = Links("https://guard.test", "https://ivr.example.com/app/voice", [], b"o" * 32)
    inner = "<Redirect>/rotated</Redirect>"
    for links in (LINKS, LINKS, LINKS, other, other, LINKS):
        assert known(inner).write(links, turn=1) == anew(inner, 1, links=links)


def test_what_is_cut_or_carries_a_token_is_never_filled_in():
    """They are made for one call; and what was written with them leaves no trace in the next."""
    inner = DOCUMENTS["a transfer"]
    for _ in range(3):
        cut = known(inner).write(LINKS, turn=1, cut=Cut(0, "https://guard.test/.ivrguard/call/x"))
        carried = known(inner).write(LINKS, turn=1, carry=Carry(0, "TOKEN", "https://guard.test/w"))
        assert b"+15550100" not in cut
        assert b"https://guard.test/w" in carried
        assert known(inner).write(LINKS, turn=1) == anew(inner, 1)


@pytest.mark.parametrize("text", [MARK, f"{MARK}0{MARK}", f"a{MARK}1{MARK}b"])
def test_a_document_that_holds_the_mark_itself_is_rewritten_each_time(text):
    """Law 3: whatever an IVR says with it, no link of its own making gets out."""
    inner = f"<Say>{text}</Say><Redirect>/a</Redirect>"
    for turn in (1, 2, 3):
        assert known(inner).write(LINKS, turn=turn) == anew(inner, turn)


def test_what_is_refused_is_refused_each_time_with_its_place():
    """A link that leads away is no better for coming again; nor is one that a long turn makes too long."""
    for _ in range(3):
        with pytest.raises(Refused, match=r"^link\.origin: Redirect elsewhere\.example$"):
            known("<Redirect>https://elsewhere.example/</Redirect>").write(LINKS, turn=1)
    long = f"<Redirect>/{'a' * 7_940}</Redirect>"
    for turn in (1, 1, 1):
        known(long).write(LINKS, turn=turn)
    with pytest.raises(Refused, match=r"^link\.length: Redirect$"):
        known(long).write(LINKS, turn=999_999_999)


def test_a_blank_for_a_link_that_is_not_listed_is_refused():
    """A template is never made of what could not be written."""
    with pytest.raises(Refused):
        Blanks(LINKS).outward("https://elsewhere.example/", kind=Kind.T, method="POST", turn=0)


def test_a_template_shows_nothing_of_the_document():
    """What an IVR says may be about a caller."""
    blanks = Blanks(LINKS)
    link = blanks.outward("https://ivr.example.com/a?pin=1234", kind=Kind.T, method="POST", turn=0)
    template = blanks.template(f"<Say>secret</Say>{link}".encode())
    assert template is not None
    assert "secret" not in repr(template)
    assert "1234" not in repr(template)
