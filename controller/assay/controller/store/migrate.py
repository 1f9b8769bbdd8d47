"""Brings a database to the schema this version needs."""

from __future__ import annotations

from importlib.resources import as_file, files

from sqlalchemy import Connection, Engine, inspect, text

from assay.controller.store.engine import reading, writing
from assay.core.errors import VersionMismatch

HEAD = "0003"
"""The newest revision under ``migrations/versions``; a test keeps the two together."""


def migrate(engine: Engine) -> None:
    """Upgrades to :data:`HEAD`; quick where nothing is to do, safe from several processes at once.

    :class:`VersionMismatch` where a newer Assay has been here: a downgrade could lose data.
    """
    with reading(engine) as connection:
        if _revision(connection) == HEAD:
            return
    with writing(engine) as connection:
        found = _revision(connection)
        if found == HEAD:  # another process was quicker
            return
        _upgrade(connection, found)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(connection: Connection, found: str | None) -> None:
    # Imported here: alembic costs every command a tenth of a second, and few of them migrate.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    with as_file(files("assay.controller.store") / "migrations") as scripts:
        config = Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.attributes["connection"] = connection
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise VersionMismatch(
                f"the database is at schema {found}, which a newer Assay wrote; this one knows "
                f"schemas up to {HEAD}: upgrade Assay, or use another ASSAY_HOME"
            )
        command.upgrade(config, HEAD)
