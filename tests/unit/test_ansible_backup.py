"""The backup of a controller's home that a timer makes, as plain Python."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
from pathlib import Path

from tests.collection import load


def test_a_running_controllers_socket_does_not_stop_the_backup(tmp_path: Path) -> None:
    backup = load("ansible/roles/controller/files/assay_backup.py")
    home = tmp_path / "home"
    (home / "pki").mkdir(parents=True)
    (home / "pki" / "ca.pem").write_text("certificate")
    with contextlib.closing(sqlite3.connect(home / "assay.db")) as database:
        database.execute("CREATE TABLE kept (value)")
        database.commit()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / "admin.sock"))
        made = backup.make(home, tmp_path / "backups", keep=2)
    assert {path.name for path in made.iterdir()} == {"assay.db", "pki"}
    assert (made / "pki" / "ca.pem").read_text() == "certificate"
