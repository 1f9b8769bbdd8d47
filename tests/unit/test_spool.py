"""The spool keeps what it promised to keep, wherever it is cut."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.agent.plane import spool as spool_module
from assay.agent.plane.spool import Key, Spool
from assay.core.errors import AlreadyExists, DiskFull

QUOTA = 1 << 20
PLENTY = 1 << 40


def open_spool(path: Path, quota: int = QUOTA, free: int = PLENTY) -> Spool:
    return Spool(path, quota, lambda: free)


@contextmanager
def unflushed() -> Iterator[None]:
    """Thousands of tiny files need no disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


def contents(spool: Spool) -> dict[Key, bytes]:
    return {entry.key: spool.read(entry) for entry in spool.entries}


def test_a_result_is_there_after_reopening(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    spool.append(Key("a", 1), b"body")
    again = open_spool(tmp_path / "spool")
    (entry,) = again.entries
    assert contents(again) == {Key("a", 1): b"body"}
    assert entry.sha256 == hashlib.sha256(b"body").hexdigest()


def test_a_result_is_flushed_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path / "spool")
    flushed: list[int] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: flushed.append((tmp_path / "spool").stat().st_size)
    )
    spool.append(Key("a", 1), b"body")
    assert flushed == [(tmp_path / "spool").stat().st_size]


def test_the_same_result_counts_once_and_another_body_is_refused(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    spool.append(Key("a", 1), b"body")
    spool.append(Key("a", 1), b"body")
    with pytest.raises(AlreadyExists, match="attempt a seq 1"):
        spool.append(Key("a", 1), b"other")
    assert contents(open_spool(tmp_path / "spool")) == {Key("a", 1): b"body"}


def test_acknowledged_entries_stay_away_and_others_stay(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    for seq in range(5):
        spool.append(Key("a", seq), b"%d" % seq)
    spool.remove([Key("a", 1), Key("a", 3), Key("unknown", 9)])
    expected = {Key("a", seq): b"%d" % seq for seq in (0, 2, 4)}
    assert contents(spool) == expected
    assert contents(open_spool(tmp_path / "spool")) == expected


def test_an_empty_spool_takes_no_room(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    spool.append(Key("a", 1), b"x" * 1000)
    spool.remove([Key("a", 1)])
    assert (tmp_path / "spool").stat().st_size == 0
    spool.append(Key("b", 1), b"y")
    assert contents(open_spool(tmp_path / "spool")) == {Key("b", 1): b"y"}


BODIES = st.lists(st.tuples(st.text(max_size=4), st.binary(max_size=40)), min_size=1, max_size=5)


@given(bodies=BODIES, acked=st.sets(st.integers(0, 4)))
@settings(max_examples=15, deadline=None)
@unflushed()
def test_cut_at_any_byte_it_holds_exactly_the_whole_frames(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[tuple[str, bytes]], acked: set[int]
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool"
    spool = open_spool(path)
    states: list[tuple[int, dict[Key, bytes]]] = [(0, {})]
    keys = [Key(name, seq) for seq, (name, _) in enumerate(bodies)]
    for key, (_, body) in zip(keys, bodies, strict=True):
        spool.append(key, body)
        states.append((spool.size_bytes, contents(spool)))
    for index in sorted(acked & set(range(len(keys) - 1))):
        spool.remove([keys[index]])
        states.append((spool.size_bytes, contents(spool)))
    whole = path.read_bytes()
    cut = path.with_name("cut")
    for length in range(len(whole) + 1):
        cut.write_bytes(whole[:length])
        expected = [held for end, held in states if end <= length][-1]
        opened = open_spool(cut)
        assert contents(opened) == expected
        opened.append(Key("after", length), b"the cut")
        opened.close()
        reopened = open_spool(cut)
        assert contents(reopened) == {**expected, Key("after", length): b"the cut"}
        reopened.close()
    spool.close()


def test_damage_in_the_middle_costs_one_entry_and_a_copy_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool = open_spool(path)
    for seq in range(3):
        spool.append(Key("a", seq), b"body %d" % seq)
    data = bytearray(path.read_bytes())
    data[data.index(b"body 1")] ^= 0x40
    path.write_bytes(data)
    opened = open_spool(path)
    assert contents(opened) == {Key("a", 0): b"body 0", Key("a", 2): b"body 2"}
    assert path.with_name("spool.damaged").read_bytes() == data


@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=6))
@settings(max_examples=100, deadline=None)
@unflushed()
def test_flipped_bytes_never_pass_for_a_result(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool"
    spool = open_spool(path)
    for seq in range(6):
        spool.append(Key("attempt", seq), bytes([seq]) * 30)
    written = contents(spool)
    data = bytearray(path.read_bytes())
    for position, mask in flips:
        data[position % len(data)] ^= mask
    path.write_bytes(data)
    opened = open_spool(path)
    assert contents(opened).items() <= written.items()
    opened.close()
    spool.close()


def test_a_batch_is_bounded_by_number_and_bytes_but_never_empty(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    for seq in range(10):
        spool.append(Key("a", seq), bytes(100))
    assert [e.key.seq for e in spool.batch(3, 10_000)] == [0, 1, 2]
    assert [e.key.seq for e in spool.batch(200, 250)] == [0, 1]
    assert [e.key.seq for e in spool.batch(200, 1)] == [0]


def test_dead_room_is_won_back_while_others_wait(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool")
    for seq in range(30):
        spool.append(Key("a", seq), bytes([seq]) * 50_000)
    spool.remove(Key("a", seq) for seq in range(25))
    assert (tmp_path / "spool").stat().st_size < 300_000
    expected = {Key("a", seq): bytes([seq]) * 50_000 for seq in range(25, 30)}
    assert contents(spool) == expected
    spool.append(Key("b", 1), b"new")
    assert contents(open_spool(tmp_path / "spool")) == {**expected, Key("b", 1): b"new"}


def test_it_says_when_it_is_near_full(tmp_path: Path) -> None:
    spool = open_spool(tmp_path / "spool", quota=1000)
    assert not spool.near_full
    spool.append(Key("a", 1), bytes(800))
    assert spool.near_full
    assert open_spool(tmp_path / "other", quota=1000, free=999).near_full


def test_a_full_disk_is_said_and_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool"
    spool = open_spool(path)
    spool.append(Key("a", 1), b"first")
    before = path.read_bytes()
    real = os.pwrite

    def half_then_full(file: int, data: memoryview, position: int) -> int:
        if len(data) < 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[: len(data) // 2], position)

    monkeypatch.setattr(spool_module.os, "pwrite", half_then_full)
    with pytest.raises(DiskFull, match="free some space"):
        spool.append(Key("a", 2), bytes(500))
    monkeypatch.undo()
    assert path.read_bytes() == before
    spool.append(Key("a", 2), b"second")
    assert contents(open_spool(path)) == {Key("a", 1): b"first", Key("a", 2): b"second"}
