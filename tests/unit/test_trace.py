"""A trace is read back as it was written, or refused."""

from __future__ import annotations

import contextlib
import dataclasses
import zipfile
from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core import trace as traces
from assay.core.errors import BadMessage
from assay.core.trace import Reservoir, Series, Trace, add_series, read_trace, write_trace


def full_trace() -> Trace:
    rng = np.random.default_rng(0)
    latency = rng.integers(1000, 90_000, 5000)
    return Trace(
        latency_ns=latency,
        index=np.arange(5000),
        histogram=traces.log_histogram(latency),
        block_start_ns=np.array([10, 20]),
        block_queries=np.array([2500, 2500]),
        warmup_median_ns=np.array([5.5, 5.25]),
        predictions=np.array([3, 1, 4], dtype=np.int32),
        series={
            "thermal.cpu-thermal": Series(np.array([1, 2]), np.array([40.5, 41.0])),
            "cpufreq.cpu0": Series(np.array([1]), np.array([2.4e9])),
        },
    )


def test_every_part_survives_the_file(tmp_path: Path) -> None:
    path, written = tmp_path / "t.npz", full_trace()
    write_trace(path, written)
    read = read_trace(path)
    for field in dataclasses.fields(Trace):
        if field.name not in ("series", "histogram"):
            np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name))
    assert read.histogram is not None and written.histogram is not None
    np.testing.assert_array_equal(read.histogram.counts, written.histogram.counts)
    assert set(read.series) == set(written.series)
    np.testing.assert_array_equal(read.series["thermal.cpu-thermal"].value, [40.5, 41.0])


def test_equal_traces_are_equal_files(tmp_path: Path) -> None:
    write_trace(tmp_path / "a.npz", full_trace())
    write_trace(tmp_path / "b.npz", full_trace())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_it_needs_nothing_but_numpy(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.npz", full_trace())
    arrays = np.load(tmp_path / "t.npz", allow_pickle=False)
    assert arrays["latency_ns"].dtype == np.int64
    assert arrays["series/cpufreq.cpu0/value"].tolist() == [2.4e9]


def test_series_can_be_added_without_numpy(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    write_trace(path, Trace(np.arange(10)))
    plain = Series(array("q", [5, 6]), array("d", [0.5, 0.25]))  # type: ignore[arg-type]
    add_series(path, {"psi.cpu_some": plain})
    assert read_trace(path).series["psi.cpu_some"].value.tolist() == [0.5, 0.25]


def test_a_series_name_cannot_leave_its_place(tmp_path: Path) -> None:
    bad = {"../../etc\n": Series(np.array([1]), np.array([1.0]))}
    with pytest.raises(ValueError, match="no name for a series"):
        write_trace(tmp_path / "t.npz", Trace(np.arange(3), series=bad))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"rubbish" * 100])
def test_rubbish_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(content)
    with pytest.raises(BadMessage, match="is not a"):
        read_trace(path)


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_a_damaged_file_is_refused_or_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.npz"
    write_trace(path, full_trace())
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(BadMessage):
        assert len(read_trace(path).latency_ns) == 5000


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, version=np.array(1), latency_ns=np.array([print], dtype=object))
    with pytest.raises(BadMessage):
        read_trace(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("latency_ns.npy", bytes(64 << 20))
    # The declared size is all that is looked at, and all that a bomb needs.
    content = path.read_bytes()
    size = (64 << 20).to_bytes(4, "little")
    path.write_bytes(content.replace(size, (2 << 30).to_bytes(4, "little")))
    with pytest.raises(BadMessage, match="would unpack"):
        read_trace(path)


def test_a_newer_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, version=np.array(9), latency_ns=np.arange(3))
    with pytest.raises(BadMessage, match="version 9"):
        read_trace(path)


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=400))
def test_the_histogram_counts_every_sample_in_its_bucket(samples: list[int]) -> None:
    histogram = traces.log_histogram(np.array(samples))
    assert histogram.counts.sum() == len(samples)
    edges = histogram.edges_ns
    for low, high, count in zip(edges, edges[1:], histogram.counts, strict=False):
        inside = sum(low * (1 - 1e-12) <= s < high * (1 + 1e-12) for s in samples)
        assert inside >= count
    assert np.all(edges[1:] / edges[:-1] < 1.011)


def test_up_to_its_capacity_a_reservoir_keeps_everything() -> None:
    reservoir = Reservoir(seed=1, capacity=1000)
    for start in range(0, 1000, 300):
        reservoir.add(np.arange(start, min(start + 300, 1000)))
    assert reservoir.samples().tolist() == list(range(1000))
    assert not reservoir.full and reservoir.index() is None


def test_beyond_it_every_sample_is_as_likely_and_order_is_kept() -> None:
    kept = np.zeros(3000)
    for seed in range(300):
        reservoir = Reservoir(seed, capacity=300)
        for start in range(0, 3000, 500):
            reservoir.add(np.arange(start, start + 500))
        samples, index = reservoir.samples(), reservoir.index()
        assert index is not None and samples.tolist() == index.tolist()
        assert np.all(np.diff(samples) > 0) and reservoir.seen == 3000
        kept[samples] += 1
    by_part = kept.reshape(6, 500).mean(axis=1)
    # 30 expected of each; the mean over 500 has a standard error of about 0.23.
    assert np.all(np.abs(by_part - 30) < 1.2)


def test_a_reservoir_counts_what_it_does_not_keep() -> None:
    reservoir = Reservoir(1, capacity=10)
    reservoir.add(np.full(500, 1000))
    assert reservoir.histogram().counts.sum() == 500 and reservoir.full
