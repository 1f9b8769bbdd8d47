"""Where a controller keeps what it knows: one directory, easy to back up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one root; ``ASSAY_HOME`` or ``~/.local/share/assay`` by default."""

    root: Path

    @classmethod
    def default(cls) -> Home:
        """The home this user's commands act on."""
        given = os.environ.get("ASSAY_HOME")
        return cls(Path(given) if given else Path.home() / ".local/share/assay")

    def create(self) -> Home:
        """Makes the directory, readable by its owner alone."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self

    @property
    def database(self) -> Path:
        """The SQLite file: the truth about sweeps, devices and results."""
        return self.root / "assay.db"

    @property
    def artifacts(self) -> Path:
        """The content store: models, datasets, golden outputs, traces."""
        return self.root / "artifacts"

    @property
    def pki(self) -> Path:
        """The certificate authority and the server's key."""
        return self.root / "pki"

    @property
    def signatures(self) -> Path:
        """Publishers' signatures over artifacts, one envelope a file."""
        return self.root / "signatures"

    @property
    def admin_socket(self) -> Path:
        """Where a running controller takes administration from its own account."""
        return self.root / "admin.sock"

    @property
    def addresses(self) -> Path:
        """Written by a running controller: where its services listen, and its pid."""
        return self.root / "controller.json"
