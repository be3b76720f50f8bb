"""
The real `ivrguard`, started many times by a process that has imported it once, and hurt where a test says so.

1. Each child is a process of its own, forked before anything runs: it has its own environment, log, event loop, store and
   sockets, and runs the command line's own `main()`. Importing is all that it is spared (two seconds of a core each).
2. What is hurt is hurt from outside, at run time, in this child alone: there is nothing for tests in the product. The
   methods that a webhook goes through are wrapped, and each step tells `reached` that it was come to.
3. A step kills the process with SIGKILL, or stops it, when the plan (a file, so that a running server can be given one)
   names it.
4. One number is another one: a node waits 1.6 s for another one that has the same webhook under way, and not 8, so that
   hundreds of them can be killed in minutes, and a busy machine keeps to Twilio's 15 s.
5. What the judge is given is written down before it looks, in the same way: that is what guesses are counted by.
6. A process is stopped (SIGSTOP) between two of its commits to SQLite. One that is stopped within a commit keeps the file
   locked, and then every other process of the machine apologizes to its callers until it goes on: that is no node's fault.

Read from standard input, a line of JSON each: `{"start": [arguments], "env": {...}, "log": path}` answers the child's pid,
`{"wait": pid}` its exit code (a signal's is negative). It ends when its input does.
"""

import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from contextlib import nullcontext, suppress
from contextvars import ContextVar, copy_context
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from aiohttp import web

from ivrguard import __main__ as command_line
from ivrguard import guard
from ivrguard.core import admission, handoff, lockout
from ivrguard.core import step as steps
from ivrguard.core.errors import Busy
from ivrguard.guard import desk as desks
from ivrguard.guard import proving, webhook
from ivrguard.notify.sms import SmsMessenger
from ivrguard.ports import Change
from ivrguard.stores.postgres import PostgresStore
from ivrguard.stores.sqlite import SqliteStore
from ivrguard.web import voice
from ivrguard.web.agents.redemptions import Redemptions
from ivrguard.web.upstream import Upstream

POLL_S = 0.05
STORES = (SqliteStore, PostgresStore)

# ── steps, and dying at one ──────────────────────────────────────────────────────────────────────────────

_counted: dict[str, int] = {}
_inside: ContextVar[bool] = ContextVar("inside", default=False)
"""Whether it is a webhook or a redemption that comes to a step, and not the server's own housekeeping."""
_committing = threading.RLock()
"""Held while this process commits to SQLite: the housekeeping does too, every second."""


def reached(step: str) -> None:
    """
    A step of a webhook was come to.

    The plan is `{"id", "step", "nth", "signal"}`: send oneself that signal there, the n-th time; or `{"trace"}`: write down
    each step; or `{"stderr"}`: have standard error lead there.
    """
    if not _inside.get():
        return
    with suppress(OSError, ValueError):
        plan = json.loads(Path(os.environ["FAULTS_PLAN"]).read_text())
        if "trace" in plan:
            _note(plan["trace"], step)
        elif "stderr" in plan:
            os.dup2(os.open(plan["stderr"], os.O_WRONLY | os.O_APPEND), 2)
        elif plan["step"] == step:
            name = plan["id"]
            _counted[name] = _counted.get(name, 0) + 1
            if _counted[name] == plan["nth"]:
                with _committing if plan["signal"] == signal.SIGSTOP else nullcontext():
                    os.kill(os.getpid(), plan["signal"])


def _note(path: str, line: str) -> None:
    """Append a line, whole."""
    with Path(path).open("a") as file:
        file.write(f"{line}\n")


def _between(owner: object, name: str, before: str, after: str) -> None:
    """Tell of an awaited method before it begins and after it has ended."""
    real = getattr(owner, name)

    async def told(*args: object, **named: object) -> object:
        reached(before)
        result = await real(*args, **named)
        reached(after)
        return result

    setattr(owner, name, told)


def _enters(owner: object, name: str) -> None:
    """Tell what comes to steps from here on."""
    real = getattr(owner, name)

    async def entering(*args: object) -> object:
        _inside.set(True)
        return await real(*args)

    setattr(owner, name, entering)


def _amendments(store: type) -> None:
    real = store.amend

    async def amend(self, keys, change):
        here = copy_context()  # the change may be made on another thread

        def decide(values):
            done = change(values)
            here.copy().run(reached, "decided")
            return done

        reached("before the act")
        result = await real(self, keys, decide)
        reached("after the act")
        return result

    store.amend = amend


def _commits() -> None:
    real = SqliteStore._commit

    def commit(self, batch):
        with _committing:
            real(self, batch)

    SqliteStore._commit = commit


def watch() -> None:
    """Wrap what a webhook goes through, in its order."""
    _commits()
    _enters(voice.Voice, "_answered")
    _enters(Redemptions, "redeem")
    _between(voice.Voice, "_signed", "before the signature", "after the signature")
    for store in STORES:
        _amendments(store)
    real = proving.judge

    async def judge(world, flow, call, move, digits):
        reached("before the judge")
        seen = {
            "call": call.sid,
            "account": call.account,
            "factor": move.factor,
            "guess": sha256(digits.encode()).hexdigest(),
            "allowed": move.allowed,
        }
        _note(os.environ["FAULTS_JUDGED"], json.dumps(seen))
        try:
            verdict = await real(world, flow, call, move, digits)
        except Busy:  # at once, and before anything was looked at
            _note(os.environ["FAULTS_JUDGED"], json.dumps(seen | {"busy": True}))
            raise
        reached("after the judge")
        return verdict

    proving.judge = judge
    _between(Upstream, "fetch", "before the IVR", "after the IVR")
    _between(SmsMessenger, "send", "before the message", "after the message")
    _between(web.Response, "write_eof", "before the answer", "after the answer")


# ── what a process is told of the time ───────────────────────────────────────────────────────────────────


def shift_clock(path: Path) -> None:
    """The wall clock, so many milliseconds ahead as stands in the file; what cannot be set (`monotonic`) goes on."""
    real_ns, real = time.time_ns, time.time

    def ahead_ms() -> int:
        try:
            return int(path.read_text())
        except (OSError, ValueError):
            return 0

    time.time_ns = lambda: real_ns() + ahead_ms() * 1_000_000
    time.time = lambda: real() + ahead_ms() / 1000


# ── planted faults: guards that are weaker than ours ─────────────────────────────────────────────────────


def count_after_judging() -> None:
    """Judge, and count afterwards: what most servers do."""
    reserve, judged = steps.reserve, steps._judged

    def look(flow, call, books, factor, attempt, now_ms):
        return books, reserve(flow, call, books, factor, attempt, now_ms)[1]

    def then_count(flow, call, books, event, now_ms):
        if not event.right and call.question is not None and call.question.counted:
            question = call.question
            books, _ = reserve(flow, call, books, question.factor, question.counted, now_ms)
        return judged(flow, call, books, event, now_ms)

    steps.reserve, steps._judged = look, then_count


def record_apart() -> None:
    """State in one act, its entries in another one behind it."""
    for store in STORES:
        _apart(store)


def _apart(store: type) -> None:
    real = store.amend

    async def amend(self, keys, change):
        entries = []

        def without(values):
            done = change(values)
            entries.extend(done.entries)
            return Change(done.result, done.puts)

        result = await real(self, keys, without)
        if entries:
            await real(self, [], lambda _: Change(None, (), tuple(entries)))
        return result

    store.amend = amend


def forget_answers() -> None:
    """A webhook is taken anew each time that it comes: nothing of it is remembered."""
    admission.admit = lambda *_: admission.Admission.FRESH
    webhook.admission.admit = admission.admit


def token_looked_at_before() -> None:
    """Whether a token is spent is not looked at in the act that spends it."""
    real = handoff.redeem

    def redeem(leg, *args, **named):
        return real(replace(leg, redeemed_ms=None) if leg is not None else None, *args, **named)

    desks.handoff.redeem = redeem


def trusting_clock() -> None:
    """A lock ends by whichever clock asks, and each answer may set the time of the last failure back."""
    real = lockout.reserve

    def reserve(rule, ledger, attempt_id, now_ms):
        kept = tuple(one for one in ledger.attempts if one.at_ms <= now_ms)
        return real(rule, replace(ledger, attempts=kept), attempt_id, now_ms)

    steps.lockout.reserve = reserve


def let_through_on_a_fault() -> None:
    """Where the store does not answer, callers are let through to the IVR: the line must not stand still."""
    real = webhook.Webhook._turn

    async def turn(self, event, **named):
        try:
            return await real(self, event, **named)
        except webhook.Fault:
            if self._inward is None or self._request is None:
                raise
            await self._world.ivr.fetch(self._request, assertion="", cookies="", deadline_s=5)
            raise

    webhook.Webhook._turn = turn


WEAKNESSES = {
    weak.__name__: weak
    for weak in (
        count_after_judging,
        record_apart,
        forget_answers,
        token_looked_at_before,
        trusting_clock,
        let_through_on_a_fault,
    )
}


# ── children ─────────────────────────────────────────────────────────────────────────────────────────────


def _become(asked: dict[str, object]) -> None:
    """The child: its environment, its log, what hurts it, and the command line."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    log = os.open(str(asked["log"]), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for name in [name for name in os.environ if re.match("IVRGUARD_|FAULTS_|DATABASE_|PORT$", name)]:
        del os.environ[name]
    os.environ.update(asked["env"])
    sys.argv = ["ivrguard", *asked["start"]]
    if "FAULTS_CLOCK" in os.environ:
        shift_clock(Path(os.environ["FAULTS_CLOCK"]))
    if "FAULTS_PLAN" in os.environ:
        guard.UNFINISHED_POLL_S = POLL_S
        watch()
    if "FAULTS_WEAK" in os.environ:
        WEAKNESSES[os.environ["FAULTS_WEAK"]]()
    command_line.main()


def _start(asked: dict[str, object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _become(asked)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except BaseException:  # noqa: BLE001 - it is told, and the child ends in any case
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def main() -> None:
    """Start and await children until the input ends; none of them outlives this process."""
    alive: set[int] = set()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        asked = json.loads(line)
        if "start" in asked:
            answered = _start(asked)
            alive.add(answered)
        else:
            answered = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
            alive.discard(asked["wait"])
        answers.write(f"{answered}\n")
        answers.flush()
    for pid in alive:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
