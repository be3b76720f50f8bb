"""Links: what goes out comes back, and nothing else does."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from urllib.parse import urljoin

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ivrguard.telephony.links import URL_CHARS_MAX, Inward, Kind, Links, Refused, kind_of, resolve

KEY = bytes(range(32))
GUARD = "https://guard.example"
IVR = "https://ivr.example"
LINKS = Links(
    GUARD,
    f"{IVR}/voice?tenant=7",
    [
        "https://media.example",
        "http://old.example:8080",
        "https://both.example",
        "wss://iva.example",
        "ws://lab.example",
        "http://[2001:db8::1]",
    ],
    KEY,
)
PREFIXED = Links(f"{GUARD}/phone/", f"{IVR}/voice", [], KEY)


def out(url: str, links: Links = LINKS, kind: Kind = Kind.T, method: str = "POST", turn: int = 3) -> str:
    return links.outward(url, kind=kind, method=method, turn=turn)


def target_of(url: str) -> str:
    """Return what Twilio posts to for a guard URL: no origin, no fragment."""
    assert url.startswith(f"{GUARD}/")
    return url.removeprefix(GUARD).partition("#")[0]


def refusal(action, *args, **kwargs) -> tuple[str, str]:
    with pytest.raises(Refused) as raised:
        action(*args, **kwargs)
    return raised.value.reason, raised.value.detail


# What a link looks like.


@pytest.mark.parametrize(
    ("url", "start", "end"),
    [
        (f"{IVR}/menu", "/menu?_ivrguard=tp.3.", ""),
        (f"{IVR}/menu?a=1&b=%2B1[0]&c=", "/menu?a=1&b=%2B1[0]&c=&_ivrguard=tp.3.", ""),
        (f"{IVR}/menu?", "/menu?&_ivrguard=tp.3.", ""),
        (f"{IVR}", "/?_ivrguard=tp.3.", ""),
        (f"{IVR}?x", "/?x&_ivrguard=tp.3.", ""),
        (f"{IVR}/a#rc=2&rp=all", "/a?_ivrguard=tp.3.", "#rc=2&rp=all"),
        (f"{IVR}:443/a//b/", "/a//b/?_ivrguard=tp.3.", ""),
        ("HTTPS://IVR.Example/A", "/A?_ivrguard=tp.3.", ""),
        ("http://ivr.example/plain", "/plain?_ivrguard=tp.3.", ""),
        (f"{IVR}/zwei wörter?q=é à", "/zwei%20w%C3%B6rter?q=%C3%A9%20%C3%A0&_ivrguard=tp.3.", ""),
        ("https://media.example/a.mp3", "/.ivrguard/at/media.example/a.mp3?_ivrguard=tp.3.", ""),
        ("http://media.example/a.mp3", "/.ivrguard/at/media.example/a.mp3?_ivrguard=tp.3.", ""),
        ("http://old.example:8080/x", "/.ivrguard/at/old.example~8080/x?_ivrguard=tp.3.", ""),
        ("http://[2001:db8::1]/x", "/.ivrguard/at/2001-db8--1~80/x?_ivrguard=tp.3.", ""),
        (f"{GUARD}/menu", "/menu?_ivrguard=tp.3.", ""),
        ("http://guard.example/menu?a=1#rc=1", "/menu?a=1&_ivrguard=tp.3.", "#rc=1"),
    ],
)
def test_a_link_keeps_path_and_query_and_gets_one_parameter(url: str, start: str, end: str):
    """Same path, same query, one control parameter; a fragment stays outside; other origins under `at`."""
    link = out(url)
    assert link.startswith(GUARD + start)
    mac = link.removeprefix(GUARD + start).removesuffix(end)
    assert len(mac) == 22
    assert mac.replace("-", "").replace("_", "").isalnum()


def test_the_mac_is_hmac_sha256_over_use_turn_origin_and_url():
    """128 bits of HMAC-SHA-256 as the hmac module computes it; keys above a block are hashed first."""
    for key in (KEY, b"k" * 64, b"k" * 65, b"k" * 200):
        link = out(f"{IVR}/menu?a=1", Links(GUARD, f"{IVR}/voice", [], key), Kind.W, "GET", 12)
        signed = b"ivrguard.link.1\nwg.12\nhttps://ivr.example\n/menu?a=1"
        mac = urlsafe_b64encode(hmac.digest(key, signed, hashlib.sha256)[:16]).rstrip(b"=").decode()
        assert f"{GUARD}/menu?a=1&_ivrguard=wg.12.{mac}" == link


def test_links_of_older_keys_are_taken_and_new_ones_are_of_the_first():
    """What stands in the document of a call under way is good after a rotation, for as long as the key is listed."""
    old, new = b"o" * 32, b"n" * 32
    before = out(f"{IVR}/menu?a=1", Links(GUARD, f"{IVR}/voice", [], old))
    rotated = Links(GUARD, f"{IVR}/voice", [], new, [KEY, old])
    alone = Links(GUARD, f"{IVR}/voice", [], new)
    assert rotated.inward(target_of(before)).url == f"{IVR}/menu?a=1"
    assert out(f"{IVR}/menu?a=1", rotated) == out(f"{IVR}/menu?a=1", alone) != before
    assert alone.inward_or_none(target_of(before)) is None
    assert repr(old) not in repr(rotated)


def test_no_secret_is_shown():
    """Neither the key nor a query of the IVR's is in a repr."""
    shown = repr(LINKS) + repr(LINKS.inward("/menu?card=4111"))
    assert repr(KEY) not in shown
    assert "4111" not in shown


# There and back.


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_kind_method_and_turn_come_back(kind: Kind, method: str):
    """What the link was written for is what it stands for when it comes back."""
    url = f"{IVR}/wire/start?amount=5"
    expected = Inward(url, "/wire/start", kind, method, 41)
    assert expected == LINKS.inward(target_of(out(url, kind=kind, method=method, turn=41)))


@pytest.mark.parametrize(
    ("target", "url", "path"),
    [
        ("/menu?a=%2B&b[0]=&&c", f"{IVR}/menu?a=%2B&b[0]=&&c", "/menu"),
        ("/", f"{IVR}/voice?tenant=7", "/voice"),
        ("//", f"{IVR}//", "/"),
        ("/?From=%2B1555", f"{IVR}/voice?tenant=7&From=%2B1555", "/voice"),
        ("/Wire//to/", f"{IVR}/Wire//to/", "/Wire/to"),
        ("/w%69re/caf%C3%A9", f"{IVR}/w%69re/caf%C3%A9", "/wire/café"),
        ("/.ivrguard/at/media.example/x", "https://media.example/x", "//media.example/x"),
        ("/.ivrguard/at/media.example", "https://media.example/", "//media.example/"),
        ("/.ivrguard/at/old.example~8080/x/", "http://old.example:8080/x/", "//old.example:8080/x"),
    ],
)
def test_without_a_control_parameter_it_is_gated_as_a_first_request(target: str, url: str, path: str):
    """The number's voice URL and a redirect by REST: kind T, no turn, no method; `/` is the first document."""
    assert Inward(url, path, Kind.T, None, None) == LINKS.inward(target)


def test_a_public_prefix_goes_on_and_comes_off():
    """Behind `https://guard.example/phone` all links carry the prefix, and `/phone` is the entry."""
    link = out(f"{IVR}/menu", PREFIXED)
    assert link.startswith(f"{GUARD}/phone/menu?_ivrguard=")
    assert f"{IVR}/menu" == PREFIXED.inward(target_of(link)).url
    assert f"{IVR}/voice" == PREFIXED.inward("/phone").url == PREFIXED.inward("/phone/").url
    for foreign in ("/menu", "/phones/menu", "/"):
        assert refusal(PREFIXED.inward, foreign) == ("link.path", "")


def test_the_guards_own_origin_means_the_mirrored_one():
    """An IVR that builds links from X-Forwarded-Host names the guard, with the public prefix or without."""
    for url in (f"{GUARD}/phone/menu?x=1", f"{GUARD}/menu?x=1", "http://guard.example/menu?x=1"):
        assert out(f"{IVR}/menu?x=1", PREFIXED) == out(url, PREFIXED)
    assert out(f"{IVR}/phones", PREFIXED) == out(f"{GUARD}/phones", PREFIXED)


def test_a_link_that_the_ivr_hands_back_is_unwrapped_first():
    """A guard URL with a valid control parameter is written anew for its new use, fragment and all."""
    for url in (f"{IVR}/menu?a=1&b=%2B", "https://media.example/a"):
        again = out(f"{out(url, kind=Kind.S, turn=1)}#rc=3", kind=Kind.Q, turn=9)
        assert out(f"{url}#rc=3", kind=Kind.Q, turn=9) == again
    assert out(f"{IVR}/menu", PREFIXED) == out(out(f"{IVR}/menu", PREFIXED), PREFIXED)


# What is refused on its way out.


@pytest.mark.parametrize(
    ("url", "reason", "detail"),
    [
        ("https://evil.example/x?secret=1", "link.origin", "evil.example"),
        ("https://ivr.example:8443/x", "link.origin", "ivr.example:8443"),
        ("https://ivr.example:0443/x", "link.origin", "ivr.example:0443"),
        ("https://ivr.example:/x", "link.origin", "ivr.example:"),
        ("http://old.example/x", "link.origin", "old.example"),
        ("https://ivr.example@evil.example/", "link.origin", "evil.example"),
        ("https://user:pass@ivr.example/", "link.origin", "ivr.example"),
        ("https://ivr.example.evil.example/", "link.origin", "ivr.example.evil.example"),
        ("https://ivr.example\\@evil.example/", "link.origin", "evil.example"),
        ("https://ivr.example/\\evil.example", "link.origin", "ivr.example"),
        ("https://ivr.example/a\nb", "link.origin", "ivr.example"),
        ("https://ivr.example/a\x7fb", "link.origin", "ivr.example"),
        ("https://%69vr.example/", "link.origin", "?"),
        ("https://ïvr.example/", "link.origin", "?"),
        ("https://", "link.origin", "?"),
        ("https:///menu", "link.origin", "?"),
        ("ftp://ivr.example/x", "link.origin", "ftp:"),
        ("javascript:alert(1)", "link.origin", "javascript:"),
        ("wss://ivr.example/x", "link.origin", "wss:"),
        ("wss://iva.example/x", "link.origin", "wss:"),
        ("https://iva.example/x", "link.origin", "iva.example"),
        ("/menu", "link.origin", ":"),
        (f"{IVR}/.ivrguard/call/verified", "link.origin", "ivr.example"),
        (f"{IVR}/.ivrguard", "link.origin", "ivr.example"),
        (f"{IVR}//.ivrguard/at/media.example/x", "link.origin", "ivr.example"),
        (f"{IVR}/.ivrguar%64/x", "link.origin", "ivr.example"),
        (f"{GUARD}/.ivrguard/call/verified", "link.origin", "ivr.example"),
        (f"{GUARD}/.ivrguard/at/media.example/x", "link.origin", "ivr.example"),
        (f"{IVR}/%2e%2e/x", "link.path", ""),
        (f"{IVR}/a/../b", "link.path", ""),
        (f"{IVR}/a?_ivrguard=tp.1.aaaaaaaaaaaaaaaaaaaaaa", "link.mac", "ivr.example"),
        ("https://media.example/a?x&_ivrguard", "link.mac", "media.example"),
        (f"{GUARD}/a?_ivrguard=tp.1.aaaaaaaaaaaaaaaaaaaaaa", "link.mac", ""),
        (f"{IVR}/{'a' * URL_CHARS_MAX}", "link.length", ""),
        (f"{IVR}/{'a' * (URL_CHARS_MAX - len(IVR) - 20)}", "link.length", ""),
    ],
)
def test_what_nobody_listed_is_refused(url: str, reason: str, detail: str):
    """Every other origin, scheme, user name, trick with the host or forged path; no query in the detail."""
    assert (reason, detail) == refusal(out, url)


def test_a_refusal_says_where_and_no_more():
    """The text is the reason and a detail that is safe in a log."""
    assert str(Refused("link.path")) == "link.path"
    assert str(Refused("link.origin", "evil.example").at("Dial@action")) == (
        "link.origin: Dial@action evil.example"
    )
    assert str(Refused("link.path").at("Redirect")) == "link.path: Redirect"


# What is refused on its way in.

GENUINE = target_of(out(f"{IVR}/wire?to=1&sum=5"))
GENUINE_MAC = GENUINE[-22:]


@pytest.mark.parametrize(
    "target",
    [
        GENUINE.replace("=tp.", "=sp."),
        GENUINE.replace("=tp.", "=wp."),
        GENUINE.replace("=tp.", "=tg."),
        GENUINE.replace("=tp.", "=xp."),
        GENUINE.replace(".3.", ".4."),
        GENUINE.replace(".3.", ".03."),
        GENUINE.replace(".3.", ".."),
        GENUINE.replace(".3.", ".-3."),
        GENUINE.replace("/wire", "/hours"),
        GENUINE.replace("/wire", "/Wire"),
        GENUINE.replace("/wire", "//wire"),
        GENUINE.replace("/wire", "/.ivrguard/at/media.example/wire"),
        GENUINE.replace("sum=5", "sum=6"),
        GENUINE.replace("to=1&sum=5", "sum=5&to=1"),
        GENUINE.replace("to=1&", "to=1%26"),
        GENUINE.replace("to=1", "to=%31x"),
        GENUINE.replace("?to", "?&to"),
        f"{GENUINE}&more=1",
        f"{GENUINE}A",
        GENUINE[:-1],
        f"{GENUINE[:-22]}{'A' * 22}",
        f"{GENUINE[:-23]}",
        f"{GENUINE}&_ivrguard={GENUINE_MAC}",
        f"{GENUINE}&_ivrguard",
        f"/wire?_ivrguard=&{GENUINE.partition('?')[2]}",
        "/wire?_ivrguard",
        "/wire?a=1&_ivrguard=1",
        target_of(out(f"{IVR}/wire?to=1&sum=5", Links(GUARD, IVR, [], b"x" * 32))),
        target_of(out(f"{IVR}/wire?to=1&sum=5", Links(GUARD, "http://ivr.example", [], KEY))),
    ],
)
def test_a_link_that_was_touched_is_refused(target: str):
    """Kind, method, turn, path, query, origin and key: none can be changed, none doubled."""
    assert refusal(LINKS.inward, target) == ("link.mac", "")


@pytest.mark.parametrize(
    "target",
    [
        "",
        "menu",
        "https://guard.example/menu",
        "*",
        "/a b",
        "/a\tb",
        "/a\\b",
        "/a#b",
        "/caf\u00e9",
        "/x?a\\b",
        "/x?a#b",
        "/x?\u00e9",
        "/a/../b",
        "/a/..",
        "/./a",
        "/a/..;x/b",
        "/a/%2e%2e/b",
        "/a/.%2E/b",
        "/a%2Fb",
        "/a%5cb",
        "/a%00b",
        "/a%0ab",
        "/a%7fb",
        "/a%252e%252e/b",
        "/a%252fb",
        "/a%",
        "/a%4",
        "/a%zz",
        "/a%C3",
        "/a%ff",
        "/.ivrguard",
        "/.ivrguard/",
        "/.ivrguard/call/x",
        "/.ivrguard/at",
        "/.ivrguard/at/",
        "//.ivrguard/at/media.example/x",
        "/.ivrguard//at/media.example/x",
        "/.ivrguard/%61t/media.example/x",
        "/.ivrguard/at/media.example/../x",
        "/.ivrguard/at/media.example/%2e",
    ],
)
def test_a_path_with_two_readings_is_refused(target: str):
    """One spelling for each path: what two readers could read in two ways does not pass."""
    assert refusal(LINKS.inward, target) == ("link.path", "")


def test_an_origin_that_is_listed_no_longer_is_refused():
    """A link of yesterday's configuration leads nowhere."""
    link = target_of(out("https://media.example/a"))
    assert refusal(Links(GUARD, IVR, [], KEY).inward, link) == ("link.origin", "media.example")
    assert refusal(LINKS.inward, "/.ivrguard/at/%61/x") == ("link.origin", "?")


def test_a_target_can_be_too_long():
    """Longer than a request line may be."""
    assert refusal(LINKS.inward, "/" + "a" * URL_CHARS_MAX) == ("link.length", "")


def test_a_target_of_another_map_is_nobodys():
    """With several maps, each says whether a link is its own; the kind can be read before that."""
    assert LINKS.inward_or_none(GENUINE) == LINKS.inward(GENUINE)
    assert LINKS.inward_or_none(f"{GENUINE[:-22]}{'A' * 22}") is None
    kinds = [
        GENUINE,
        "/x?_ivrguard=wg.1.forged",
        "/x?a&_ivrguard=mg.",
        "/x",
        "/_ivrguard=sp.1",
        "/x?a_ivrguard=sp.1",
    ]
    assert "".join(map(kind_of, kinds)) == "twmttt"


# Twilio's re-encoding.


@pytest.mark.parametrize(
    ("query", "as_sent"),
    [
        ("to=sip:a@b", "to=sip%3Aa%40b"),
        ("q='x'", "q=%27x%27"),
        ("q=%27x%27", "q='x'"),
        ("p[0]=1", "p%5B0%5D=1"),
        ("p%5b0%5d=1", "p%5B0%5D=1"),
        ("q=(a|b)", "q=%28a%7Cb%29"),
        ("q=%c3%a9", "q=%C3%A9"),
    ],
)
def test_the_mac_does_not_mind_needless_escapes(query: str, as_sent: str):
    """Twilio encodes ' @ : and brackets on its way (twilio-node 1183 and 621): the link still holds."""
    sent = target_of(out(f"{IVR}/x?{query}")).replace(query.replace("|", "%7C"), as_sent)
    assert f"{IVR}/x?{as_sent}" == LINKS.inward(sent).url


def test_a_raw_character_in_a_target_reaches_the_ivr_encoded():
    """A client that does not encode quotation marks gets no other link by it."""
    sent = target_of(out(f'{IVR}/x?q="a"'))
    assert '"' not in sent
    assert f"{IVR}/x?q=%22a%22" == LINKS.inward(sent.replace("%22", '"')).url


# Sockets.


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("wss://ivr.example/talk", True),
        ("wss://ivr.example:8443/talk?x=1", True),
        ("WSS://IVA.example/talk", True),
        ("wss://media.example/in", True),
        ("wss://old.example/in", True),
        ("ws://old.example/in", True),
        ("ws://lab.example/in", True),
        ("ws://ivr.example/in", False),
        ("ws://iva.example/in", False),
        ("wss://evil.example/in", False),
        ("wss://ivr.example@evil.example/in", False),
        ("wss://guard.example/in", False),
        ("https://ivr.example/in", False),
        ("/in", False),
        ("", False),
    ],
)
def test_sockets_lead_to_listed_hosts(url: str, allowed: bool):
    """A socket is not proxied, so its host must be listed; unencrypted only where the listing is."""
    assert allowed == LINKS.allowed_socket(url)


def test_an_unencrypted_ivr_has_unencrypted_sockets():
    """A laboratory over plain http."""
    assert Links(GUARD, "http://localhost:5000/voice", [], KEY).allowed_socket("ws://localhost:6000/x")


# Settings.


@pytest.mark.parametrize(
    ("public_url", "upstream", "also", "key", "fault"),
    [
        (GUARD, IVR, [], b"short", "the link key must have at least 32 bytes"),
        ("guard.example", IVR, [], KEY, "public_url: not a URL that can be used (link.origin: :)"),
        ("wss://guard.example", IVR, [], KEY, "public_url: must begin with http:// or https://"),
        (f"{GUARD}/?a=1", IVR, [], KEY, "public_url: must not have a query or a fragment"),
        (GUARD, "https://u:p@ivr.example", [], KEY, "upstream: not a URL that can be used"),
        (GUARD, f"{IVR}/#rc=1", [], KEY, "upstream: must not have a query or a fragment"),
        (GUARD, f"{GUARD}/voice", [], KEY, "the guard's own public origin cannot be the IVR's"),
        (GUARD, IVR, [GUARD], KEY, "the guard's own public origin cannot be the IVR's"),
        (GUARD, IVR, ["https://a.example/path"], KEY, "also: an origin only, without a path"),
        (GUARD, IVR, ["https://a.example?x"], KEY, "also: must not have a query or a fragment"),
        (GUARD, IVR, ["a.example"], KEY, "also: not a URL that can be used"),
        (GUARD, IVR, ["http://a.example:80", "https://a.example:80"], KEY, "also: two origins cannot be"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    public_url: str, upstream: str, also: list[str], key: bytes, fault: str
):
    """Said at the start, with the name of the setting, and without what a URL may hide."""
    with pytest.raises(ValueError) as raised:
        Links(public_url, upstream, also, key)
    assert fault in str(raised.value)
    assert "u:p" not in str(raised.value)


def test_the_mirrored_origin_may_be_listed_again():
    """Listing the IVR's own origin once more changes nothing."""
    assert out(f"{IVR}/a") == out(f"{IVR}/a", Links(GUARD, IVR, [IVR, IVR], KEY))


# References.

BASE = "https://ivr.example/a/b/c?q=1"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("", BASE),
        (" \n\t ", BASE),
        ("\n   ../next\n  ", "https://ivr.example/a/next"),
        ("next", "https://ivr.example/a/b/next"),
        ("/menu?a=%2B&b[0]=", "https://ivr.example/menu?a=%2B&b[0]="),
        ("?x=1", "https://ivr.example/a/b/c?x=1"),
        ("#rc=2", f"{BASE}#rc=2"),
        ("//other.example/x", "https://other.example/x"),
        ("http://other.example/x/../y", "http://other.example/y"),
        ("./join", "https://ivr.example/a/b/join"),
        ("..", "https://ivr.example/a/"),
        (".", "https://ivr.example/a/b/"),
        ("../../../../x", "https://ivr.example/x"),
        ("/a/./b/../c/.", "https://ivr.example/a/c/"),
        ("a/.../b", "https://ivr.example/a/b/a/.../b"),
        ("example.com?id=34&action=hey", "https://ivr.example/a/b/example.com?id=34&action=hey"),
        ("x?", "https://ivr.example/a/b/x?"),
        ("sip:a@b", "sip:a@b"),
    ],
)
def test_references_are_resolved_against_the_documents_url(reference: str, expected: str):
    """RFC 3986, 5.2, after the padding is off; the query keeps its bytes."""
    assert expected == resolve(BASE, reference)


def test_a_base_without_a_path_has_the_root():
    """RFC 3986, 5.2.3."""
    assert resolve("https://ivr.example", "x") == "https://ivr.example/x"
    assert resolve("https://ivr.example?q", "") == "https://ivr.example?q"


def test_a_reference_can_be_too_long():
    """Nothing of that length could be asked for."""
    assert refusal(resolve, BASE, "a" * (URL_CHARS_MAX + 1)) == ("link.length", "")


SEGMENT = st.text("abcXY09-._~+%2B;=@:'!", max_size=6)
SAFE_PATH = st.lists(
    st.sampled_from(["a", "b1", "Wire", "caf%C3%A9", "x.php", "a+b", "%2B1", ".x"]), max_size=4
)
QUERY = st.none() | st.text("abc019=&%2Bx;[]'@:+/?.-_~", max_size=30)


@given(st.lists(st.sampled_from(["a", "b", ".", "..", "c.d"]), min_size=1, max_size=6), st.booleans(), QUERY)
def test_resolving_agrees_with_the_standard_library(segments: list[str], rooted: bool, query: str | None):
    """The standard library's urljoin is the judge where it keeps to RFC 3986 (it drops an empty query)."""
    reference = ("/" if rooted else "") + "/".join(segments) + (f"?{query}" if query else "")
    assert urljoin(BASE, reference) == resolve(BASE, reference)


# Promises.


@given(
    SAFE_PATH,
    QUERY,
    st.sampled_from(Kind),
    st.sampled_from(["GET", "POST"]),
    st.integers(0, 999_999_999),
    st.sampled_from([IVR, "https://media.example", "http://old.example:8080"]),
    st.sampled_from(
        [LINKS, Links(f"{GUARD}/p", f"{IVR}/v", ["https://media.example", "http://old.example:8080"], KEY)]
    ),
)
@example([], "", Kind.T, "POST", 0, IVR, LINKS)
@example([], "&", Kind.T, "POST", 0, IVR, LINKS)
@example([], None, Kind.T, "POST", 0, IVR, LINKS)
def test_whatever_goes_out_comes_back(
    path: list[str], query: str | None, kind: Kind, method: str, turn: int, origin: str, links: Links
):
    """Promise: inward(outward(url)) is the url, byte for byte, with its kind, method and turn."""
    url = f"{origin}/{'/'.join(path)}" + ("" if query is None else f"?{query}")
    back = links.inward(target_of(out(url, links, kind, method, turn)))
    assert (url, kind, method, turn) == (back.url, back.kind, back.method, back.turn)


@given(SAFE_PATH, QUERY, st.data())
def test_the_control_parameter_may_stand_anywhere(path: list[str], query: str | None, data: st.DataObject):
    """The IVR's own query arrives unchanged, wherever the control parameter has come to stand."""
    url = f"{IVR}/{'/'.join(path)}" + ("" if query is None else f"?{query}")
    target, _, sent = target_of(out(url)).partition("?")
    pieces = sent.split("&")
    control = pieces.pop()
    pieces.insert(data.draw(st.integers(0, len(pieces))), control)
    assert url == LINKS.inward(f"{target}?{'&'.join(pieces)}").url


@given(SAFE_PATH, QUERY, st.integers(0, 10_000), st.sampled_from("abcX0-_.=&%/?"))
def test_any_byte_changed_is_noticed_or_means_the_same(
    path: list[str], query: str | None, place: int, byte: str
):
    """Promise: a link with one byte changed is refused, or is gated as one without control parameter."""
    url = f"{IVR}/{'/'.join(path)}" + ("" if query is None else f"?{query}")
    genuine = target_of(out(url))
    place %= len(genuine)
    changed = genuine[:place] + byte + genuine[place + 1 :]
    try:
        got = LINKS.inward(changed)
    except Refused:
        return
    assert (got.kind, got.turn) == (Kind.T, None) or changed == genuine or got.url.upper() == url.upper()


@given(st.text(max_size=60) | st.text("/.%2eEfF5cC0ivrguatd~?&=\\", max_size=60))
def test_no_target_makes_it_stumble(target: str):
    """Promise: a target is understood or refused, and what is understood stays on a listed origin."""
    try:
        got = LINKS.inward(target)
    except Refused:
        return
    assert got.url.startswith((f"{IVR}/", "https://media.example/", "http://old.example:8080/"))
    assert "/.." not in got.path
    assert got.turn is None


@given(
    st.text(max_size=60)
    | st.text("https:/@ivr.exampl\\?#[]0", max_size=60).map(f"https:{'/'}/ivr.example".__add__)
)
def test_no_url_leads_out(url: str):
    """Promise: whatever the IVR writes, the link is the guard's or there is none."""
    try:
        link = out(resolve(f"{IVR}/base/doc", url))
    except Refused:
        return
    assert link.startswith(f"{GUARD}/")
    assert LINKS.inward(target_of(link)).turn == 3
