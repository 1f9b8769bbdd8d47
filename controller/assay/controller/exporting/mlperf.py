"""Results in the layout of LoadGen's ``mlperf_log_summary.txt``, for scripts that read it.

MLPerf-*style*: the fields mean what LoadGen's mean, the runs are Assay's and were submitted to
nobody. One block a result, in the order of recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from assay.controller.comparing.labels import runtime_label
from assay.controller.records import ResultRecord
from assay.core.model import Latency, Result, ScenarioKind

_SCENARIOS = {
    ScenarioKind.SINGLE_STREAM: "SingleStream",
    ScenarioKind.MULTI_STREAM: "MultiStream",
    ScenarioKind.OFFLINE: "Offline",
    ScenarioKind.SERVER: "Server",
}
_RULE = "=" * 48
_PERCENTILES = (("50.00", "p50"), ("90.00", "p90"), ("95.00", "p95"), ("99.00", "p99"))


def mlperf_summaries(records: Iterable[ResultRecord]) -> Iterator[str]:
    """One block of lines for every result that is no canary."""
    for record in records:
        if not record.result.run.canary:
            yield "\n".join(_block(record.result)) + "\n"


def _block(result: Result) -> Iterator[str]:
    run = result.run
    yield from (_RULE, "MLPerf-style Results Summary (Assay)", _RULE)
    where = result.provenance.device_name
    yield f"SUT name : {where}/{runtime_label(run.runtime)}/{run.variant_name}"
    yield f"Scenario : {_SCENARIOS[run.scenario.kind]}"
    yield "Mode     : PerformanceOnly"
    if result.latency is not None:
        yield from _headline(run.scenario.kind, run.scenario.samples_per_query, result.latency)
    # LoadGen knows two verdicts; what is SUSPECT here may not count there either.
    yield f"Result is : {'VALID' if result.verdict.kind.value == 'valid' else 'INVALID'}"
    for reason in result.verdict.reasons:
        yield f"  * {reason.code}: {reason.detail}"
    if result.failure is not None:
        yield f"  * {result.failure.code}: {result.failure.message}"
    if result.latency is not None:
        yield from ("", _RULE, "Additional Stats", _RULE)
        yield from _stats(result.latency)
    yield from ("", _RULE, "Test Parameters Used", _RULE)
    yield f"samples_per_query : {run.scenario.samples_per_query}"
    if run.scenario.target_qps is not None:
        yield f"target_qps : {run.scenario.target_qps:g}"
    yield f"profile : {run.profile.name}"
    yield f"attempt : {result.attempt_id}"


def _headline(kind: ScenarioKind, batch: int, latency: Latency) -> Iterator[str]:
    if kind is ScenarioKind.SINGLE_STREAM and latency.p90_ns is not None:
        yield f"90th percentile latency (ns) : {latency.p90_ns:.0f}"
    elif kind is ScenarioKind.MULTI_STREAM and latency.p99_ns is not None:
        yield f"99th percentile latency (ns) : {latency.p99_ns:.0f}"
    elif kind is ScenarioKind.OFFLINE:
        yield f"Samples per second: {batch * 1e9 / latency.mean_ns:g}"
    elif kind is ScenarioKind.SERVER and latency.duration_ns:
        yield f"Completed samples per second : {latency.n * 1e9 / latency.duration_ns:g}"


def _stats(latency: Latency) -> Iterator[str]:
    yield f"Min latency (ns)                : {latency.min_ns:.0f}"
    yield f"Max latency (ns)                : {latency.max_ns:.0f}"
    yield f"Mean latency (ns)               : {latency.mean_ns:.0f}"
    for percentile, name in _PERCENTILES:
        value = getattr(latency, f"{name}_ns")
        if value is not None:
            yield f"{percentile} percentile latency (ns)   : {value:.0f}"
