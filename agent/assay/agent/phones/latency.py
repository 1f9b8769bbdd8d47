"""From what a benchmark binary printed to a latency; pure."""

from __future__ import annotations

import statistics

from assay.agent.phones.benchmarks import PARSERS, Printed
from assay.core.errors import BadMessage
from assay.core.model import Fidelity, Latency, RunSpec
from assay.core.stats import n_min

_ROUNDED = 0.01


def latency_of(printed: Printed, duration_ns: int) -> Latency:
    """What a binary's statistics say; :class:`BadMessage` where it prints no median, for which
    its mean is no substitute, or where they contradict each other. The interval of the
    median is the range, the only sure one."""
    p50 = printed.percentiles_ns.get("p50")
    if p50 is None:
        raise BadMessage(
            "this binary prints no median: use a newer benchmark_model or onnxruntime_perf_test"
        )
    low = p50 if printed.min_ns is None else printed.min_ns
    high = p50 if printed.max_ns is None else printed.max_ns
    # Summaries round to three digits or more.
    if printed.mean_ns <= 0 or not low * (1 - _ROUNDED) <= p50 <= high * (1 + _ROUNDED):
        raise BadMessage(
            f"the binary's own numbers cannot be: minimum {low / 1e3:g}, median {p50 / 1e3:g}, "
            f"maximum {high / 1e3:g}, mean {printed.mean_ns / 1e3:g} µs"
        )
    return Latency(
        n=printed.count,
        p50_ns=p50,
        p50_low_ns=low,
        p50_high_ns=high,
        p90_ns=_stated(printed, "p90", 0.90),
        p95_ns=_stated(printed, "p95", 0.95),
        p99_ns=_stated(printed, "p99", 0.99),
        p999_ns=None,
        mean_ns=printed.mean_ns,
        min_ns=low,
        max_ns=high,
        mad_ns=0.0,
        cv=(printed.std_ns or 0.0) / printed.mean_ns if printed.mean_ns else 0.0,
        outliers=0,
        fidelity=Fidelity.EXTERNAL_BINARY,
        harness_floor_ns=0.0,
        binding_floor_ns=None,
        duration_ns=duration_ns,
    )


def _stated(printed: Printed, name: str, quantile: float) -> float | None:
    enough = printed.count >= n_min(quantile)
    return printed.percentiles_ns.get(name) if enough else None


def printed_of(run: RunSpec, text: str) -> Printed:
    """Statistics of one invocation, or over the single samples of many; :class:`BadMessage` where
    the binary printed no complete result."""
    parse = PARSERS[run.runtime.name]
    parts = text.split("@@run\n")[1:]
    if len(parts) <= 1:
        return parse(text)
    means = [parse(part).mean_ns for part in parts]
    return Printed(
        count=len(means),
        mean_ns=statistics.fmean(means),
        min_ns=min(means),
        max_ns=max(means),
        std_ns=statistics.pstdev(means),
        percentiles_ns={"p50": statistics.median_low(means)},
    )
