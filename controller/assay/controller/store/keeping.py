"""One at a time: what copies all artifacts and what removes some must not meet."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from assay.controller.home import Home


@contextmanager
def keeping(home: Home) -> Iterator[None]:
    """Waits for whoever backs up or collects garbage in this home, then keeps others waiting. The
    lock goes with the process, however it ends; a controller needs none."""
    with (home.root / "keeping.lock").open("a") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        yield
