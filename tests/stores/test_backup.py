"""Copies: whole while somebody writes, never over anything, and put back under nobody."""

import asyncio
import sqlite3
import stat
from contextlib import closing

import pytest

from ivrguard.core.audit import Entry, Place, walk
from ivrguard.core.errors import StoreFault
from ivrguard.ports import Change, Key, Put
from ivrguard.stores import backup, sqlite
from ivrguard.stores.sqlite import SqliteStore

COUNT = Key("spent", "123456789")


@pytest.fixture
def path(tmp_path):
    """A store."""
    place = tmp_path / "ivrguard.db"
    sqlite.migrate(place)
    return place


async def count(store, times):
    """Count up, each step with its entry."""
    for _ in range(times):
        await store.amend(
            [COUNT],
            lambda values: Change(
                None, (Put(COUNT, (values[COUNT] or 0) + 1),), (Entry(1, "authn_attempt"),)
            ),
        )


async def counted(place):
    """What a store has counted, and how far its record is whole."""
    store = await SqliteStore.open(place)
    found = (await store.read(COUNT), walk(Place(), await store.entries(limit=10_000)))
    head = await store.head()
    await store.close()
    assert isinstance(found[1], Place)
    assert (found[1].seq, found[1].hash) == head
    return found[0], found[1].seq


async def test_a_copy_is_of_one_moment_while_somebody_writes(path, tmp_path):
    """State and record agree in it, it is private, and the writer is not held up."""
    store = await SqliteStore.open(path)
    await count(store, 5)
    writing = asyncio.create_task(count(store, 300))
    size = await asyncio.to_thread(backup.copy, path, tmp_path / "copy.db")
    await writing
    await store.close()

    assert size == (tmp_path / "copy.db").stat().st_size
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.glob("copy*")] == ["copy.db"]
    state, entries = await counted(tmp_path / "copy.db")
    assert 5 <= state == entries <= 305


def test_nothing_is_written_over(path, tmp_path):
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(StoreFault, match="is there already"):
        backup.copy(path, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


@pytest.mark.parametrize(
    ("store", "to"), [("nowhere.db", "copy.db"), ("ivrguard.db", "no/folder/copy.db"), ("text.db", "copy.db")]
)
def test_what_cannot_be_copied_leaves_no_file(path, tmp_path, store, to):
    (tmp_path / "text.db").write_text("no database, but long enough to look like one" * 100)
    with pytest.raises(StoreFault, match="cannot be made"):
        backup.copy(tmp_path / store, tmp_path / to)
    assert not (tmp_path / to).exists()
    assert not list(tmp_path.glob("*.part"))


async def test_a_copy_is_put_back_and_the_store_before_stands_aside(path, tmp_path):
    """What came after the copy is in the store that was moved aside, log and all."""
    store = await SqliteStore.open(path)
    await count(store, 3)
    await store.close()
    backup.copy(path, tmp_path / "copy.db")
    store = await SqliteStore.open(path)
    await count(store, 4)
    await store.close()

    backup.put_back(tmp_path / "copy.db", path, tmp_path / "aside.db")

    assert await counted(path) == (3, 3)
    assert await counted(tmp_path / "aside.db") == (7, 7)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_there_is_no_store_it_is_put_there(path, tmp_path):
    """A lost disk: nothing need be moved aside."""
    backup.copy(path, tmp_path / "copy.db")
    path.unlink()
    backup.put_back(tmp_path / "copy.db", path, tmp_path / "aside.db")
    assert path.exists()
    assert not (tmp_path / "aside.db").exists()


async def test_nothing_is_put_back_under_a_server(path, tmp_path):
    """Whoever has it open would go on with the old file."""
    backup.copy(path, tmp_path / "copy.db")
    store = await SqliteStore.open(path)
    await count(store, 1)
    with pytest.raises(StoreFault, match="is in use"):
        backup.put_back(tmp_path / "copy.db", path, tmp_path / "aside.db")
    await store.close()
    assert await counted(path) == (1, 1)


@pytest.mark.parametrize(
    ("aside", "words"), [(None, "--force moves it aside"), ("copy.db", "is there already")]
)
def test_a_store_that_is_there_is_not_lost(path, tmp_path, aside, words):
    backup.copy(path, tmp_path / "copy.db")
    with pytest.raises(StoreFault, match=words):
        backup.put_back(tmp_path / "copy.db", path, aside and tmp_path / aside)


@pytest.mark.parametrize("damage", ["text", "pages"])
def test_a_damaged_copy_is_not_put_back(path, tmp_path, damage):
    """It is looked through first: the store stays as it is."""
    with closing(sqlite3.connect(path)) as file, file:
        file.executemany(
            sqlite.KEEP, [("sends", f"{number}", b"[]" * 200, None, number) for number in range(500)]
        )
    backup.copy(path, tmp_path / "copy.db")
    data = bytearray((tmp_path / "copy.db").read_bytes())
    if damage == "text":
        data = bytearray(b"no database" * 1000)
    else:
        data[8192 : 8192 * 3] = b"\xff" * (8192 * 2)
    (tmp_path / "copy.db").write_bytes(data)

    with pytest.raises(StoreFault, match=r"cannot be read as a store|is damaged"):
        backup.put_back(tmp_path / "copy.db", path, tmp_path / "aside.db")
    assert not (tmp_path / "aside.db").exists()


def test_a_place_that_cannot_be_written_is_a_fault(path, tmp_path):
    backup.copy(path, tmp_path / "copy.db")
    with pytest.raises(StoreFault, match="cannot be made"):
        backup.put_back(tmp_path / "copy.db", tmp_path / "no" / "folder.db", None)


def test_a_disk_that_is_full_leaves_no_half(path, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    backup.copy(path, tmp_path / "copy.db")
    monkeypatch.setattr(backup.shutil, "copyfile", full)
    with pytest.raises(StoreFault, match="cannot be put back"):
        backup.put_back(tmp_path / "copy.db", path, tmp_path / "aside.db")
    assert path.exists()
    assert not list(tmp_path.glob("*.part"))


def test_what_somebody_else_is_making_stays(path, tmp_path):
    """Two copies to one name: the second is refused, and does not take the first one's half away."""
    (tmp_path / "copy.db.part").write_text("half")
    with pytest.raises(StoreFault, match="cannot be made"):
        backup.copy(path, tmp_path / "copy.db")
    assert (tmp_path / "copy.db.part").read_text() == "half"


def test_a_file_of_another_program_is_not_put_back(path, tmp_path):
    """It is told before the store is moved."""
    with closing(sqlite3.connect(tmp_path / "other.db")) as other, other:
        other.execute("CREATE TABLE songs (name TEXT)")
    with pytest.raises(StoreFault, match="no store of ivrguard's"):
        backup.put_back(tmp_path / "other.db", path, tmp_path / "aside.db")
    assert path.exists()


def test_a_log_that_is_left_of_a_lost_store_is_told(path, tmp_path):
    """SQLite would play it into the copy."""
    backup.copy(path, tmp_path / "copy.db")
    path.unlink()
    (tmp_path / "ivrguard.db-wal").write_bytes(b"what the lost one had not folded in")
    with pytest.raises(StoreFault, match="move it away first"):
        backup.put_back(tmp_path / "copy.db", path, None)
    assert not path.exists()


def test_a_folder_that_cannot_be_synced_is_no_fault(path, tmp_path, monkeypatch):
    """Some file systems refuse it, and keep their folders all the same."""
    opened = backup.os.open

    def refuse(place, flags, *mode):
        if flags == backup.os.O_RDONLY:
            raise OSError
        return opened(place, flags, *mode)

    monkeypatch.setattr(backup.os, "open", refuse)
    assert backup.copy(path, tmp_path / "copy.db") > 0
