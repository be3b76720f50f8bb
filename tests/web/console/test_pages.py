"""Headers, files and templates: nothing inline, nothing of others, in nobody's frame; and a name that is missing is a fault."""

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from jinja2 import UndefinedError

from ivrguard.web.console import pages, words
from ivrguard.web.console.pages import Pages, assets, templates
from ivrguard.web.console.view import moment

NOON = moment(1_767_614_400_000, ZoneInfo("UTC"))
PACKAGE = Path(pages.__file__).parent


def policy(page):
    return dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))


@pytest.fixture
def page():
    return Pages().page("unavailable.html", 503, words=words, at=NOON, again="/x")


def test_a_page_loads_nothing_but_ours(page):
    assert policy(page) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    assert (page.status, page.content_type, page.charset) == (503, "text/html", "utf-8")
    for name, value in {**pages.HEADERS, "Cache-Control": "no-store"}.items():
        assert page.headers[name] == value


def test_who_may_show_it_in_a_frame_is_named():
    embedders = ("https://flex.twilio.com", "https://crm.bank.example")
    page = Pages(embedders).page("unavailable.html", words=words, at=NOON, again="/x")
    assert policy(page)["frame-ancestors"] == " ".join(embedders)


@pytest.mark.parametrize("name", sorted(path.name for path in (PACKAGE / "templates").iterdir()))
def test_nothing_is_inline(name):
    """No style, no script, no handler, no address of another host stands in a template: the policy would refuse it."""
    text = (PACKAGE / "templates" / name).read_text()
    assert (
        re.findall(
            r"""<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:|https?://|\|\s*safe""", text
        )
        == []
    )
    assert name in templates()


def test_our_files_name_no_other_host():
    for name in ("panel.css", "panel.js"):
        assert (
            re.findall(r"https?://|url\(|@import|eval\(|innerHTML", (PACKAGE / "static" / name).read_text())
            == []
        )


async def test_what_a_page_loads_is_kept_for_ever_under_its_own_name(guarded):
    """The name changes with what is in it; any other name is nothing."""
    for name, asset in assets().items():
        stem, _, ending = name.rpartition(".")
        assert re.fullmatch(rf"/\.ivrguard/console/static/{stem}\.[0-9a-f]{{12}}\.{ending}", asset.path)
        async with guarded.session.get(guarded.guard_url + asset.path) as answer:
            assert (answer.status, await answer.read()) == (200, (PACKAGE / "static" / name).read_bytes())
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert answer.headers["Content-Type"] == pages.TYPES[ending]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for other in ("panel.css", "panel.000000000000.css", "..%2fpages.py"):
        async with guarded.session.get(f"{guarded.guard_url}{pages.STATIC}{other}") as answer:
            assert answer.status == 404


def test_a_name_that_is_missing_is_a_fault():
    """Not a blank in the middle of a sentence that somebody acts on."""
    with pytest.raises(UndefinedError):
        Pages().page("unavailable.html", words=words, at=NOON)


def test_what_is_filled_in_is_text():
    page = Pages().page("unavailable.html", words=words, at=NOON, again='"><script>')
    assert "<script>" not in page.text.partition("<body>")[2]


def test_a_form_is_answered_with_somewhere_to_go():
    answer = Pages().to("/.ivrguard/console/agent")
    assert (answer.status, answer.headers["Location"]) == (303, "/.ivrguard/console/agent")
    assert answer.headers["Cache-Control"] == "no-store"
