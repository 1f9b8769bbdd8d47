"""What goes wrong below the store comes out as one of our errors, and nothing half done stays."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import event, text

from assay.controller.home import Home
from assay.controller.store import open_store
from assay.controller.store.engine import reading, sqlite_engine, writing
from assay.controller.store.migrate import migrate
from assay.controller.store.sql import SqlStore
from assay.core.errors import AssayError, DiskFull, Unreachable
from tests.plane import device, queued, reported, result, sweep

PAGE_BYTES = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "assay.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    """A store whose file may not grow by more than a few pages."""
    engine = sqlite_engine(path)
    migrate(engine)
    engine.dispose()
    most = path.stat().st_size // PAGE_BYTES + 8

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {most}")

    event.listen(engine, "connect", limit)
    made = SqlStore(engine)
    yield made
    made.close()


def test_a_full_disk_is_told_and_what_was_stored_stays(store: SqlStore) -> None:
    store.add_device(device())
    store.add_sweep(sweep(), [], [queued()])
    granted = store.lease_round("id-bench", 100, 0)
    assert granted is not None
    store.record("id-bench", [reported(result(granted, seq=1))], 1)
    large = [reported(result(granted, seq=seq, note="x" * 50_000)) for seq in (2, 3)]
    with pytest.raises(DiskFull, match="free some space"):
        store.record("id-bench", large, 2)
    assert [r.seq for r in store.results()] == [1]
    assert store.check() == []


def test_a_writer_that_does_not_let_go_is_waited_for_and_then_named(path: Path) -> None:
    engine = sqlite_engine(path)
    migrate(engine)

    def impatient(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 50")

    engine.dispose()
    event.listen(engine, "connect", impatient)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unreachable, match="does not answer"), writing(engine):
        pass
    with reading(engine) as tx:  # readers are not held up by a writer
        assert tx.execute(text("SELECT count(*) FROM tokens")).scalar() == 0
    other.execute("ROLLBACK")
    with writing(engine) as tx:
        tx.execute(text("INSERT INTO tokens VALUES ('t', 's', 1, 2, 3, 0, '', 0)"))
    other.close()
    engine.dispose()


def test_a_new_file_that_another_is_making_write_ahead_is_waited_for(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # as the other's switch does, once it holds the read lock
    ours = sqlite3.connect(path, isolation_level=None)
    ours.execute("PRAGMA busy_timeout = 15000")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        ours.execute("PRAGMA journal_mode = WAL")  # at once, whatever it is told to wait
    ours.close()
    tried, again = list[str](), threading.Event()

    def note(statement: str) -> None:
        tried.extend([statement] if "journal_mode" in statement else [])
        if len(tried) == 2:
            again.set()

    def watch(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(note)

    engine = sqlite_engine(path)
    event.listen(engine, "connect", watch, insert=True)
    with ThreadPoolExecutor() as pool:
        opened = pool.submit(lambda: engine.connect().close())
        assert again.wait(10)
        other.execute("ROLLBACK")
        opened.result(10)
    other.close()
    with reading(engine) as tx:
        assert tx.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


def test_a_block_that_raises_leaves_nothing(path: Path) -> None:
    engine = sqlite_engine(path)
    migrate(engine)
    with pytest.raises(ZeroDivisionError), writing(engine) as tx:
        tx.execute(text("INSERT INTO tokens VALUES ('t', 's', 1, 2, 3, 0, '', 0)"))
        raise ZeroDivisionError
    with reading(engine) as tx:
        assert tx.execute(text("SELECT count(*) FROM tokens")).scalar() == 0
    engine.dispose()


def test_a_directory_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "nowhere" / "assay.db")
    with pytest.raises(Unreachable, match="belongs to you"), writing(engine):
        pass


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    home.database.write_bytes(b"this was never a database" * 100)
    with pytest.raises(AssayError, match="the store failed"):
        open_store(home)
    assert home.database.read_bytes().startswith(b"this was never")


def test_the_home_is_its_owners_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    open_store(home).close()
    assert os.stat(home.root).st_mode & 0o077 == 0
