"""Builders for what a plan is made from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from assay.controller.planning.plan import Plan, make_plan
from assay.controller.planning.spec import SweepSpec, check_spec
from assay.controller.records import (
    DatasetRecord,
    DeviceRecord,
    DeviceState,
    ResultRecord,
    StaticCost,
    VariantFile,
    VariantRecord,
)
from assay.core import digest
from assay.core.model import (
    MEDIA_NPZ,
    MEDIA_ONNX,
    MEDIA_TFLITE,
    Absent,
    ArtifactRef,
    CpuFacts,
    DeviceFacts,
    Failure,
    GoldenSpec,
    Provenance,
    Quality,
    Result,
    RunSpec,
    RuntimeFacts,
    Verdict,
    VerdictKind,
)


def ref(name: str, media: str = MEDIA_ONNX) -> ArtifactRef:
    """An artifact that exists by name only."""
    return ArtifactRef(digest.of_bytes(name.encode()), len(name), media)


def variant(name: str, *medias: str, model: str = "net") -> VariantRecord:
    """A variant with one file per media type (ONNX unless said)."""
    cost = StaticCost(1000, 1_000_000, 4000, 3000, {"Conv": 1})
    files = {
        media: VariantFile(
            ref(f"{name}/{media}", media),
            cost,
            GoldenSpec(ref(f"golden/{name}/{media}", MEDIA_NPZ), 1e-4, 1e-5),
        )
        for media in medias or (MEDIA_ONNX,)
    }
    return VariantRecord(
        digest.of_bytes(name.encode()), name, model, "digits", "built", {"name": name}, files, {}, 1
    )


def device(name: str = "bench", *runtimes: str, **labels: str) -> DeviceRecord:
    """An active device with these runtimes (both unless said)."""
    facts = DeviceFacts(
        board="Test Board",
        device_class="x86_64",
        cpu=CpuFacts("Test CPU", "x86_64"),
        memory_total_bytes=1 << 30,
        os="Test OS",
        kernel="6.1",
        governor=None,
        power_mode=None,
        boot_id="boot",
        agent_version="0.1.0",
        python_version="3.11",
        runtimes=tuple(
            RuntimeFacts(r, "1.0", ("CPU",)) for r in runtimes or ("onnxruntime", "litert")
        ),
    )
    return DeviceRecord(
        f"id-{name}", name, DeviceState.ACTIVE, "key", 1, 2, labels=labels, facts=facts
    )


DATASET = DatasetRecord(
    "digits", "test", ("a", "b"), {"test": ref("digits", MEDIA_NPZ)}, {"test": 10}, "{}", 1
)
CANARY = variant("canary", MEDIA_ONNX, MEDIA_TFLITE, model="canary")
VARIANTS = [variant("fp32", MEDIA_ONNX, MEDIA_TFLITE), variant("int8"), variant("pruned")]


def spec(**changes: Any) -> SweepSpec:
    """A checked sweep file over :data:`VARIANTS`, with top-level keys changed."""
    raw: dict[str, Any] = {
        "name": "lab",
        "dataset": "digits",
        "variants": ["*"],
        "baseline": "fp32",
        "runtimes": [{"name": "onnxruntime"}, {"name": "litert"}],
        "rounds": 3,
        "profile": "demo",
    }
    return check_spec(raw | changes, "sweep.toml")


def plan(made_from: SweepSpec | None = None, **changes: Any) -> Plan:
    """A plan of ``made_from`` (or of :func:`spec` with changes) on one device."""
    return make_plan(
        made_from or spec(**changes),
        sweep_id="s1",
        now_ns=1,
        dataset=DATASET,
        variants=VARIANTS,
        devices=[device()],
        canary=CANARY,
    )


def without_facts(record: DeviceRecord) -> DeviceRecord:
    """The same device before its first sync."""
    return replace(record, facts=None)


def record(run: RunSpec, kind: VerdictKind, failure: Failure | None = None) -> ResultRecord:
    """A result of ``run`` with this verdict; with its accuracy where the run asks for it."""
    facts = device().facts
    assert facts is not None
    result = Result(
        attempt_id=run.attempt_id,
        seq=1,
        round_id="r",
        sweep_id="s1",
        round_index=0,
        fence=1,
        run=run,
        verdict=Verdict(kind),
        latency=None,
        cold=None,
        memory=None,
        energy=Absent("no power sensor here"),
        quality=Quality("digits", 10, 0.9, None) if run.evaluate and failure is None else None,
        golden=None,
        conditions=None,
        provenance=Provenance("bench", facts, "1.0", 1, 10**9, "0.1.0"),
        environment={},
        factors={},
        failure=failure,
    )
    return ResultRecord(run.attempt_id, 1, "id-bench", "hash", False, 1, result)
