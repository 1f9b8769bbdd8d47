"""What a sampler process recorded, as one small file that needs no library to read.

Layout: one line of JSON, then for each series listed there ``n`` int64 stamps followed by ``n``
float64 values, little-endian. It lives in the run's folder only; what is kept of it goes into
the result's trace (:mod:`assay.core.trace`).
"""

from __future__ import annotations

import json
import os
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from assay.agent.samplers.base import Meter
from assay.core.model import PowerTier

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Series:
    """Readings of one channel: CLOCK_MONOTONIC stamps in ns, and values in base units.

    ``quantity`` and ``unit`` are the channel's (``cpu_clock``/``Hz``, ``temperature``/``C``,
    ``power``/``W``, ``energy``/``J``, ...); ``meter`` is set on power and energy channels.
    """

    t_ns: Sequence[int]
    value: Sequence[float]
    quantity: str = ""
    unit: str = ""
    meter: Meter | None = None


@dataclass(frozen=True, slots=True)
class SamplerCounters:
    """How one sampler fared; ``lost_readings`` counts channels that stayed silent in a success.

    ``thinned`` is how often every second reading was dropped to stay within bounded memory.
    """

    successes: int = 0
    failures: int = 0
    lost_readings: int = 0
    duration_ns: int = 0
    thinned: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """Series by ``sampler.channel``, counters by sampler, and reasons by absent sampler."""

    series: Mapping[str, Series] = field(default_factory=dict)
    counters: Mapping[str, SamplerCounters] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes the file whole or not at all."""
        header = {
            "version": _VERSION,
            "series": [_series_header(key, series) for key, series in self.series.items()],
            "counters": {name: asdict(counters) for name, counters in self.counters.items()},
            "absent": dict(self.absent),
        }
        partial = path.with_name(path.name + ".part")
        with partial.open("wb") as out:
            out.write(json.dumps(header).encode() + b"\n")
            for series in self.series.values():
                out.write(_packed(array("q", series.t_ns)))
                out.write(_packed(array("d", series.value)))
        os.replace(partial, path)


def read_recording(path: Path) -> Recording:
    """The recording in ``path``; raises ``OSError``, or ``ValueError`` for anything malformed."""
    content = path.read_bytes()
    line, newline, body = content.partition(b"\n")
    if not newline:
        raise ValueError(f"{path.name}: no header line")
    header = json.loads(line)
    if not isinstance(header, dict) or header.get("version") != _VERSION:
        raise ValueError(f"{path.name}: not a recording of version {_VERSION}")
    try:
        return Recording(
            dict(_unpacked(header["series"], body)),
            {name: SamplerCounters(**fields) for name, fields in header["counters"].items()},
            dict(header["absent"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: malformed header: {error}") from error


def troubles(counters: Mapping[str, SamplerCounters]) -> dict[str, str]:
    """What went wrong on the way, by sampler: how many reads failed or left a channel out, and
    the last reason. A channel that is silent for no fault (a battery at rest) is no trouble."""
    found = {}
    for name, one in counters.items():
        reads = one.successes + one.failures
        told = [f"{one.failures} of {reads} reads failed"] if one.failures else []
        if one.lost_readings and one.last_error:
            told.append(f"{one.lost_readings} readings were left out")
        if told:
            found[name] = f"{' and '.join(told)}: {one.last_error}"
    return found


def of_quantity(series: Mapping[str, Series], quantity: str) -> dict[str, Series]:
    """The series of one quantity, by key."""
    return {key: one for key, one in series.items() if one.quantity == quantity}


def _series_header(key: str, series: Series) -> dict[str, Any]:
    meter = series.meter
    return {
        "key": key,
        "n": len(series.t_ns),
        "quantity": series.quantity,
        "unit": series.unit,
        "meter": None if meter is None else {**asdict(meter), "tier": meter.tier.value},
    }


def _unpacked(headers: Iterable[dict[str, Any]], body: bytes) -> Iterable[tuple[str, Series]]:
    offset = 0
    for header in headers:
        size = 8 * header["n"]
        t_ns, value = array("q"), array("d")
        for column in (t_ns, value):
            column.frombytes(body[offset : offset + size])
            offset += size
            if len(column) != header["n"]:
                raise ValueError(f"{header['key']}: the file ends early")
            if sys.byteorder == "big":
                column.byteswap()
        meter = header["meter"]
        if meter is not None:
            meter = Meter(**{**meter, "tier": PowerTier(meter["tier"])})
        yield header["key"], Series(t_ns, value, header["quantity"], header["unit"], meter)


def _packed(column: array[Any]) -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()
