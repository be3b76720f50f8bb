"""A session's cookie, and what shows that our own page made a request: laws 1 to 3 of the code, as tables."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from ivrguard.web import sessions

SECRET = sessions.new_secret(bytes(range(32)))
TOKEN = sessions.csrf_of(SECRET)
OURS = "https://guard.example"


def asked(method="POST", **headers):
    return make_mocked_request(
        method, "/x", headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, f"__Host-ivrguard={SECRET}; Path=/; Secure; HttpOnly; SameSite=Lax"),
        ({"age_s": 0}, f"__Host-ivrguard={SECRET}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"),
        (
            {"embedded": True},
            f"__Host-ivrguard={SECRET}; Path=/; Secure; HttpOnly; SameSite=None; Partitioned",
        ),
    ],
)
def test_a_cookie_is_ours_alone(more, line):
    """Law 1: no domain, no script, no plain http, no path of its own."""
    response = web.Response()
    sessions.set_cookie(response, SECRET, **more)
    assert response.headers["Set-Cookie"] == line


@pytest.mark.parametrize("value", ["", "short", "x" * 44, "é" * 43, SECRET[:-1] + "\t"])
def test_what_has_not_a_secrets_form_is_none(value):
    """It never gets as far as the store."""
    assert sessions.secret_of(asked(Cookie=f"__Host-ivrguard={value}")) == ""


def test_a_secret_is_read_from_its_cookie_and_no_other():
    assert sessions.secret_of(asked(Cookie=f"a=b; __Host-ivrguard={SECRET}")) == SECRET
    assert sessions.secret_of(asked(Cookie=f"ivrguard={SECRET}")) == ""


def test_a_token_is_one_sessions_and_does_not_show_it():
    assert sessions.csrf_of(sessions.new_secret(bytes(32))) != TOKEN
    assert SECRET not in TOKEN
    assert len(TOKEN) == 43


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, False),
        ({"Origin": OURS}, True),
        ({"Sec_Fetch_Site": "same-origin"}, True),
        ({"Origin": OURS, "Sec_Fetch_Site": "same-origin"}, True),
        ({"Origin": OURS, "Sec_Fetch_Site": "cross-site"}, False),
        ({"Origin": OURS, "Sec_Fetch_Site": "same-site"}, False),
        ({"Origin": OURS, "Sec_Fetch_Site": "none"}, False),
        ({"Origin": "https://evil.example", "Sec_Fetch_Site": "same-origin"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "https://guard.example.evil.example"}, False),
        ({"Origin": "http://guard.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://127.0.0.1:8080", "Host": "127.0.0.1:8080"}, True),
        ({"Origin": "http://127.0.0.1:8081", "Host": "127.0.0.1:8080"}, False),
        ({"Origin": "file://127.0.0.1:8080", "Host": "127.0.0.1:8080"}, False),
    ],
)
def test_who_made_a_request(headers, ours):
    """Law 3, its first half: every header that a browser sends must say that it was us, and one must be there."""
    assert sessions.from_ourselves(asked(**headers), OURS) is ours


@pytest.mark.parametrize(
    ("method", "headers", "shown"),
    [
        ("GET", {}, True),
        ("HEAD", {}, True),
        ("OPTIONS", {}, True),
        ("POST", {"Origin": OURS, "X_CSRF_Token": TOKEN}, True),
        ("PUT", {"Origin": OURS, "X_CSRF_Token": TOKEN}, True),
        ("DELETE", {"Origin": OURS}, False),
        ("POST", {"X_CSRF_Token": TOKEN}, False),
        ("POST", {"Origin": OURS, "X_CSRF_Token": ""}, False),
        ("POST", {"Origin": OURS, "X_CSRF_Token": SECRET}, False),
        ("POST", {"Origin": OURS, "X_CSRF_Token": sessions.csrf_of("x" * 43)}, False),
        ("POST", {"Origin": "https://evil.example", "X_CSRF_Token": TOKEN}, False),
        ("POST", {"Origin": OURS, "X_CSRF_Token": TOKEN + "é"}, False),
        ("POST", {"Origin": OURS, "Content_Type": "text/plain"}, False),
    ],
)
async def test_what_may_change_something(method, headers, shown):
    """Law 3: origin *and* token; either alone is nothing."""
    assert await sessions.shown(asked(method, **headers), SECRET, OURS) is shown
