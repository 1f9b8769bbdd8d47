"""Where an agent keeps what it knows: one directory, one agent at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay.core.errors import DiskFull, UsageError


@dataclass(frozen=True, slots=True)
class AgentHome:
    """Paths below one root; ``ASSAY_AGENT_HOME`` or ``~/.local/share/assay-agent`` by default."""

    root: Path

    @classmethod
    def default(cls) -> AgentHome:
        """The home of this user's agent."""
        given = os.environ.get("ASSAY_AGENT_HOME")
        return cls(Path(given) if given else Path.home() / ".local/share/assay-agent")

    def create(self) -> AgentHome:
        """Makes the directories, readable by their owner alone."""
        for directory in (self.root, self.rounds, self.work, self.artifacts, self.native):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self

    @property
    def key(self) -> Path:
        """The private key, made here; it never leaves the device. Mode 0600."""
        return self.root / "key.pem"

    @property
    def identity(self) -> Path:
        """Certificate, CA bundle, name and addresses: one file, so that it changes at once."""
        return self.root / "identity.json"

    @property
    def next_identity(self) -> Path:
        """A renewed identity until it has synced; then it becomes :attr:`identity`."""
        return self.root / "identity.next.json"

    @property
    def spool(self) -> Path:
        """Results that wait for their acknowledgement."""
        return self.root / "spool.log"

    @property
    def rejected(self) -> Path:
        """Results the controller would not take, kept for people."""
        return self.root / "rejected"

    @property
    def rounds(self) -> Path:
        """What was leased to this device and how far each round is."""
        return self.root / "rounds"

    @property
    def traffic(self) -> Path:
        """Bytes of the day on a metered line; see :mod:`assay.agent.plane.traffic`."""
        return self.root / "traffic.json"

    @property
    def late_traces(self) -> Path:
        """The content store of traces that wait for room in the day's bytes; their results went."""
        return self.root / "traces-late"

    @property
    def draining(self) -> Path:
        """There while the agent takes no new rounds; see :mod:`assay.agent.plane.drain`."""
        return self.root / "draining"

    @property
    def artifacts(self) -> Path:
        """The content store: models, inputs, golden outputs."""
        return self.root / "artifacts"

    @property
    def traces(self) -> Path:
        """The content store of traces not yet handed over."""
        return self.root / "traces"

    @property
    def native(self) -> Path:
        """The compiled timing loop; a cache that may be deleted. Runs may only read it."""
        return self.root / "native"

    @property
    def work(self) -> Path:
        """Scratch of the run going on; emptied at start."""
        return self.root / "work"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the home for this process; :class:`UsageError` where another agent has it.

        The kernel drops the lock with the process, so a kill -9 leaves none behind.
        """
        self.create()
        path = self.root / "lock"
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise UsageError(
                    f"another agent (pid {file.read().strip() or 'unknown'}) uses {self.root}: "
                    "stop it, or give this one a home of its own with --home"
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces ``path`` by ``data``, whole or not at all, flushed to disk; :class:`DiskFull` where
    there is no room."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with full_disk_named(path):
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    fsync_directory(path.parent)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """The operating system's word that a disk is full becomes :class:`DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"no room for {path}: free some space on that disk") from error


def fsync_directory(directory: Path) -> None:
    """Makes the names in ``directory`` durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
