"""A control group for each host: guests that shared one would stop each other's services."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path

from tests.system.hosts import processes

_ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """Where a group must be made: cgroup2, and systemd's own version 1 tree on hybrid machines."""
    if (_ROOT / "cgroup.procs").exists():
        return [_ROOT]
    return [path for path in (_ROOT / "unified", _ROOT / "systemd") if path.is_dir()]


class Cgroup:
    """The group ``assay-hosts.<pid>/<name>`` in every hierarchy."""

    def __init__(self, name: str) -> None:
        self._paths = [root / f"assay-hosts.{os.getpid()}" / name for root in hierarchies()]
        for path in self._paths:
            path.mkdir(parents=True)

    @property
    def procs(self) -> list[Path]:
        """The files a process writes itself into."""
        return [path / "cgroup.procs" for path in self._paths]

    def kill(self) -> None:
        """SIGKILL to every process inside."""
        for path in self._paths:
            switch = path / "cgroup.kill"
            if switch.exists():
                switch.write_text("1")

    def close(self) -> None:
        """Kills what is inside and removes the group with everything below it."""
        self.kill()
        for path in self._paths:
            processes.eventually(functools.partial(_removed, path), f"{path} empty")
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def remove_stale() -> None:
    """Removes the groups of test runs that were killed."""
    for root in hierarchies():
        for path in root.glob("assay-hosts.*"):
            if not Path(f"/proc/{path.suffix[1:]}").exists():
                _removed(path)


def _removed(path: Path) -> bool:
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not path.exists()
