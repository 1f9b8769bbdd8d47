"""Work as data: what a device is asked to measure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.core.model.artifact import ArtifactRef


class ScenarioKind(enum.Enum):
    """MLPerf's scenarios."""

    SINGLE_STREAM = "single_stream"
    MULTI_STREAM = "multi_stream"
    OFFLINE = "offline"
    SERVER = "server"


class Mode(enum.Enum):
    """How long and how hard the device is driven."""

    BURST = "burst"
    SUSTAINED = "sustained"
    PACED = "paced"


@dataclass(frozen=True, slots=True)
class Scenario:
    """How queries arrive; ``target_qps`` only for SERVER and PACED."""

    kind: ScenarioKind = ScenarioKind.SINGLE_STREAM
    mode: Mode = Mode.BURST
    samples_per_query: int = 1
    target_qps: float | None = None


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """Which runtime runs the model, and how; an empty ``version`` or ``provider`` means any."""

    name: str
    version: str = ""
    provider: str = ""
    threads: int = 1
    allow_spinning: bool = True
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """When warm-up ends and when a run may stop; see docs/measurement.md."""

    name: str
    warmup_min_ns: int
    warmup_block_ns: int
    warmup_block_queries: int
    warmup_max_ns: int
    t_min_ns: int
    t_max_ns: int
    highest_percentile: float
    half_width_target: float
    settle_max_ns: int


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Samples: an .npz with ``x`` (N, ...) and, where there are labels, ``y`` (N,); or an array for
    each of the model's inputs, by name.

    ``state`` maps inputs to the outputs they get from query to query. ``made_json`` says how the
    values were made, where they were.
    """

    dataset: str
    artifact: ArtifactRef
    preprocessing_json: str = "{}"
    state: Mapping[str, str] = field(default_factory=dict)
    made_json: str = ""


@dataclass(frozen=True, slots=True)
class GoldenSpec:
    """Outputs of the reference run of the same artifact: ``x``, ``output_0``, ``output_1``, ..."""

    artifact: ArtifactRef
    rtol: float
    atol: float


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One variant in one runtime under one scenario, in a fresh worker process."""

    attempt_id: str
    cell_key: str
    variant_id: str
    variant_name: str
    artifact: ArtifactRef
    runtime: RuntimeSpec
    scenario: Scenario
    profile: Profile
    inputs: InputSpec
    golden: GoldenSpec | None = None
    evaluate: bool = False
    canary: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """What one lease grants: an ordered list of runs on one device."""

    round_id: str
    sweep_id: str
    sweep_name: str
    index: int
    fence: int
    lease_ns: int
    runs: tuple[RunSpec, ...]
    fetch_ns: int = 0
    start_ns: int = 0
