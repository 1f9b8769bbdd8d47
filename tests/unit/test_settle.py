"""Waiting for a cool board, under an injected clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.agent.measuring.settle import Settled, settle
from tests.boards import copy_of, write

S = 1_000_000_000
ZONE = "sys/class/thermal/thermal_zone0"


class CoolingBoard:
    """A clock that only sleep moves, and a board that cools with it."""

    def __init__(self, root: Path, temperatures_c: list[float]) -> None:
        self.now_ns = 5 * S
        self.slept_s: list[float] = []
        self._file = root / ZONE / "temp"
        self._next: Iterator[float] = iter(temperatures_c)
        write(root, {f"{ZONE}/type": "cpu-thermal"})
        self._cool()

    def clock(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_ns += round(seconds * S)
        self._cool()

    def _cool(self) -> None:
        value = next(self._next, None)
        if value is not None:
            self._file.write_text(f"{round(value * 1000)}\n")


def test_a_cool_board_starts_at_once(tmp_path: Path) -> None:
    board = CoolingBoard(tmp_path, [49.9])
    found = settle(tmp_path, 50.0, 60 * S, board.sleep, board.clock)
    assert found == Settled(0, pytest.approx(49.9), timed_out=False)
    assert board.slept_s == []


def test_a_warm_board_is_waited_for_and_no_longer(tmp_path: Path) -> None:
    board = CoolingBoard(tmp_path, [60.0, 55.0, 51.0, 50.0, 20.0])
    found = settle(tmp_path, 50.0, 60 * S, board.sleep, board.clock)
    assert found == Settled(round(1.5 * S), 50.0, timed_out=False)


def test_the_wait_ends_and_is_recorded(tmp_path: Path) -> None:
    board = CoolingBoard(tmp_path, [70.0])
    found = settle(tmp_path, 50.0, round(1.2 * S), board.sleep, board.clock)
    assert found == Settled(round(1.2 * S), 70.0, timed_out=True)
    assert sum(board.slept_s) == pytest.approx(1.2)


def test_without_a_sensor_or_a_limit_there_is_no_wait(tmp_path: Path) -> None:
    board = CoolingBoard(tmp_path, [90.0])
    assert settle(tmp_path, None, 60 * S, board.sleep, board.clock).timed_out is False
    assert settle(tmp_path / "bare", 50.0, 60 * S, board.sleep, board.clock) == Settled(
        0, None, timed_out=False
    )
    assert board.slept_s == []


def test_no_time_to_wait_still_reads_the_temperature(tmp_path: Path) -> None:
    root = copy_of("rpi3bplus", tmp_path)
    board = CoolingBoard(tmp_path / "other", [0.0])
    found = settle(root, 50.0, 0, board.sleep, board.clock)
    assert found == Settled(0, pytest.approx(60.69), timed_out=True)
