"""The door: who is let in, who is led to the log-in and back, and what is read while the store is down."""

from ivrguard.stores.memory import MemoryStore
from ivrguard.web.console import words

HOME = "/.ivrguard/console/agent"
LOGIN = "/.ivrguard/console/login?next=%2F.ivrguard%2Fconsole%2Fagent"
NOT_YOURS = f"{HOME}/calls/CA{'0' * 32}"


async def test_who_is_not_signed_in_is_led_to_the_log_in(centre, ann):
    """And back to where he was; a form of his is not looked at; the script's piece is a bare 401."""
    ann.secret = "x" * 43
    page = await ann.get(NOT_YOURS)
    assert (page.status, page.headers["Location"].partition("?")[0]) == (303, "/.ivrguard/console/login")
    assert "next=" in page.headers["Location"]
    headers = {"Cookie": f"__Host-ivrguard={ann.secret}", "Origin": centre.guard_url}
    url = f"{centre.guard_url}{HOME}/redemptions"
    async with centre.session.post(
        url, data={"token": "1"}, headers=headers, allow_redirects=False
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, LOGIN)
    assert (await ann.get(f"{NOT_YOURS}/standing")).status == 401


async def test_a_form_of_another_page_is_nobodys(taken, metric):
    """Without our page's token, or from another origin, nothing is spent."""
    ann, _, _ = taken
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await ann.post(f"{HOME}/redemptions", {"token": "1"}, **headers)
        assert (answer.status, answer.headers["Location"]) == (303, LOGIN)
    answer = await ann.post(f"{HOME}/redemptions", {"token": "1", "csrf": "guessed"})
    assert (answer.status, answer.headers["Location"]) == (303, LOGIN)
    assert await metric(ann.centre, 'ivrguard_redemptions_total{outcome="refused"}') == 0


async def test_the_risk_team_holds_no_callers(centre, sit_down, risk):
    """A role that does not belong here is told so, and nothing else."""
    page = await (await sit_down(centre, risk)).get()
    assert page.status == 403
    assert words.NOT_FOR_YOU[0] in page.said


async def test_when_the_store_is_down_the_page_says_not_verified(opened, sit_down, hand_over, logged):
    """503 with a whole page: the word, what to do, what to say. Nothing that was true before stands on it."""

    class Flaky(MemoryStore):
        down = False

        async def read(self, key):
            if self.down:
                await self.close()
            return await super().read(key)

    store = Flaky()
    async with opened(store=store) as centre:
        ann = await sit_down(centre)
        _, token = await hand_over(centre)
        path = (await ann.redeem(token)).headers["Location"]
        csrf = await ann.csrf()
        store.down = True
        page, piece = await ann.get(path), await ann.get(f"{path}/standing")
        ann.csrf = lambda: _value(csrf)
        form = await ann.redeem(token)
    assert (page.status, piece.status, form.status) == (503, 503, 503)
    for said in (words.NO_GUARD.word, words.NO_GUARD.why, *words.NO_GUARD.todo, words.NO_GUARD.say):
        assert said in page.said
    assert "123456" not in page.text
    assert f'href="{path}"' in page.text
    assert f'href="{HOME}"' in form.text
    assert [line["reason"] for line in logged if line["event"] == "fault"] == ["store"] * 3


async def _value(value):
    return value
