"""A small disk of its own for whoever shall run out of room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.system.hosts import processes


class Disk:
    """A file system of ``size_bytes`` at ``place``, in a mount namespace that ends with the tests.

    Whoever is started by :meth:`command` sees it at ``place``; everybody else at :attr:`seen`.
    """

    def __init__(self, place: Path, size_bytes: int) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self._holder = processes.start(mounting(place, size_bytes, ["sleep", "infinity"]))
        self.seen = Path(f"/proc/{self._holder.pid}/root{place}")
        processes.eventually(
            lambda: os.stat(self.seen).st_dev != os.stat(place).st_dev, "a file system"
        )

    def command(self, command: Sequence[str]) -> list[str]:
        """``command`` as run where the disk is; the process keeps its id."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--", *command]

    def close(self) -> None:
        """Ends the namespace."""
        processes.kill(self._holder)


def mounting(place: Path, size_bytes: int, command: Sequence[str]) -> list[str]:
    """``command`` with a file system of that size at ``place``, for it and its children alone."""
    mount = f"mount -t tmpfs -o size={size_bytes},mode=700 assay-test '{place}'"
    return ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]


def fill(place: Path) -> Path:
    """Takes all the room there is; returns the file to remove to have it back."""
    filler = place / "filler"
    with filler.open("wb") as file:
        if free := shutil.disk_usage(place).free:
            os.posix_fallocate(file.fileno(), 0, free)
    return filler
