"""What a run yielded."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.core.model.artifact import ArtifactRef
from assay.core.model.device import Absent, DeviceFacts
from assay.core.model.job import RunSpec


class VerdictKind(enum.Enum):
    """Whether a number holds. Only VALID ranks."""

    VALID = "valid"
    SUSPECT = "suspect"
    INVALID = "invalid"


class Fidelity(enum.Enum):
    """How close to the metal the timed call was."""

    NATIVE_LOOP = "native_loop"
    RAW_BINDING = "raw_binding"
    PUBLIC_API = "public_api"
    EXTERNAL_BINARY = "external_binary"


class Isolation(enum.Enum):
    """What kept other work away from the measured cores."""

    NONE = "none"
    PINNED = "pinned"
    FIFO_PINNED = "fifo_pinned"


class PowerTier(enum.Enum):
    """Where a power reading comes from, worst first."""

    NONE = "none"
    BATTERY_GAUGE = "battery_gauge"
    BOARD_SENSOR = "board_sensor"
    EXTERNAL_METER = "external_meter"


class FailureClass(enum.Enum):
    """Who is at fault decides whether a run is tried again."""

    INFRA = "infra"
    MODEL = "model"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a result is not VALID: ``hard`` makes it INVALID, else SUSPECT."""

    code: str
    hard: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A kind and every reason that led to it, hard ones first."""

    kind: VerdictKind
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Latency:
    """Exact statistics over the raw samples; a percentile with too few samples is None.

    ``early_stopping_ns`` holds, by "p50", "p90", ..., a value the true percentile lies below with
    99 % confidence (MLPerf's early stopping).
    """

    n: int
    p50_ns: float
    p50_low_ns: float
    p50_high_ns: float
    p90_ns: float | None
    p95_ns: float | None
    p99_ns: float | None
    p999_ns: float | None
    mean_ns: float
    min_ns: float
    max_ns: float
    mad_ns: float
    cv: float
    outliers: int
    fidelity: Fidelity
    harness_floor_ns: float
    binding_floor_ns: float | None
    duration_ns: int
    response_time: bool = False
    early_stopping_ns: Mapping[str, float] = field(default_factory=dict)
    outlier_time_share: float = 0.0


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One-off times of the fresh process."""

    load_ns: int
    first_inference_ns: int
    page_cache: str = "unknown"


@dataclass(frozen=True, slots=True)
class MemorySplit:
    """Bytes; a part that could not be measured is None and named in ``absent_reason``."""

    runtime_base_bytes: int | None = None
    model_load_bytes: int | None = None
    infer_peak_bytes: int | None = None
    process_peak_bytes: int | None = None
    pss_bytes: int | None = None
    absent_reason: str = ""


@dataclass(frozen=True, slots=True)
class Energy:
    """Joules per inference with standard uncertainties (shown as two of them)."""

    tier: PowerTier
    source: str
    scope: str
    total_j: float
    dynamic_j: float
    total_u_j: float
    dynamic_u_j: float
    idle_w: float
    active_w: float
    distinct_readings: int
    inconclusive: bool = False


@dataclass(frozen=True, slots=True)
class Quality:
    """Accuracy on the device with the same artifact; ``top5`` is None below six classes."""

    dataset: str
    n: int
    top1: float
    top5: float | None
    per_class: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """How far the outputs lie from the reference run of the same artifact."""

    n: int
    max_abs_error: float
    within_tolerance: bool


@dataclass(frozen=True, slots=True)
class Conditions:
    """State of the board around the timed part."""

    isolation: Isolation
    measure_cpus: tuple[int, ...] = ()
    housekeeping_cpus: tuple[int, ...] = ()
    temperature_start_c: float | None = None
    temperature_end_c: float | None = None
    temperature_max_c: float | None = None
    clock_median_hz: float | None = None
    clock_min_hz: float | None = None
    settle_ns: int = 0
    warmup_ns: int = 0
    warmup_queries: int = 0
    wall_per_cpu: float = 0.0
    involuntary_switches: int = 0
    major_faults: int = 0
    steal_share: float | None = None
    psi_cpu_some_share: float | None = None
    drift: float = 0.0
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a result comes from; ``started_unix_ns`` is for people, never for ordering."""

    device_name: str
    device: DeviceFacts
    runtime_version: str
    started_unix_ns: int
    duration_ns: int
    harness_version: str
    placement: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run gave no number; ``code`` is one of :data:`assay.core.errors.TABLE`."""

    failure_class: FailureClass
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """One attempt's outcome. Its serialised bytes are spooled, sent and stored verbatim."""

    attempt_id: str
    seq: int
    round_id: str
    sweep_id: str
    round_index: int
    fence: int
    run: RunSpec
    verdict: Verdict
    latency: Latency | None
    cold: ColdStart | None
    memory: MemorySplit | None
    energy: Energy | Absent
    quality: Quality | None
    golden: GoldenCheck | None
    conditions: Conditions | None
    provenance: Provenance
    environment: Mapping[str, str]
    factors: Mapping[str, str]
    trace: ArtifactRef | None = None
    failure: Failure | None = None
