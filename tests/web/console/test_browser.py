"""
The pages in a real browser, before the real server and the pretend Twilio: what a script does, what a keyboard and a screen reader
find, in light and dark, zoomed and narrow. The pictures of docs/panel.md are made here (`SCREENSHOTS=1`).

Where there is no Chromium these are skipped, but not under `.ci/run`: there its absence is a failure.
"""

import os
import re
import shutil
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from ivrguard.core.agents import Agent, Role
from ivrguard.core.errors import StoreFault
from ivrguard.phone.rig import Clock, listen
from ivrguard.stores.memory import MemoryStore

playwright = pytest.importorskip("playwright.async_api")
axe = pytest.importorskip("axe_playwright_python.async_playwright")

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOME = "/.ivrguard/console/agent"
DOCS = Path(__file__).parents[3] / "docs"
NOON_MS = 1_767_632_400_000  # 2026-01-05 12:00 in New York
PICTURE = {"x": 0, "width": 840, "height": 370}
PICTURE_BYTES_MAX = 60_000
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-lcd-text",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        assert "TESTS_SKIP_NOTHING" not in os.environ, "chromium is missing"
        pytest.skip("no Chromium: install it (Debian's package chromium)")
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    path = chromium()
    async with playwright.async_playwright() as running:
        launched = await running.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield launched
        await launched.close()


@asynccontextmanager
async def at_the_page(browser, desk, *, refused_frame=False, **how):
    """A browser in which this agent is signed in; every error of a page, and every refusal of its policy but one, is a failure."""
    context = await browser.new_context(base_url=desk.centre.guard_url, **how)
    secure_url = desk.centre.guard_url.replace("http:", "https:")  # loopback counts as secure, but not here
    await context.add_cookies(
        [{"name": "__Host-ivrguard", "value": desk.secret, "url": secure_url, "secure": True}]
    )
    page = await context.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None
    )
    try:
        yield page
    finally:
        await context.close()
    if refused_frame:
        wrong = [line for line in wrong if "frame-ancestors" not in line]
    assert wrong == []


async def word(page):
    return await page.inner_text("#word")


async def fits(page):
    """Whether nothing has to be scrolled sideways (WCAG 2.2, 1.4.10)."""
    return await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def fine(page):
    """What axe finds, and what does not fit, in light and dark, wide and narrow, with text twice as large."""
    found = []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        result = await axe.Axe().run(page)
        found += [
            (scheme, one["id"], [node["html"] for node in one["nodes"]])
            for one in result.response["violations"]
        ]
    await page.emulate_media(color_scheme="light")
    usual = page.viewport_size
    for width, size in ((320, ""), (640, "200%"), (360, "")):
        await page.set_viewport_size({"width": width, "height": 640})
        await page.evaluate(f"document.documentElement.style.fontSize = '{size}'")
        if not await fits(page):
            found.append((width, size, "has to be scrolled sideways"))
    await page.evaluate("document.documentElement.style.fontSize = ''")
    await page.set_viewport_size(usual)
    return found


async def picture(page, name, tmp_path, y=0):
    """A picture of the page from `y` on, for docs/: small."""
    folder = DOCS if os.environ.get("SCREENSHOTS") else tmp_path
    path = folder / f"panel-{name}.png"
    await page.screenshot(path=path, animations="disabled", clip={**PICTURE, "y": y})
    assert path.stat().st_size <= PICTURE_BYTES_MAX
    assert (DOCS / path.name).exists(), "SCREENSHOTS=1 makes the pictures of docs/"


async def test_every_state_of_a_call(browser, opened, sit_down, hand_over, tmp_path):
    """No call, verified, one factor short, nothing left, locked, ended: a word and a shape each, and nothing that axe finds."""
    told = []
    async with opened(clock=Clock(NOON_MS)) as centre:
        ann = await sit_down(centre)
        async with at_the_page(browser, ann, viewport={"width": 840, "height": 600}) as page:

            async def look(name=""):
                if name:
                    await picture(page, name, tmp_path)
                shape = await page.get_attribute(".status .shape", "class")
                told.append((await word(page), shape.removeprefix("shape shape-")))
                assert await fine(page) == []

            await page.goto(HOME)
            await look()
            line, token = await hand_over(centre, between_s=200)
            centre.clock.advance(20)
            await page.fill("#token", token)
            await page.press("#token", "Enter")
            await page.wait_for_url("**/calls/*")
            await look("verified")
            centre.clock.advance(401)
            await page.reload()
            await look("needs")
            centre.clock.advance(200)
            await page.reload()
            await look()
            for guess in range(5):
                guesser = centre.call("+15559990000")
                await guesser.until_input()
                await guesser.press("123456#")
                await guesser.press(f"1111111{guess}")
                if not guesser.over:
                    await guesser.hang_up()
            await page.reload()
            await look()
            await line.hang_up()
            await page.reload()
            await look()
    assert told == [
        ("Not verified", "not_verified"),
        ("Verified", "verified"),
        ("Needs one factor", "needs_factor"),
        ("Not verified", "not_verified"),
        ("Locked", "locked"),
        ("Call ended", "ended"),
    ]


async def test_without_a_script_all_of_it_works(browser, opened, sit_down, hand_over):
    """Forms and links are enough: a script only saves pressing reload."""
    async with opened() as centre:
        ann = await sit_down(centre)
        async with at_the_page(browser, ann, java_script_enabled=False) as page:
            await page.goto(HOME)
            await page.fill("#token", "0" * 26)
            await page.click("text=Redeem >> nth=-1")
            assert "That was not accepted" in await page.inner_text(".message")
            _, token = await hand_over(centre)
            await page.fill("#token", token)
            await page.press("#token", "Enter")
            assert await word(page) == "Verified"
            await page.click("text=Log out")
            assert "/calls/" not in page.url


async def test_a_keyboard_is_enough(browser, opened, sit_down, hand_over):
    """Tab goes from top to bottom and out again, what is marked can be seen, Enter does it."""
    async with opened() as centre:
        ann = await sit_down(centre)
        _, token = await hand_over(centre)
        async with at_the_page(browser, ann) as page:
            await page.goto(HOME)
            assert await page.evaluate("document.activeElement.id") == "token"
            await page.keyboard.type(token)
            await page.keyboard.press("Enter")
            await page.wait_for_url("**/calls/*")
            stops = []
            for _ in range(20):
                await page.keyboard.press("Tab")
                at, outlined = await page.evaluate(
                    """() => { const e = document.activeElement; return [
                       e === document.body ? "" : e.id || e.textContent.trim(), getComputedStyle(e).outlineStyle]; }"""
                )
                if not at:
                    break
                stops.append(at)
                assert outlined != "none", at
    quietly = "Report a threat, quietly: the caller notices nothing"
    around, buttons = (
        ["Skip to the caller", "Caller", quietly, "Log out"],
        ["send", "queue", "mint"],
    )
    assert stops == [*around, *buttons, "token", "Redeem", "Keys"]


class Away(MemoryStore):
    """A store that can be out of reach for a while."""

    away = False

    async def read(self, key):
        if self.away:
            raise StoreFault("it does not answer")
        return await super().read(key)


async def test_what_happens_is_followed(browser, opened, sit_down, hand_over):
    """The guard's events change the page by themselves; it says so once, and whoever was typing goes on typing."""
    async with opened() as centre:
        ann = await sit_down(centre)
        line, token = await hand_over(centre)
        async with at_the_page(browser, ann) as page:
            await page.goto((await ann.redeem(token)).headers["Location"])
            await page.focus("#token")
            await page.keyboard.type("10Z073")
            assert await page.inner_text("#announce") == ""
            await line.hang_up()
            await page.wait_for_selector("h1:has-text('Call ended')")
            assert (await page.inner_text("#announce")).startswith("Call ended. ")
            assert (await page.title()).startswith("Call ended ·")
            await page.keyboard.type("5QN")
            assert await page.input_value("#token") == "10Z0735QN"


async def test_a_stream_that_breaks_is_not_verified(browser, opened, sit_down, hand_over, tmp_path):
    """While the guard cannot say, and when its line goes dead without a word; what was known is gone, and comes back by itself."""
    store = Away()
    async with opened(store=store) as centre:
        ann = await sit_down(centre)
        _, token = await hand_over(centre)
        async with at_the_page(browser, ann, viewport={"width": 840, "height": 400}) as page:
            await page.clock.install()
            await page.goto((await ann.redeem(token)).headers["Location"])
            assert await word(page) == "Verified"
            store.away = True
            await page.wait_for_selector(".no_guard h1:has-text('Not verified')")
            assert "123456" not in await page.inner_text("main")
            assert re.search(
                r"No connection\s*What stood here was known at \d\d:\d\d:\d\d, and",
                await page.text_content("#standing"),
            )
            assert (await page.inner_text("#announce")).startswith("Not verified. The guard does not answer")
            await picture(page, "no-guard", tmp_path)
            assert await fine(page) == []
            store.away = False
            await page.wait_for_selector(".verified")
            await page.clock.fast_forward(36_000)
            await page.wait_for_selector(".no_guard")
            await page.clock.fast_forward(3_500)
            await page.wait_for_selector(".verified")


async def test_beside_a_desk_of_others(browser, opened, sit_down, hand_over):
    """In a frame of an origin that was named it shows, and takes a token from it; in any other one it does not show at all."""
    async with AsyncExitStack() as stack:
        shown: dict[str, str] = {}

        async def desk(request):
            return web.Response(text=shown[request.path[1:]], content_type="text/html")

        pages = web.Application()
        pages.router.add_get("/{name}", desk)
        host = await listen(pages, stack)
        async with opened(extra={"embedders": (host,)}) as named, opened() as unnamed:
            panel = {"named": named.guard_url, "unnamed": unnamed.guard_url}
            for name, url in panel.items():
                text = f'<!doctype html><iframe src="{url}{HOME}" title="panel"></iframe>'
                shown[name] = text
            ann, bob = await sit_down(named), await sit_down(unnamed)
            _, token = await hand_over(named)
            async with at_the_page(browser, ann) as page:
                await page.goto(f"{host}/named")
                frame = page.frames[1]
                await frame.wait_for_selector("#token")
                await page.evaluate(
                    "([token, to]) => frames[0].postMessage({ivrguardToken: token}, to)",
                    [token, named.guard_url],
                )
                await frame.wait_for_selector(".verified")
            async with at_the_page(browser, bob, refused_frame=True) as page:
                await page.goto(f"{host}/unnamed")
                assert await page.frames[1].query_selector("#token") is None


async def test_a_code_is_read_back(browser, opened, sit_down, hand_over, tmp_path):
    """By keyboard alone: sent, read by the caller, typed, and counted; what is typed stays while the page follows."""
    async with opened(clock=Clock(NOON_MS)) as centre:
        ann = await sit_down(centre)
        _, token = await hand_over(centre)
        path = (await ann.redeem(token)).headers["Location"]
        centre.clock.advance(700)
        async with at_the_page(browser, ann, viewport={"width": 840, "height": 600}) as page:
            await page.goto(path)
            assert await word(page) == "Not verified"
            await page.press("text=Send a code >> nth=-1", "Enter")
            await page.wait_for_selector("#digits")
            assert await fine(page) == []
            code = centre.carrier.code_for("+15551230001")
            await page.focus("#digits")
            await page.keyboard.type(code)
            await picture(page, "code", tmp_path, y=200)
            await page.keyboard.press("Enter")
            await page.wait_for_selector("h1:has-text('Needs one factor')")
            assert "That is the code." in await page.inner_text("#message")
            assert code not in await page.content()


async def test_a_time_aside(browser, joined):
    """The button, "Evaluating" while the caller is at the keypad, and the word for how it ended, all of it without a reload."""
    async with joined() as room, at_the_page(browser, room.desk) as page:
        await page.goto(room.path)
        await page.evaluate("window.same = true")
        await page.click("button:has-text('PIN')")
        await room.settle()
        await page.wait_for_selector("h1:has-text('Evaluating')")
        assert "The caller is at the keypad" in await page.inner_text("#standing")
        assert await fine(page) == []
        await page.evaluate("window.same = true")
        await room.line.press("24681357")
        await room.settle()
        await page.wait_for_selector("text=yes, that was right")
        assert await page.evaluate("window.same")
        assert "24681357" not in await page.content()


async def test_a_threat_is_reported_and_decided(browser, opened, sit_down, hand_over, tmp_path):
    """One press at the caller's page, the checklist after it; the team takes it in hand, assesses, decides, closes."""
    async with opened(clock=Clock(NOON_MS)) as centre:
        ann = await sit_down(centre)
        _, token = await hand_over(centre)
        path = (await ann.redeem(token)).headers["Location"]
        async with at_the_page(browser, ann) as page:
            await page.goto(path)
            await page.click("text=Report a threat")
            await page.wait_for_url("**/reports/*")
            assert await fine(page) == []
            await page.fill("#q-exact_words", "it is in the lobby")
            await page.get_by_label("calm", exact=True).check()
            await page.click("text=Save what is filled in")
            assert "Saved." in await page.inner_text("[role=status]")
            assert await page.input_value("#q-exact_words") == "it is in the lobby"
        centre.clock.advance(100)
        rita = await sit_down(
            centre, Agent("agent:rita", "Rita Reed", frozenset((Role.RISK,)), shown_ms=centre.clock())
        )
        async with at_the_page(browser, rita, viewport={"width": 840, "height": 600}) as page:
            await page.goto("/.ivrguard/console/incidents")
            assert await fine(page) == []
            await page.click("table a")
            assert await word(page) == "Nobody has it"
            await page.click("text=I have it in hand")
            await page.get_by_label("low", exact=True).check()
            await page.fill("#assessed", "has called before")
            await page.click("text=Assess >> nth=-1")
            await page.wait_for_selector("text=assessed it: low")
            assert await fine(page) == []
            await picture(page, "incident", tmp_path)
            await page.select_option("#decision", "no_action")
            await page.fill("#decided", "known caller")
            await page.get_by_label("and close it").check()
            await page.click("text=Decide")
            await page.wait_for_selector("h1:has-text('Closed')")
            assert await fine(page) == []


async def test_the_log_in(browser, opened, sit_down):
    """Where everything begins: labelled, in the order of the keyboard, and nothing that axe finds."""
    async with opened() as centre:
        nobody = await sit_down(centre)
        nobody.secret = "x" * 43
        async with at_the_page(browser, nobody) as page:
            await page.goto(HOME)
            assert "/login" in page.url
            assert await page.evaluate("document.activeElement.id") == "name"
            assert await fine(page) == []
