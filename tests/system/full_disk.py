"""A controller on a disk that is full for a while: ``python -m tests.system.full_disk PLACE``.

Run where ``PLACE`` is a small file system that only this process and its children see.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.store import open_store
from assay.core.errors import DiskFull
from tests.plane import queued, result, sweep
from tests.plane_client import Board, Key, controller_process, enrol
from tests.system.hosts.disk import fill


def main(place: Path) -> None:
    """Raises where anything is lost, refused for good, or not said."""
    home = Home(place / "home")
    with controller_process(home) as controller:
        serving = controller.start()
        store = open_store(home)
        key = Key()
        enrolled = enrol(serving.enrolment_address, create_token(home, store), "board", key)
        with Board(enrolled, key) as board:
            store.add_sweep(sweep("s"), [], [queued("r", device_id=board.device_id, sweep_id="s")])
            (granted,) = board.assigned()
            early, late = result(granted, 0), result(granted, 1, note="x" * 3_000_000)
            assert board.report(early) == ["STORED"]
            filler = fill(place)
            with pytest.raises(DiskFull, match="free some space"):
                board.report(late)
            assert board.assigned([granted]) == [granted], "it is still spoken to"
            assert [each.result.attempt_id for each in store.results()] == [early.attempt_id]
            filler.unlink()
            assert board.report(late) == ["STORED"]
            assert board.report(early) == ["ALREADY_STORED"]
            assert store.check() == []
        store.close()
    print(controller.log.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
