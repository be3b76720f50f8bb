"""The console as a whole: where it begins, and that no path of it is open to nobody."""

import re

PUBLIC = {"/.ivrguard/console", "/.ivrguard/console/"}
"""These lead on, and say nothing."""


def paths(centre):
    """Every path of the console's, with names filled in, and its method; but for files, and the log-in's."""
    for route in centre.server._runners[0].app.router.routes():
        path = route.resource.canonical
        its_own = {"login", "logout", "callback"} & set(path.split("/"))
        if (
            path.startswith("/.ivrguard/console")
            and "static" not in path
            and route.method != "HEAD"
            and not its_own
        ):
            yield route.method, re.sub(r"\{\w+\}", "CA" + "0" * 32, path)


async def test_nobody_sees_or_does_anything(centre):
    """Without a session every page leads to the log-in, every form does nothing, and every piece is a 401."""
    found = list(paths(centre))
    assert len(found) > 15
    for method, path in found:
        url, headers = centre.guard_url + path, {"Accept": "text/html"}
        async with centre.session.request(method, url, headers=headers, allow_redirects=False) as answer:
            where = answer.headers.get("Location", "").partition("?")[0]
            text = await answer.text()
        if path in PUBLIC:
            assert (answer.status, where) == (303, "/.ivrguard/console/agent")
        elif path.endswith("/standing"):
            assert (answer.status, text) == (401, "")
        else:
            assert (answer.status, where, text) == (303, "/.ivrguard/console/login", ""), path
