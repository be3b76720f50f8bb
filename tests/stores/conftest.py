import secrets

import pytest

from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.postgres import PostgresStore
from ivrguard.stores.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request, tmp_path):
    """Each store in turn, empty."""
    match request.param:
        case "memory":
            opened = MemoryStore()
        case "sqlite":
            opened = await SqliteStore.open(tmp_path / "guard.db", migrate=True)
        case _:
            url = request.getfixturevalue("database")
            opened = await PostgresStore.open(url, chance=secrets.token_bytes)
    yield opened
    await opened.close()
