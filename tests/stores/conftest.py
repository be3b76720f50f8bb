import pytest

from ivrguard.stores.memory import MemoryStore
from ivrguard.stores.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path):
    """Each store in turn, empty."""
    if request.param == "memory":
        opened = MemoryStore()
    else:
        opened = await SqliteStore.open(tmp_path / "guard.db", migrate=True)
    yield opened
    await opened.close()
