"""`flows publish`: what every node has in force, by hand, and on record."""

import asyncio
from pathlib import Path

from ivrguard import flowfile
from ivrguard.guard.books import published_key
from ivrguard.stores.sqlite import SqliteStore, migrate


async def last_of(path, flow):
    """The last entry on record; this flow is what was published."""
    store = await SqliteStore.open(path)
    assert (await store.read(published_key())).flows == (("bank", flow.version),)
    entry = (await store.entries())[-1].entry
    await store.close()
    return entry


def test_flows_are_published_by_hand(tmp_path, flows, asked):
    """Each time one number more; with a fault in them nothing is published."""
    path = tmp_path / "ivrguard.db"
    migrate(path)
    env = {"IVRGUARD_STORE": f"sqlite:{path}", "IVRGUARD_FLOWS": str(flows.folder)}
    (flow,) = flowfile.load_all(Path(flows.folder)).flows

    def ask(*words):
        return asked(env, "flows", "publish", *words)

    assert ask().out == f"bank {flow.version}: published (1)\n"
    assert ask(str(flows.folder), "--by", "ann", "--reason", "back to Monday").out.endswith("published (2)\n")
    flows.write("bank.yaml", "flow: bank\n")
    refused = ask()
    assert (refused.code, refused.out) == (1, "")
    entry = asyncio.run(last_of(path, flow))
    assert (entry.event, entry.reason, dict(entry.detail)["by"]) == ("flow_activated", "published", "ann")
    assert dict(entry.detail)["because"] == "back to Monday"
