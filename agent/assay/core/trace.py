"""The raw trace of one run: an .npz that needs nothing but numpy to read.

docs/reference/trace.md is its reference. Equal content gives equal bytes (names sorted, no clock
in the archive), so a trace can be named by its digest.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from assay.core.errors import BadMessage
from assay.core.npz import read_npz

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1
MAX_SAMPLES = 1_000_000
BUCKETS_PER_OCTAVE = 64

_LIMIT_BYTES = 1 << 30
_SERIES = re.compile(r"series/([A-Za-z0-9_.:/ -]{1,120})/(t_ns|value)")
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Readings(Protocol):
    """Whatever holds stamps and values side by side."""

    @property
    def t_ns(self) -> Iterable[Any]:
        """CLOCK_MONOTONIC nanoseconds."""
        ...

    @property
    def value(self) -> Iterable[Any]:
        """In base units."""
        ...


@dataclass(frozen=True, slots=True)
class Series:
    """Readings of one sensor: CLOCK_MONOTONIC stamps in ns and values in base units."""

    t_ns: NDArray[np.int64]
    value: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Exact counts of every sample: bucket i holds ``edges_ns[i] <= sample < edges_ns[i + 1]``."""

    edges_ns: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trace:
    """What one run recorded.

    ``latency_ns`` is in the order taken; where there were more than a million samples it is a
    seeded reservoir of them, ``index`` their places in that order, and ``histogram`` counts all.
    ``block_start_ns`` and ``block_queries`` describe the timed blocks, ``warmup_median_ns`` the
    warm-up's. ``predictions`` are the top-1 classes over the whole dataset, in its order.
    """

    latency_ns: NDArray[np.int64]
    index: NDArray[np.int64] | None = None
    histogram: Histogram | None = None
    block_start_ns: NDArray[np.int64] | None = None
    block_queries: NDArray[np.int64] | None = None
    warmup_median_ns: NDArray[np.float64] | None = None
    predictions: NDArray[np.int32] | None = None
    series: Mapping[str, Series] = field(default_factory=dict)


_ARRAYS: dict[str, str] = {
    "latency_ns": "<i8",
    "index": "<i8",
    "block_start_ns": "<i8",
    "block_queries": "<i8",
    "warmup_median_ns": "<f8",
    "predictions": "<i4",
}


def write_trace(path: Path, trace: Trace) -> None:
    """Writes ``trace`` to ``path``; :class:`ValueError` for a series name outside
    ``[A-Za-z0-9_.:/ -]{1,120}``."""
    import numpy as np

    with zipfile.ZipFile(path, "w") as archive:
        for name, array in sorted(_flat(trace).items()):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
            _add(archive, name, buffer.getvalue())
    add_series(path, trace.series)


def add_series(path: Path, series: Mapping[str, Readings]) -> None:
    """Adds sensors' readings to the trace in ``path``, in the order of their names; without numpy,
    for the sake of an agent that must stay small."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, one in sorted(series.items()):
            _add(archive, _series_key(name, "t_ns"), _npy("<i8", array("q", one.t_ns)))
            _add(archive, _series_key(name, "value"), _npy("<f8", array("d", one.value)))


def read_trace(path: Path) -> Trace:
    """The trace in ``path``; :class:`BadMessage` where it is none, of a newer version, or larger
    than 1 GiB unpacked. Never runs what it reads: pickled arrays are refused."""
    arrays = read_npz(path, _LIMIT_BYTES)
    try:
        return _from_arrays(path, arrays)
    except (ValueError, KeyError, TypeError) as error:
        raise BadMessage(f"{path.name} is not a trace: {error}") from error


def log_histogram(samples: NDArray[Any]) -> Histogram:
    """Exact counts of ``samples`` in buckets of 2^(1/64), about 1.1 % wide; empty ends cut."""
    return histogram_of(bucket_counts(samples))


def bucket_counts(samples: NDArray[Any]) -> NDArray[np.int64]:
    """Counts by bucket from 1 ns on; arrays of several parts of a run may be added up."""
    import numpy as np

    octaves = np.log2(np.maximum(np.asarray(samples, dtype=np.float64), 1.0))
    buckets = np.floor(octaves * BUCKETS_PER_OCTAVE).astype(np.int64)
    return np.bincount(buckets, minlength=64 * BUCKETS_PER_OCTAVE).astype(np.int64)


def histogram_of(counts: NDArray[np.int64]) -> Histogram:
    """The histogram of summed :func:`bucket_counts`, without its empty ends."""
    import numpy as np

    filled = np.flatnonzero(counts)
    if not len(filled):
        return Histogram(np.zeros(0), np.zeros(0, dtype=np.int64))
    first, last = int(filled[0]), int(filled[-1])
    edges = np.exp2(np.arange(first, last + 2) / BUCKETS_PER_OCTAVE)
    return Histogram(edges, counts[first : last + 1])


class Reservoir:
    """Keeps every sample up to a capacity, beyond it a seeded uniform choice of all of them.

    Vitter's algorithm R, a block at a time; the histogram counts every sample in any case.
    """

    def __init__(self, seed: int, capacity: int = MAX_SAMPLES) -> None:
        import numpy as np

        self._rng = np.random.default_rng(seed)
        self._capacity = capacity
        self._parts: list[NDArray[np.int64]] = []
        self._index: NDArray[np.int64] | None = None
        self._counts = np.zeros(64 * BUCKETS_PER_OCTAVE, dtype=np.int64)
        self.seen = 0

    @property
    def full(self) -> bool:
        """Whether some samples have been left out."""
        return self.seen > self._capacity

    def add(self, samples: NDArray[np.int64]) -> None:
        """Takes the next ``samples`` of the run, in order."""
        self._counts += bucket_counts(samples)
        room = max(self._capacity - self.seen, 0)
        if room:
            self._parts.append(samples[:room].copy())
        self.seen += min(len(samples), room)
        if len(samples) > room:
            self._replace(samples[room:])

    def samples(self) -> NDArray[np.int64]:
        """What is kept, in the order taken."""
        import numpy as np

        whole = np.concatenate(self._parts) if self._parts else np.zeros(0, dtype=np.int64)
        self._parts = [whole]
        return whole if self._index is None else whole[np.argsort(self._index)]

    def index(self) -> NDArray[np.int64] | None:
        """The places of :meth:`samples` in the run; None where all of it is kept."""
        import numpy as np

        return None if self._index is None else np.sort(self._index)

    def histogram(self) -> Histogram:
        """Exact counts of every sample seen."""
        return histogram_of(self._counts)

    def _replace(self, samples: NDArray[np.int64]) -> None:
        import numpy as np

        if self._index is None:
            self._parts = [np.concatenate(self._parts)]
            self._index = np.arange(self._capacity, dtype=np.int64)
        places = self.seen + np.arange(len(samples))
        slots = self._rng.integers(0, places + 1)
        kept = slots < self._capacity
        # Where two of the block fall on one slot, the later stays, as one by one.
        self._parts[0][slots[kept]] = samples[kept]
        self._index[slots[kept]] = places[kept]
        self.seen += len(samples)


def _flat(trace: Trace) -> dict[str, NDArray[Any]]:
    import numpy as np

    found: dict[str, NDArray[Any]] = {"version": np.array(VERSION, dtype="<i4")}
    for name, dtype in _ARRAYS.items():
        value = getattr(trace, name)
        if value is not None:
            found[name] = np.ascontiguousarray(value, dtype=dtype)
    if trace.histogram is not None:
        found["histogram/edges_ns"] = trace.histogram.edges_ns.astype("<f8")
        found["histogram/counts"] = trace.histogram.counts.astype("<i8")
    return found


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content, compresslevel=1)


def _npy(descr: str, column: array[Any]) -> bytes:
    """A one-dimensional array in numpy's file format 1.0 (numpy.lib.format)."""
    if sys.byteorder == "big":
        column.byteswap()
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({len(column)},), }}"
    padding = -(len(_NPY_MAGIC) + 2 + len(header) + 1) % 64
    text = header.encode() + b" " * padding + b"\n"
    return _NPY_MAGIC + len(text).to_bytes(2, "little") + text + column.tobytes()


def _series_key(name: str, part: str) -> str:
    key = f"series/{name}/{part}"
    if _SERIES.fullmatch(key) is None:
        raise ValueError(f"{name!r} is no name for a series")
    return key


def _from_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Trace:
    version = int(arrays["version"])
    if version > VERSION:
        raise BadMessage(f"{path.name} is a trace of version {version}; this reads {VERSION}")
    plain: dict[str, Any] = {
        name: arrays[name].astype(dtype, casting="safe", copy=False)
        for name, dtype in _ARRAYS.items()
        if name in arrays
    }
    if plain["latency_ns"].ndim != 1:
        raise BadMessage(f"{path.name}: latency_ns is not one row of samples")
    if "histogram/counts" in arrays:
        plain["histogram"] = Histogram(arrays["histogram/edges_ns"], arrays["histogram/counts"])
    return Trace(**plain, series=_read_series(path, arrays))


def _read_series(path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Series]:
    found = {}
    for key in arrays:
        match = _SERIES.fullmatch(key)
        if match is None or match[2] != "t_ns":
            continue
        series = Series(arrays[key], arrays[_series_key(match[1], "value")])
        if series.t_ns.shape != series.value.shape:
            raise BadMessage(f"{path.name}: series {match[1]} has stamps without values")
        found[match[1]] = series
    return found
