"""The words both sides share, as frozen values.

Each class here mirrors the message of the same name in ``assay.v1``, field by field;
:mod:`assay.core.convert` moves between the two and is the only module that knows both. Units
stand in the names: ``_ns`` nanoseconds, ``_bytes``, ``_hz``, ``_c`` degrees Celsius, ``_w`` watts,
``_j`` joules. ``None`` means "not there"; where the reason for an absence matters the value is an
:class:`Absent` instead.
"""

from assay.core.model.artifact import (
    MEDIA_NCNN,
    MEDIA_NPZ,
    MEDIA_ONNX,
    MEDIA_TFLITE,
    MEDIA_TORCH,
    ArtifactRef,
)
from assay.core.model.device import (
    Absent,
    CpuCluster,
    CpuFacts,
    DeviceFacts,
    RuntimeFacts,
    SamplerFacts,
)
from assay.core.model.job import (
    GoldenSpec,
    InputSpec,
    Mode,
    Profile,
    Round,
    RunSpec,
    RuntimeSpec,
    Scenario,
    ScenarioKind,
)
from assay.core.model.profiles import LONGEST_QUIET_NS, PROFILES
from assay.core.model.result import (
    ColdStart,
    Conditions,
    Energy,
    Failure,
    FailureClass,
    Fidelity,
    GoldenCheck,
    Isolation,
    Latency,
    MemorySplit,
    PowerTier,
    Provenance,
    Quality,
    Reason,
    Result,
    Verdict,
    VerdictKind,
)
from assay.core.model.worker import WorkerOrder, WorkerReport

__all__ = [
    "LONGEST_QUIET_NS",
    "MEDIA_NCNN",
    "MEDIA_NPZ",
    "MEDIA_ONNX",
    "MEDIA_TFLITE",
    "MEDIA_TORCH",
    "PROFILES",
    "Absent",
    "ArtifactRef",
    "ColdStart",
    "Conditions",
    "CpuCluster",
    "CpuFacts",
    "DeviceFacts",
    "Energy",
    "Failure",
    "FailureClass",
    "Fidelity",
    "GoldenCheck",
    "GoldenSpec",
    "InputSpec",
    "Isolation",
    "Latency",
    "MemorySplit",
    "Mode",
    "PowerTier",
    "Profile",
    "Provenance",
    "Quality",
    "Reason",
    "Result",
    "Round",
    "RunSpec",
    "RuntimeFacts",
    "RuntimeSpec",
    "SamplerFacts",
    "Scenario",
    "ScenarioKind",
    "Verdict",
    "VerdictKind",
    "WorkerOrder",
    "WorkerReport",
]
