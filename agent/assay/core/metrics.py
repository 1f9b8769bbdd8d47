"""Every Prometheus metric of Assay: name, type, unit, labels and help, in one place.

Base units only (seconds, joules, bytes, ratio). Labels are bounded: names from sweep files and
closed enumerations, never an id or a digest. docs/reference/metrics.md is written from this table.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class MetricKind(enum.Enum):
    """Prometheus types in use."""

    GAUGE = "gauge"
    COUNTER = "counter"
    # Exact quantiles, each a plain value as a gauge would be, without _sum and _count: only
    # families of this type may carry a label ``quantile`` (promtool refuses it on gauges).
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family. ``name`` is as it appears on the page (counters end in ``_total``);
    ``unit`` is a base unit or empty."""

    name: str
    kind: MetricKind
    unit: str
    labels: tuple[str, ...]
    help: str


LABELS: dict[str, str] = {
    "device_class": "Kind of board, e.g. `rpi5`.",
    "device": "Name of the device; empty where the series budget made it go.",
    "model": "The model a variant was made from.",
    "variant": "Name of the variant.",
    "runtime": "Runtime and the settings that differ from its defaults, e.g. `onnxruntime_4t`.",
    "scenario": "How queries arrive, e.g. `single_stream`, `offline_32`.",
    "quantile": "Share of samples at or below the value, as a decimal.",
    "part": "Part of the memory: `runtime_base`, `model_load`, `infer_peak`, `process_peak`.",
    "scope": "What the power sensor sees, e.g. `board_input`.",
    "tier": "Where a power reading comes from, e.g. `board_sensor`.",
    "verdict": "`valid`, `suspect` or `invalid`.",
    "code": "Reason code of a result that is not VALID.",
    "sampler": "Name of a sensor reader.",
    "outcome": "`success` or `failure`.",
    "state": "State of a device, sweep or round.",
    "table": "Table of the store.",
    "board": "Name of the board.",
    "cpu": "Model of the processor.",
    "os": "Operating system.",
    "kernel": "Kernel release.",
    "governor": "Clock governor.",
    "agent_version": "Version of Assay on the device.",
    "version": "Version of Assay on the controller.",
    "origin": "`recipe` where Assay built it, `file` where it was given.",
    "dataset": "Dataset a variant was made for.",
    "finding": "`confirmed`, `likely`, `equivalent` or `inconclusive`.",
    "sweep": "Name of a sweep: those that run and the newest five, no more.",
    "method": "Call of the protocol, e.g. `Sync`.",
    "status": "Its gRPC status, e.g. `OK`.",
    "class": "Whose fault a failure is: `infra`, `model` or `device`.",
    "duty": "`on`, `cordoned`, `draining` or `probation`.",
    "direction": "`sent` or `received`, by whoever counts.",
    "encoding": "How bytes travelled: `identity`, `zstd` or `zstd_patch`.",
}

METRICS_CAPABILITY = "metrics="
"""An agent's capability that starts like this says ``HOST:PORT`` of its own page."""

_CELL = ("device_class", "device", "model", "variant", "runtime", "scenario")
_DEVICE = ("device_class", "device")
_SWEEP = ("sweep",)


def _gauge(name: str, unit: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name, MetricKind.GAUGE, unit, labels, text)


def _quantiles(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name, MetricKind.SUMMARY, "seconds", (*labels, "quantile"), text)


def _counter(name: str, unit: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name, MetricKind.COUNTER, unit, labels, text)


RESULT_METRICS: tuple[Metric, ...] = (
    _quantiles(
        "assay_latency_seconds",
        _CELL,
        "Exact latency quantile of the middle run among a cell's newest VALID results.",
    ),
    _quantiles(
        "assay_latency_range_low_seconds",
        _CELL,
        "Lower bound of the quantile over restarts: the range below 6 of them, "
        "else the 95 % interval.",
    ),
    _quantiles(
        "assay_latency_range_high_seconds",
        _CELL,
        "Upper bound of the quantile over restarts.",
    ),
    _gauge(
        "assay_latency_restarts",
        "",
        _CELL,
        "How many fresh processes (VALID results) the latency figures stand on.",
    ),
    _quantiles(
        "assay_canary_latency_seconds",
        (*_DEVICE, "runtime", "scenario"),
        "Latency of the fixed canary model: its movement is the device's own.",
    ),
    _gauge(
        "assay_memory_bytes",
        "bytes",
        (*_CELL, "part"),
        "Memory of the worker process by part, of the middle run.",
    ),
    _gauge(
        "assay_energy_joules",
        "joules",
        (*_CELL, "tier", "scope"),
        "Energy of one inference, idle included; only where it was measured and conclusive.",
    ),
    _gauge(
        "assay_energy_uncertainty_joules",
        "joules",
        (*_CELL, "tier", "scope"),
        "Two standard uncertainties of the energy of one inference.",
    ),
    _gauge(
        "assay_accuracy_ratio",
        "ratio",
        _CELL,
        "Top-1 accuracy on the device, with the same artifact.",
    ),
    _gauge("assay_accuracy_samples", "", _CELL, "How many samples the accuracy was measured on."),
    _gauge("assay_model_load_seconds", "seconds", _CELL, "Time to create the session, middle run."),
    _gauge(
        "assay_first_inference_seconds", "seconds", _CELL, "First inference of a fresh process."
    ),
    _gauge(
        "assay_latency_ratio",
        "ratio",
        _CELL,
        "p50 over the p50 of the sweep's baseline on the same device and scenario.",
    ),
    _gauge(
        "assay_comparison_finding",
        "",
        (*_CELL, "finding"),
        "Constant 1; what the paired rounds say of the cell against the sweep's baseline.",
    ),
    _gauge(
        "assay_comparison_ratio",
        "ratio",
        _CELL,
        "Candidate over baseline, paired by round (Hodges-Lehmann).",
    ),
    _gauge(
        "assay_comparison_low_ratio",
        "ratio",
        _CELL,
        "Lower bound of the paired ratio at the decision's confidence.",
    ),
    _gauge(
        "assay_comparison_high_ratio",
        "ratio",
        _CELL,
        "Upper bound of the paired ratio at the decision's confidence.",
    ),
    _gauge(
        "assay_run_temperature_celsius",
        "celsius",
        _CELL,
        "Highest temperature of the board in the newest VALID run.",
    ),
    _gauge(
        "assay_run_clock_hertz",
        "hertz",
        _CELL,
        "Median clock of the measuring cores in the newest VALID run.",
    ),
    _gauge(
        "assay_run_power_watts",
        "watts",
        (*_CELL, "tier", "scope", "state"),
        "Mean power in the newest VALID run, `idle` before it and `active` in it.",
    ),
    _gauge(
        "assay_cell_results",
        "",
        (*_CELL, "verdict"),
        "Results of the cell's newest sweep by verdict.",
    ),
    _gauge(
        "assay_result_timestamp_seconds",
        "seconds",
        _CELL,
        "When the newest VALID result was recorded, as Unix time.",
    ),
    _gauge(
        "assay_artifact_size_bytes",
        "bytes",
        ("model", "variant", "runtime"),
        "Size of the model file that was measured.",
    ),
    _gauge("assay_macs", "", ("model", "variant"), "Multiply-accumulates of one inference."),
    _gauge(
        "assay_variant_info",
        "",
        ("model", "variant", "origin", "dataset"),
        "Constant 1; what a variant is.",
    ),
)

COUNT_METRICS: tuple[Metric, ...] = (
    _counter(
        "assay_results_total", "", ("verdict",), "Stored results by verdict; canaries included."
    ),
    _counter(
        "assay_result_reasons_total",
        "",
        ("code",),
        "How often each reason code stands in a stored result.",
    ),
    _gauge(
        "assay_series_dropped",
        "",
        (),
        "Series of results left out to keep the page within its budget.",
    ),
)

DEVICE_METRICS: tuple[Metric, ...] = (
    _gauge(
        "assay_device_info",
        "",
        (*_DEVICE, "board", "cpu", "os", "kernel", "governor", "agent_version"),
        "Constant 1; what a device says of itself.",
    ),
    _gauge(
        "assay_device_last_seen_timestamp_seconds",
        "seconds",
        _DEVICE,
        "Last sign of life, as Unix time of the controller.",
    ),
    _gauge(
        "assay_device_certificate_expiry_timestamp_seconds",
        "seconds",
        _DEVICE,
        "When the device's certificate ends, as Unix time.",
    ),
    _gauge(
        "assay_device_active",
        "",
        _DEVICE,
        "1 where the device may speak to the controller, 0 where it is revoked.",
    ),
    _gauge(
        "assay_device_duty",
        "",
        (*_DEVICE, "duty"),
        "1 for the duty the device is on: only on `on` is it given work.",
    ),
    _gauge(
        "assay_device_taken_off_duty",
        "",
        _DEVICE,
        "1 where the controller cordoned the device by itself and nobody has put it back to work.",
    ),
    _gauge("assay_device_memory_bytes", "bytes", _DEVICE, "Memory of the device."),
    _gauge(
        "assay_device_state",
        "",
        (*_DEVICE, "state"),
        "1 for the state the device is in: online, silent, lost, quarantined or revoked.",
    ),
    _gauge(
        "assay_device_expected_by_timestamp_seconds",
        "seconds",
        _DEVICE,
        "Until then silence is no news: last sign of life, end of the quiet window, or enrolment.",
    ),
    _gauge(
        "assay_device_rounds",
        "",
        (*_DEVICE, "state"),
        "Rounds of running sweeps on the device: queued or leased.",
    ),
    _gauge(
        "assay_device_accepting",
        "",
        _DEVICE,
        "1 where the device takes new rounds; 0 while it drains or its spool is near full.",
    ),
    _gauge(
        "assay_device_measuring",
        "",
        _DEVICE,
        "1 while an attempt is being settled, warmed up or measured.",
    ),
    _gauge(
        "assay_device_temperature_celsius",
        "celsius",
        _DEVICE,
        "Temperature of the processor as of the newest Sync.",
    ),
    _gauge(
        "assay_device_memory_available_bytes",
        "bytes",
        _DEVICE,
        "Memory a new process could get, as of the newest Sync.",
    ),
    _gauge(
        "assay_device_disk_free_bytes",
        "bytes",
        _DEVICE,
        "Free room of the agent's disk, as of the newest Sync.",
    ),
    _gauge("assay_device_spool_entries", "", _DEVICE, "Results measured and not yet acknowledged."),
    _gauge("assay_device_spool_bytes", "bytes", _DEVICE, "Size of the spool's file."),
    _gauge(
        "assay_device_throttled",
        "",
        _DEVICE,
        "1 while the board reports that it holds itself back (under-voltage, heat).",
    ),
    _gauge(
        "assay_sampler_success",
        "",
        (*_DEVICE, "sampler"),
        "1 where the sensor works on the device, 0 where it does not: never a gap.",
    ),
)

SWEEP_METRICS: tuple[Metric, ...] = (
    _gauge("assay_sweep_running", "", _SWEEP, "1 while the sweep runs."),
    _gauge("assay_sweep_runs", "", (*_SWEEP, "state"), "Runs of the sweep: done or waiting."),
    _gauge("assay_sweep_left_seconds", "seconds", _SWEEP, "Time left, from the pace so far."),
    _gauge("assay_sweep_results", "", (*_SWEEP, "verdict"), "The sweep's results by verdict."),
    _gauge("assay_sweep_failures", "", (*_SWEEP, "class"), "Failed runs of the sweep by class."),
    _gauge(
        "assay_sweep_start_timestamp_seconds",
        "seconds",
        _SWEEP,
        "When the sweep was submitted, as Unix time.",
    ),
    _gauge(
        "assay_sweep_progress_timestamp_seconds",
        "seconds",
        _SWEEP,
        "When the sweep's newest result was recorded (else when it was submitted), as Unix time.",
    ),
)

PLANE_METRICS: tuple[Metric, ...] = (
    _gauge("assay_build_info", "", ("version",), "Constant 1; version of the controller."),
    _gauge("assay_devices", "", ("state",), "Devices by state."),
    _gauge("assay_sweeps", "", ("state",), "Sweeps by state."),
    _gauge("assay_rounds", "", ("state",), "Rounds of running sweeps by state."),
    _counter(
        "assay_calls_total",
        "",
        ("method", "status"),
        "Calls by devices and strangers since the controller's start, by what came of them.",
    ),
    _counter("assay_commits_total", "", (), "Transactions that wrote results down."),
    _counter("assay_commit_seconds_total", "seconds", (), "Time those transactions took."),
    _counter("assay_committed_results_total", "", (), "Results in them, replays included."),
    _gauge("assay_results_waiting", "", (), "Results that devices wait to have acknowledged."),
    _counter(
        "assay_round_troubles_total",
        "",
        ("code",),
        "Rounds that were taken back or failed as a whole: `queue_timeout`, `start_timeout`, "
        "`lease_expired`, `given_up` or `put_off`.",
    ),
    _counter(
        "assay_blob_bytes_total",
        "bytes",
        ("direction", "encoding"),
        "Bytes of artifacts and traces on the wire since the controller's start.",
    ),
    _quantiles(
        "assay_lease_age_seconds",
        (),
        "Age of the leases of running sweeps; quantile 1 is the oldest. Absent without one.",
    ),
    _quantiles(
        "assay_queue_age_seconds",
        (),
        "How long rounds of running sweeps have waited for their device.",
    ),
    _gauge("assay_store_rows", "", ("table",), "Rows in each table of the store."),
    _gauge(
        "assay_exporter_render_success",
        "",
        (),
        "1 where the newest reading of the store succeeded; the page is stale at 0.",
    ),
    _gauge(
        "assay_exporter_render_timestamp_seconds",
        "seconds",
        (),
        "When the page was last brought up to date, as Unix time.",
    ),
    _gauge(
        "assay_exporter_render_cpu_seconds",
        "seconds",
        (),
        "CPU time the newest rendering took.",
    ),
)

AGENT_METRICS: tuple[Metric, ...] = (
    _gauge("assay_agent_info", "", ("device", "version"), "Constant 1; version of the agent."),
    _gauge(
        "assay_agent_temperature_celsius", "celsius", ("device",), "Temperature of the processor."
    ),
    _gauge(
        "assay_agent_memory_available_bytes",
        "bytes",
        ("device",),
        "Memory a new process could get.",
    ),
    _gauge("assay_agent_disk_free_bytes", "bytes", ("device",), "Free room of the agent's disk."),
    _gauge("assay_agent_spool_entries", "", ("device",), "Results not yet acknowledged."),
    _gauge("assay_agent_spool_bytes", "bytes", ("device",), "Size of the spool's file."),
    _gauge("assay_agent_rounds", "", ("device",), "Rounds held."),
    _gauge("assay_agent_rounds_running", "", ("device",), "Rounds being worked on."),
    _counter(
        "assay_agent_link_bytes_total",
        "bytes",
        ("device", "direction"),
        "Bytes to (`sent`) and from (`received`) the controller since the agent started.",
    ),
    _gauge(
        "assay_agent_link_day_bytes",
        "bytes",
        ("device",),
        "Bytes both ways in the last 24 hours of running time.",
    ),
    _gauge(
        "assay_agent_link_day_limit_bytes",
        "bytes",
        ("device",),
        "What `daily_bytes` allows in them; absent without a limit.",
    ),
    _counter(
        "assay_agent_sampler_reads_total",
        "",
        ("device", "sampler", "outcome"),
        "Readings tried in runs since the agent started: success or failure.",
    ),
    _counter(
        "assay_agent_sampler_read_seconds_total",
        "seconds",
        ("device", "sampler"),
        "Time spent in those readings.",
    ),
    _counter("assay_agent_scrapes_total", "", ("device",), "Requests to this page."),
)

CONTROLLER_METRICS: tuple[Metric, ...] = (
    *RESULT_METRICS,
    *COUNT_METRICS,
    *DEVICE_METRICS,
    *SWEEP_METRICS,
    *PLANE_METRICS,
)
CATALOGUE: tuple[Metric, ...] = (*CONTROLLER_METRICS, *AGENT_METRICS)
METRICS: dict[str, Metric] = {metric.name: metric for metric in CATALOGUE}
