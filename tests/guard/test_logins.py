"""Log-ins with an account of our own: judged once, counted first, one answer for all that is not right."""

import asyncio
import itertools

import pyotp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ivrguard.core import lockout
from ivrguard.core.agents import Role
from ivrguard.core.assurance import Kind
from ivrguard.core.errors import Busy, DirectoryFault, StoreFault
from ivrguard.core.lockout import Ledger, Locked, Open, standing
from ivrguard.core.sessions import IDLE_S, LOGIN_RULE
from ivrguard.factors import pin
from ivrguard.factors.password import PasswordJudge
from ivrguard.factors.pin import PinJudge
from ivrguard.factors.totp import TotpJudge
from ivrguard.guard import books, locks, logins, sessions, staff
from ivrguard.guard.logins import AT_ONCE_MAX, Logins, Typed
from ivrguard.ports import AgentAccount, Credential, Right, Wrong

PASSWORD = "four tall ships at noon"
SECRET = "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU"
T = 1_790_000_000_000
secrets = itertools.count()


@pytest.fixture(scope="module")
def cheap():
    """The real argon2 with small parameters, once for all tests here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pin, "MEMORY_KIB", 64)
        patched.setattr(pin, "PASSES", 1)
        judge = PinJudge({"p1": b"1" * 32}, threads=2)
        yield judge
        judge._pool.shutdown()


@pytest.fixture
async def desk(centre, cheap):
    """A guard with an agent ann; how she logs in; the judges."""

    class Desk:
        passwords = PasswordJudge(cheap)
        apps = TotpJudge(centre.keys)

        def __init__(self):
            self.logins = Logins(centre.world(), self.passwords, self.apps)

        async def enter(self, name="ann", password=PASSWORD, code=None, ended=""):
            """Log in; the session's secret, or None."""
            secret = f"secret-{next(secrets)}"
            code = self.code() if code is None else code
            right = await self.logins.log_in(Typed(name, password, code), secret, ended=ended)
            found = await sessions.agent_of(centre.world("b"), secret, idle_s=IDLE_S)
            assert (found is not None) is right
            return secret if right else None

        def code(self, steps=0):
            return pyotp.TOTP(SECRET).at(centre.clock() // 1000 + 30 * steps)

    made = Desk()
    known, held = await made.passwords.enrol(PASSWORD, name="ann"), made.apps.enrol(SECRET)
    ann = AgentAccount("ann", "Ann", (Role.AGENT, Role.RISK), ("queue:*",), "agent:bob", known, held, T)
    await staff.add(centre.store, ann, by="root")
    return made


async def outcomes(centre):
    """What the record has of log-ins, in order."""
    return [
        f"{one.event.removeprefix('agent_')}:{one.reason}"
        for one in await centre.record()
        if one.event in {"agent_login_attempt", "agent_login_failed", "agent_logged_in", "agent_locked"}
    ]


async def test_all_three_right_begin_a_session(desk, centre):
    """He is who he is known as, and showed it now; the name in any spelling, the code with a blank in it."""
    secret = await desk.enter(" Ann ", code=f"{desk.code()[:3]} {desk.code()[3:]}")
    agent = await sessions.agent_of(centre.world(), secret, idle_s=IDLE_S)
    assert (agent.name, agent.label, agent.roles) == ("agent:ann", "Ann", {Role.AGENT, Role.RISK})
    assert (agent.queues, agent.manager, agent.shown_ms) == (("queue:*",), "agent:bob", centre.clock())
    assert await outcomes(centre) == ["login_attempt:counted", "logged_in:password"]
    assert (await centre.store.read(staff.login_ledger("agent:ann"))).attempts == ()


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ({"password": "four tall ships at nine"}, "wrong"),
        ({"password": ""}, "wrong"),
        ({"code": "000000"}, "wrong"),
        ({"code": ""}, "wrong"),
        ({"code": "１２３４５６"}, "wrong"),
        ({"password": "x", "code": "1"}, "wrong"),
        ({"name": "bob"}, "unknown"),
        ({"name": "four tall ships at noon"}, "unknown"),
        ({"name": ""}, "unknown"),
        ({"name": "agent:ann"}, "unknown"),
        ({"name": "?"}, "unknown"),
    ],
)
async def test_anything_else_begins_none(desk, centre, typed, why):
    """One answer; as many acts of the store for each; the record alone knows why, and no name that nobody has."""
    before = centre.store.acts
    assert await desk.enter(**typed) is None
    assert centre.store.acts == before + 2
    assert await outcomes(centre) == ["login_attempt:counted", f"login_failed:{why}"]
    entry = (await centre.record())[-1]
    if why == "unknown":
        assert entry.detail == ()
        assert entry.account.startswith("age_")
        said = repr((await centre.record())[-2:]) + repr(await centre.store.list("ledger"))
        assert typed["name"] not in said or len(typed["name"]) < 2
    else:
        assert entry.detail == (("agent", "agent:ann"),)


async def test_a_code_is_used_once(desk, centre):
    """By whoever reads it over a shoulder, or has it from a page; the one before it is no good any more either."""
    code = desk.code()
    assert await desk.enter(code=code)
    assert await desk.enter(code=code) is None
    assert await desk.enter(code=desk.code(-1)) is None
    assert (await outcomes(centre))[-1] == "login_failed:used"
    centre.clock.advance(30)
    assert await desk.enter()


async def test_two_with_one_code_at_once_are_one(desk):
    """However they meet: the step is spent in the act that begins the session."""
    code = desk.code()
    found = await asyncio.gather(*(desk.enter(code=code) for _ in range(3)))
    assert sum(one is not None for one in found) == 1


async def test_five_failures_lock_and_nothing_is_judged_then(desk, centre):
    """Right ones neither; the answer and the work are the same; tries do not extend the lock; time ends it."""
    for _ in range(5):
        assert await desk.enter(password="wrong") is None
    before = centre.store.acts
    assert await desk.enter() is None
    assert centre.store.acts == before + 2
    assert (await outcomes(centre))[-4:] == [
        "login_failed:wrong",
        "locked:failures",
        "login_attempt:locked",
        "login_failed:locked",
    ]
    [seen] = await locks.locked_now(centre.store, (), centre.clock())
    assert (seen.account, seen.factor) == ("agent:ann", "log-in")
    assert isinstance(seen.standing, Locked)
    centre.clock.advance(LOGIN_RULE.lock_s[0] - 60)
    assert await desk.enter() is None
    centre.clock.advance(60)
    assert await desk.enter()


async def test_a_right_password_buys_no_guesses_at_the_code(desk):
    """Law 4 of core/sessions.py: one count for both."""
    for _ in range(3):
        await desk.enter(code="000000")
    for _ in range(2):
        await desk.enter(password="wrong")
    assert await desk.enter() is None


async def test_names_that_nobody_has_are_locked_like_others(desk, centre):
    """And counted under a keyed hash, for as long as it matters."""
    for _ in range(6):
        await desk.enter("mallory")
    assert (await outcomes(centre))[-3:] == ["locked:failures", "login_attempt:locked", "login_failed:locked"]
    listed = await centre.store.list("ledger")
    assert "mallory" not in repr(listed)
    await centre.store.sweep(centre.clock() + LOGIN_RULE.horizon_s() * 1000 + 1)
    assert await centre.store.list("ledger") == []


async def test_what_nobody_could_judge_is_not_counted(desk, centre, monkeypatch):
    """No thread free, a pepper or a sealing key that is not here: the operator hears it, and no guess is lost."""
    for fault in (Busy("full"), DirectoryFault("a key")):

        async def judge(*_, fault=fault):
            raise fault

        with monkeypatch.context() as patched:
            patched.setattr(desk.passwords, "judge", judge)
            for _ in range(6):
                with pytest.raises(type(fault)):
                    await desk.enter()
    assert (await outcomes(centre))[-2:] == ["login_attempt:counted", "login_attempt:withdrawn"]
    assert await desk.enter()


async def test_a_crowd_at_the_door_fills_no_record(desk, centre, monkeypatch):
    """Law 4: one more than are judged at once is turned away before a word is written, and comes in once there is room."""
    room, full = asyncio.Event(), asyncio.Event()
    real, inside = desk.passwords.judge, []

    async def slow(*judged):
        inside.append(1)
        if len(inside) == AT_ONCE_MAX:
            full.set()
        await room.wait()
        return await real(*judged)

    monkeypatch.setattr(desk.passwords, "judge", slow)
    waiting = [asyncio.create_task(desk.enter("nobody")) for _ in range(AT_ONCE_MAX)]
    await full.wait()
    before = await outcomes(centre)
    one_more = asyncio.create_task(desk.enter())
    done, _ = await asyncio.wait({one_more}, timeout=5)  # without law 4 it would wait with the others
    room.set()
    assert done
    assert isinstance(one_more.exception(), Busy)
    assert await outcomes(centre) == before
    assert not any(await asyncio.gather(*waiting))
    assert await desk.enter()


async def test_a_crash_before_it_was_judged_counts(desk, centre, crash):
    """Law 1: killing the process buys no guess."""
    for _ in range(5):
        centre.store.acts, centre.store.dies = 0, 1
        with pytest.raises(crash):
            await desk.enter(password="wrong")
        centre.store.live()
    assert await desk.enter() is None


async def test_a_store_that_is_down_lets_nobody_in(desk, centre):
    centre.store.fault = StoreFault("down")
    with pytest.raises(StoreFault):
        await desk.enter()


async def test_an_account_that_goes_while_it_is_judged_opens_nothing(desk, centre, monkeypatch):
    """What was right a moment ago was another account's."""
    judge = desk.apps.judge

    async def slow(*given):
        found = await judge(*given)
        await staff.remove(centre.store, "ann", now_ms=T, by="root")
        return found

    monkeypatch.setattr(desk.apps, "judge", slow)
    assert await desk.enter() is None
    assert (await outcomes(centre))[-1] == "login_failed:changed"


async def test_a_password_under_an_old_pepper_moves_to_the_new_one(desk, centre, monkeypatch):
    """While it is at hand; the session begins in the same act."""
    renewed = Credential(Kind.PIN, "anew", "p2")

    async def judge(credential, _):
        return Right(renewed=renewed) if credential else Wrong()

    monkeypatch.setattr(desk.passwords, "judge", judge)
    assert await desk.enter()
    assert (await centre.store.read(staff.agent_key("ann"))).password == renewed


async def test_a_new_session_takes_the_old_ones_place(desk, centre):
    """Whoever shows anew who he is has a new secret, and the old one is dead (ASVS 7.2.4)."""
    old = await desk.enter()
    centre.clock.advance(30)
    assert await desk.enter(ended=old)
    assert await sessions.agent_of(centre.world(), old, idle_s=IDLE_S) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["wrong", "code", "right", "nobody"]), st.sampled_from([0, 30, 600, 1800, 7200])
        ),
        max_size=14,
    ),
    nodes=st.integers(1, 2),
)
async def test_however_they_come_no_more_are_judged_than_the_rule_allows(centre, cheap, steps, nodes):
    """
    Promise 2, for agents: between two successes at most five failures are judged in any half hour, which is the shortest lock, on
    all nodes together.
    """
    apps, judged = TotpJudge(centre.keys), []
    name = f"agent{next(secrets)}"
    passwords = PasswordJudge(cheap)

    class Counting:
        async def judge(self, credential, password):
            found = await passwords.judge(credential, password)
            if credential is not None:
                judged.append((centre.clock(), isinstance(found, Right)))
            return found

    known = await passwords.enrol(PASSWORD, name=name)
    await staff.add(
        centre.store, AgentAccount(name, name, (Role.AGENT,), (), "", known, apps.enrol(SECRET), T), by="root"
    )
    logins = [Logins(centre.world(f"n{node}"), Counting(), apps) for node in range(nodes)]
    failures = []
    for number, (what, wait_s) in enumerate(steps):
        centre.clock.advance(wait_s)
        code = pyotp.TOTP(SECRET).at(centre.clock() // 1000)
        typed = Typed(
            "nobody" if what == "nobody" else name,
            "wrong" if what == "wrong" else PASSWORD,
            "000000" if what == "code" else code,
        )
        before = len(judged)
        right = await logins[number % nodes].log_in(typed, f"s{next(secrets)}")
        if right:
            failures = []
        elif len(judged) > before:
            failures.append(centre.clock())
        assert (
            sum(at > centre.clock() - LOGIN_RULE.lock_s[0] * 1000 for at in failures) <= LOGIN_RULE.failures
        )
        assert right is False or what == "right"
    ledger = await centre.store.read(books.ledger_key(f"agent:{name}/log-in/pool"))
    assert ledger is None or len(ledger.attempts) <= LOGIN_RULE.failures
    assert standing(LOGIN_RULE, ledger, centre.clock()) if ledger else True


# ── planted faults ───────────────────────────────────────────────────────────────────────────────────────


async def _never_counted(desk, centre):
    """Six wrong ones, and then the right one."""
    for _ in range(6):
        await desk.enter(password="wrong")
    assert await desk.enter() is None


async def _code_used_once(desk, centre):
    code = desk.code()
    await desk.enter(code=code)
    assert await desk.enter(code=code) is None


async def _both_wanted(desk, centre):
    assert await desk.enter(code="000000") is None


FAULTS = {
    "a count that never fills": (
        lockout,
        "reserve",
        lambda _rule, ledger, *_: (ledger, True),
        _never_counted,
    ),
    "a lock that is not looked at": (lockout, "standing", lambda *_: Open(5), _never_counted),
    "failures that are forgiven": (
        logins,
        "_ledger",
        lambda *_: Ledger(),
        _never_counted,
    ),
    "a step that may be used again": (
        logins,
        "_why",
        lambda _attempt, _now, *both: "" if all(isinstance(one, Right) for one in both[:2]) else "wrong",
        _code_used_once,
    ),
    "a password that is enough": (
        logins,
        "_why",
        lambda _attempt, _now, known, *_: "" if isinstance(known, Right) else "wrong",
        _both_wanted,
    ),
}


@pytest.mark.parametrize(("module", "name", "planted", "shown_by"), FAULTS.values(), ids=FAULTS)
async def test_a_planted_fault_is_found(desk, centre, monkeypatch, module, name, planted, shown_by):
    """Each of these rules, taken out, turns what holds it red; with all of them in, it is green."""
    await shown_by(desk, centre)
    centre.clock.advance(86_400)
    monkeypatch.setattr(module, name, planted)
    with pytest.raises(AssertionError):
        await shown_by(desk, centre)
