"""Agents that come back after an outage, each with a full spool: paced, none lost, none doubled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.store import open_store
from assay.core.channel import MAX_REPORT_BYTES
from tests.plane import queued, reported, result, sweep
from tests.plane_client import Board, Key, controller_process, enrol, status_name

Entry = tuple[str, int, str, bytes]
_BATCH = 200
_AT_ONCE = 16


@pytest.mark.parametrize(
    ("boards", "results"), [(8, 100), pytest.param(50, 1_000, marks=pytest.mark.soak)]
)
def test_full_spools_are_taken_once_each(
    tmp_path: Path, boards: int, results: int, figures: Callable[..., None]
) -> None:
    home = Home(tmp_path / "home")
    with controller_process(home) as controller:
        address = controller.start().enrolment_address
        store = open_store(home)
        token = create_token(home, store, uses=boards)
        fleet, spools = [], []
        store.add_sweep(sweep(), [], [])
        for number in range(boards):
            key = Key()
            fleet.append(Board(enrol(address, token, f"b{number}", key), key))
            round_ = queued(f"r{number}", device_id=fleet[-1].device_id)
            runs = tuple(
                replace(round_.runs[0], attempt_id=f"{number}-{n}") for n in range(results)
            )
            store.add_rounds([replace(round_, runs=runs)])
            (granted,) = fleet[-1].assigned(wait_s=5)
            spools.append([reported(result(granted, at)) for at in range(results)])
        # The outage: what was measured waits, and the controller comes back to all of it at once.
        began = time.monotonic()
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            codes = sum(threads.map(hand_over, fleet, spools), Counter[str]())
            took_s = time.monotonic() - began
            again = sum(
                threads.map(hand_over, fleet, [s[-_BATCH:] for s in spools]), Counter[str]()
            )
        figures(results=boards * results, per_s=round(boards * results / took_s))
        kept = [one.attempt_id for one in store.results(sweep_id="s1")]
        for board in fleet:
            board.__exit__()
        store.close()
    assert codes == {"STORED": boards * results}
    assert set(again) == {"ALREADY_STORED"}
    assert sorted(kept) == sorted(entry[0] for spool in spools for entry in spool)


def hand_over(board: Board, spool: Sequence[Entry]) -> Counter[str]:
    """Reports a spool as an agent does: in batches, waiting as long as it is told to."""
    codes: Counter[str] = Counter()
    left = list(spool)
    while left:
        size, batch = 0, list[Entry]()
        while left and len(batch) < _BATCH and size + len(left[0][3]) < MAX_REPORT_BYTES:
            size += len(left[0][3])
            batch.append(left.pop(0))
        reply = board.report_raw(batch)
        codes.update(status_name(ack) for ack in reply.acks)
        if left:
            time.sleep(reply.retry_after.ToNanoseconds() / 1e9)
    return codes
