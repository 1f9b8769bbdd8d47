"""A home in one file, and back: the database as of one moment, the keys, every artifact."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import time
from pathlib import Path, PurePosixPath

from assay.controller.home import Home
from assay.controller.store.keeping import keeping
from assay.core import digest as digests
from assay.core.errors import AlreadyExists, BadMessage, CheckFailed, NotFound

_DATABASE = "assay.db"
_ROOTS = ("pki", "artifacts", "signatures")
# Made anew when asked for, or half of something.
_LEFT_OUT = ("artifacts/encoded", "artifacts/incoming", "artifacts/partial")
_DATED = re.compile(r"assay-\d{8}T\d{6}Z\.tar")
_ARTIFACT = re.compile(r"artifacts/sha256/[0-9a-f]{2}/([0-9a-f]{64})")


def back_up(home: Home, target: Path) -> int:
    """Writes a tar file of mode 0600, whole or not at all; its size. A controller may run.

    The database comes first: an artifact added since is a file too many, never one too few.
    :class:`AlreadyExists` where ``target`` is there, :class:`CheckFailed` where the database or an
    artifact is damaged: such a backup could not be restored.
    """
    if not home.database.exists():
        raise NotFound(f"{home.root} holds no store; nothing to back up")
    if target.exists():
        raise AlreadyExists(f"{target} exists; name another file")
    partial = target.with_name(target.name + ".new")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            keeping(home),
            tempfile.TemporaryDirectory(dir=home.root) as folder,
        ):
            copy = Path(folder) / _DATABASE
            _snapshot(home.database, copy)
            _check_database(copy)
            with tarfile.open(fileobj=file, mode="w") as tar:
                tar.add(copy, _DATABASE)
                for root in _ROOTS:
                    if (home.root / root).exists():
                        tar.add(home.root / root, root, filter=_kept)
            file.flush()
            os.fsync(file.fileno())
        _check_artifacts_in(partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target.stat().st_size


def back_up_dated(home: Home, directory: Path, keep: int) -> tuple[Path, int]:
    """A backup in ``directory``, named by its time (UTC), and its size. Of such backups the newest
    ``keep`` stay; an older one goes only once the new one is whole."""
    target = directory / time.strftime("assay-%Y%m%dT%H%M%SZ.tar", time.gmtime())
    size = back_up(home, target)
    dated = sorted(path for path in directory.iterdir() if _DATED.fullmatch(path.name))
    for old in dated[:-keep]:
        old.unlink()
    return target, size


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
            for member in tar:
                _unpack_one(tar, member, folder)
    except FileNotFoundError:
        raise NotFound(f"{source} is not there") from None
    except (tarfile.TarError, EOFError) as error:
        raise BadMessage(f"{source} is no whole backup: {error}") from None
    if not (folder / _DATABASE).is_file():
        raise BadMessage(f"{source} is no backup: it holds no {_DATABASE}")


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    # By hand: Debian 12's Python has no extraction filters yet.
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
        raise tarfile.TarError(f"{member.name!r} is neither file nor directory of a home")
    target = folder / name
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file)
    target.chmod(member.mode & 0o777)


def _check_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    finally:
        connection.close()
    if verdict != "ok":
        raise CheckFailed(f"the backup's database is damaged: {verdict}")


def _check_artifacts_in(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            named, content = _ARTIFACT.fullmatch(member.name), tar.extractfile(member)
            if named is None or content is None:
                continue
            if hashlib.file_digest(content, "sha256").hexdigest() != named[1]:  # type: ignore[arg-type]
                raise CheckFailed(
                    f"artifact sha256:{named[1]} is damaged, nothing was backed up: "
                    "`assay doctor --thorough` lists all that are"
                )


def _check(folder: Path) -> None:
    _check_database(folder / _DATABASE)
    for path in (folder / "artifacts" / "sha256").glob("??/*"):
        if digests.hex_of(digests.of_file(path)) != path.name:
            raise CheckFailed(f"the backup's artifact sha256:{path.name} is damaged")
    # Whatever the account that unpacks has for a umask: keys are their owner's alone.
    for path in (folder / "pki").glob("*"):
        path.chmod(0o600)
    folder.chmod(0o700)
