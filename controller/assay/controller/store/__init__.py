"""Where the truth is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.controller.home import Home

if TYPE_CHECKING:
    from assay.controller.store.base import Store


def open_store(home: Home) -> Store:
    """The store of ``home``, at this version's schema; creates both where they are not there yet.

    Safe while other processes have it open. The caller closes it.
    """
    # Imported here: SQLAlchemy is not needed by whoever only names the interface.
    from assay.controller.store.engine import sqlite_engine
    from assay.controller.store.migrate import migrate
    from assay.controller.store.sql import SqlStore

    home.create()
    engine = sqlite_engine(home.database)
    migrate(engine)
    return SqlStore(engine)
