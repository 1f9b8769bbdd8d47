"""The two keys of a result: what must match before it is compared, and what may differ.

Results whose environments differ are not compared (the controller refuses by name); factors are
what a comparison is about and are always listed. docs/measurement.md, "Two keys".
"""

from __future__ import annotations

from collections.abc import Mapping

from assay.core.model import DeviceFacts, Isolation, Mode, RunSpec, Scenario, WorkerReport
from assay.core.version import __version__

METHOD = "blocks-1"
"""Names the way of measuring; it changes when a number would come out differently."""


def environment_of(
    run: RunSpec,
    device: DeviceFacts,
    device_name: str,
    isolation: Isolation,
    report: WorkerReport | None,
) -> Mapping[str, str]:
    """What must match; a run without a number has no fidelity, and between two runtimes it need not
    match (docs/decisions/fidelity.md)."""
    latency = report.latency if report is not None else None
    return {
        "device": device_name,
        "power_mode": device.power_mode or "none",
        "governor": device.governor or "none",
        "isolation": isolation.value,
        "fidelity": latency.fidelity.value if latency is not None else "",
        "scenario": run.scenario.kind.value,
        "pacing": _pacing(run.scenario),
        "method": METHOD,
        "dataset": run.inputs.dataset,
        "harness": __version__.partition(".")[0],
    }


def factors_of(run: RunSpec, report: WorkerReport | None) -> Mapping[str, str]:
    """What may differ; what only the loaded model could tell is empty where it was not loaded."""
    notes = report.notes if report is not None else {}
    version = report.runtime_version if report is not None else ""
    latency = report.latency if report is not None else None
    return {
        "variant": run.variant_name,
        "precision": notes.get("precision", ""),
        "input": notes.get("input", ""),
        "runtime": f"{run.runtime.name} {version or run.runtime.version}".strip(),
        "provider": run.runtime.provider or "default",
        "threads": str(run.runtime.threads),
        "spinning": "yes" if run.runtime.allow_spinning else "no",
        "options": " ".join(f"{k}={v}" for k, v in sorted(run.runtime.options.items())),
        "fidelity": latency.fidelity.value if latency is not None else "",
        "batch": notes.get("samples_per_query") or str(run.scenario.samples_per_query),
    }


def _pacing(scenario: Scenario) -> str:
    """The mode, and the rate where one is set: 10 and 100 queries a second do not compare."""
    rate = f" {scenario.target_qps:g}/s" if scenario.target_qps is not None else ""
    return scenario.mode.value + (rate if scenario.mode is Mode.PACED or rate else "")
