#!/usr/bin/python3
"""Backups of an Assay controller's home: made while it runs, restored while it does not.

    assay-backup make HOME DIRECTORY [--keep N]
    assay-backup restore BACKUP HOME
    assay-backup check BACKUP

A backup is a directory named by its time (UTC) and holds what the home holds: the database as of
one moment, the certificate authority, and the artifacts, which never change once they are there
and are hard-linked from the backup before. Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

DATABASE = "assay.db"
# Of the running process, or of the database file itself: a copy would be wrong.
_LEFT_OUT = re.compile(
    r"partial|controller\.(json|lock)|.*\.(partial|new|tmp)|assay\.db(-wal|-shm|-journal)?"
)
_NAME = re.compile(r"\d{8}T\d{6}Z")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BackupError(Exception):
    """What is wrong, where, and what to do."""


def make(home: Path, directory: Path, keep: int) -> Path:
    """A new backup below ``directory``; older ones than the ``keep`` newest are removed."""
    if not (home / DATABASE).exists():
        raise BackupError(f"{home} holds no {DATABASE}: is it a controller's home?")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    before = backups(directory)
    name = _now()
    if name in [path.name for path in before]:
        raise BackupError(f"{directory / name} was made within this second: wait a moment")
    partial = directory / f"{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    # The database first: whatever it names is in the home already.
    _copy_database(home / DATABASE, partial / DATABASE)
    _copy_tree(home, partial, before[-1] if before else None)
    check(partial)
    partial.rename(directory / name)
    for old in backups(directory)[:-keep]:
        shutil.rmtree(old)
    return directory / name


def backups(directory: Path) -> list[Path]:
    """Complete backups, oldest first."""
    return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))


def restore(backup: Path, home: Path) -> Path | None:
    """Puts ``backup`` in the place of ``home``; returns where the former home lies now.

    The result belongs to whom ``home`` (or the directory above it) belongs to.
    """
    check(backup)
    owner = (home if home.exists() else home.parent).stat()
    with _not_served(home):
        fresh = home.with_name(f"{home.name}.restoring")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(backup, fresh)
        fresh.chmod(0o700)
        for path in (fresh, *fresh.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        aside = None
        if home.exists():
            aside = home.with_name(
                f"{home.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
            )
            home.rename(aside)
        fresh.rename(home)
    return aside


def check(backup: Path) -> None:
    """Raises :class:`BackupError` where the database is damaged or an artifact is not what its
    name says."""
    path = backup / DATABASE
    if not path.exists():
        raise BackupError(f"{backup} holds no {DATABASE}: it is no backup")
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            (answer,) = database.execute("PRAGMA integrity_check").fetchone()
        except sqlite3.DatabaseError as error:
            answer = str(error)
    if answer != "ok":
        raise BackupError(f"{path} is damaged: {answer}; take another backup")
    for artifact in (backup / "artifacts").rglob("*"):
        named = artifact.is_file() and _DIGEST.fullmatch(artifact.name)
        if named and _sha256(artifact) != artifact.name:
            raise BackupError(f"{artifact} has changed; take another backup")


def _copy_database(source: Path, target: Path) -> None:
    """As of one moment, however much is being written."""
    with (
        contextlib.closing(sqlite3.connect(source)) as database,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        database.backup(copy)
    target.chmod(0o600)


def _copy_tree(source: Path, target: Path, before: Path | None) -> None:
    for entry in sorted(source.iterdir()):
        if _LEFT_OUT.fullmatch(entry.name):
            continue
        copied, older = target / entry.name, before / entry.name if before else None
        if entry.is_dir():
            copied.mkdir(mode=0o700)
            _copy_tree(entry, copied, older if older and older.is_dir() else None)
        elif older and _DIGEST.fullmatch(entry.name) and older.exists():
            os.link(older, copied)
        elif entry.is_file():  # a running controller's socket is none
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                shutil.copy2(entry, copied)


@contextlib.contextmanager
def _not_served(home: Path) -> Iterator[None]:
    """Holds the lock a running controller would hold."""
    if not home.exists():
        yield
        return
    with open(home / "controller.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"a controller serves {home}: stop it first") from None
        yield


def _now() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def main() -> int:
    """Entry point; 1 where a backup cannot be made, used or restored."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    verbs = parser.add_subparsers(required=True, dest="verb")
    made = verbs.add_parser("make", help="make a backup")
    made.add_argument("home", type=Path)
    made.add_argument("directory", type=Path)
    made.add_argument("--keep", type=int, default=7)
    restored = verbs.add_parser("restore", help="put a backup in the place of a home")
    restored.add_argument("backup", type=Path)
    restored.add_argument("home", type=Path)
    checked = verbs.add_parser("check", help="see whether a backup is sound")
    checked.add_argument("backup", type=Path)
    given = parser.parse_args()
    try:
        if given.verb == "make":
            if given.keep < 1:
                parser.error("--keep: at least 1")
            print(make(given.home, given.directory, given.keep))
        elif given.verb == "restore":
            aside = restore(given.backup, given.home)
            print(f"{given.home} restored" + (f"; what it was is in {aside}" if aside else ""))
        else:
            check(given.backup)
            print(f"{given.backup} is sound")
    except (BackupError, OSError, sqlite3.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
