"""Builders for what the controller's plane keeps and carries."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from assay.controller.records import (
    CellRecord,
    DatasetRecord,
    DeviceRecord,
    DeviceState,
    RoundRecord,
    RoundState,
    StaticCost,
    SweepRecord,
    SweepState,
    TokenRecord,
    VariantFile,
    VariantRecord,
)
from assay.core import digest
from assay.core.convert import to_bytes
from assay.core.model import (
    MEDIA_NPZ,
    MEDIA_ONNX,
    PROFILES,
    Absent,
    ArtifactRef,
    CpuFacts,
    DeviceFacts,
    Failure,
    FailureClass,
    GoldenSpec,
    InputSpec,
    Provenance,
    Result,
    Round,
    RunSpec,
    RuntimeFacts,
    RuntimeSpec,
    Scenario,
    Verdict,
    VerdictKind,
)

S = 1_000_000_000
SECRET_SHA256 = hashlib.sha256(b"secret").hexdigest()


def ref(content: str = "model", media_type: str = MEDIA_ONNX) -> ArtifactRef:
    """The artifact with this content."""
    return ArtifactRef(digest.of_bytes(content.encode()), len(content.encode()), media_type)


def facts(boot_id: str = "boot-1") -> DeviceFacts:
    """What a small board says about itself."""
    return DeviceFacts(
        board="Test Board",
        device_class="x86_64",
        cpu=CpuFacts("Test CPU", "x86_64", ("avx2",)),
        memory_total_bytes=1 << 30,
        os="Test OS",
        kernel="6.1",
        governor=None,
        power_mode=None,
        boot_id=boot_id,
        agent_version="0.1.0",
        python_version="3.11",
        runtimes=(RuntimeFacts("onnxruntime", "1.23", ("CPUExecutionProvider",)),),
        capabilities=("cpu:avx2",),
    )


def token(**changes: object) -> TokenRecord:
    """A token with one use, good until time 100."""
    return replace(TokenRecord("tok1", SECRET_SHA256, 1, 100, 1), **changes)  # type: ignore[arg-type]


def device(name: str = "bench", **changes: object) -> DeviceRecord:
    """An active device that has not synced yet."""
    key = hashlib.sha256(name.encode()).hexdigest()
    record = DeviceRecord(f"id-{name}", name, DeviceState.ACTIVE, key, 1, 10**18)
    return replace(record, **changes)  # type: ignore[arg-type]


def dataset(name: str = "digits", content: str = "x") -> DatasetRecord:
    """Ten samples of two classes."""
    splits = {"test": ref(content, MEDIA_NPZ)}
    return DatasetRecord(name, "made here", ("a", "b"), splits, {"test": 10}, "{}", 1)


def variant(name: str = "fp32", media_type: str = MEDIA_ONNX, identity: str = "") -> VariantRecord:
    """A variant in one file."""
    identity = identity or name
    cost = StaticCost(1000, None, 4000, 3000, {"Conv": 3})
    golden = GoldenSpec(ref(f"golden {identity}", MEDIA_NPZ), 1e-4, 1e-5)
    file = VariantFile(ref(f"{identity} {media_type}", media_type), cost, golden)
    return VariantRecord(
        variant_id=digest.of_bytes(identity.encode()),
        name=name,
        model="net",
        dataset="digits",
        origin="built",
        identity={"model": "net", "seeds": [1, 2], "name": identity},
        files={media_type: file},
        notes={"loss": "0.1"},
        created_ns=5,
    )


def run(name: str = "fp32", attempt_id: str = "") -> RunSpec:
    """One run of a small model."""
    return RunSpec(
        attempt_id=attempt_id,
        cell_key=digest.of_bytes(name.encode()),
        variant_id=digest.of_bytes(name.encode()),
        variant_name=name,
        artifact=ref(f"model {name}"),
        runtime=RuntimeSpec("onnxruntime", options={"a": "b"}),
        scenario=Scenario(),
        profile=PROFILES["demo"],
        inputs=InputSpec("digits", ref("digits", MEDIA_NPZ)),
        golden=GoldenSpec(ref(f"golden {name}", MEDIA_NPZ), 1e-4, 1e-5),
    )


def sweep(sweep_id: str = "s1", **changes: object) -> SweepRecord:
    """A running sweep that wants one round of each group."""
    record = SweepRecord(sweep_id, f"sweep {sweep_id}", "{}", 7, 1, SweepState.RUNNING, 1)
    return replace(record, **changes)  # type: ignore[arg-type]


def cell(name: str = "fp32", sweep_id: str = "s1", device_id: str = "id-bench") -> CellRecord:
    """The cell of :func:`run`."""
    spec = run(name)
    return CellRecord(spec.cell_key, sweep_id, device_id, "g", spec, name == "fp32")


def queued(
    round_id: str = "r0",
    *names: str,
    sweep_id: str = "s1",
    device_id: str = "id-bench",
    index: int = 0,
) -> RoundRecord:
    """A round of one run per name (two unless said)."""
    runs = tuple(run(name) for name in names or ("fp32", "int8"))
    return RoundRecord(round_id, sweep_id, device_id, "g", index, RoundState.QUEUED, 0, runs)


def result(granted: Round, position: int = 0, *, seq: int = 1, note: str = "") -> Result:
    """A failed run of ``granted``; results with another ``note`` have other bytes."""
    spec = granted.runs[position]
    return Result(
        attempt_id=spec.attempt_id,
        seq=seq,
        round_id=granted.round_id,
        sweep_id=granted.sweep_id,
        round_index=granted.index,
        fence=granted.fence,
        run=spec,
        verdict=Verdict(VerdictKind.INVALID),
        latency=None,
        cold=None,
        memory=None,
        energy=Absent("no power sensor here"),
        quality=None,
        golden=None,
        conditions=None,
        provenance=Provenance("bench", facts(), "1.23", 1, S, "0.1.0"),
        environment={"cpu": "Test CPU"},
        factors={},
        failure=Failure(FailureClass.INFRA, "worker_crashed", note),
    )


def reported(value: Result) -> tuple[str, int, str, bytes]:
    """``value`` as it lies in a spool: (attempt_id, seq, sha256, body)."""
    body = to_bytes(value)
    return value.attempt_id, value.seq, hashlib.sha256(body).hexdigest(), body
