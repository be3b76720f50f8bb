"""The parent of several workers: real processes that do little. With the whole server: tests/commands/test_server.py."""

import asyncio
import os
import signal
import sys

import pytest

from ivrguard.web import workers
from ivrguard.web.workers import DEATHS_MAX, Workers, WorkersFault, listen

ANSWERS = """
import os, signal, socket, sys
signal.signal(signal.SIGHUP, lambda *_: os.write(1, b"hup "))
shared = socket.socket(fileno=int(sys.argv[1]))
while True:
    one, _ = shared.accept()
    one.sendall(b"%d %s" % (os.getpid(), sys.argv[3].encode()))
    one.close()
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
ORPHANED = "import os, sys; os.read(int(sys.argv[2]), 1); print('orphaned', flush=True)"


def doing(code):
    def command(nr, listening, parent):
        return [sys.executable, "-c", code, str(listening), str(parent), str(nr)], os.environ

    return command


@pytest.fixture
def shared():
    with listen("127.0.0.1", 0) as one:
        yield one


async def until(fits):
    """What other processes do, no event tells."""
    for _ in range(3_000):
        if fits():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def who(port):
    """The process that answers, and its number."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    pid, nr = (await reader.read()).split()
    writer.close()
    return int(pid), int(nr)


async def test_all_take_from_one_socket_and_who_dies_is_started_again(shared, monkeypatch, capfd):
    """Signals are passed on; SIGTERM ends all of them, and the parent after them."""
    monkeypatch.setattr(workers, "PAUSE_S", 0.01)
    port = shared.getsockname()[1]
    parent = Workers(doing(ANSWERS), 2, shared)
    running = asyncio.ensure_future(parent.run())
    async with asyncio.timeout(30):
        first, _ = await who(port)
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(parent._running) == 2 and first not in pids(parent))
        seen = set()
        while len(seen) < 2:
            seen.add((await who(port))[1])
        os.kill(os.getpid(), signal.SIGHUP)
        told = ""
        while told.count("hup") < 2:
            await who(port)
            told += capfd.readouterr().out
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        await running
    assert seen == {0, 1}


def pids(parent):
    return {process.pid for process in parent._running.values()}


async def test_a_worker_that_does_not_stay_alive_ends_all_of_it(shared, monkeypatch, logged):
    """After so many deaths in a row; one that lived long begins to count anew."""
    monkeypatch.setattr(workers, "PAUSE_S", 0.001)
    with pytest.raises(
        WorkersFault, match=rf"worker 0 died {DEATHS_MAX} times in a row, the last time with 3"
    ):
        await Workers(doing("raise SystemExit(3)"), 1, shared).run()
    assert [line["deaths"] for line in logged if line["event"] == "worker_died"] == [1, 2, 3, 4, 5]

    monkeypatch.setattr(workers, "LIVED_S", 0.0)
    parent = Workers(doing("raise SystemExit(3)"), 1, listen("127.0.0.1", 0))
    running = asyncio.ensure_future(parent.run())
    await until(lambda: sum(line["event"] == "worker_died" for line in logged) > 5 + DEATHS_MAX)
    parent.stop()
    await running


async def test_a_stop_while_a_worker_is_waited_for_begins_no_other(shared, monkeypatch, logged):
    """In the pause after a death."""
    monkeypatch.setattr(workers, "PAUSE_S", 60.0)
    parent = Workers(doing("raise SystemExit(3)"), 1, shared)
    running = asyncio.ensure_future(parent.run())
    await until(lambda: any(line["event"] == "worker_died" for line in logged))
    parent.stop()
    await running
    assert [line["event"] for line in logged] == ["workers", "worker_died", "draining"]


async def test_who_does_not_end_is_killed(shared, monkeypatch, capfd):
    monkeypatch.setattr(workers, "STOP_S", 0.05)
    parent = Workers(doing(DEAF), 1, shared)
    running = asyncio.ensure_future(parent.run())
    await until(lambda: "deaf" in capfd.readouterr().out)
    parent.stop()
    await running


async def test_a_stop_while_a_worker_is_being_started_reaches_it(shared):
    """It is there a moment later, and is told then."""
    parent = Workers(doing(ANSWERS), 1, shared)

    def command(*handed):
        asyncio.get_running_loop().call_soon(parent.stop)
        return doing(ANSWERS)(*handed)

    parent._command = command
    async with asyncio.timeout(30):
        await parent.run()


async def test_a_signal_reaches_those_behind_one_that_has_just_ended(shared):
    """Between a worker's end and the parent's notice of it, nobody takes a signal for it: the next one must have it still."""
    told = []

    class Ended:
        def send_signal(self, what):
            raise ProcessLookupError

    class Alive:
        def send_signal(self, what):
            told.append(what)

    parent = Workers(doing(ANSWERS), 2, shared)
    parent._running |= {0: Ended(), 1: Alive()}
    parent.stop()

    assert told == [signal.SIGTERM]


async def test_who_loses_the_parent_hears_of_it(shared, capfd):
    """The other end of the pipe closes with the parent, however that ends."""
    parent = Workers(doing(ORPHANED), 1, shared)
    running = asyncio.ensure_future(parent.run())
    await until(lambda: parent._running)
    os.close(parent._held)
    await until(lambda: "orphaned" in capfd.readouterr().out)
    parent._held = os.dup(parent._pipe)
    parent.stop()
    await running


def test_a_port_that_is_taken_is_told(shared):
    port = shared.getsockname()[1]
    with pytest.raises(WorkersFault, match=f"cannot listen on 127.0.0.1, port {port} "):
        listen("127.0.0.1", port)
    listen("::1", 0).close()
