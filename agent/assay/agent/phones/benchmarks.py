"""Reads what native benchmark binaries print, by field name and never by place; pure.

Formats: LiteRT's ``benchmark_model`` (five generations of summary lines, scientific notation, a log
of several runs, optional logcat prefixes), ``onnxruntime_perf_test`` (``name: value`` with or
without a space, seconds and milliseconds mixed), ``benchncnn`` (one line a net). A run that did not
reach its result has none: :class:`BadMessage` with the last thing it said. A line without its end
is not read: what is left of a number is another number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from assay.core.errors import BadMessage

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PAIR = re.compile(rf"(\w+)=\s*({_NUMBER})")
_TIMINGS = re.compile(r"[Ii]nference timings in us:\s*(.*)")
_TIMING = re.compile(rf"([A-Za-z][\w ()]*):\s*({_NUMBER})")
_PERF = re.compile(rf"^\s*([A-Za-z][\w .]*?)\s*:\s*({_NUMBER})\s*(s|ms|us|ns|bytes)?\s*$", re.M)
_NCNN = re.compile(
    rf"^\s*(?P<net>\S+)\s+min\s*=\s*(?P<min>{_NUMBER})\s+max\s*=\s*(?P<max>{_NUMBER})"
    rf"\s+avg\s*=\s*(?P<avg>{_NUMBER})\s*$",
    re.M,
)
_UNIT_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
_PERF_START = re.compile(r"^\s*Session creation time cost", re.M)
_START = re.compile(r"STARTING!|Loaded model ")
_CRASH = re.compile(r"Segmentation fault|Aborted|Illegal instruction|Killed|Bus error")
_PERCENTILES = {"p50": ("median", "p50"), "p90": ("p90",), "p95": ("p95",), "p99": ("p99",)}


@dataclass(frozen=True, slots=True)
class Printed:
    """Statistics of one invocation, in ns; what the binary did not print is None.

    ``percentiles_ns`` is by p50, p90, ...; ``init_ns`` the time to load the model.
    """

    count: int
    mean_ns: float
    min_ns: float | None = None
    max_ns: float | None = None
    std_ns: float | None = None
    first_ns: float | None = None
    init_ns: float | None = None
    percentiles_ns: Mapping[str, float] = field(default_factory=dict)


def parse_benchmark_model(text: str) -> Printed:
    """The last run in a log of LiteRT's ``benchmark_model``; it must be complete."""
    whole = _whole_lines(text)
    summaries = list(_TIMINGS.finditer(whole))
    if not summaries:
        raise _unfinished("benchmark_model", text)
    last = summaries[-1]
    if _START.search(whole, last.end()):
        raise _unfinished("benchmark_model", text)
    told = {name.strip(): float(value) * 1e3 for name, value in _TIMING.findall(last[1])}
    mean = told.get("Inference (avg)", told.get("Inference", told.get("no stats")))
    if mean is None:
        raise _unfinished("benchmark_model", text)
    begin = summaries[-2].end() if len(summaries) > 1 else 0
    counts = [
        dict(_PAIR.findall(line))
        for line in whole[begin : last.start()].splitlines()
        if "count=" in line and "curr=" in line
    ]
    stats = {key: float(value) for key, value in (counts[-1] if counts else {}).items()}
    return Printed(
        count=int(stats.get("count", 0)),
        mean_ns=mean,
        min_ns=_us(stats, "min", "curr"),
        max_ns=_us(stats, "max", "curr"),
        std_ns=_us(stats, "std"),
        first_ns=told.get("First inference"),
        init_ns=told.get("Init"),
        percentiles_ns=_percentiles(stats),
    )


def parse_perf_test(text: str) -> Printed:
    """The last run in a log of ``onnxruntime_perf_test``, which must be complete; its fields
    repeat and change units. A time without its unit is none."""
    whole = _whole_lines(text)
    starts = [start.start() for start in _PERF_START.finditer(whole)]
    told: dict[str, float] = {}
    requests: int | None = None
    for name, value, unit in _PERF.findall(whole[starts[-1] if starts else 0 :]):
        if unit in _UNIT_NS:
            told[name.lower()] = float(value) * _UNIT_NS[unit]
        elif name.lower() == "total inference requests":
            requests = int(float(value))
    mean = told.get("average inference time cost")
    if mean is None or requests is None:
        raise _unfinished("onnxruntime_perf_test", text)
    percentiles = {
        name: told[f"{name} latency"] for name in _PERCENTILES if f"{name} latency" in told
    }
    return Printed(
        count=requests,
        mean_ns=mean,
        min_ns=told.get("min latency"),
        max_ns=told.get("max latency"),
        init_ns=told.get("session creation time cost"),
        percentiles_ns=percentiles,
    )


def parse_benchncnn(text: str) -> Printed:
    """The one net of a ``benchncnn`` that was given one; several are a :class:`BadMessage`."""
    found = list(_NCNN.finditer(_whole_lines(text)))
    if not found:
        raise _unfinished("benchncnn", text)
    if len(found) > 1:
        nets = ", ".join(match["net"] for match in found[:4])
        raise BadMessage(
            f"benchncnn printed {len(found)} nets ({nets}, ...): give it one by param="
        )
    loops = re.search(r"loop_count\s*=\s*(\d+)", text)
    low, high, mean = (float(found[0][name]) * 1e6 for name in ("min", "max", "avg"))
    return Printed(int(loops[1]) if loops else 0, mean, low, high)


PARSERS: Mapping[str, Callable[[str], Printed]] = {
    "litert": parse_benchmark_model,
    "onnxruntime": parse_perf_test,
    "ncnn": parse_benchncnn,
}
"""By the runtime whose native binary it is."""


def _whole_lines(text: str) -> str:
    return text[: text.rfind("\n") + 1]


def _us(stats: Mapping[str, float], *names: str) -> float | None:
    return next((stats[name] * 1e3 for name in names if name in stats), None)


def _percentiles(stats: Mapping[str, float]) -> dict[str, float]:
    found = {name: _us(stats, *spellings) for name, spellings in _PERCENTILES.items()}
    if stats.get("count") == 1 and found["p50"] is None:
        found["p50"] = _us(stats, "curr")
    return {name: value for name, value in found.items() if value is not None}


def _unfinished(binary: str, text: str) -> BadMessage:
    crash = _CRASH.search(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = crash[0] if crash else (lines[-1][:120] if lines else "nothing")
    return BadMessage(f"{binary} printed no complete result; the last it said: {last}")
