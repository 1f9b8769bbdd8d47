"""The command that starts the blob process."""

from __future__ import annotations

import sys

from assay.controller.home import Home


def blob_command(home: Home, host: str, log_level: str, *, json_lines: bool) -> list[str]:
    """The command line of the child, but for its port."""
    style = "json" if json_lines else "text"
    module = "assay.controller.blobs.process"
    return [sys.executable, "-m", module, log_level, style, str(home.root), host]
