"""
Files of exported lines: an archive that is whole or not there, and a copy that grows beside the store.

1. An archive is written beside its name, brought to the disk, and only then given its name: never over another file.
2. A copy is only appended to. A line that a crash cut in half is taken off before the next one is written; how far a
   copy got stands in its last line and nowhere else. A file that was moved away (logrotate) is begun anew.
3. Both are private to their user: they hold what is decided about people.

What cannot be written or read is a `RecordFault` that names the file and the mend.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ivrguard.core.errors import RecordFault
from ivrguard.exports.jsonl import LINE_BYTES_MAX

MODE = 0o600
TAIL_BYTES = 4 * LINE_BYTES_MAX
"""How much of a copy's end is looked at to find its last entry."""


def _fault(path: Path, error: OSError, doing: str) -> RecordFault:
    return RecordFault(f"{path}: it cannot be {doing}: {error.strerror or type(error).__name__}")


class Archive:
    """A new file at `path`. Raises `RecordFault` if there is one already, or none can be made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._digest = hashlib.sha256()
        if path.exists():
            raise RecordFault(f"{path}: there is such a file already: name another, or move it away")
        try:
            self._fd = os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE)
        except OSError as error:
            raise _fault(path, error, "made") from None

    @property
    def part(self) -> Path:
        """Where it is until it is finished."""
        return self._part

    def write(self, data: bytes) -> None:
        """Add lines."""
        self._digest.update(data)
        try:
            _write_all(self._fd, data)
        except OSError as error:
            raise _fault(self.path, error, "written") from None

    def flush(self) -> str:
        """Bring what was written to the disk; its SHA-256, in hex."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise _fault(self.path, error, "written") from None
        return self._digest.hexdigest()

    def finish(self) -> None:
        """Give it its name: now it is there."""
        self.flush()
        try:
            os.link(self._part, self.path)  # unlike a rename, it never replaces what came in between
            self._part.unlink()
            _sync_directory(self.path)
        except OSError as error:
            raise _fault(self.path, error, "made") from None
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it; what was not finished is gone. Harmless twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._part.unlink(missing_ok=True)


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, each with its number and its end. Raises `RecordFault` if it cannot be read."""
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX):
                number += 1
                yield number, line
    except OSError as error:
        raise _fault(path, error, "read") from None


class Copy:
    """
    A file that lines are appended to. `chain` and `seq`: of the last entry in it, "" and 0 if there is none.

    `regular`: it is a file; not a terminal or a pipe, of which nobody can say how far it got.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self.chain, self.seq, self.regular = "", 0, True

    def open(self) -> None:
        """Open it, or make it, and find how far it got. Raises `RecordFault`, as the rest does."""
        self.close()
        try:
            self._fd = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, MODE)
            self.regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
            if self.regular:
                self.chain, self.seq = self._last()
                os.fsync(self._fd)  # what is read may be in memory alone, since the disk refused it
        except OSError as error:
            self.close()
            raise _fault(self.path, error, "written") from None

    @property
    def is_open(self) -> bool:
        """Whether lines can be appended. After a fault it is not: `open` it anew, and ask again how far it got."""
        return self._fd >= 0

    def append(self, data: bytes) -> None:
        """Add whole lines, and bring them to the disk."""
        try:
            if self._was_moved():
                self.open()
            _write_all(self._fd, data)
            if self.regular:
                os.fsync(self._fd)
        except OSError as error:
            self.close()
            raise _fault(self.path, error, "written") from None

    def close(self) -> None:
        """Let go of it. Harmless twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _was_moved(self) -> bool:
        if not self.regular:
            return False
        here = os.fstat(self._fd)
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return True
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)

    def _last(self) -> tuple[str, int]:
        """Chain and number of the last entry; half a line behind it is taken off."""
        size = os.fstat(self._fd).st_size
        with self.path.open("rb") as file:
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail):
            os.ftruncate(self._fd, size - (len(tail) - whole))
        for line in reversed(tail[:whole].splitlines()):
            found = _place(line)
            if found is not None:
                return found
        if size > 0 and whole > 0:
            raise RecordFault(f"{self.path}: it is no copy of a record: name another file")
        return "", 0


def _place(line: bytes) -> tuple[str, int] | None:
    """Chain and number of the entry in a line of either format; None for a checkpoint's and for anything else."""
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        data = json.loads(line)
        if "unmapped" in data:
            return str(data["unmapped"]["chain"]), int(data["metadata"]["sequence"])
        return str(data["chain"]), int(data["entry"]["seq"])
    return None


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _sync_directory(path: Path) -> None:
    """Bring a name to the disk."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
