"""One result as a flat row: the columns of the CSV and Parquet exports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.controller.comparing.labels import format_label, runtime_label, scenario_label
from assay.controller.records import ResultRecord, VariantRecord
from assay.core.model import Absent, Energy, Latency, Result

_NS = 1e9

# name -> type of the flat formats; the order is the order of the columns.
COLUMNS: dict[str, str] = {
    "sweep_id": "string",
    "round_id": "string",
    "round_index": "int",
    "attempt_id": "string",
    "seq": "int",
    "cell_key": "string",
    "superseded": "bool",
    "recorded_unix_seconds": "float",
    "started_unix_seconds": "float",
    "device": "string",
    "device_class": "string",
    "board": "string",
    "cpu": "string",
    "kernel": "string",
    "governor": "string",
    "model": "string",
    "variant": "string",
    "variant_id": "string",
    "canary": "bool",
    "artifact": "string",
    "format": "string",
    "size_bytes": "int",
    "macs": "int",
    "parameters": "int",
    "runtime": "string",
    "runtime_version": "string",
    "provider": "string",
    "threads": "int",
    "scenario": "string",
    "batch": "int",
    "dataset": "string",
    "profile": "string",
    "verdict": "string",
    "reasons": "string",
    "failure": "string",
    "failure_message": "string",
    "samples": "int",
    "p50_seconds": "float",
    "p50_low_seconds": "float",
    "p50_high_seconds": "float",
    "p90_seconds": "float",
    "p95_seconds": "float",
    "p99_seconds": "float",
    "p999_seconds": "float",
    "mean_seconds": "float",
    "min_seconds": "float",
    "max_seconds": "float",
    "mad_seconds": "float",
    "cv_ratio": "float",
    "outliers": "int",
    "outlier_time_ratio": "float",
    "response_time": "bool",
    "fidelity": "string",
    "harness_floor_seconds": "float",
    "binding_floor_seconds": "float",
    "duration_seconds": "float",
    "load_seconds": "float",
    "first_inference_seconds": "float",
    "runtime_base_bytes": "int",
    "model_load_bytes": "int",
    "infer_peak_bytes": "int",
    "process_peak_bytes": "int",
    "pss_bytes": "int",
    "energy_joules": "float",
    "energy_u2_joules": "float",
    "energy_dynamic_joules": "float",
    "energy_dynamic_u2_joules": "float",
    "energy_tier": "string",
    "energy_scope": "string",
    "energy_inconclusive": "bool",
    "energy_absent": "string",
    "accuracy_ratio": "float",
    "accuracy_samples": "int",
    "golden_max_abs_error": "float",
    "golden_within_tolerance": "bool",
    "isolation": "string",
    "temperature_start_celsius": "float",
    "temperature_max_celsius": "float",
    "clock_median_hertz": "float",
    "wall_per_cpu_ratio": "float",
    "drift_ratio": "float",
    "harness_version": "string",
    "trace": "string",
}


def flat_row(record: ResultRecord, variants: Mapping[str, VariantRecord]) -> dict[str, Any]:
    """One result as a row of :data:`COLUMNS`; what it does not have is None."""
    row = dict.fromkeys(COLUMNS)
    row |= _identity(record) | _about(record, variants)
    row |= _latency(record.result.latency) | _rest(record.result)
    return row


def _identity(record: ResultRecord) -> dict[str, Any]:
    result, where = record.result, record.result.provenance
    return {
        "sweep_id": result.sweep_id,
        "round_id": result.round_id,
        "round_index": result.round_index,
        "attempt_id": record.attempt_id,
        "seq": record.seq,
        "cell_key": result.run.cell_key,
        "superseded": record.superseded,
        "recorded_unix_seconds": record.recorded_ns / _NS,
        "started_unix_seconds": where.started_unix_ns / _NS,
        "device": where.device_name,
        "device_class": where.device.device_class,
        "board": where.device.board,
        "cpu": where.device.cpu.model,
        "kernel": where.device.kernel,
        "governor": where.device.governor,
        "runtime_version": where.runtime_version,
        "harness_version": where.harness_version,
        "trace": result.trace.digest if result.trace else None,
    }


def _about(record: ResultRecord, variants: Mapping[str, VariantRecord]) -> dict[str, Any]:
    result, run = record.result, record.result.run
    variant = variants.get(run.variant_id)
    file = variant.files.get(run.artifact.media_type) if variant else None
    return {
        "model": variant.model if variant else None,
        "variant": run.variant_name,
        "variant_id": run.variant_id,
        "canary": run.canary,
        "artifact": run.artifact.digest,
        "format": format_label(run.artifact),
        "size_bytes": run.artifact.size_bytes,
        "macs": file.cost.macs if file else None,
        "parameters": file.cost.parameters if file else None,
        "runtime": runtime_label(run.runtime),
        "provider": run.runtime.provider,
        "threads": run.runtime.threads,
        "scenario": scenario_label(run.scenario),
        "batch": run.scenario.samples_per_query,
        "dataset": run.inputs.dataset,
        "profile": run.profile.name,
        "verdict": result.verdict.kind.value,
        "reasons": " ".join(reason.code for reason in result.verdict.reasons),
        "failure": result.failure.code if result.failure else None,
        "failure_message": result.failure.message if result.failure else None,
    }


def _latency(latency: Latency | None) -> dict[str, Any]:
    if latency is None:
        return {}
    found: dict[str, Any] = {
        "samples": latency.n,
        "cv_ratio": latency.cv,
        "outliers": latency.outliers,
        "outlier_time_ratio": latency.outlier_time_share,
        "response_time": latency.response_time,
        "fidelity": latency.fidelity.value,
    }
    for column in COLUMNS:
        attribute = column.replace("_seconds", "_ns")
        if column.endswith("_seconds") and hasattr(latency, attribute):
            value = getattr(latency, attribute)
            found[column] = None if value is None else value / _NS
    return found


def _rest(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if result.cold is not None:
        found["load_seconds"] = result.cold.load_ns / _NS
        found["first_inference_seconds"] = result.cold.first_inference_ns / _NS
    if result.memory is not None:
        found |= {
            name: getattr(result.memory, name)
            for name in COLUMNS
            if name.endswith("_bytes") and hasattr(result.memory, name)
        }
    if result.quality is not None:
        found |= {"accuracy_ratio": result.quality.top1, "accuracy_samples": result.quality.n}
    if result.golden is not None:
        found["golden_max_abs_error"] = result.golden.max_abs_error
        found["golden_within_tolerance"] = result.golden.within_tolerance
    if result.conditions is not None:
        conditions = result.conditions
        found |= {
            "isolation": conditions.isolation.value,
            "temperature_start_celsius": conditions.temperature_start_c,
            "temperature_max_celsius": conditions.temperature_max_c,
            "clock_median_hertz": conditions.clock_median_hz,
            "wall_per_cpu_ratio": conditions.wall_per_cpu,
            "drift_ratio": conditions.drift,
        }
    return found | _energy(result.energy)


def _energy(energy: Energy | Absent) -> dict[str, Any]:
    if isinstance(energy, Absent):
        return {"energy_absent": energy.reason}
    return {
        "energy_joules": energy.total_j,
        "energy_u2_joules": 2 * energy.total_u_j,
        "energy_dynamic_joules": energy.dynamic_j,
        "energy_dynamic_u2_joules": 2 * energy.dynamic_u_j,
        "energy_tier": energy.tier.value,
        "energy_scope": energy.scope,
        "energy_inconclusive": energy.inconclusive,
    }
