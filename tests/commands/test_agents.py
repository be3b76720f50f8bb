"""People at desks from the command line: their accounts, their log-ins."""

import asyncio
import re
from types import SimpleNamespace

import pytest

from ivrguard import settings
from ivrguard.commands.shell import keyring_of
from ivrguard.core.agents import OWN
from ivrguard.core.lockout import Ledger, reserve
from ivrguard.core.sessions import LOGIN_RULE
from ivrguard.factors import pin
from ivrguard.guard import staff
from ivrguard.guard.sessions import list_key
from ivrguard.ports import Change, Put
from ivrguard.stores.sqlite import SqliteStore
from ivrguard.web.app import wall_clock_ms

PASSWORD = "four tall ships at noon"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    """The real argon2 with small parameters."""
    monkeypatch.setattr(pin, "MEMORY_KIB", 64)
    monkeypatch.setattr(pin, "PASSES", 1)


@pytest.fixture
def store(keys, tmp_path, asked):
    """An empty store of one's own, and how to put a value into it."""
    path = tmp_path / "ivrguard.db"
    env = {**keys, "IVRGUARD_STORE": f"sqlite:{path}", "SUDO_USER": "mallory"}
    assert asked(env, "migrate").code == 0

    def put(key, value, rank=None):
        async def work():
            opened = await SqliteStore.open(path)
            await opened.amend([key], lambda _: Change(None, (Put(key, value, rank=rank),)))
            await opened.close()

        asyncio.run(work())

    return SimpleNamespace(env=env, path=path, put=put)


@pytest.fixture
def ask(store, asked):
    """A command of the group, with a password on standard input."""

    def run(*words, typed=f"{PASSWORD}\n", **env):
        return asked({**store.env, **env}, "agents", *words, typed=typed)

    return run


def kept(store, name):
    """The account in the store."""

    async def work():
        opened = await SqliteStore.open(store.path)
        try:
            return await opened.read(staff.agent_key(name))
        finally:
            await opened.close()

    return asyncio.run(work())


def test_an_agent_from_his_beginning_to_his_end(store, ask, ends):
    """His app is shown once; the list has no secret; each step once, and harmless twice where it can be."""
    ends(ask("list"), 0)
    made = ask(
        "add", "Ann", "--label", "Ann Lee", "--queue", "workflow:*", "--manager", "bob", "--role", "risk"
    )
    assert made.code == 0, made.err
    assert re.fullmatch(
        r"ann: added\notpauth://totp/ivrguard:ann\?secret=[A-Z2-7]{32}&issuer=ivrguard\n", made.out
    )
    again = ask("add", "ann")
    ends(again, 1, "", "ann: there is such an agent already\n")
    ends(ask("list"), 0, "ann (Ann Lee): risk; workflow:*; reports to bob\n")
    assert PASSWORD.encode() not in store.path.read_bytes()

    ends(
        ask("change", "ann", "--role", "agent", "--role", "supervisor"),
        0,
        "ann: changed; he has to log in again\n",
    )
    ends(ask("change", "ann", "--role", "supervisor", "--role", "agent"), 0, "ann: as it was\n")
    assert "write kind:name" in ask("change", "ann", "--queue", "*:x").err
    ends(
        ask("change", "ann", "--label", "", "--manager", "", "--queue", "queue:a"),
        0,
        "ann: changed; he has to log in again\n",
    )
    ends(ask("list"), 0, "ann: agent, supervisor; queue:a\n")

    before = kept(store, "ann")
    ends(
        ask("set-password", "ann", typed="another tall ship at sea\n"),
        0,
        "ann: password replaced; he has to log in again\n",
    )
    uri = ask("enrol-totp", "ann")
    assert uri.out.startswith("otpauth://")
    assert uri.err == "ann: app enrolled; he has to log in again\n"
    after = kept(store, "ann")
    assert after.password.secret != before.password.secret
    assert after.app.secret != before.app.secret

    ends(ask("remove", "ann"), 0, "ann: removed\n")
    ends(ask("remove", "ann"), 0, "ann: there is no such agent\n")
    ends(ask("list"), 0)


def test_by_default_he_is_an_agent_with_no_queue(ask):
    ask("add", "zoe")
    assert ask("list").out == "zoe: agent; no queue\n"


@pytest.mark.parametrize(
    ("words", "typed", "mend"),
    [
        (("add", "ann:lee"), PASSWORD, "an agent's name is made of"),
        (("add", "ann"), "short", "12 to 128 characters"),
        (("add", "ann"), "password1234", "a word that everybody takes"),
        (("add", "ann"), "", "12 to 128 characters"),
        (("add", "ann", "--manager", "ann"), PASSWORD, "nobody reports to himself"),
        (("add", "ann", "--manager", "oidc:x"), PASSWORD, "the identity provider's"),
        (("add", "ann", "--queue", "workflw:*"), PASSWORD, "did you mean 'workflow'?"),
        (("add", "ann", "--role", "boss"), PASSWORD, "'boss' is not one of"),
        (("set-password", "ann"), PASSWORD, "ann: there is no such agent"),
        (("set-password", "ann"), "short", "12 to 128 characters"),
        (("enrol-totp", "ann"), "", "ann: there is no such agent"),
        (("change", "ann", "--label", "x"), "", "ann: there is no such agent"),
        (("unlock", "ann", "--by", " ", "--reason", "x"), "", "--by and --reason go on record"),
    ],
)
def test_what_cannot_be_is_a_line_that_says_what_to_mend(ask, words, typed, mend):
    """And nothing is kept; the password is not repeated."""
    result = ask(*words, typed=f"{typed}\n")
    assert result.code != 0
    assert mend in " ".join(re.sub("[│╭╮╰╯─]", " ", result.err).split())
    assert len(typed) < 6 or typed not in result.err + result.out
    assert ask("list").out == ""


def test_where_the_company_has_an_identity_provider_it_is_said(ask):
    """An account of ours opens nothing there."""
    env = {
        "IVRGUARD_OIDC_ISSUER": "https://login.example",
        "IVRGUARD_OIDC_CLIENT_ID": "ivrguard",
        "IVRGUARD_OIDC_ROLES": "x=agent",
    }
    assert "accounts of our own open nothing" in " ".join(ask("list", **env).err.split())


def test_a_lock_is_seen_and_ended_by_hand(store, ask, asked):
    """Whoever ends it is on record; one that a hundred failures brought takes two."""
    ask("add", "ann")
    ask("add", "bob")
    now = wall_clock_ms()
    five = hundred = Ledger()
    for number in range(5):
        five, _ = reserve(LOGIN_RULE, five, f"{number}", now)
    for number in range(100):
        hundred, _ = reserve(LOGIN_RULE, hundred, f"{number}", now - (101 - number) * 90_000_000)
    store.put(staff.login_ledger(OWN + "ann"), five, rank=now + 1_800_000)
    store.put(staff.login_ledger(OWN + "bob"), hundred, rank=2**63 - 1)
    listed = ask("list").out.splitlines()
    assert re.fullmatch(r"ann: agent; no queue; locked until .* UTC", listed[0])
    assert listed[1] == "bob: agent; no queue; disabled: two people must unlock him"
    assert "agent:ann log-in (pool): locked until" in asked(store.env, "locks", "list").out

    why = ("--reason", "ticket 4711")
    assert ask("unlock", "ann", "--by", "carol", *why).out == "ann: unlocked\n"
    assert ask("unlock", "ann", "--by", "carol", *why).out == "ann: was not locked\n"
    assert ask("unlock", "zoe", "--by", "carol", *why).out == "zoe: was not locked\n"
    second = "bob: disabled: a second person must say the same within 24 hours\n"
    assert ask("unlock", "bob", "--by", "carol", *why).out == second
    assert ask("unlock", "bob", "--by", "carol", *why).out == second
    assert ask("unlock", "bob", "--by", "dave", *why).out == "bob: unlocked\n"
    shown = asked(store.env, "audit", "show").out
    assert "agent:bob" in shown


@pytest.mark.parametrize(("name", "whose"), [("ann", "agent:ann"), ("oidc:00u1", "oidc:00u1")])
def test_whoever_is_logged_in_can_be_logged_out(store, ask, name, whose):
    """An agent of ours, or one of the identity provider's."""
    store.put(list_key(whose), ("a" * 64, "b" * 64))
    assert ask("logout", name).out == f"{name}: logged out\n"
    assert ask("logout", name).out == f"{name}: was not logged in\n"


def test_a_password_is_asked_for_at_a_terminal(store, ask, monkeypatch):
    """Twice, and unseen; elsewhere it is the first line of standard input."""
    from ivrguard.commands import agents

    monkeypatch.setattr(agents.sys, "stdin", type("T", (), {"isatty": lambda _: True})())
    asked_for = []

    def prompt(text, **more):
        asked_for.append((text, more["hide_input"], more["confirmation_prompt"]))
        return PASSWORD

    monkeypatch.setattr(agents.typer, "prompt", prompt)
    assert agents.read_password() == PASSWORD
    assert asked_for == [("Password", True, True)]


def test_what_is_kept_opens_with_these_keys(store, ask):
    """The app's secret is sealed, the password hashed under the pepper."""
    ask("add", "ann")
    account = kept(store, "ann")
    keys = keyring_of(settings.load(store.env, None, needs=settings.KEYS))
    assert len(keys.unseal(account.app.secret, "totp")) == 32
    assert account.password.secret.startswith("$argon2id$")
    assert account.password.key_id in keys.peppers
