"""Which flows every node has in force: one act, one number more, and a memory of what was before. When: tests/web/test_reload.py."""

from pathlib import Path

from ivrguard import flowfile
from ivrguard.core.audit import Entry
from ivrguard.guard import publishing
from ivrguard.guard.books import flow_key, published_key
from ivrguard.guard.publishing import KEPT_S, digest_of, keep, set_of
from ivrguard.stores.memory import MemoryStore

FLOWS = flowfile.load_all(Path(__file__).parents[2] / "flows").flows
ENTRY = Entry(1, "flow_activated", reason="published")


async def test_a_publication_is_one_act(monkeypatch):
    """Number, files and entries; what was before is remembered, the last first, and not for ever."""
    monkeypatch.setattr(publishing, "SETS_REMEMBERED", 2)
    store = MemoryStore()
    sets = [FLOWS, FLOWS[:1], FLOWS[1:], FLOWS]
    digests = [digest_of(set_of(each)) for each in sets]
    for number, flows in enumerate(sets, start=1):
        done = await keep(store, flows, (ENTRY,), 1, publish=True)
        assert done == await store.read(published_key())
        assert (done.number, done.digest, done.flows) == (number, digests[number - 1], set_of(flows))
        assert done.before == tuple(reversed(digests[: number - 1]))[:2]
    assert (await store.head())[0] == len(sets)
    for flow in FLOWS:
        assert await store.read(flow_key(flow.name, flow.version)) == flow.files
    assert await store.sweep(KEPT_S * 1000) == 0
    assert await store.sweep(KEPT_S * 1000 + 2) == len(FLOWS)


async def test_what_is_only_kept_is_not_published():
    """A node that follows says that it has these versions, and no more."""
    store = MemoryStore()
    assert await keep(store, FLOWS, (), 1, publish=False) is None
    last = await keep(store, FLOWS[:1], (), 1, publish=True)
    assert await keep(store, FLOWS, (), 1, publish=False) == last


def test_a_set_is_the_same_in_any_order():
    assert set_of(FLOWS) == set_of(reversed(FLOWS))
    assert digest_of(set_of(FLOWS)) != digest_of(set_of(FLOWS[1:]))
