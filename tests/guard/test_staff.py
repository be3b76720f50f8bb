"""Accounts of our own for people at desks: added, changed, removed, each on record, and what that ends."""

import pytest

from ivrguard.core.agents import Agent, Role
from ivrguard.core.assurance import Kind
from ivrguard.core.lockout import Ledger, reserve
from ivrguard.core.sessions import IDLE_S, LOGIN_RULE
from ivrguard.guard import sessions, staff
from ivrguard.ports import AgentAccount, Change, Credential, Put

T = 1_790_000_000_000
KNOWN, HELD = Credential(Kind.PIN, "the-hash", "p1"), Credential(Kind.TOTP, "the-sealed-secret")
ANN = AgentAccount("ann", "Ann Lee", (Role.AGENT,), ("queue:*",), "agent:bob", KNOWN, HELD, T)


@pytest.mark.parametrize(
    ("text", "name"),
    [("ann", "ann"), (" Ann.Lee ", "ann.lee"), ("A-1_b", "a-1_b"), ("9", "9"), ("x" * 64, "x" * 64)],
)
def test_a_name_has_one_spelling(text, name):
    assert staff.canonical_name(text) == name


@pytest.mark.parametrize(
    "text", ["", " ", ".ann", "-", "ann lee", "ann:lee", "ann/lee", "änn", "x" * 65, "ann\n", "ſ", "a\u0131"]
)
def test_what_is_no_name_is_not_repeated(text):
    """It may be a password in the wrong field. No colon: nobody can be called like a desk or a provider's subject."""
    if text == "ann\n":
        assert staff.canonical_name(text) == "ann"
        return
    with pytest.raises(ValueError, match="made of letters") as caught:
        staff.canonical_name(text)
    assert len(text) < 2 or text not in str(caught.value)


async def test_an_account_from_its_beginning_to_its_end(centre):
    """Each act once, with the operator's name on record, and no secret in it."""
    store = centre.store
    assert await staff.add(store, ANN, by="root")
    assert not await staff.add(store, ANN, by="root")
    before = await staff.update(
        store,
        "ann",
        lambda one: staff.with_secrets(one, password=Credential(Kind.PIN, "new-hash", "p1")),
        now_ms=T + 1,
        by="root",
    )
    assert before == ANN
    assert await staff.remove(store, "ann", now_ms=T + 2, by="root")
    assert not await staff.remove(store, "ann", now_ms=T + 3, by="root")
    assert await staff.update(store, "ann", lambda one: one, now_ms=T, by="root") is None

    entries = [one for one in await centre.record() if one.event.startswith("agent_")]
    assert [(one.event, one.detail) for one in entries] == [
        ("agent_created", (("agent", "agent:ann"), ("by", "root"), ("roles", "agent"))),
        (
            "agent_updated",
            (("agent", "agent:ann"), ("by", "root"), ("changed", "password"), ("roles", "agent")),
        ),
        ("agent_removed", (("agent", "agent:ann"), ("by", "root"))),
    ]
    assert not {"the-hash", "new-hash", "the-sealed-secret"} & set(repr(entries).split("'"))
    assert "hash" not in repr(ANN)


async def test_what_changes_nothing_ends_nothing(centre):
    """Again is not twice."""
    await staff.add(centre.store, ANN, by="root")
    await sessions.begin(centre.world(), ANN.agent(T), "one", way="password")
    head = await centre.store.head()
    assert await staff.update(centre.store, "ann", lambda one: one, now_ms=T, by="root") == ANN
    assert await centre.store.head() == head
    assert await sessions.agent_of(centre.world(), "one", idle_s=IDLE_S) == ANN.agent(T)


@pytest.mark.parametrize("how", ["roles", "password", "removed", "logged_out"])
async def test_what_somebody_may_do_ends_at_once(centre, how):
    """Law 2: every session of his, on every node, in the same act; nobody else's."""
    await staff.add(centre.store, ANN, by="root")
    for secret in ("one", "two"):
        await sessions.begin(centre.world(), ANN.agent(T), secret, way="password")
    await sessions.begin(centre.world(), Agent("agent:bob"), "bobs", way="password")
    match how:
        case "roles":
            change = lambda one: staff.replace(one, roles=(Role.RISK,))  # noqa: E731 -- one of two
            await staff.update(centre.store, "ann", change, now_ms=T, by="root")
        case "password":
            change = lambda one: staff.with_secrets(one, app=Credential(Kind.TOTP, "other"))  # noqa: E731 -- the other
            await staff.update(centre.store, "ann", change, now_ms=T, by="root")
        case "removed":
            await staff.remove(centre.store, "ann", now_ms=T, by="root")
        case _:
            assert await staff.log_out(centre.store, "agent:ann", now_ms=T, by="root") == 2
            assert await staff.log_out(centre.store, "agent:ann", now_ms=T, by="root") == 0
            assert await centre.events("agent_logged_out") == ["by_hand"]
    node = centre.world("another")
    assert [await sessions.agent_of(node, one, idle_s=IDLE_S) for one in ("one", "two")] == [None, None]
    assert await sessions.agent_of(node, "bobs", idle_s=IDLE_S)


async def spoiled(centre, count, name="agent:ann"):
    """So many failures at a log-in, days apart."""
    ledger, now = Ledger(), T
    for number in range(count):
        ledger, _ = reserve(LOGIN_RULE, ledger, f"{number}", now)
        now += 86_400_000
    key = staff.login_ledger(name)
    await centre.store.amend([key], lambda _: Change(None, (Put(key, ledger),)))
    return ledger, now


async def test_another_password_begins_the_count_in_a_row_anew(centre):
    """What was guessed at was the old one (core/lockout.py, `enrolled_anew`); another label changes nothing of it."""
    await staff.add(centre.store, ANN, by="root")
    _, now = await spoiled(centre, 100)
    key = staff.login_ledger("agent:ann")
    await staff.update(centre.store, "ann", lambda one: staff.replace(one, label="A."), now_ms=now, by="root")
    assert (await centre.store.read(key)).run == 100
    other = Credential(Kind.PIN, "other", "p1")
    await staff.update(
        centre.store, "ann", lambda one: staff.with_secrets(one, password=other), now_ms=now, by="root"
    )
    assert await centre.store.read(key) == Ledger()


async def test_guesses_are_remembered_when_an_account_goes_for_as_long_as_they_matter(centre):
    """Removing and adding is no way to get more of them."""
    await staff.add(centre.store, ANN, by="root")
    ledger, now = await spoiled(centre, 3)
    await staff.remove(centre.store, "ann", now_ms=now, by="root")
    key = staff.login_ledger("agent:ann")
    assert await centre.store.read(key) == ledger
    await centre.store.sweep(now + LOGIN_RULE.horizon_s() * 1000 + 1)
    assert await centre.store.read(key) is None


async def test_every_account_is_listed(centre, monkeypatch):
    """Page by page."""
    monkeypatch.setattr(staff, "AGENTS_A_PAGE", 2)
    for name in ("carol", "ann", "bob"):
        await staff.add(centre.store, staff.replace(ANN, name=name), by="root")
    assert [one.name for one in await staff.every(centre.store)] == ["ann", "bob", "carol"]
