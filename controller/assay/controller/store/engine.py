"""How a database is opened, and what its own errors mean to us."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, IntegrityError

from assay.core.errors import (
    AlreadyExists,
    AssayError,
    DiskFull,
    Unreachable,
)

_BUSY_TIMEOUT_MS = 15_000
_AGAIN_S = 0.01
_WRITES = "assay_writes"


def sqlite_engine(path: Path) -> Engine:
    """An engine on the SQLite file at ``path`` (created if absent): write-ahead log, every commit
    flushed to disk, foreign keys enforced, and a wait instead of an error while another process
    writes. Use it through :func:`reading` and :func:`writing`."""
    # isolation_level None: the driver begins nothing on its own, the "begin" event below does.
    engine = create_engine(
        URL.create("sqlite", database=str(path)), connect_args={"isolation_level": None}
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state of the database and changes nothing."""
    with _translated(), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that is durable when the block ends, or undone where it raises."""
    with _translated(), engine.connect() as connection:
        connection = connection.execution_options(**{_WRITES: True})
        with connection.begin():
            yield connection


class Revisions:
    """Tells whether anybody, in this process or another, has committed to a SQLite file.

    One connection of its own, opened when it is asked first, that never writes and never waits.
    Thread-safe; the caller closes it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._opened: PoolProxiedConnection | None = None

    def now(self) -> int:
        """A number that is another one after every commit but this connection's own."""
        with self._lock, _translated():
            return int(self._connection().execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            if self._opened is not None:
                self._opened.invalidate()  # its settings are not those of the pool's others
                self._opened = None

    def _connection(self) -> Any:
        if self._opened is None:
            self._opened = self._engine.raw_connection()
            driver: Any = self._opened.driver_connection
            driver.execute("PRAGMA busy_timeout = 0")
        return self._opened.driver_connection


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    # SQLite makes a new file a write-ahead one under a read lock that it turns into the write lock;
    # where another process is at the same, waiting for it would be a deadlock, so that SQLite gives
    # up at once whatever its busy_timeout says.
    give_up_s = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_s:
                raise
        time.sleep(_AGAIN_S)


def _begin(connection: Connection) -> None:
    # A transaction that will write takes the write lock first: one that reads, then writes, could
    # not wait for another writer, it would have to be undone.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise AlreadyExists(
            f"the store holds something that excludes this: {error.orig}"
        ) from error
    except DatabaseError as error:
        raise _meaning(str(error.orig)) from error
    except sqlite3.Error as error:
        raise _meaning(str(error)) from error


def _meaning(text: str) -> AssayError:
    if "disk is full" in text or "disk I/O error" in text:
        return DiskFull(f"the store cannot write: {text}; free some space beside it")
    if "locked" in text:
        return Unreachable(f"the store does not answer: {text}; is another program holding it?")
    if "unable to open" in text or "readonly" in text:
        # Not PermissionDenied: to a device that would say that it is not wanted any more.
        return Unreachable(
            f"the store cannot be opened or written: {text}; check that its directory is there and "
            "belongs to you"
        )
    return AssayError(f"the store failed: {text}; `assay doctor` checks it")
