"""Where the demo keeps everything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assay.controller.home import Home


@dataclass(frozen=True, slots=True)
class DemoPaths:
    """Where the demo keeps everything: one directory, removed to start over."""

    root: Path

    @property
    def home(self) -> Home:
        """The controller's home."""
        return Home(self.root / "controller")

    @property
    def agent_home(self) -> Path:
        """The agent's home."""
        return self.root / "agent"

    @property
    def sweep_file(self) -> Path:
        """The sweep file, copied here so that it can be read and changed."""
        return self.root / "sweep.toml"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report.html"

    @property
    def metrics(self) -> Path:
        """``/metrics`` as it was at the end."""
        return self.root / "metrics.txt"

    @property
    def export(self) -> Path:
        """Every result as JSON, without raw samples."""
        return self.root / "results.json"

    def log(self, name: str) -> Path:
        """The log of one of the demo's processes."""
        return self.root / f"{name}.log"
