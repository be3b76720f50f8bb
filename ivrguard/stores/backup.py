"""
A copy of a SQLite store while servers write to it, and the way back.

The laws of this file:

1. A copy is whole or it is not there: it is made beside its place, looked through, and then given its name.
2. Nothing is written over. A file of that name refuses the copy; a store that is put back moves the one before aside.
3. Nothing is put back under a server that runs.

SQLite's online backup (https://www.sqlite.org/backup.html) reads in one transaction, which no writer waits for.
"""

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from ivrguard.core.errors import StoreFault
from ivrguard.stores.sqlite import APPLICATION_ID, WHOSE

MODE = 0o600
LOGS = ("-wal", "-journal")
"""Where SQLite keeps beside a file what is not in it yet; an empty one holds nothing."""


def copy(path: Path, to: Path) -> int:
    """
    Copy the store at `path` to the new file `to`, private to its user; how many bytes it has.

    Raises `StoreFault` for a store that cannot be read, a place that is taken or cannot be written, and for a copy
    that is damaged: then there is no file.
    """
    if to.exists():
        raise StoreFault(f"{to}: is there already; name a new file")
    part = _begun(to)
    try:
        with (
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as store,
            closing(sqlite3.connect(part)) as made,
        ):
            store.backup(made)
            made.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        look_through(part)
        _settle(part, to)
    except (OSError, sqlite3.Error) as error:
        raise StoreFault(f"{to}: cannot be made: {error}") from None
    finally:
        part.unlink(missing_ok=True)
    return to.stat().st_size


def look_through(path: Path) -> None:
    """Raise `StoreFault` for a file whose pages do not hold together (https://www.sqlite.org/pragma.html#pragma_integrity_check)."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            (found,) = file.execute("PRAGMA integrity_check(1)").fetchone()
            (application, *_) = file.execute(WHOSE).fetchone()
    except sqlite3.Error as error:
        raise StoreFault(f"{path}: cannot be read as a store: {error}") from None
    if found != "ok":
        raise StoreFault(f"{path}: is damaged ({found}); take another copy")
    if application != APPLICATION_ID:
        raise StoreFault(f"{path}: is no store of ivrguard's; name a file that `ivrguard backup` made")


def put_back(copied: Path, path: Path, aside: Path | None) -> None:
    """
    Make the store at `path` what `copied` is. `aside`: where the one that is there goes to; None: there must be none.

    Raises `StoreFault` when a server has it open, when a place is taken, or when the copy is damaged: then nothing is changed.
    """
    look_through(copied)
    if path.exists():
        if aside is None:
            raise StoreFault(f"{path}: there is a store; --force moves it aside first")
        if aside.exists():
            raise StoreFault(f"{aside}: is there already; move it away first")
        _alone(path)
    for log in (path.with_name(f"{path.name}{end}") for end in LOGS):
        if (
            log.exists() and log.stat().st_size
        ):  # SQLite would play it into the copy (https://www.sqlite.org/howtocorrupt.html, 1.4)
            raise StoreFault(
                f"{log}: is left of a store that is gone, and would spoil this one; move it away first"
            )
    part = _begun(path)
    try:
        shutil.copyfile(copied, part)
        if aside is not None and path.exists():
            path.rename(aside)
        _settle(part, path)
    except OSError as error:
        raise StoreFault(f"{path}: cannot be put back: {error}") from None
    finally:
        part.unlink(missing_ok=True)


def _begun(place: Path) -> Path:
    """A new, empty, private file beside `place`. One that is there already is somebody else's, and stays."""
    part = place.with_name(f"{place.name}.part")
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE))
    except OSError as error:
        raise StoreFault(f"{part}: cannot be made: {error.strerror}") from None
    return part


def _alone(path: Path) -> None:
    """Fold the log into the file, which SQLite only does for somebody who has it to himself."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0)) as file:
            file.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise StoreFault(f"{path}: is in use: stop every server and command first ({error})") from None


def _settle(part: Path, to: Path) -> None:
    """Give a finished file its name, so that it is there after a crash as well."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(to)
    with suppress(OSError):  # a file system whose folders cannot be synced keeps them by itself
        folder = os.open(to.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
