"""A home in one file, and back: the database as of one moment, the keys, every artifact."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
import tempfile
from pathlib import Path

from assay.controller.home import Home
from assay.core import digest as digests
from assay.core.errors import AlreadyExists, BadMessage, CheckFailed, NotFound

_DATABASE = "assay.db"
_ROOTS = ("pki", "artifacts")
# Made anew when asked for, or half of something.
_LEFT_OUT = ("artifacts/encoded", "artifacts/incoming", "artifacts/partial")


def back_up(home: Home, target: Path) -> int:
    """Writes a tar file of mode 0600, whole or not at all; its size. A controller may run.

    The database comes first: an artifact added since is a file too many, never one too few.
    :class:`AlreadyExists` where ``target`` is there.
    """
    if not home.database.exists():
        raise NotFound(f"{home.root} holds no store; nothing to back up")
    if target.exists():
        raise AlreadyExists(f"{target} exists; name another file")
    partial = target.with_name(target.name + ".new")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file, tempfile.TemporaryDirectory(dir=home.root) as folder:
            copy = Path(folder) / _DATABASE
            _snapshot(home.database, copy)
            with tarfile.open(fileobj=file, mode="w") as tar:
                tar.add(copy, _DATABASE)
                for root in _ROOTS:
                    if (home.root / root).exists():
                        tar.add(home.root / root, root, filter=_kept)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target.stat().st_size


def restore(source: Path, home: Home) -> None:
    """Puts a backup into a home that is not there yet, whole or not at all; every artifact's digest
    is checked. :class:`AlreadyExists` where something is there, :class:`CheckFailed` where the
    backup is damaged, :class:`BadMessage` where it is none."""
    if home.root.exists() and any(home.root.iterdir()):
        raise AlreadyExists(f"{home.root} is not empty; set ASSAY_HOME to a new directory")
    home.root.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=home.root.parent, prefix=f".{home.root.name}-restore-"))
    try:
        _unpack(source, staging)
        _check(staging)
        if home.root.exists():
            home.root.rmdir()
        os.replace(staging, home.root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _snapshot(database: Path, copy: Path) -> None:
    origin, target = sqlite3.connect(database), sqlite3.connect(copy)
    try:
        origin.backup(target)
    finally:
        target.close()
        origin.close()


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name in _LEFT_OUT or not (member.isfile() or member.isdir()) else member


def _unpack(source: Path, folder: Path) -> None:
    try:
        with tarfile.open(source) as tar:
            # The filter refuses names that lead out of the folder, links and devices.
            tar.extractall(folder, filter="data")
    except FileNotFoundError:
        raise NotFound(f"{source} is not there") from None
    except (tarfile.TarError, EOFError) as error:
        raise BadMessage(f"{source} is no whole backup: {error}") from None
    if not (folder / _DATABASE).is_file():
        raise BadMessage(f"{source} is no backup: it holds no {_DATABASE}")


def _check(folder: Path) -> None:
    connection = sqlite3.connect(folder / _DATABASE)
    try:
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    finally:
        connection.close()
    if verdict != "ok":
        raise CheckFailed(f"the backup's database is damaged: {verdict}")
    for path in (folder / "artifacts" / "sha256").glob("??/*"):
        if digests.hex_of(digests.of_file(path)) != path.name:
            raise CheckFailed(f"the backup's artifact sha256:{path.name} is damaged")
    # Whatever the account that unpacks has for a umask: keys are their owner's alone.
    for path in (folder / "pki").glob("*"):
        path.chmod(0o600)
    folder.chmod(0o700)
