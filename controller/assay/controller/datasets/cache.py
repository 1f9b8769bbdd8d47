"""Where downloads are kept between homes."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """``$ASSAY_CACHE``, else ``assay`` in the user's cache directory (XDG)."""
    given = os.environ.get("ASSAY_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay"
