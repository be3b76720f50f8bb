"""
Promise 5. **Nobody learns a secret.** PINs, codes, tokens and keys reach no log, audit record, metric, trace, URL,
error, repr, page or agent; the IVR and the voice model never see digits keyed for the guard.

One day at the centre is lived through with secrets that cannot be mistaken for anything else (canaries), and with
everything that goes wrong on such a day. Then everything that anybody could look at is searched for each of them:
plain, escaped, spelled out, encoded, and as the digests that a thief would try first.
"""

import base64
import hashlib
import json
import re
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import unquote_plus, urlsplit

import pytest
from aiohttp import web

from ivrguard import log
from ivrguard.core.assurance import AllOf, AnyOf, Kind
from ivrguard.core.audit import Entry
from ivrguard.core.errors import Busy, DirectoryFault, StoreFault
from ivrguard.guard import books
from ivrguard.guard import desk as desks
from ivrguard.guard.webhook import Answer, Hook, Webhook
from ivrguard.phone.heard import Asked
from ivrguard.phone.rig import AUTH_TOKEN
from ivrguard.ports import Change, Key
from ivrguard.stores import codec
from ivrguard.telephony import twiml
from ivrguard.web import voice
from ivrguard.web.upstream import Upstream

WRONG_PIN = "60417735"
WRONG_CODE = "918273"
WRONG_TYPED = "407193"
WIRE = '<Gather numDigits="1" action="/menu"/>'
TO_A_TASK = '<Enqueue workflowSid="WWx" action="/voice"><Task>{"a":1}</Task></Enqueue>'
TO_A_PHONE = "<Dial><Number>+18005550143</Number></Dial>"
ANY = {"one_factor": AnyOf(("pin", "code")), "two_factor": AllOf(("pin", "code"))}
APP = {"one_factor": AnyOf(("app",)), "two_factor": AllOf(("pin", "app"))}


class Day:
    """What there is to be searched (`seen`: where -> texts), and what must not be in it (`secrets`)."""

    def __init__(self, built, logged):
        self.built, self.logged = built, logged
        self.seen = {}
        self.secrets = {
            "the PIN": built.PIN,
            "a wrong PIN": WRONG_PIN,
            "a wrong code": WRONG_CODE,
            "the app's secret": built.secret,
            "the provider's auth token": AUTH_TOKEN,
        }
        ring = built.rig.keyring
        keys = [*ring._sealing.values(), *ring.peppers.values(), *ring._naming_keys.values()]
        self.secrets |= {f"key {number}": key for number, key in enumerate(keys)}
        self.secrets["the signing key"] = next(iter(ring._signing.values())).private_bytes_raw()
        self.lines = []

    def note(self, where, *what):
        """Something that can be looked at. Bytes are read as text; objects by their repr."""
        for each in what:
            text = each.decode("utf-8", "replace") if isinstance(each, bytes) else each
            self.seen.setdefault(where, []).append(text if isinstance(text, str) else repr(text))

    def call(self, *args, **more):
        line = self.built.call(*args, **more)
        self.lines.append(line)
        return line

    async def press(self, line, keys):
        if isinstance(line.waiting, Asked):
            await line.press(keys)

    async def right(self, line):
        """Answer right for as long as the guard asks; every code is a canary from now on."""
        while (question := self.built.asks(line)) is not None:
            answer = await self.built.right(line)
            if question in ("sms_code", "totp"):
                self.secrets[f"a {question} ({len(self.secrets)})"] = answer
            await line.press(answer)


def watch(day, stack):
    """Look over the shoulder of the code: what is written to stores, and how the objects present themselves."""
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    encode, encode_entry, run, fetch = codec.encode, codec.encode_entry, Webhook.run, Upstream.fetch

    def kept(key, value):
        data = encode(key, value)
        day.note("what is stored", data, key.id)
        day.note("reprs", key, value)
        return data

    def on_record(linked):
        data = encode_entry(linked)
        day.note("the audit record", data)
        return data

    async def answered(self, *, again):
        day.note("reprs", self, self._hook, self._hook.delivery, self._call, self._mounted, self._world)
        done = await run(self, again=again)
        day.note("reprs", done)
        return done

    async def fetched(self, request, **more):
        day.note("reprs", self, request)
        reply = await fetch(self, request, **more)
        day.note("reprs", reply)
        return reply

    patch.setattr(codec, "encode", kept)
    patch.setattr(codec, "encode_entry", on_record)
    patch.setattr(Webhook, "run", answered)
    patch.setattr(Upstream, "fetch", fetched)
    for judge in day.built.rig.server.world.judges.values():
        stack.callback(setattr, judge, "judge", judge.judge)
        judge.judge = noting(day, judge.judge)


def noting(day, judge):
    async def judged(credential, digits, challenge, now_ms):
        day.note("reprs", credential, challenge)
        return await judge(credential, digits, challenge, now_ms)

    return judged


# ── the day ──────────────────────────────────────────────────────────────────────────────────────────────


async def a_wire_and_an_agent(day, transfer):
    """An owner mistypes, proves both factors, and is handed over with a token that a desk redeems."""
    built = day.built
    built.ivr.documents |= {
        "/voice": WIRE,
        "/menu": "<Redirect>/wire/start</Redirect>",
        "/wire/start": transfer,
    }
    line = day.call()
    await line.until_input()
    await day.press(line, "123456#")
    await day.press(line, WRONG_PIN)
    await day.right(line)
    await day.press(line, "3")
    await day.press(line, WRONG_CODE)
    await day.right(line)
    return line


async def redeemed(day, line, token, queue):
    """A desk redeems the token, twice; its key is a secret, the receipts are not."""
    built = day.built
    key = await built.rig.desk("desk", queue)
    day.secrets["a desk's key"] = key
    for _ in range(2):
        status, answer = await built.rig.redeem(key, token, line.call_sid)
        day.note("answers to desks", status, json.dumps(answer))
        day.note("receipts", str(answer.get("receipt")))
    desk = await built.rig.server.guard.desk(key)
    day.note("reprs", desk)
    return key


async def read_back(day, line, key):
    """The caller reads a code to the agent, who mistypes it first; then he passes him on, and the next desk redeems."""
    rig = day.built.rig

    async def ask(what, **body):
        url = f"{rig.guard_url}/.ivrguard/agent/v1/calls/{line.call_sid}/{what}"
        async with rig.session.post(url, json=body, headers={"Authorization": f"Bearer {key}"}) as answer:
            return answer.status, await answer.json()

    told = [await ask("codes")]
    await rig.server.guard.drain()
    code = rig.carrier.code_for(day.built.OWNER)
    day.secrets |= {"a sms_code, read out": code, "a wrong code, typed": WRONG_TYPED}
    told += [await ask("answers", digits=digits) for digits in (WRONG_TYPED, code)]
    assert [status for status, _ in told] == [202, 200, 200]
    day.note("answers to desks", json.dumps(told))
    _, passed = await ask("transfers", queue="workflow:WWnext")
    day.secrets["a token, passed on"] = passed["token"]
    return passed["token"]


async def when_things_go_wrong(day):
    """A full hash pool, a bug, and each part down in turn: always with digits under way."""
    built = day.built
    pins = built.rig.server.world.judges[Kind.PIN]
    whole = pins.judge
    mishaps = [Busy("full"), RuntimeError(f"a bug with {built.PIN} in it"), DirectoryFault("no directory")]
    mishaps += [StoreFault("no store"), ValueError(built.PIN, {"digits": built.PIN})]
    for mishap in mishaps:
        pins.judge = stumbling(whole, mishap)
        line = day.call()
        await line.until_input()
        await day.press(line, "123456#")
        await day.press(line, built.PIN)
        await day.press(line, WRONG_PIN)
    pins.judge = whole
    built.rig.carrier.fail_next(500, 20500)
    await day.right(await a_wire_and_an_agent(day, TO_A_TASK))
    for page in ((500, {}, "no"), (200, {"Content-Type": "text/xml"}, "<Response><Say>"), (302, {}, "")):
        built.ivr.documents["/voice"] = page
        line = day.call()
        await line.until_input()
        await day.right(line)
    built.ivr.documents["/voice"] = WIRE


def stumbling(judge, mishap):
    """A judge that fails once, after it has seen the digits."""
    left = [mishap]

    async def judged(*args):
        if left:
            raise left.pop()
        return await judge(*args)

    return judged


async def what_outsiders_send(day):
    """Digits in misshapen, unsigned and forged requests, and tokens in bad JSON."""
    built, rig = day.built, day.built.rig
    line = day.call()
    await line.until_input()
    url = "https://guard.example/.ivrguard/call/" + "0" * 32
    for event in (
        {"Digits": f"{built.PIN}٣"},
        {f"Digits{built.PIN}": "#"},
        {"Digits": built.PIN, "CallStatus": built.PIN},
        {"Digits": built.PIN, "CallSid": f"CA{built.PIN}"},
    ):
        day.note("answers to anybody", (await line.send(url, event)).body)
    for path in (
        "/voice",
        "/.ivrguard/status",
        "/.ivrguard/fallback",
        f"/.ivrguard/call/{'0' * 32}",
        "/nowhere",
    ):
        async with rig.session.post(rig.guard_url + path, data={"Digits": built.PIN}) as answer:
            day.note("answers to anybody", answer.status, await answer.read(), dict(answer.headers))
    key = day.secrets["a desk's key"]
    token = next(value for name, value in day.secrets.items() if name == "a token")
    for body in (
        f'{{"token": "{token}"',
        f'{{"token": "{token}", "pin": "{built.PIN}"}}',
        f'{{"token": "{token * 4}"}}',
    ):
        async with rig.session.post(
            f"{rig.guard_url}/.ivrguard/agent/v1/redemptions",
            data=body,
            headers={"Authorization": f"Bearer {key}"},
        ) as answer:
            day.note("answers to anybody", answer.status, await answer.read())


async def live(house, logged):
    """The whole day; what was seen."""
    built = await house({}, path="/voice", levels=ANY)
    day = Day(built, logged)
    with ExitStack() as stack:
        watch(day, stack)
        line = await a_wire_and_an_agent(day, TO_A_TASK)
        token = line.waiting.attributes["ivrguard_token"]
        day.secrets["a token"] = token
        key = await redeemed(day, line, token, "workflow:*")
        await redeemed(day, line, await read_back(day, line, key), "workflow:WWnext")
        await line.hang_up()

        line = await a_wire_and_an_agent(day, TO_A_PHONE)
        code = re.sub(r"\D", "", line.heard[-2].whispered[0].partition("code is")[2])
        day.secrets["a whispered code"] = code
        await redeemed(day, line, code, "number:*")
        await line.agent_hangs_up()
        day.lines += line.legs

        built.deploy(replace(built.flow, levels=APP))
        line = day.call()
        await line.until_input()
        await day.press(line, "123456#")
        await day.press(line, WRONG_CODE)
        await day.right(line)
        built.deploy(replace(built.flow, levels=ANY))

        await when_things_go_wrong(day)
        await what_outsiders_send(day)
        await built.rig.server.guard.drain()
    await collect(day)
    return day


async def collect(day):
    """Everything that is to be had when the day is over."""
    built, rig = day.built, day.built.rig
    day.note("the log", day.logged.getvalue())
    for page in ("metrics", "healthz", "readyz"):
        async with rig.session.get(f"{rig.ops_url}/{page}") as answer:
            day.note("the operator's pages", await answer.read())
    async with rig.session.get(f"{rig.guard_url}/.ivrguard/jwks.json") as answer:
        day.note("the public keys", await answer.read())
    for line in day.lines:
        for request in line.requests:
            day.note("URLs", request.url)
            if request.answer is not None and request.answer.status == 200:
                day.note("answers to the provider", request.body)
    for got in built.ivr.got:
        day.note("what the IVR got", got.target, got.body, json.dumps(dict(got.headers)))
        assertion = got.headers.get("X-Ivrguard-Assertion", "..")
        day.note("what the IVR got", *(_decoded(part) for part in assertion.split(".")[:2]))
    for receipt in tuple(day.seen["receipts"]):
        day.note("receipts", *(_decoded(part) for part in receipt.split(".")[:2]))
    for message in rig.carrier.sent:
        day.note("messages", message.body)
    server = rig.server
    day.note("reprs", rig, server, server.world, server._parts, rig.keyring, server.pins, server.directory)
    if hasattr(rig.store, "_path"):
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                day.note("the store's files", rig.store._path.with_name("guard.db" + suffix).read_bytes())


def _decoded(part):
    with suppress(ValueError):
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    return ""


# ── the search ───────────────────────────────────────────────────────────────────────────────────────────


def shapes(secret):
    """
    How a secret may be written down, and whether other letters and digits may stand around it then.

    Its digests only if it is of digits, for those can be tried out (of 128 bits and more a digest gives nothing
    away).
    """
    raw = secret if isinstance(secret, bytes) else secret.encode()
    for text in (base64.b64encode(raw), base64.urlsafe_b64encode(raw), raw.hex().encode()):
        yield text.decode().rstrip("="), True
    if isinstance(secret, str):
        for text in (secret, secret.lower(), " ".join(secret), "-".join(secret)):
            yield text, False
        for name in ("md5", "sha1", "sha256", "blake2b") if secret.isdigit() else ():
            yield hashlib.new(name, raw).hexdigest(), True


def found(secret, text):
    """Where a secret stands in a text, with what is around it; None if nowhere."""
    for shape, anywhere in shapes(secret):
        at = text.find(shape)
        while at >= 0:
            end = at + len(shape)
            if anywhere or not re.search("[0-9A-Za-z]", text[at - 1 : at] + text[end : end + 1]):
                return text[max(0, at - 60) : end + 40]
            at = text.find(shape, at + 1)
    return None


def digests_of_guesses(day):
    """What anybody could work out for each PIN there is, from a request whose other parts he knows."""
    for line in day.lines:
        for request in line.requests:
            if request.param("Digits") in (day.built.PIN, WRONG_PIN):
                parts = urlsplit(request.url)
                target = parts.path + (f"?{parts.query}" if parts.query else "")
                whole = target.encode() + b"\0" + request.payload
                for size in (12, 16, 20, 32):
                    digest = hashlib.blake2b(whole, digest_size=size).digest()
                    yield base64.urlsafe_b64encode(digest).decode().rstrip("=")
                yield hashlib.sha256(whole).hexdigest()


MAY_HOLD = {
    # where -> the secrets that belong there: the token in the transfer, the code in the whisper and the message
    "answers to the provider": ("a token", "a whispered code"),
    "messages": ("a sms_code",),
}
"""No other place may hold any. Tokens and whispered codes reach the agent's side in the provider's TwiML."""


ESCAPED = ("URLs", "what the IVR got", "the log", "answers to anybody")
"""Where a secret may stand percent-encoded."""


async def check_canaries(house, logged):
    """No secret of the day stands anywhere but where it belongs."""
    day = await live(house, logged)
    for where in ("the log", "the audit record", "what is stored", "URLs", "what the IVR got", "reprs"):
        assert len("".join(day.seen[where])) > 500, f"there is next to nothing in {where}"
    assert day.seen["messages"], "no message was sent"
    assert "bug" in day.seen["the log"][0], "nothing went wrong"
    for where, texts in day.seen.items():
        text = "\n".join(texts)
        text += "\n" + unquote_plus(text) if where in ESCAPED else ""
        for name, secret in day.secrets.items():
            if name.startswith(MAY_HOLD.get(where, ("-",))):
                continue
            around = found(secret, text)
            assert around is None, f"{where} holds {name}: …{around}…"
    stored = "".join(day.seen["what is stored"])
    guessable = [digest for digest in digests_of_guesses(day) if digest in stored]
    assert guessable == [], "what is stored holds a digest that digits can be tried against"
    return day


async def test_no_secret_stands_anywhere_but_where_it_belongs(house, logged):
    """Fourteen places, a dozen kinds of secrets, a day on which everything goes wrong once."""
    day = await check_canaries(house, logged)
    assert len(day.secrets) > 12


async def test_the_search_finds_what_is_there(broken, logged):
    """The search itself: each secret is found where it does belong, so it would be found elsewhere."""
    day = await live(broken, logged)
    messages, provider = "\n".join(day.seen["messages"]), "\n".join(day.seen["answers to the provider"])
    codes = [secret for name, secret in day.secrets.items() if name.startswith("a sms_code")]
    assert codes
    assert all(found(code, messages) for code in codes)
    for name in ("a token", "a whispered code"):
        assert found(day.secrets[name], provider), name


# ── planted faults: each must turn its check red ─────────────────────────────────────────────────────────


def with_the_text_of_exceptions(patch):
    """The log tells what an exception says."""
    told = log._told
    patch.setattr(log, "_told", lambda error: told(error) | {"detail": str(error)})


def without_seals(patch):
    """What waits is kept as it is."""
    patch.setattr(Webhook, "_seal", lambda self, plain, what: plain.decode("latin-1"))
    patch.setattr(Webhook, "_unseal", lambda self, sealed, what: sealed.encode("latin-1"))


def with_tokens_kept(patch):
    """A token is filed under its own name."""
    named = books.alias_key

    def plain(keys, presented):
        name = named(keys, presented)
        return name and Key("alias", f"plain:{presented.upper()}")

    patch.setattr(books, "alias_key", plain)


def with_bare_digests(patch):
    """The fingerprint of a webhook is a digest that needs no key."""
    bare = SimpleNamespace(
        blake2b=lambda data, *, digest_size, key: hashlib.blake2b(data, digest_size=digest_size)
    )
    patch.setattr(voice, "hashlib", bare)


def with_digits_sent_on(patch):
    """The request that was held up goes on with what was keyed since."""
    unseal = Webhook._unseal_request

    def grown(self, held):
        request = unseal(self, held)
        return replace(request, body=request.body + f"&Digits={self._digits}".encode())

    patch.setattr(Webhook, "_unseal_request", grown)


def with_digits_on_record(patch):
    """The record says what was keyed."""
    changed = Webhook._change

    def talkative(self, *args, **more):
        change = changed(self, *args, **more)
        entry = Entry(0, "keys", detail=(("keys", self._digits),))
        return Change(change.result, change.puts, (*change.entries, entry))

    patch.setattr(Webhook, "_change", talkative)


def with_digits_in_metrics(patch):
    """A metric's label says what was keyed."""
    run = Webhook.run

    async def labelled(self, *, again):
        done = await run(self, again=again)
        return Answer(done.body, f"{done.outcome} {self._digits}")

    patch.setattr(Webhook, "run", labelled)


def with_bodies_in_reprs(patch):
    """A webhook shows its body."""
    patch.setattr(Hook, "__repr__", lambda self: f"Hook({self.body!r})")


def with_answers_by_get(patch):
    """What a caller keys for the guard stands in a URL."""
    gather = twiml.gather
    patch.setattr(web, "post", lambda path, handler: web.route("*", path, handler))
    patch.setattr(
        twiml, "gather", lambda *args, **more: twiml.Verb(gather(*args, **more).replace('"POST"', '"GET"'))
    )


def with_tokens_for_anybody(patch):
    """A desk is told the whispered code and the token of what it redeems."""
    receipt = desks._receipt

    def chatty(world, leg, *more):
        return replace(receipt(world, leg, *more), intent=books.token_of(world.keys, leg.id))

    patch.setattr(desks, "_receipt", chatty)


@pytest.mark.parametrize(
    "plant",
    [
        with_the_text_of_exceptions,
        without_seals,
        with_tokens_kept,
        with_bare_digests,
        with_digits_sent_on,
        with_digits_on_record,
        with_digits_in_metrics,
        with_bodies_in_reprs,
        with_answers_by_get,
        with_tokens_for_anybody,
    ],
    ids=lambda one: one.__name__,
)
async def test_a_planted_fault_turns_it_red(broken, logged, monkeypatch, plant):
    """Each piece of code that keeps this promise is taken out once, and the promise's own check fails."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await check_canaries(broken, logged)
