"""Bytes of a day on a metered link: any 24 hours of running time, kept over restarts and boots."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.agent.plane.putoff import MOST, NAMED_BYTES, PutOff
from assay.agent.plane.traffic import (
    CALL_BYTES,
    DayBytes,
    Passed,
    Traffic,
    kept_day_bytes,
    on_wire_bytes,
)
from assay.core.errors import OverBudget
from assay.v1 import fleet_pb2

HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS
LIMIT = 10_000_000


class Board:
    """Traffic of one agent on a board whose running time the test owns."""

    def __init__(self, folder: Path, limit: int | None = LIMIT) -> None:
        self.file = folder / "traffic.json"
        self.limit = limit
        self.now_ns = 50 * HOUR_NS
        self.boot_id = "first"
        self.start()

    def start(self) -> None:
        self.traffic = Traffic(self.file, self.limit, self.boot_id, lambda: self.now_ns)

    def reboot(self) -> None:
        self.boot_id, self.now_ns = f"after {self.boot_id}", 0
        self.start()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def admitted(board: Board, length: int) -> bool:
    try:
        with board.traffic.reserved(length, "it"):
            return True
    except OverBudget:
        return False


def test_what_passed_counts_for_a_day(board: Board) -> None:
    board.traffic.count(3_000_000, 4_000_000)
    assert board.traffic.day_bytes == 7_000_000
    assert board.traffic.now() == Passed(3_000_000, 4_000_000, 7_000_000, LIMIT)
    board.now_ns += DAY_NS
    assert board.traffic.day_bytes == 7_000_000
    board.now_ns += HOUR_NS
    assert board.traffic.day_bytes == 0


def test_a_transfer_that_does_not_fit_is_refused_before_it_begins(board: Board) -> None:
    board.traffic.count(0, 9_000_000)
    assert admitted(board, 900_000)
    transfer = board.traffic.reserved(1_000_000, "artifact x")
    with pytest.raises(OverBudget, match="room for it in 25") as caught, transfer:
        raise AssertionError("it was let through")
    assert not caught.value.never
    assert caught.value.wanted_bytes == on_wire_bytes(1_000_000) + CALL_BYTES
    board.now_ns += 25 * HOUR_NS
    assert admitted(board, 1_000_000)


def test_more_than_a_days_never_fits_and_says_so(board: Board) -> None:
    assert board.traffic.room_in_s(LIMIT) is None
    transfer = board.traffic.reserved(LIMIT, "artifact x")
    with pytest.raises(OverBudget, match="raise daily_bytes") as caught, transfer:
        raise AssertionError("it was let through")
    assert caught.value.never


def test_two_transfers_at_once_share_what_is_left(board: Board) -> None:
    with board.traffic.reserved(6_000_000, "one"):
        assert not admitted(board, 6_000_000)
        assert admitted(board, 2_000_000)
    assert admitted(board, 6_000_000)


def test_a_cut_transfer_counts_what_passed_and_no_more(board: Board) -> None:
    for passed in (1_000_000, 2_000_000, 500_000):
        with board.traffic.reserved(3_500_000, "it"):
            board.traffic.count(0, passed)
    assert board.traffic.day_bytes == 3_500_000


def test_syncs_and_results_are_counted_and_never_refused(board: Board) -> None:
    board.traffic.count(2 * LIMIT, 0)
    board.traffic.count(1, 0)
    assert board.traffic.day_bytes == 2 * LIMIT + 1


def test_an_orderly_end_keeps_the_exact_count(board: Board) -> None:
    board.traffic.count(0, 1234)
    board.traffic.close()
    board.start()
    assert board.traffic.day_bytes == 1234
    assert kept_day_bytes(board.file) == 1234


@pytest.mark.parametrize("sizes", [[10], [900_000] * 5, [3_000_000, 1]])
def test_a_kill_counts_too_much_and_never_too_little(board: Board, sizes: list[int]) -> None:
    for size in sizes:
        board.traffic.count(0, size)
    board.start()
    assert 0 <= board.traffic.day_bytes - sum(sizes) <= 1 << 20


def test_a_reboot_carries_the_running_time_on(board: Board) -> None:
    board.traffic.count(0, 8_000_000)
    board.traffic.close()
    board.now_ns += 20 * HOUR_NS
    board.traffic.count(1, 0)
    board.traffic.close()
    board.reboot()
    board.now_ns += 4 * HOUR_NS
    assert board.traffic.day_bytes == 8_000_001
    board.now_ns += HOUR_NS
    assert board.traffic.day_bytes == 1


def test_a_restart_within_a_boot_does_not_count_time_twice(board: Board) -> None:
    board.traffic.count(0, 1000)
    for _ in range(5):
        board.traffic.close()
        board.now_ns += 4 * HOUR_NS
        board.start()
    assert board.traffic.day_bytes == 1000
    board.now_ns += 5 * HOUR_NS
    assert board.traffic.day_bytes == 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"boot_id": 1}', '{"boot_id":"a","before_ns":0,"ran_ns":0,"hours":3}'],
)
def test_an_unreadable_file_is_begun_anew(board: Board, text: str) -> None:
    board.file.write_text(text)
    assert kept_day_bytes(board.file) is None
    board.start()
    assert board.traffic.day_bytes == 0
    board.traffic.count(5, 0)
    board.traffic.close()
    assert kept_day_bytes(board.file) == 5


def test_a_disk_that_takes_nothing_does_not_stop_the_talk(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("assay.agent.plane.traffic.write_atomically", full)
        board.traffic.count(7, 0)
    board.traffic.count(1, 0)
    board.start()
    assert board.traffic.day_bytes >= 8


def test_without_a_limit_nothing_is_written_and_all_fits(tmp_path: Path) -> None:
    board = Board(tmp_path, limit=None)
    board.traffic.count(1 << 40, 0)
    assert admitted(board, 1 << 40)
    assert board.traffic.room_in_s(1 << 50) == 0.0
    board.traffic.close()
    assert not board.file.exists()


def test_the_file_stays_small(board: Board) -> None:
    for _ in range(100):
        board.now_ns += HOUR_NS
        board.traffic.count(1 << 20, 0)
    assert len(json.loads(board.file.read_text())["hours"]) <= 25


def test_work_that_was_put_off_waits_for_its_room_over_a_restart(board: Board) -> None:
    board.traffic.count(0, 8_000_000)
    assert not board.traffic.waits
    board.traffic.put_off(3_000_000)
    assert board.traffic.waits
    board.traffic.close()
    board.start()
    assert board.traffic.waits
    board.now_ns += 25 * HOUR_NS
    assert not board.traffic.waits


class TestPutOff:
    def test_the_first_is_waited_for_and_all_are_named_until_there_is_room(
        self, board: Board
    ) -> None:
        board.traffic.count(0, 8_000_000)
        put_off = PutOff(board.traffic)
        assert put_off.grants() == () and put_off.may_take(False)
        put_off.add("large", 1, 3_000_000)
        put_off.add("small", 2, 1_000_000)
        assert board.traffic.waits, "there is room for the small one: it would go first for ever"
        assert put_off.grants() == (("large", 1), ("small", 2))
        assert put_off.may_take(True)
        assert not put_off.may_take(False), "an old controller would grant it until it fails"
        board.now_ns += 25 * HOUR_NS
        assert put_off.grants() == () and put_off.may_take(False)

    @pytest.mark.parametrize(
        ("limit", "most"),
        [(1_000_000, 1), (50 * NAMED_BYTES, 5), (10_000 * NAMED_BYTES, MOST)],
        ids=["little", "a tenth of the day", "a lot"],
    )
    def test_nothing_more_is_tried_with_so_many_put_off(
        self, tmp_path: Path, limit: int, most: int
    ) -> None:
        board = Board(tmp_path, limit)
        board.traffic.count(0, limit)
        put_off = PutOff(board.traffic)
        for number in range(most):
            assert put_off.may_take(True)
            put_off.add(f"r{number}", 1, 1_000_000)
        assert not put_off.may_take(True)

    def test_naming_one_takes_no_more_than_is_said(self) -> None:
        round_id = f"{'0' * 12}-{'0' * 12}-999"
        named = fleet_pb2.SyncRequest(put_off=[fleet_pb2.Grant(round_id=round_id, fence=1_000)])
        assert on_wire_bytes(named.ByteSize()) * 5_000 <= NAMED_BYTES


def test_a_whole_days_work_is_tried_again_although_syncs_go_on(board: Board) -> None:
    board.traffic.count(0, LIMIT * 6 // 10)
    board.traffic.put_off(50 * LIMIT)
    assert board.traffic.waits
    for _ in range(25):
        assert board.traffic.waits
        board.now_ns += HOUR_NS
        board.traffic.count(LIMIT // 100, 0)
    assert not board.traffic.waits


@given(
    st.lists(st.tuples(st.integers(0, 5 * HOUR_NS), st.integers(0, 4_000_000)), max_size=60),
)
def test_no_24_hours_hold_more_than_the_limit(steps: Iterable[tuple[int, int]]) -> None:
    now_ns, day, passed = 0, DayBytes(), list[tuple[int, int]]()
    for pause_ns, size in steps:
        now_ns += pause_ns
        if day.room_in_ns(size, LIMIT, now_ns) == 0:
            day = day.plus(size, now_ns)
            passed.append((now_ns, size))
    for end_ns, _ in passed:
        assert sum(size for at, size in passed if end_ns - DAY_NS < at <= end_ns) <= LIMIT


@given(st.integers(0, 100 * HOUR_NS), st.integers(1, LIMIT), st.integers(0, LIMIT))
def test_room_comes_when_it_was_said_to(now_ns: int, size: int, spent: int) -> None:
    day = DayBytes().plus(spent, now_ns)
    wait_ns = day.room_in_ns(size, LIMIT, now_ns)
    assert wait_ns is not None
    assert day.spent(now_ns + wait_ns) + size <= LIMIT
    if wait_ns:
        assert day.spent(now_ns + wait_ns - 1) + size > LIMIT
