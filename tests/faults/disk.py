"""
A disk that is full: a small file system of its own where one can be mounted; else the kernel's bound on a file's size.

The first is what an operator has; the second (`RLIMIT_FSIZE`, set from outside on the running process) makes the same writes
fail, and needs no rights.
"""

import contextlib
import resource
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DISK_BYTES = 16 * 1024 * 1024
"""A write-ahead log of SQLite's usual four megabytes, and as much again for the file."""


@dataclass(frozen=True, slots=True)
class Disk:
    """Where a store can stand. `mounted`: whether it is a file system of its own."""

    folder: Path
    mounted: bool

    def fill(self, pids: Sequence[int]) -> None:
        """No room is left for these processes."""
        if self.mounted:
            with contextlib.suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
                while file.write(b"\0" * 4096):
                    pass
        else:
            self._bound(pids, 4096)

    def make_room(self, pids: Sequence[int]) -> None:
        """There is room again."""
        if self.mounted:
            (self.folder / "filler").unlink()
        else:
            self._bound(pids, resource.RLIM_INFINITY)

    def _bound(self, pids: Sequence[int], size: int) -> None:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """A disk at this folder."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    try:
        yield Disk(folder, mounted)
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
