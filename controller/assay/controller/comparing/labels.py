"""Short names for what a cell is: the same words in tables, reports and Prometheus labels.

Bounded on purpose: they come from the sweep file and hold no id or digest.
"""

from __future__ import annotations

from assay.core.model import ArtifactRef, Mode, RuntimeSpec, Scenario


def scenario_label(scenario: Scenario) -> str:
    """``single_stream``, ``offline_32`` (batch), ``server_50qps``, ``single_stream_sustained``."""
    parts = [scenario.kind.value]
    if scenario.samples_per_query > 1:
        parts.append(str(scenario.samples_per_query))
    if scenario.target_qps is not None:
        parts.append(f"{scenario.target_qps:g}qps")
    if scenario.mode is not Mode.BURST:
        parts.append(scenario.mode.value)
    return "_".join(parts)


def runtime_label(runtime: RuntimeSpec) -> str:
    """``onnxruntime``; whatever a sweep can vary beside it follows, e.g. ``onnxruntime_4t``."""
    parts = [runtime.name]
    if runtime.version:
        parts.append(runtime.version)
    if runtime.provider:
        parts.append(runtime.provider)
    if runtime.threads != 1:
        parts.append(f"{runtime.threads}t")
    if not runtime.allow_spinning:
        parts.append("nospin")
    parts += [f"{key}={value}" for key, value in sorted(runtime.options.items())]
    return "_".join(parts)


def format_label(artifact: ArtifactRef) -> str:
    """``onnx`` or ``tflite``."""
    return artifact.media_type.rpartition("/")[2]
