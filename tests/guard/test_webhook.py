"""One webhook of a caller's leg: what comes first, what the world answers, what is remembered, what goes wrong."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivrguard.core.assurance import AnyOf, Kind
from ivrguard.core.call import Books, Call, Rest, Step
from ivrguard.core.caller import ANONYMOUS
from ivrguard.core.errors import NotifyFault, UpstreamFault
from ivrguard.core.flow import Flow
from ivrguard.core.lockout import Ledger
from ivrguard.core.rules import ANYONE, Demand, Rule, Target
from ivrguard.directory.local import LocalDirectory, canonical_id
from ivrguard.factors.pin import PinJudge
from ivrguard.guard import books, webhook
from ivrguard.keyring import Keyring
from ivrguard.ports import Account, Change, Credential, Key, Put, Reply, Request
from ivrguard.telephony.document import TOKEN_HEADER, TOKEN_NAME

Centre = Any  # conftest.py has it, and Line: a caller and the document he hears
Line = Any
Page = Callable[..., Reply]

ISSUER = "https://guard.example"
IVR = "https://ivr.example"
OWNER = "+15551230001"
STRANGER = "+15559870002"
ACCOUNT = "123456789"
APP_ACCOUNT = "555000111"
PIN = "24681357"
WRONG = "11112229"
FORM = "application/x-www-form-urlencoded"
ANY_TRANSFER = Target("*", "*")

ONE_FACTOR = Demand("one_factor", intent="agent")


def said(flow: Flow, *prompts: str) -> str:
    """Prompts as a caller hears them."""
    return " ".join(flow.prompts[name].format(ask="account number", digits="8", key="2") for name in prompts)


# ── the first event ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_first_webhook_asks_who_is_calling(centre: Centre):
    """A new call begins with a question of the guard's own; the IVR hears nothing before it is answered."""
    line = centre.line()

    await line.dial()

    assert said(centre.flow, "identify_or_known") == line.said
    assert line.outcome == "ask"
    assert centre.ivr.asked == []


async def test_a_path_open_to_anyone_is_forwarded_at_once(centre: Centre):
    """No question, no account, and no ledger is looked at: the call is all that is kept."""
    centre.ivr.pages["/hours"] = "<Say>Nine to five.</Say>"
    line = centre.line()

    await line.post("/hours")

    assert line.said == "Nine to five."
    call = await centre.stored(line)
    assert (call.account, call.pending, call.question, call.turn) == ("", None, None, 1)


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_request_held_up_is_sent_afterwards_exactly_as_it_came(centre: Centre, method: str):
    """Two questions later the IVR gets the very request: method, URL, bytes, fields in their order, headers."""
    line = centre.line(extra=(("CallerName", "Zoë & Söhne +1"), ("Odd", ""), ("Card", "a=b%26")))
    await line.dial(method=method, SpeechResult="") if method == "POST" else await line.post(
        "/?promo=a%20b", method="GET"
    )
    sent = line.hook

    await line.press(f"{ACCOUNT}#")
    await line.press(PIN)

    form = urlencode(line.params(**({"SpeechResult": ""} if method == "POST" else {})))
    [asked] = centre.ivr.asked
    query = "?promo=a%20b" if method == "GET" else ""
    assert asked.request == Request(
        method, f"{IVR}/voice{query}", sent.delivery.params, form.encode(), FORM, (("accept", "text/xml"),)
    )


async def test_what_is_held_up_is_sealed_at_rest(centre: Centre):
    """Neither the request that waits, nor the IVR's cookies, nor the last answer can be read in the store."""
    centre.ivr.pages["/hours"] = lambda _: Reply(
        200, "", "text/xml", b"<Response><Say>Topsecret</Say></Response>", cookies="biscuit"
    )
    line = centre.line(extra=(("CallerName", "Zebulon"),))
    await line.post("/hours")
    await line.post("/voice")

    row = centre.store.store._rows[books.call_key(line.sid)].data

    assert (await centre.stored(line)).pending.held
    assert [word for word in (b"Zebulon", b"biscuit", b"Topsecret", b"CallerName") if word in row] == []


async def test_keys_for_another_question_change_nothing(centre: Centre):
    """A nonce of nobody's, or of a question that has been answered: neutral, and the call stays as it was."""
    line = centre.line()
    await line.dial()
    first = line.action
    await line.press(f"{ACCOUNT}#")
    before = await centre.stored(line)

    for url in (f"{ISSUER}/.ivrguard/call/{'0' * 32}", first):
        await line.post(url, PIN)

        assert (line.outcome, line.verbs) == ("stale", ["Hangup"])
        assert before == await centre.stored(line)


async def test_keys_without_a_call_make_none(centre: Centre):
    """A question of a call that is not there (swept, or never was) is answered neutrally, and begins nothing."""
    line = centre.line()

    await line.post(f"{ISSUER}/.ivrguard/call/{'0' * 32}", PIN)

    assert line.outcome == "stale"
    assert await centre.store.read(books.call_key(line.sid)) is None


async def test_a_question_ends_when_the_leg_asks_for_something_else(centre: Centre):
    """The leg was sent elsewhere (a REST redirect): the old question is over, and its nonce opens nothing."""
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    old = line.action

    await line.post("/balance")
    assert said(centre.flow, "pin.short", "other_factor") == line.said

    await line.post(old, PIN)
    assert line.outcome == "stale"
    assert await centre.ledger() is None


# ── who is it ────────────────────────────────────────────────────────────────────────────────────────────


@given(st.text("0123456789", min_size=1, max_size=32))
def test_digits_are_an_account_in_its_one_spelling(digits: str):
    """Keys that fit the account question are the canonical id: one account has one set of counters."""
    assert digits == canonical_id(digits)


@pytest.mark.parametrize(
    ("from_", "account"),
    [(OWNER, ACCOUNT), ("+15550000099", "number:+15550000099")],
    ids=["on file", "not on file"],
)
async def test_the_number_on_file_names_an_account_and_proves_nothing(
    centre: Centre, from_: str, account: str
):
    """1 takes the account of the number; whether there is one cannot be heard; the PIN is asked for either way."""
    line = centre.line(from_)
    await line.dial()

    await line.press("1#")

    assert said(centre.flow, "pin") == line.said
    call = await centre.stored(line)
    assert (call.account, call.proofs) == (account, ())


@pytest.mark.parametrize(
    ("verstat", "lane"),
    [("TN-Validation-Passed-A", OWNER), ("TN-Validation-Passed-B", "pool"), (None, "pool")],
)
async def test_a_number_that_verified_before_has_a_lane_of_its_own(
    centre: Centre, verstat: str | None, lane: str
):
    """If its carrier vouches for it; the first time nobody is trusted, vouched for or not."""
    extra = (("StirVerstat", verstat),) if verstat else ()
    lanes = []
    for _ in range(2):
        line = await centre.verified(centre.line(extra=extra))
        lanes.append((await centre.stored(line)).lane)

    assert lanes == ["pool", lane]


@pytest.mark.parametrize("from_", ["anonymous", "sip:bob@pbx.example", "client:bob"])
async def test_a_caller_without_a_number_is_offered_none(centre: Centre, from_: str):
    """Then 1 is not an answer but a number of keys that does not fit."""
    line = centre.line(from_)
    await line.dial()
    assert said(centre.flow, "identify") == line.said

    await line.press("1#")

    assert said(centre.flow, "mistyped", "identify.short") == line.said


async def test_a_call_that_we_made_asks_the_person_we_called(centre: Centre):
    """outbound-api: the person is `To`; the flow is that of our own number, which stands in `From`."""
    line = centre.line("+18005550100", to=OWNER, direction="outbound-api")
    await line.dial()
    await line.press("1#")
    await line.press(PIN)

    call = await centre.stored(line)
    assert (line.outcome, call.caller.value, call.account) == ("forwarded", OWNER, ACCOUNT)
    numbers = await centre.store.read(books.trust_key(ACCOUNT))
    assert [one.number for one in numbers] == [OWNER]


async def test_after_the_first_proof_only_what_the_account_has_is_asked(centre: Centre):
    """The account with an app is asked for its app where the other one gets a text message."""
    line = centre.line(STRANGER)
    await line.dial()
    await line.press(f"{APP_ACCOUNT}#")
    await line.press(PIN)

    await line.press("3")
    assert "authenticator app" in line.said

    await line.press(centre.app_code())
    assert (line.outcome, centre.ivr.paths()) == ("forwarded", ["/voice", "/menu"])
    assert centre.texts.sent == []


# ── right, wrong, neither ────────────────────────────────────────────────────────────────────────────────


async def test_a_wrong_pin_is_counted_and_a_right_one_forgives(centre: Centre):
    """The ledger holds the failure until the right answer; a finish key is no part of a PIN."""
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")

    await line.press(WRONG)
    assert said(centre.flow, "again", "pin.short", "other_factor") == line.said
    assert len((await centre.ledger()).attempts) == 1

    await line.post(line.action, f"{PIN}#")
    assert line.outcome == "forwarded"
    assert Ledger() == await centre.ledger()


async def test_an_unknown_account_hears_what_a_known_one_hears(centre: Centre):
    """The same questions in the same words; its ledger expires, a known account's does not."""
    heard: dict[str, list[str]] = {}
    for account in (ACCOUNT, "999999999"):
        line = centre.line(STRANGER)
        await line.dial()
        for keys in (f"{account}#", WRONG, WRONG, WRONG):
            await line.press(keys)
            heard.setdefault(account, []).append(line.said)

    assert heard[ACCOUNT] == heard["999999999"]
    rows = centre.store.store._rows
    assert rows[books.ledger_key(f"{ACCOUNT}/pin/pool")].expires_ms is None
    assert rows[books.ledger_key("999999999/pin/pool")].expires_ms is not None


async def test_a_locked_account_is_not_judged_and_hears_the_same(centre: Centre):
    """The sixth answer is right and comes too late: the same words, no proof, nothing further counted."""
    lines = []
    for guesses in ((WRONG,) * 3, (WRONG, WRONG, PIN)):
        line = centre.line(STRANGER)
        await line.dial()
        await line.press(f"{ACCOUNT}#")
        for keys in guesses:
            await line.press(keys)
        lines.append(line.said)

    assert lines[0] == lines[1] == said(centre.flow, "refused")
    assert await centre.events("authn_login_fail") == ["wrong"] * 5 + ["locked"]
    assert len((await centre.ledger()).attempts) == 5
    assert centre.ivr.asked == []


@dataclass
class Watched:
    """A real judge, and whether it was given anything to compare with."""

    judge_: PinJudge
    given: list[bool] = field(default_factory=list)
    kind = Kind.PIN

    async def judge(self, credential: Credential | None, *rest: Any) -> Any:
        self.given.append(credential is not None)
        return await self.judge_.judge(credential, *rest)


async def test_a_locked_accounts_secret_is_not_even_looked_at(centre: Centre, pins: PinJudge):
    """The hash is computed all the same, over nothing; so it is for an account that does not exist."""
    watched = Watched(pins)
    centre.having(locks=replace(centre.flow.locks, account=replace(centre.flow.locks.account, failures=1)))
    world = centre.world()
    centre.node(judges={**world.judges, Kind.PIN: watched})
    for account in (ACCOUNT, "999999999"):
        line = centre.line(STRANGER)
        await line.dial()
        await line.press(f"{account}#")
        for _ in range(2):
            await line.press(WRONG)

    assert watched.given == [True, False, False, False]


async def test_a_locked_caller_may_be_put_through_to_a_human(centre: Centre):
    """`on_locked: {dial: ...}`: plain, without a token."""
    flow = centre.flow
    centre.having(
        locks=replace(
            flow.locks, on_locked_dial="+18005550199", account=replace(flow.locks.account, failures=2)
        )
    )
    line = centre.line(STRANGER)
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    for _ in range(3):
        await line.press(WRONG)

    assert line.verbs == ["Say", "Dial"]
    assert line.document.find("Dial").text == "+18005550199"


async def test_a_secret_that_cannot_be_judged_is_no_guess(centre: Centre, keys: Keyring):
    """The pepper is not configured here: an apology, the attempt is taken back, and the record says why."""
    directory = LocalDirectory(centre.store, keys)
    odd = Credential(Kind.PIN, secret="x", key_id="gone")
    await directory.add(Account("777777777", (), (odd,)), now_ms=centre.clock(), by="test")
    line = centre.line()
    await line.dial()
    await line.press("777777777#")

    await line.press(PIN)

    assert said(centre.flow, "unavailable") == line.said
    assert await centre.events("authn_attempt_withdrawn") == ["fault"]
    assert Ledger() == await centre.ledger("777777777")


async def test_an_answer_waits_for_a_free_thread_and_counts_once(centre: Centre, keys: Keyring):
    """Beyond the bound of hashes: a short hold, as often as it takes; the keys wait sealed."""
    busy = PinJudge(keys.peppers, threads=1, queue_per_thread=0)
    assert busy._places.acquire(blocking=False)  # somebody else's PIN is on the only thread
    guard = centre.node()
    centre.nodes["a"] = type(guard)(replace(guard.world, judges={**guard.world.judges, Kind.PIN: busy}))
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")

    await line.press(PIN)
    for _ in range(2):
        assert line.verbs == ["Say", "Pause", "Redirect"]
        assert Ledger() == await centre.ledger()
        assert PIN not in repr(asdict(await centre.stored(line)))
        await line.go_on()
    busy._places.release()
    await line.go_on()

    assert line.outcome == "forwarded"
    assert await centre.events("authn_attempt_withdrawn") == ["busy"] * 3
    await busy.close()


async def test_a_time_step_works_once(centre: Centre):
    """A second call with the same code from the app is refused: the step is kept with the account, for a day."""
    outcomes = []
    for _ in range(2):
        line = centre.line(STRANGER)
        await line.dial()
        await line.press(f"{APP_ACCOUNT}#")
        await line.press(PIN)
        await line.press("3")
        await line.press(centre.app_code())
        outcomes.append(line.outcome)

    assert outcomes == ["forwarded", "ask"]
    assert await centre.events("authn_login_fail") == ["used"]
    spent = centre.store.store._rows[books.spent_key(APP_ACCOUNT)]
    assert spent.expires_ms == centre.clock() + books.SPENT_KEPT_S * 1000


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────


def code_first(flow: Flow) -> dict[str, object]:
    """Parts of a flow whose first question is a code by message."""
    return {"levels": {**flow.levels, "one_factor": AnyOf(("code", "pin", "app"))}}


async def test_nobody_waits_for_a_first_message(centre: Centre):
    """Nothing is proved yet: known or not, the answer is there at once; only the known account's phone rings."""
    centre.having(**code_first(centre.flow))
    heard = []
    for account in (ACCOUNT, "999999999"):
        line = centre.line()
        await line.dial()
        await line.press(f"{account}#")
        heard.append(line.said)
        assert centre.texts.sent == []
    await centre.node().drain()

    assert heard[0] == heard[1]
    assert [to for to, _ in centre.texts.sent] == [OWNER]


async def test_a_first_message_that_fails_is_the_operators_to_see(
    centre: Centre, logged: list[dict[str, object]]
):
    """The caller hears what he would hear otherwise."""
    centre.having(**code_first(centre.flow))
    centre.texts.fault = NotifyFault("the carrier is down")
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    await centre.node().drain()

    assert "texted" in line.said
    assert [each["event"] for each in logged] == ["message_not_sent"]


@pytest.mark.parametrize(
    ("prompts", "intent", "words"),
    [
        ({"intent.wire": "a wire transfer"}, "wire", "a wire transfer"),
        ({}, "wire", "wire"),
        ({"no_intent": "this call"}, "", "this call"),
    ],
    ids=["as spoken", "the bare word", "none"],
)
async def test_a_message_says_what_its_code_is_for(
    centre: Centre, prompts: dict[str, str], intent: str, words: str
):
    """The code's text names the intent, so that nobody reads it to a swindler for something else."""
    plain = {name: text for name, text in centre.flow.prompts.items() if not name.startswith("intent.")}
    centre.having(
        prompts={**plain, "sms_text": "{code} is for {intent}.", **prompts},
        rules=(Rule(Demand("two_factor", intent=intent), path="/menu"),),
    )
    line = await centre.verified()

    await line.press("3")

    assert centre.texts.sent[-1][1] == f"{centre.texts.code()} is for {words}."


async def test_a_code_works_once_and_for_its_call(centre: Centre):
    """The right code goes through; the same code in another call is wrong."""
    first = await centre.verified()
    await first.press("3")
    code = centre.texts.code()
    await first.press(code)
    assert first.outcome == "forwarded"

    second = await centre.verified()
    await second.press("3")
    await second.press(code)

    assert second.outcome == "ask"
    assert code != centre.texts.code()


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
async def test_nobody_is_told_of_a_code_before_the_carrier_has_it(
    centre: Centre, monkeypatch: pytest.MonkeyPatch, taken: bool
):
    """
    The same webhook at another node while the carrier takes its time: it waits, and both are answered alike.

    Found by tests/sim: the second was told that a code had been sent, the first that it could not be.
    """
    monkeypatch.setattr("ivrguard.guard.UNFINISHED_POLL_S", 0)
    line, begun, asked_again = await centre.verified(), asyncio.Event(), asyncio.Event()
    line.hook = line.hook_of(f"{ISSUER}/menu", "3")
    centre.texts.fault = None if taken else NotifyFault("no")
    send = centre.texts.send

    async def slowly(*args: object, **named: object) -> None:
        begun.set()
        await asked_again.wait()
        await send(*args, **named)

    monkeypatch.setattr(centre.texts, "send", slowly)
    first = asyncio.create_task(centre.node("a").voice(line.hook))
    await begun.wait()
    second = asyncio.create_task(centre.node("b").voice(line.hook))
    await asyncio.sleep(0)
    asked_again.set()

    answers = await asyncio.gather(first, second)
    assert answers[0].body == answers[1].body
    assert answers[1].outcome == "repeated"
    assert (b"texted" in answers[0].body) == taken
    assert len(centre.texts.sent) == taken


async def test_a_code_that_cannot_be_sent_gives_way_to_another_factor(
    centre: Centre, pin: Credential, keys: Keyring
):
    """The account has an app as well: it is asked for the app in the same breath."""
    directory = LocalDirectory(centre.store, keys)
    app = (await directory.find(APP_ACCOUNT)).credential(Kind.TOTP)
    both = Account("222222222", (), (pin, Credential(Kind.SMS_CODE, number=OWNER), app))
    await directory.add(both, now_ms=centre.clock(), by="test")
    line = centre.line(STRANGER)
    await line.dial()
    await line.press("222222222#")
    await line.press(PIN)
    centre.texts.fault = NotifyFault("the carrier is down")

    await line.press("3")
    assert "authenticator app" in line.said
    await line.again()
    assert "authenticator app" in line.said  # what was said in the end is what is said again

    await line.press(centre.app_code())
    assert line.outcome == "forwarded"


@pytest.mark.parametrize("why", ["carrier down", "no sender", "no number", "disabled meanwhile"])
async def test_a_code_that_cannot_be_sent_and_no_other_factor(centre: Centre, keys: Keyring, why: str):
    """Verified so far, and no further: an apology, not a refusal; what he wanted is not let through."""
    directory = LocalDirectory(centre.store, keys)
    account = await directory.find(ACCOUNT)
    if why == "no sender":
        centre.texts = None
    if why == "no number":  # our own tables refuse it; another directory may not
        key = Key("account", ACCOUNT)
        bare = replace(account, credentials=(account.credentials[0], Credential(Kind.SMS_CODE)))
        await centre.store.amend([key], lambda _: Change(None, (Put(key, bare),)))
    line = await centre.verified()
    if why == "carrier down":
        centre.texts.fault = NotifyFault("the carrier is down")
    if why == "disabled meanwhile":
        await directory.disable(ACCOUNT, now_ms=2, by="test")

    await line.press("3")

    assert said(centre.flow, "unavailable") == line.said
    assert await centre.events("authz_fail") == ["undeliverable"]
    assert centre.ivr.paths() == ["/voice"]


@pytest.mark.parametrize("reached", [True, False], ids=["number on file", "none"])
async def test_the_owner_is_told_of_a_right_first_and_a_wrong_second_factor(
    centre: Centre, keys: Keyring, reached: bool
):
    """Once a call, by message to the number on file; where there is none, nothing breaks."""
    if not reached:
        directory = LocalDirectory(centre.store, keys)
        account = await directory.find(ACCOUNT)
        await directory.replace(replace(account, numbers=()), now_ms=1, by="test")
    line = await centre.verified(centre.line(STRANGER))
    await line.press("3")
    wrong = f"{(int(centre.texts.code()) + 1) % 10**6:06}"

    await line.press(wrong)
    await line.press(wrong)
    await centre.node().drain()

    warnings = [(to, text) for to, text in centre.texts.sent if text == centre.flow.prompts["sms_warning"]]
    assert warnings == ([(OWNER, centre.flow.prompts["sms_warning"])] if reached else [])


# ── forward ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_ivr_is_told_what_is_proved(centre: Centre, keys: Keyring):
    """The assertion is signed, for the IVR's origin, for a minute; nobody is named before something is proved."""
    centre.ivr.pages["/hours"] = "<Say>Nine to five.</Say>"
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    await line.post("/hours")  # an account is claimed by now, and nothing proved
    await line.post("/voice")
    await line.press(PIN)
    await line.press("3")
    await line.press(centre.texts.code())

    told = [
        keys.verify(each.assertion, typ="ivrguard-assertion+jwt", iss=ISSUER, aud=IVR, now_ms=centre.clock())
        for each in centre.ivr.asked
    ]

    now_s = centre.clock() // 1000
    whom = {"sub": ACCOUNT, "auth_time": now_s}
    assert [(each["acr"], each["amr"], each["intent"]) for each in told] == [
        ("none", [], ""),
        ("one_factor", ["pin"], ""),
        ("two_factor", ["pin", "otp", "sms", "mfa"], "wire"),
    ]
    assert [{name: each[name] for name in ("sub", "auth_time") if name in each} for each in told] == [
        {},
        whom,
        whom,
    ]
    assert {(each["call_sid"], each["iat"], each["exp"]) for each in told} == {(line.sid, now_s, now_s + 60)}
    assert len({each["jti"] for each in told}) == 3


async def test_a_new_code_does_not_make_an_old_pin_young(centre: Centre, keys: Keyring):
    """`auth_time` is how fresh the level is: an IVR that compares it with an age relies on both factors."""
    centre.having(rules=(Rule(Demand("two_factor"), path="/menu", digits="3"),))
    line = await centre.verified()
    proved_s = centre.clock() // 1000
    centre.clock.advance(600)

    await line.press("3")
    await line.press(centre.texts.code())

    told = keys.verify(
        centre.ivr.asked[-1].assertion,
        typ="ivrguard-assertion+jwt",
        iss=ISSUER,
        aud=IVR,
        now_ms=centre.clock(),
    )
    assert (told["acr"], told["auth_time"]) == ("two_factor", proved_s)


async def test_cookies_of_the_ivr_stay_with_the_call(centre: Centre):
    """What it set on one hop it gets on the next, and in the next webhook; another call has none of them."""
    centre.ivr.pages["/menu"] = lambda _: Reply(302, "", None, b"", location="/on", cookies="jar-1")
    line = await centre.verified()
    await line.press("1")
    await line.post("/voice")
    await centre.verified()

    cookies = [(each.path, each.cookies) for each in centre.ivr.asked]
    assert cookies == [("/voice", ""), ("/menu", ""), ("/on", "jar-1"), ("/voice", "jar-1"), ("/voice", "")]


@pytest.mark.parametrize(
    ("status", "method", "digits"),
    [(301, "GET", None), (302, "GET", None), (303, "GET", None), (307, "POST", "1"), (308, "POST", "1")],
)
async def test_a_redirect_is_followed_here(
    centre: Centre, page: Page, status: int, method: str, digits: str | None
):
    """As Twilio does it: a GET without what the caller keyed, or the same again where the status says so."""
    centre.ivr.pages["/menu"] = page(status=status, location="deep/on?x=1")
    centre.ivr.pages["/deep/on"] = "<Say>Here.</Say><Redirect>next</Redirect>"
    line = await centre.verified()

    await line.press("1")

    last = centre.ivr.asked[-1].request
    assert (last.method, last.url, dict(last.params).get("Digits")) == (method, f"{IVR}/deep/on?x=1", digits)
    assert dict(last.params)["CallSid"] == line.sid
    assert line.said == "Here."
    assert line.redirect.startswith(f"{ISSUER}/deep/next?_ivrguard=tp.")


async def test_a_redirect_leads_nowhere_that_the_caller_may_not_go(centre: Centre, page: Page):
    """A hop to a protected path asks first, and is made when the answer is right."""
    centre.ivr.pages["/menu"] = page(status=302, location="/wire/amount")
    centre.ivr.pages["/wire/amount"] = "<Say>How much?</Say>"
    line = await centre.verified()

    await line.press("1")
    assert (line.outcome, centre.ivr.paths()) == ("ask", ["/voice", "/menu"])

    await line.press(centre.texts.code())
    assert line.said == "How much?"
    assert [("GET", f"{IVR}/wire/amount")] == [
        (each.request.method, each.request.url) for each in centre.ivr.asked[2:]
    ]


async def test_a_redirect_to_an_origin_not_listed_is_refused(centre: Centre, page: Page):
    """The caller hears an apology, and nothing goes there."""
    centre.ivr.pages["/menu"] = page(status=302, location="https://evil.example/x")
    line = await centre.verified()

    await line.press("1")

    assert (line.outcome, line.said) == ("upstream_refused", said(centre.flow, "unavailable"))
    assert centre.ivr.paths() == ["/voice", "/menu"]


@pytest.mark.parametrize(("hops", "outcome"), [(10, "forwarded"), (11, "fault_upstream")])
async def test_ten_redirects_are_followed(centre: Centre, page: Page, hops: int, outcome: str):
    """Twilio's own limit."""
    for hop in range(hops):
        centre.ivr.pages[f"/hop/{hop}"] = page(status=302, location=f"/hop/{hop + 1}")
    centre.ivr.pages["/menu"] = page(status=302, location="/hop/1")
    centre.ivr.pages[f"/hop/{hops}"] = "<Say>There.</Say>"
    line = await centre.verified()

    await line.press("1")

    assert line.outcome == outcome


async def test_an_ivr_that_leads_in_a_circle_is_left(centre: Centre, page: Page):
    """Redirects and demands by turns: neither bound is reached, the one on both is."""
    asks = page(
        status=401, challenge='Bearer error="insufficient_user_authentication", acr_values="one_factor"'
    )
    seen: dict[str, int] = {}

    def circle(request: Request) -> Reply:
        seen[request.url] = seen.get(request.url, 0) + 1
        return asks if seen[request.url] < 3 else page(status=302, location=f"/c/{len(seen)}")

    centre.ivr.pages.update({f"/c/{hop}": circle for hop in range(20)}, **{"/menu": circle})
    line = await centre.verified()

    await line.press("1")

    assert (line.outcome, line.said) == ("fault_upstream", said(centre.flow, "unavailable"))
    assert len(centre.ivr.asked) <= webhook.ROUNDS_MAX + 1


@pytest.mark.parametrize(
    ("page_", "outcome"),
    [
        (Reply(500, "", "text/xml", b"oops"), "fault_upstream"),
        (Reply(404, "", "text/xml", b""), "fault_upstream"),
        (Reply(401, "", "text/xml", b""), "fault_upstream"),
        (Reply(204, "", None, b""), "upstream_refused"),
        (Reply(200, "", "application/json", b"{}"), "upstream_refused"),
        (Reply(200, "", "text/xml", b"<Response>"), "upstream_refused"),
        (
            Reply(200, "", "text/xml", b"<Response><Redirect>https://evil.example/</Redirect></Response>"),
            "upstream_refused",
        ),
        (UpstreamFault("down"), "fault_upstream"),
    ],
)
async def test_an_ivr_that_is_down_or_talks_nonsense(centre: Centre, page_: object, outcome: str):
    """An apology; the answer is not remembered, so the provider's retry tries the IVR again."""
    line = await centre.verified()
    centre.ivr.pages["/menu"] = page_
    await line.press("1")
    assert (line.outcome, line.said) == (outcome, said(centre.flow, "unavailable"))

    centre.ivr.pages["/menu"] = "<Say>Up again.</Say>"
    await line.again()
    assert line.said == "Up again."

    await line.again()
    assert (line.outcome, line.said) == ("repeated", "Up again.")


# ── an IVR that knows better (RFC 9470) ──────────────────────────────────────────────────────────────────


async def test_the_ivr_asks_for_more_and_gets_its_request_again(centre: Centre, page: Page):
    """The level that it names is asked for; then the very request is repeated, byte for byte."""
    asks = page(
        status=401, challenge='Bearer error="insufficient_user_authentication", acr_values="x two_factor"'
    )
    answers = [asks, "<Say>Your balance.</Say>"]
    centre.ivr.pages["/menu"] = lambda _: answers.pop(0)
    line = await centre.verified()

    await line.press("1")
    assert "texted" in line.said
    await line.press(centre.texts.code())

    assert line.said == "Your balance."
    refused, repeated = centre.ivr.asked[-2:]
    assert refused.request == repeated.request
    assert dict(repeated.request.params)["Digits"] == "1"


async def test_a_maximum_age_wants_a_proof_anew(centre: Centre, page: Page):
    """`max_age`: the PIN of ten minutes ago is too old, the one keyed now is not."""
    asks = page(
        status=401,
        challenge='Bearer error="insufficient_user_authentication", acr_values="one_factor", max_age="60"',
    )
    answers = [asks, "<Say>Your balance.</Say>"]
    centre.ivr.pages["/menu"] = lambda _: answers.pop(0)
    line = await centre.verified()
    centre.clock.advance(600)

    await line.press("1")
    assert said(centre.flow, "pin.short", "other_factor") == line.said
    await line.press(PIN)

    assert line.said == "Your balance."


@pytest.mark.parametrize(
    ("acr", "reason", "asked"), [("nonsense", "acr_unknown", 1), ("one_factor", "acr_loop", 3)]
)
async def test_an_ivr_that_cannot_be_satisfied(centre: Centre, page: Page, acr: str, reason: str, asked: int):
    """A level that the flow has not, or one that is held and still not enough: an apology, and no endless asking."""
    centre.ivr.pages["/menu"] = page(
        status=401, challenge=f'Bearer error="insufficient_user_authentication", acr_values="{acr}"'
    )
    line = await centre.verified()

    await line.press("1")

    assert said(centre.flow, "unavailable") == line.said
    assert [reason] == await centre.events("authz_fail")
    assert centre.ivr.paths() == ["/voice"] + ["/menu"] * asked


# ── transfers ────────────────────────────────────────────────────────────────────────────────────────────

WORKFLOW = "WW" + "a1" * 16

TRANSFERS = {  # what the IVR writes, whom it reaches, and how the token travels
    "a task": (
        f'<Enqueue workflowSid="{WORKFLOW}"><Task>{{"lang":"en"}}</Task></Enqueue>',
        [f"workflow:{WORKFLOW}"],
        ["task"],
    ),
    "a plain queue": ("<Enqueue>support</Enqueue>", ["enqueue:support"], ["call"]),
    "a client": ("<Dial><Client>ada</Client></Dial>", ["client:ada"], ["parameter"]),
    "a SIP phone": ("<Dial><Sip>sip:a@pbx.example?X-R=1</Sip></Dial>", ["sip:sip:a@pbx.example"], ["sip"]),
    "a phone": ("<Dial>+18005550142</Dial>", ["number:+18005550142"], ["whisper"]),
    "a room": ("<Dial><Conference>desk</Conference></Dial>", ["conference:desk"], ["call"]),
    "a queue of others": ("<Dial><Queue>support</Queue></Dial>", ["queue:support"], ["call"]),
    "several at once": (
        "<Dial><Number>+18005550142</Number><Client>ada</Client><Sip>sip:a@pbx.example</Sip></Dial>",
        ["number:+18005550142", "client:ada", "sip:sip:a@pbx.example"],
        ["parameter", "sip", "whisper"],
    ),
}


async def transferred(centre: Centre, document: str) -> Line:
    """A caller whose transfer has gone through: one factor is all that it needs."""
    centre.having(rules=(Rule(ONE_FACTOR, transfer=ANY_TRANSFER),))
    centre.ivr.pages["/menu"] = document
    line = await centre.verified()
    await line.press("0")
    if line.verbs[-1:] == ["Redirect"] and "/.ivrguard/" in line.redirect:
        await line.go_on()
    return line


async def leg_of(centre: Centre, line: Line) -> Any:
    """The hand-over that the call is in."""
    return await centre.store.read(books.leg_key((await centre.stored(line)).legs[-1]))


@pytest.mark.parametrize("noun", TRANSFERS)
async def test_a_transfer_carries_its_token(centre: Centre, noun: str):
    """Cut out of the document, granted, and put back with the token where the agent's side can read it."""
    document, queues, carriers = TRANSFERS[noun]
    line = await transferred(centre, f"<Say>One moment.</Say>{document}<Say>Nobody is free.</Say>")

    leg = await leg_of(centre, line)
    assert (list(leg.queues), list(leg.carriers), leg.intent) == (queues, carriers, "agent")
    assert line.outcome == "transfer"
    assert line.verbs[1:] == ["Say"]
    token = books.token_of(centre.keys, leg.id)
    found = line.body.decode().count(token)
    assert found == len({"task", "parameter", "sip"} & set(carriers))
    whispers = [
        url for url in line.links("Number", "url") if url == f"{ISSUER}/.ivrguard/call/whisper/{leg.id}"
    ]
    assert len(whispers) == ("whisper" in carriers)


async def test_where_a_token_stands(centre: Centre):
    """Beside what the IVR put there itself: its task's attributes, its SIP headers."""
    line = await transferred(centre, TRANSFERS["a task"][0])
    task = json.loads(line.document.find("Enqueue/Task").text)
    assert task == {"lang": "en", TOKEN_NAME: books.token_of(centre.keys, (await leg_of(centre, line)).id)}

    centre.ivr.pages["/menu"] = TRANSFERS["a SIP phone"][0]
    line = await centre.verified()
    await line.press("0")
    await line.go_on()
    token = books.token_of(centre.keys, (await leg_of(centre, line)).id)
    assert line.document.find("Dial/Sip").text == f"sip:a@pbx.example?X-R=1&{TOKEN_HEADER}={token}"


async def test_only_digests_of_a_token_are_kept(centre: Centre):
    """Whoever copies the store has no token and no code: only their hashes, until a day after they run out."""
    line = await transferred(centre, TRANSFERS["several at once"][0])
    leg = await leg_of(centre, line)
    secrets = [books.token_of(centre.keys, leg.id), books.code_of(centre.keys, leg.id, 0)]

    rows = centre.store.store._rows.values()

    kept = b" ".join(row.data + row.key.id.encode() for row in rows)
    assert [secret for secret in secrets if secret.encode() in kept] == []
    names = [row for row in rows if row.key.kind == "alias"]
    assert sorted(row.key.id.partition(":")[0] for row in names) == ["code", "token"]
    assert {row.expires_ms for row in names} == {leg.expires_ms + books.CALL_KEPT_S * 1000}


async def test_a_transfer_is_asked_for_before_anybody_rings(centre: Centre):
    """Two factors, one of them proved for this transfer; what comes before is heard, what comes after goes on."""
    centre.ivr.pages["/menu"] = (
        '<Say>One moment.</Say><Dial action="/after"><Client>ada</Client></Dial><Say>Bye.</Say>'
    )
    line = await centre.verified()

    await line.press("0")
    assert (line.verbs, line.said) == (["Say", "Redirect"], "One moment.")
    await line.go_on()
    assert "texted" in line.said
    await line.press(centre.texts.code())

    assert line.verbs == ["Dial", "Say"]
    assert line.links("Parameter", "name") == [TOKEN_NAME]
    assert line.links("Dial", "action")[0].startswith(f"{ISSUER}/after?_ivrguard=tp.")


async def test_the_rest_of_a_document_is_still_seen_from_where_it_came(centre: Centre):
    """Its relative links mean what they meant before the question."""
    centre.having(rules=(Rule(ONE_FACTOR, transfer=ANY_TRANSFER),))
    centre.ivr.pages["/deep/agent"] = (
        '<Dial action="after"><Client>ada</Client></Dial><Redirect>../up</Redirect>'
    )
    line = await centre.verified()
    await line.post("/deep/agent")

    await line.go_on()

    assert line.links("Dial", "action")[0].startswith(f"{ISSUER}/deep/after?_ivrguard=tp.")
    assert line.redirect.startswith(f"{ISSUER}/up?_ivrguard=tp.")


async def test_a_transfer_behind_a_gather_that_falls_through(centre: Centre):
    """The keys go to the IVR as ever; silence falls through to the guard, not to the agent."""
    centre.ivr.pages["/more"] = "<Say>More.</Say>"
    line = await transferred(centre, '<Gather action="/more" numDigits="1"/><Enqueue>support</Enqueue>')
    assert line.verbs == ["Enqueue"]

    pressed = await centre.verified()
    await pressed.press("0")
    await pressed.press("5")
    assert pressed.said == "More."


async def test_two_protected_transfers_in_one_document(centre: Centre):
    """Each has its own question, token and leg; the second's token ends the first's."""
    centre.having(rules=(Rule(replace(ONE_FACTOR, reverify="one_factor"), transfer=ANY_TRANSFER),))
    centre.ivr.pages["/menu"] = (
        "<Dial><Client>ada</Client></Dial><Say>Ada is out.</Say><Dial><Client>bob</Client></Dial><Say>Bye.</Say>"
    )
    line = await centre.verified()
    await line.press("0")
    seen = []
    for _ in range(2):
        await line.go_on()
        assert said(centre.flow, "pin.short", "other_factor") == line.said
        await line.press(PIN)
        seen.append((line.verbs, line.said, (await leg_of(centre, line)).queues))

    assert seen == [
        (["Dial", "Say", "Redirect"], "Ada is out.", ("client:ada",)),
        (["Dial", "Say"], "Bye.", ("client:bob",)),
    ]
    assert len((await centre.stored(line)).legs) == 2
    assert await centre.events("authn_token_created") == ["transfer", "transfer"]


@pytest.mark.parametrize(
    ("document", "verbs"),
    [
        ("<Enqueue>fraud-line</Enqueue>", ["Enqueue"]),
        ("<Enqueue>fraud-line</Enqueue><Enqueue>support</Enqueue>", ["Enqueue", "Redirect"]),
        ("<Dial><Client>open</Client><Client>ada</Client></Dial>", ["Redirect"]),
    ],
    ids=["open", "open, then protected", "both in one Dial"],
)
async def test_an_open_transfer_is_not_held_up(centre: Centre, document: str, verbs: list[str]):
    """Unless it can reach somebody protected as well."""
    centre.having(
        rules=(
            Rule(ANYONE, transfer=Target("enqueue", "fraud-line")),
            Rule(ANYONE, transfer=Target("client", "open")),
            Rule(ONE_FACTOR, transfer=ANY_TRANSFER),
        )
    )
    centre.ivr.pages["/menu"] = document
    line = await centre.verified()

    await line.press("9")

    assert line.verbs == verbs
    assert TOKEN_NAME not in line.body.decode()


async def test_the_level_must_hold_when_the_transfer_comes(centre: Centre):
    """Not when the document was written: the caller sat in a Gather before it for longer than the level lasts."""
    centre.having(rules=(Rule(Demand("one_factor", within_s=300), transfer=ANY_TRANSFER),))
    centre.ivr.pages["/menu"] = '<Gather numDigits="1"/><Enqueue>support</Enqueue>'
    line = await centre.verified()
    await line.press("0")
    centre.clock.advance(301)

    await line.go_on()

    assert said(centre.flow, "pin.short", "other_factor") == line.said


async def test_a_code_that_another_transfer_has_is_not_given_twice(centre: Centre):
    """Whispered codes are short: a taken one is passed over, one that has run out is free again."""
    line = await transferred(centre, TRANSFERS["a phone"][0])
    other = await leg_of(centre, line)
    values: dict[Key[object], object] = {}
    leg = replace(other, id="1" * 32)

    def take(nth: int, until_ms: int) -> None:
        alias = books.alias_key(centre.keys, books.code_of(centre.keys, leg.id, nth))
        values[alias] = books.Alias(other.id, until_ms)

    now = centre.clock()
    codes = [books.code_of(centre.keys, leg.id, nth) for nth in range(3)]
    free = [books.free_code(centre.keys, leg, values, now)]
    for nth in range(3):
        take(nth, now + 1)
        free.append(books.free_code(centre.keys, leg, values, now))
    take(1, now)
    free.append(books.free_code(centre.keys, leg, values, now))

    assert free == [*codes, None, codes[1]]


async def test_when_every_code_is_taken_the_caller_may_try_again(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
):
    """A fault, so nothing is connected and nothing is kept; the provider's retry draws others."""
    centre.having(rules=(Rule(ONE_FACTOR, transfer=ANY_TRANSFER),))
    centre.ivr.pages["/menu"] = TRANSFERS["a phone"][0]
    line = await centre.verified()
    await line.press("0")
    before = await centre.stored(line)
    with monkeypatch.context() as context:
        context.setattr(books, "free_code", lambda *_: None)
        await line.go_on()
    assert (line.outcome, line.said) == ("fault_fault", said(centre.flow, "unavailable"))
    assert before == await centre.stored(line)

    await line.again()

    assert line.outcome == "transfer"


# ── again is not twice ───────────────────────────────────────────────────────────────────────────────────


async def at_pin(centre: Centre) -> Line:
    line = centre.line()
    await line.dial()
    await line.press(f"{ACCOUNT}#")
    return line


async def at_code(centre: Centre) -> Line:
    line = await centre.verified()
    await line.press("3")
    return line


async def at_transfer(centre: Centre) -> Line:
    centre.having(rules=(Rule(ONE_FACTOR, transfer=ANY_TRANSFER),))
    centre.ivr.pages["/menu"] = TRANSFERS["several at once"][0]
    line = await centre.verified()
    await line.press("0")
    return line


WEBHOOKS: dict[str, tuple[Callable[[Centre], Any], Callable[[Line], Any], str]] = {
    "the first one": (lambda centre: asyncio.sleep(0, centre.line()), lambda line: line.dial(), "ask"),
    "an account": (at_pin, lambda line: line.press("*"), "ask"),
    "a wrong PIN": (at_pin, lambda line: line.press(WRONG), "ask"),
    "a right PIN": (at_pin, lambda line: line.press(PIN), "forwarded"),
    "a right code": (at_code, lambda line: line.press(line.centre.texts.code()), "forwarded"),
    "a transfer": (at_transfer, lambda line: line.go_on(), "transfer"),
}


@pytest.mark.parametrize("late", [False, True], ids=["before the act", "after the act"])
@pytest.mark.parametrize("other", [False, True], ids=["same node", "other node"])
@pytest.mark.parametrize("what", WEBHOOKS)
async def test_a_process_that_dies_anywhere_loses_and_doubles_nothing(
    centre: Centre,
    crash: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    other: bool,
    late: bool,
):
    """At every act of the store in turn: the provider's retry gets the answer, counted once, sent once or again."""
    monkeypatch.setattr("ivrguard.guard.UNFINISHED_POLL_S", 0)
    begin, act, outcome = WEBHOOKS[what]
    for acts in range(8):
        line = await begin(centre)
        ledger_before, asked_before = await centre.ledger(), len(centre.ivr.asked)
        centre.store.acts, centre.store.dies, centre.store.late = 0, acts, late
        try:
            await act(line)
            died = False
        except crash:
            died = True
        centre.store.live()
        if died:
            await line.again("b" if other else "a")

        assert line.outcome in ({outcome, "repeated"} if died else {outcome})
        expected = len(ledger_before.attempts) if ledger_before is not None else 0
        ledger = await centre.ledger()
        assert (len(ledger.attempts) if ledger else 0) == (expected + 1 if what == "a wrong PIN" else 0)
        assert len(centre.ivr.asked) - asked_before <= (outcome == "forwarded") * 2
        if not died:
            return
    raise AssertionError("it dies for ever")


async def test_the_same_webhook_at_two_nodes_at_once(centre: Centre, monkeypatch: pytest.MonkeyPatch):
    """One answers it, the other one waits for that answer: the IVR hears of it once."""
    monkeypatch.setattr("ivrguard.guard.UNFINISHED_POLL_S", 0)
    line = await centre.verified()
    centre.ivr.gate = asyncio.Event()
    hook = line.hook_of(line.action, "1")
    centre.ivr.pages["/menu"] = "<Say>Once.</Say>"

    one = asyncio.create_task(centre.node("a").voice(hook))
    await asyncio.sleep(0)
    two = asyncio.create_task(centre.node("b").voice(hook))
    for _ in range(4):
        await asyncio.sleep(0)
    centre.ivr.gate.set()
    answers = await asyncio.gather(one, two)

    assert [answer.outcome for answer in answers] == ["forwarded", "repeated"]
    assert answers[0].body == answers[1].body
    assert centre.ivr.paths() == ["/voice", "/menu"]


async def test_a_call_that_goes_on_elsewhere_leaves_a_slow_answer_behind(centre: Centre):
    """While the IVR thinks, the leg was sent elsewhere (by REST) and another node took it: the old answer is stale."""
    line = await centre.verified()
    gate = centre.ivr.gate = asyncio.Event()
    slow = asyncio.create_task(centre.node("a").voice(line.hook_of(line.action, "1")))
    await asyncio.sleep(0)
    centre.ivr.gate = None
    centre.ivr.pages["/elsewhere"] = "<Say>Elsewhere.</Say>"

    line.node = "b"
    await line.post("/elsewhere")
    gate.set()

    assert line.said == "Elsewhere."
    assert (await slow).outcome == "stale"
    assert (await centre.stored(line)).pending is None


async def test_a_call_that_is_swept_does_not_come_back(centre: Centre):
    """It went while the IVR was thinking: what was decided on it is not written, and the answer goes nowhere."""
    line = await centre.verified()
    gate = centre.ivr.gate = asyncio.Event()
    slow = asyncio.create_task(centre.node().voice(line.hook_of(line.action, "1")))
    await asyncio.sleep(0)
    key = books.call_key(line.sid)
    await centre.store.amend([key], lambda _: Change(None, (Put(key, None),)))
    gate.set()

    assert (await slow).outcome == "stale"
    assert await centre.store.read(key) is None


async def test_two_first_webhooks_of_one_call_at_two_nodes(centre: Centre):
    """Both find no call; the second to write finds the first one's, looks again, and goes on from there."""
    line = centre.line()
    hooks = [line.hook_of("/"), line.hook_of("/", SpeechResult="hello")]
    reads = centre.store.store.read
    gate = asyncio.Event()

    async def slow_read(key: Key[Any]) -> Any:
        found = await reads(key)
        if key.kind == "call" and not gate.is_set():
            await gate.wait()
        return found

    centre.store.read = slow_read
    both = [
        asyncio.create_task(centre.node(name).voice(hook)) for name, hook in zip("ab", hooks, strict=True)
    ]
    await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.gather(*both)

    assert [answer.outcome for answer in answers] == ["ask", "ask"]
    assert (await centre.stored(line)).turn == 2


async def test_a_move_that_nobody_expected_lets_nothing_happen(centre: Centre):
    """`Rest` is for what is stale: the answer is neutral."""
    line = centre.line()
    call = Call(line.sid, line.account_sid, "bank", "1", ANONYMOUS, "", attested=False, began_ms=0)
    guard = centre.node()
    one = webhook.Webhook(
        guard.world, guard._background, line.hook_of("/"), centre.mounted(), call, inward=None, new=True
    )
    assert one._rendered(Step(call, Books(), Rest())) == webhook.neutral()


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_late_word_of_a_call_that_is_over(centre: Centre):
    """The action of a Dial that the caller hung up in: the IVR hears of it; the end is on record once."""
    centre.ivr.pages["/after"] = "<Hangup/>"
    line = await centre.verified()

    await line.post("/after", status="completed", DialCallStatus="completed")
    await centre.node().status(line.delivery(status="completed"))

    assert centre.ivr.paths() == ["/voice", "/after"]
    assert await centre.events("session_ended") == ["completed"]
    assert (await centre.stored(line)).ended_ms == centre.clock()


async def test_nobody_is_texted_after_the_call(centre: Centre):
    """What the IVR would hear then needs a code: it is not sent, and no message wakes the owner."""
    line = await centre.verified()

    await line.post("/wire/done", status="completed")

    assert line.outcome == "ask"
    assert centre.texts.sent == []
    assert centre.ivr.paths() == ["/voice"]


async def test_how_long_what_is_kept(centre: Centre):
    """A call for a day; that a number verified, for four hundred; when codes were sent, as long as it counts."""
    line = await centre.verified()
    await line.press("3")
    rows = {(row.key.kind, row.key.id): row for row in centre.store.store._rows.values()}

    hour, day, now = 3600 * 1000, 24 * 3600 * 1000, centre.clock()
    kept = {name: row.expires_ms for name, row in rows.items() if name[0] in {"call", "trust", "sends"}}
    assert kept == {
        ("call", line.sid): now + day,
        ("trust", ACCOUNT): now + 400 * day,
        ("sends", f"{ACCOUNT}/pool"): now + hour,
        ("sends", f"number/{centre.keys.pseudonym('number', OWNER)}/pool"): now + day,
        ("sends", "prefix/1/proved"): now + hour,
    }
    assert rows["call", line.sid].rank == now
