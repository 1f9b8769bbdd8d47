"""The schema comes from migrations alone, and they end where the code's tables are."""

from __future__ import annotations

import multiprocessing
from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from assay.controller.home import Home
from assay.controller.records import Duty
from assay.controller.store import open_store
from assay.controller.store.engine import reading, sqlite_engine, writing
from assay.controller.store.migrate import HEAD, migrate
from assay.controller.store.schema import metadata
from assay.controller.store.sql import SqlStore
from assay.core.errors import VersionMismatch


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return sqlite_engine(tmp_path / "assay.db")


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(files("assay.controller.store") / "migrations"))
    return ScriptDirectory.from_config(config)


def test_the_newest_migration_is_the_one_the_code_asks_for() -> None:
    assert scripts().get_heads() == [HEAD]


def test_migrations_lead_to_the_tables_of_the_code(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    with writing(engine) as tx:
        tx.execute(text("INSERT INTO tokens VALUES ('t', 's', 1, 2, 3, 0, 'kept', 0)"))
    migrate(engine)
    with reading(engine) as tx:
        assert tx.execute(text("SELECT note FROM tokens")).scalar() == "kept"


def test_a_database_of_the_first_schema_keeps_what_it_holds(engine: Engine) -> None:
    with writing(engine) as tx:
        config = Config()
        scripts_path = str(files("assay.controller.store") / "migrations")
        config.set_main_option("script_location", scripts_path)
        config.attributes["connection"] = tx
        command.upgrade(config, "0001")
        tx.execute(text("INSERT INTO tokens VALUES ('t', 's', 1, 2, 3, 0, 'kept')"))
        tx.execute(
            text("INSERT INTO devices VALUES ('d', 'bench', 'active', 'k', 1, 2, '{}', NULL, NULL)")
        )
        tx.execute(text("INSERT INTO sweeps VALUES ('s', 'n', '{}', '7', 1, 'running', 1)"))
        tx.execute(
            text("INSERT INTO rounds VALUES ('r', 's', 'd', 'g', 0, 'queued', 0, 0, 0, NULL, x'')")
        )
        tx.execute(
            text("INSERT INTO rounds VALUES ('q', 's', 'd', 'g', 1, 'failed', 1, 0, 0, NULL, x'')")
        )
    migrate(engine)
    store = SqlStore(engine)
    (token,) = store.tokens()
    assert (token.note, token.approval) == ("kept", False)
    assert store.device("bench").duty is Duty.ON
    assert store.sweep("s").priority == 0
    assert store.check() == []
    with reading(engine) as tx:
        rows = tx.execute(text("SELECT round_id, device_id, since_ns > 0 FROM rounds ORDER BY 1"))
        assert [tuple(row) for row in rows] == [("q", "d", 0), ("r", "d", 1)]
    # What failed under an older Assay is held against nobody.
    assert store.ended_lately(0) == frozenset() and store.last_outcomes("d", 3) == []


def test_a_database_of_a_newer_assay_is_refused_and_untouched(engine: Engine) -> None:
    migrate(engine)
    with writing(engine) as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(VersionMismatch, match="schema 9999"):
        migrate(engine)
    with reading(engine) as tx:
        assert tx.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"


def test_a_migration_that_fails_leaves_the_old_schema(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = op.create_table
    made: list[str] = []

    def fail_at_the_third(name: str, *columns: object, **options: object) -> object:
        if len(made) == 2:
            raise RuntimeError("power cut")
        made.append(name)
        return created(name, *columns, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(op, "create_table", fail_at_the_third)
    with pytest.raises(RuntimeError):
        migrate(engine)
    assert len(made) == 2
    assert inspect(engine).get_table_names() == []
    monkeypatch.undo()
    migrate(engine)
    assert set(metadata.tables) < set(inspect(engine).get_table_names())


def test_sqlite_is_opened_durable_and_strict(engine: Engine) -> None:
    migrate(engine)
    with reading(engine) as tx:
        pragmas = {
            name: tx.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 15_000,
    }


def _open(root: Path) -> int:
    store = open_store(Home(root))
    tables = len(store.counts())
    store.close()
    return tables


def test_processes_that_open_a_new_home_at_once_all_find_it_ready(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        counts = pool.map(_open, [tmp_path / "home"] * 4)
    assert counts == [len(metadata.tables)] * 4
