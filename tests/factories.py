"""Builders of realistic records: results as a board would send them, and whole sweeps of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.controller.comparing.sweep_data import SweepData
from assay.controller.metrics.vitals import Vitals
from assay.controller.records import (
    CellRecord,
    DatasetRecord,
    DeviceRecord,
    DeviceState,
    ResultRecord,
    RoundRecord,
    RoundState,
    StaticCost,
    SweepMarks,
    SweepRecord,
    SweepState,
    VariantFile,
    VariantRecord,
)
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.convert import to_bytes
from assay.core.errors import NotFound
from assay.core.model import (
    MEDIA_NPZ,
    MEDIA_ONNX,
    MEDIA_TFLITE,
    PROFILES,
    Absent,
    ArtifactRef,
    ColdStart,
    Conditions,
    CpuCluster,
    CpuFacts,
    DeviceFacts,
    Energy,
    Failure,
    FailureClass,
    Fidelity,
    GoldenCheck,
    InputSpec,
    Isolation,
    Latency,
    MemorySplit,
    PowerTier,
    Provenance,
    Quality,
    Reason,
    Result,
    RunSpec,
    RuntimeFacts,
    RuntimeSpec,
    SamplerFacts,
    Scenario,
    Verdict,
    VerdictKind,
)
from assay.core.trace import Series, Trace, write_trace

T0_NS = 1_760_000_000_000_000_000  # 2025-10-09T08:53:20Z
SECOND_NS = 1_000_000_000
MEDIA = {"onnxruntime": MEDIA_ONNX, "litert": MEDIA_TFLITE}
VERSIONS = {"onnxruntime": "1.32.0", "litert": "2.3.0"}
VALID = Verdict(VerdictKind.VALID)
SUSPECT = Verdict(VerdictKind.SUSPECT, (Reason("steal", False, "steal 3.1 % of the timed part"),))
INVALID = Verdict(
    VerdictKind.INVALID,
    (
        Reason("cpu_contended", True, "wall/cpu 1.31, at most 1.02 is fair"),
        Reason("drift", False, "drift +4.1 %"),
    ),
)


def artifact(name: str, media: str, size_bytes: int = 100_000) -> ArtifactRef:
    """An artifact that exists by name only."""
    return ArtifactRef(digest.of_bytes(f"{name}/{media}".encode()), size_bytes, media)


def make_facts(device_class: str = "rpi5", **changes: Any) -> DeviceFacts:
    """What a Raspberry Pi 5 would say of itself."""
    facts = DeviceFacts(
        board="Raspberry Pi 5 Model B Rev 1.0",
        device_class=device_class,
        cpu=CpuFacts(
            "Cortex-A76",
            "aarch64",
            ("asimd", "asimddp", "fp16"),
            (CpuCluster((0, 1, 2, 3), 2_400_000_000),),
        ),
        memory_total_bytes=8_455_000_000,
        os="Debian GNU/Linux 12 (bookworm)",
        kernel="6.6.51+rpt-rpi-2712",
        governor="performance",
        power_mode=None,
        boot_id="0b2c9f5e",
        agent_version="0.1.0",
        python_version="3.11.2",
        runtimes=tuple(RuntimeFacts(name, version, ("CPU",)) for name, version in VERSIONS.items()),
        samplers=(
            SamplerFacts("memory", "B"),
            SamplerFacts("cpufreq", "Hz"),
            SamplerFacts("thermal", "C"),
            SamplerFacts("hwmon_power", "W", "no power sensor in /sys/class/hwmon"),
        ),
    )
    return replace(facts, **changes)


def make_device(name: str = "pi-bench-1", **changes: Any) -> DeviceRecord:
    """An enrolled, active device."""
    device = DeviceRecord(
        device_id=f"id-{name}",
        name=name,
        state=DeviceState.ACTIVE,
        key_sha256=digest.of_bytes(name.encode()),
        enrolled_ns=T0_NS,
        certificate_not_after_ns=T0_NS + 30 * 86_400 * SECOND_NS,
        facts=make_facts(),
        last_seen_ns=T0_NS + 600 * SECOND_NS,
    )
    return replace(device, **changes)


def make_vitals(**changes: Any) -> Vitals:
    """A healthy device's newest Sync, in the middle of a measurement."""
    vitals = Vitals(
        seen_ns=T0_NS + 700 * 10**9,
        quiet_until_ns=0,
        temperature_c=51.5,
        memory_available_bytes=6e9,
        disk_free_bytes=2e10,
        spool_entries=3,
        spool_bytes=4096,
        throttled=False,
        accepting=True,
        doing="measuring",
    )
    return replace(vitals, **changes)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a made-up variant is like: sizes by runtime, its speed and its accuracy."""

    name: str
    bytes_by_runtime: Mapping[str, int]
    macs: int
    p50_ns: float
    accuracy: float
    summary: str = ""
    recipe: tuple[Mapping[str, object], ...] = ()


SHAPES = (
    Shape(
        "fp32",
        {"onnxruntime": 312_400, "litert": 318_900},
        12_530_000,
        1_240_000,
        0.9131,
        "The trained network as it is",
    ),
    Shape(
        "fp16",
        {"onnxruntime": 158_100, "litert": 161_700},
        12_530_000,
        1_238_000,
        0.9131,
        "Weights and arithmetic in half precision",
        ({"use": "fp16", "version": 1},),
    ),
    Shape(
        "int8-dynamic",
        {"onnxruntime": 96_200, "litert": 92_100},
        12_530_000,
        1_410_000,
        0.9102,
        "int8 weights; activations quantised while running",
        ({"use": "int8_dynamic", "version": 1},),
    ),
    Shape(
        "int8-static",
        {"onnxruntime": 94_700, "litert": 91_000},
        12_530_000,
        508_000,
        0.9087,
        "int8 weights and activations, calibrated",
        ({"use": "int8_static", "version": 1, "samples": 256},),
    ),
    Shape(
        "int8-static-reduced",
        {"onnxruntime": 94_700},
        12_530_000,
        521_000,
        0.9049,
        "int8-static with weights of 7 bits",
        ({"use": "int8_static", "samples": 256, "reduce_range": True},),
    ),
    Shape(
        "pruned-50",
        {"onnxruntime": 121_000, "litert": 124_200},
        6_240_000,
        734_000,
        0.9078,
        "Filters pruned to half the MACs, then fine-tuned",
        (
            {"use": "prune", "criterion": "l1", "macs_ratio": 0.5},
            {"use": "train", "samples": 20_000},
        ),
    ),
    Shape(
        "tucker",
        {"onnxruntime": 140_000},
        5_610_000,
        902_000,
        0.9064,
        "Convolutions factored to half the MACs, then fine-tuned",
        ({"use": "tucker2", "macs_ratio": 0.5}, {"use": "train", "samples": 20_000}),
    ),
    Shape(
        "student",
        {"onnxruntime": 61_200, "litert": 63_900},
        2_870_000,
        388_000,
        0.8951,
        "Half the channels, taught by the baseline",
        ({"use": "narrow", "width": 0.5}, {"use": "distil", "temperature": 4.0}),
    ),
    Shape(
        "separable",
        {"onnxruntime": 52_800},
        1_920_000,
        412_000,
        0.9012,
        "Depthwise separable convolutions, trained from scratch",
        ({"use": "separate", "version": 1},),
    ),
    Shape(
        "control",
        {"onnxruntime": 312_400},
        12_530_000,
        1_243_000,
        0.9139,
        "The baseline fine-tuned for the same budget, uncompressed",
        ({"use": "train", "samples": 20_000, "rate": 0.05},),
    ),
)


def make_variant(shape: Shape = SHAPES[0], model: str = "resnet8") -> VariantRecord:
    """A built variant with one file per runtime its shape has a size for."""
    train = {"use": "train", "version": 1, "samples": 59_744, "batch": 64, "rate": 0.1}
    identity = {
        "name": shape.name,
        "network": {
            "model": model,
            "seed": 20,
            "train": digest.of_bytes(b"fashion-mnist-train"),
            "tools": {"torch": "2.13.0"},
        },
        "pipeline": [train, *shape.recipe],
        "calibration": digest.of_bytes(b"fashion-mnist-calibration"),
        "export_version": 1,
        "tools": {"onnx": "1.23.2", "torch": "2.13.0", "litert-torch": ""},
    }
    files = {
        MEDIA[runtime]: VariantFile(
            artifact(shape.name, MEDIA[runtime], size),
            StaticCost(
                parameters=size // 4,
                macs=shape.macs,
                file_bytes=size,
                transfer_bytes=int(size * 0.92),
                operators={"Conv": 9, "Relu": 8, "Add": 3, "Gemm": 1},
            ),
        )
        for runtime, size in shape.bytes_by_runtime.items()
    }
    return VariantRecord(
        variant_id=digest.of_json(identity),
        name=shape.name,
        model=model,
        dataset="fashion-mnist",
        origin="recipe",
        identity=identity,
        files=files,
        notes={"summary": shape.summary, "final_loss": "0.2310", "controller_top1": "0.9131"},
        created_ns=T0_NS,
    )


DATASET = DatasetRecord(
    name="fashion-mnist",
    source="Debian package dataset-fashion-mnist",
    classes=tuple(f"class {label}" for label in range(10)),
    splits={"test": artifact("fashion-mnist-test", MEDIA_NPZ, 31_400_000)},
    counts={"test": 10_000},
    preprocessing_json="{}",
    added_ns=T0_NS,
)


def make_cell(
    variant: VariantRecord | None = None,
    *,
    runtime: str = "onnxruntime",
    device: DeviceRecord | None = None,
    sweep_id: str = "s1",
    baseline: bool = False,
    canary: bool = False,
    threads: int = 1,
    scenario: Scenario | None = None,
) -> CellRecord:
    """A cell of ``variant`` (fp32 unless given) in one runtime on one device."""
    variant = variant or make_variant()
    device = device or make_device()
    scenario = scenario or Scenario()
    run = RunSpec(
        attempt_id="",
        cell_key=digest.of_json(
            [variant.variant_id, runtime, threads, device.device_id, repr(scenario)]
        ),
        variant_id=variant.variant_id,
        variant_name=variant.name,
        artifact=variant.files[MEDIA[runtime]].artifact,
        runtime=RuntimeSpec(runtime, threads=threads),
        scenario=scenario,
        profile=PROFILES["demo"],
        inputs=InputSpec("fashion-mnist", DATASET.splits["test"]),
        canary=canary,
    )
    group = f"{device.name}/{scenario.kind.value}/{scenario.samples_per_query}"
    return CellRecord(run.cell_key, sweep_id, device.device_id, group, run, baseline)


def make_latency(p50_ns: float = 1_240_000.0, **changes: Any) -> Latency:
    """Statistics that hang together around a median."""
    latency = Latency(
        n=int(2e9 / p50_ns),
        p50_ns=p50_ns,
        p50_low_ns=p50_ns * 0.997,
        p50_high_ns=p50_ns * 1.003,
        p90_ns=p50_ns * 1.04,
        p95_ns=p50_ns * 1.07,
        p99_ns=p50_ns * 1.21,
        p999_ns=None,
        mean_ns=p50_ns * 1.012,
        min_ns=p50_ns * 0.98,
        max_ns=p50_ns * 2.4,
        mad_ns=p50_ns * 0.008,
        cv=0.03,
        outliers=2,
        fidelity=Fidelity.RAW_BINDING,
        harness_floor_ns=92.0,
        binding_floor_ns=2_870.0,
        duration_ns=2 * SECOND_NS,
    )
    return replace(latency, **changes)


def make_energy(total_j: float = 0.0041, **changes: Any) -> Energy:
    """A board sensor's reading."""
    energy = Energy(
        tier=PowerTier.BOARD_SENSOR,
        source="ina3221/VDD_IN",
        scope="board_input",
        total_j=total_j,
        dynamic_j=total_j * 0.45,
        total_u_j=total_j * 0.012,
        dynamic_u_j=total_j * 0.02,
        idle_w=2.9,
        active_w=5.1,
        distinct_readings=240,
    )
    return replace(energy, **changes)


def make_result(
    cell: CellRecord | None = None,
    *,
    round_index: int = 0,
    p50_ns: float = 1_240_000.0,
    verdict: Verdict = VALID,
    accuracy: float | None = 0.9131,
    trace: ArtifactRef | None = None,
    device: DeviceRecord | None = None,
    **changes: Any,
) -> ResultRecord:
    """A stored result of ``cell`` (fp32 in onnxruntime unless given); ``changes`` are to its
    :class:`Result`."""
    cell = cell or make_cell(baseline=True)
    device = device or make_device(cell.device_id.removeprefix("id-"))
    assert device.facts is not None
    round_id = f"{cell.sweep_id}-{cell.group.replace('/', '-')}-{round_index}"
    attempt_id = f"{round_id}.1.{cell.cell_key[7:15]}"
    result = Result(
        attempt_id=attempt_id,
        seq=1,
        round_id=round_id,
        sweep_id=cell.sweep_id,
        round_index=round_index,
        fence=1,
        run=replace(cell.run, attempt_id=attempt_id, evaluate=accuracy is not None),
        verdict=verdict,
        latency=make_latency(p50_ns),
        cold=ColdStart(load_ns=int(21e6), first_inference_ns=int(p50_ns * 3.1), page_cache="warm"),
        memory=MemorySplit(
            runtime_base_bytes=48_300_000,
            model_load_bytes=3 * cell.run.artifact.size_bytes + 1_900_000,
            infer_peak_bytes=2_100_000,
            process_peak_bytes=53_000_000 + 3 * cell.run.artifact.size_bytes,
            pss_bytes=51_000_000,
        ),
        energy=Absent("no power sensor in /sys/class/hwmon"),
        quality=None
        if accuracy is None
        else Quality("fashion-mnist", 10_000, accuracy, 0.997, (accuracy,) * 10),
        golden=GoldenCheck(16, 3.1e-6, True),
        conditions=_conditions(p50_ns),
        provenance=Provenance(
            device_name=device.name,
            device=device.facts,
            runtime_version=VERSIONS[cell.run.runtime.name],
            started_unix_ns=T0_NS + round_index * 60 * SECOND_NS,
            duration_ns=7 * SECOND_NS,
            harness_version="0.1.0",
            placement=("CPU: all 21 operators",),
        ),
        environment={
            "device": device.name,
            "governor": "performance",
            "isolation": "pinned",
            "fidelity": "raw_binding",
            "scenario": cell.run.scenario.kind.value,
            "dataset": "fashion-mnist",
            "harness": "0",
        },
        factors={"variant": cell.run.variant_name, "runtime": cell.run.runtime.name},
        trace=trace,
    )
    result = replace(result, **changes)
    body = to_bytes(result)
    return ResultRecord(
        attempt_id=attempt_id,
        seq=1,
        device_id=cell.device_id,
        sha256=digest.hex_of(digest.of_bytes(body)),
        superseded=False,
        recorded_ns=T0_NS + round_index * 60 * SECOND_NS + 1,
        result=result,
    )


def make_failure(cell: CellRecord, *, round_index: int = 0) -> ResultRecord:
    """A run the runtime refused."""
    return make_result(
        cell,
        round_index=round_index,
        accuracy=None,
        verdict=Verdict(VerdictKind.INVALID),
        latency=None,
        cold=None,
        memory=None,
        golden=None,
        conditions=None,
        failure=Failure(
            FailureClass.MODEL, "runtime_rejected", "onnxruntime: NOT_IMPLEMENTED: ConvInteger(10)"
        ),
    )


def make_trace(p50_ns: float, *, seed: int = 0, n: int = 1600, with_series: bool = True) -> Trace:
    """Latencies with a heavy right tail around a median, and sensors beside them."""
    rng = np.random.default_rng(seed)
    samples = p50_ns * np.exp(rng.normal(0, 0.012, n)) + p50_ns * rng.pareto(6, n) * 0.03
    slow = rng.random(n) < 0.004
    samples[slow] *= rng.uniform(1.3, 2.2, int(slow.sum()))
    latency_ns = (samples * p50_ns / np.median(samples)).astype(np.int64)
    start = 5_000 * SECOND_NS
    t_ns = start + np.arange(0, int(latency_ns.sum()), SECOND_NS // 5, dtype=np.int64)
    series = {
        "thermal/cpu-thermal": Series(t_ns, 48 + 3 * (1 - np.exp(-np.arange(len(t_ns)) / 6.0))),
        "cpufreq/policy0": Series(t_ns, np.full(len(t_ns), 2.4e9)),
    }
    return Trace(
        latency_ns=latency_ns,
        block_start_ns=np.array([start], dtype=np.int64),
        block_queries=np.array([n], dtype=np.int64),
        predictions=rng.integers(0, 10, 100, dtype=np.int32),
        series=series if with_series else {},
    )


def store_trace(blobs: ContentStore, scratch: Path, trace: Trace) -> ArtifactRef:
    """Puts a trace into a content store."""
    path = scratch / "trace.npz"
    write_trace(path, trace)
    return blobs.add_file(path, MEDIA_NPZ)


def make_sweep(
    *,
    shapes: Sequence[Shape] = SHAPES,
    devices: Sequence[DeviceRecord] = (),
    runtimes: Sequence[str] = ("onnxruntime", "litert"),
    rounds: int = 3,
    seed: int = 1,
    noise: float = 0.008,
    blobs: ContentStore | None = None,
    scratch: Path | None = None,
    samples: int = 1600,
    spoil: bool = True,
) -> SweepData:
    """A sweep as a quiet board would give it; with ``spoil`` some results are not VALID.

    With ``blobs`` (and a ``scratch`` directory) every result has a trace of ``samples`` latencies.
    """
    rng = np.random.default_rng(seed)
    devices = list(devices) or [make_device()]
    variants = [make_variant(shape) for shape in shapes]
    canary = make_variant(
        Shape("canary", {"onnxruntime": 9_100, "litert": 9_400}, 900_000, 990_000, 0.0), "canary"
    )
    cells: list[CellRecord] = []
    results: list[ResultRecord] = []
    for device in devices:
        for runtime in runtimes:
            for shape, variant in zip(shapes, variants, strict=True):
                if runtime in shape.bytes_by_runtime:
                    cells.append(
                        make_cell(
                            variant, runtime=runtime, device=device, baseline=shape is shapes[0]
                        )
                    )
            cells.append(make_cell(canary, runtime=runtime, device=device, canary=True))
    speed = {s.name: s for s in [*shapes, Shape("canary", {}, 0, 990_000, 0.0)]}
    for number, cell in enumerate(cells):
        shape = speed[cell.run.variant_name]
        factor = {"onnxruntime": 1.0, "litert": 0.88}[cell.run.runtime.name]
        for index in range(rounds):
            p50 = shape.p50_ns * factor * float(np.exp(rng.normal(0, noise)))
            verdict = _spoiled(cell, number, index) if spoil else VALID
            if spoil and cell.run.variant_name == "int8-dynamic" and number < 4:
                results.append(make_failure(cell, round_index=index))
                continue
            trace = None
            if blobs is not None and scratch is not None and not cell.run.canary:
                trace = store_trace(
                    blobs, scratch, make_trace(p50, seed=number * 100 + index, n=samples)
                )
            accuracy = shape.accuracy if index == 0 and not cell.run.canary else None
            results.append(
                make_result(
                    cell,
                    round_index=index,
                    p50_ns=p50,
                    verdict=verdict,
                    accuracy=accuracy,
                    trace=trace,
                )
            )
    return SweepData(
        sweep=make_sweep_record(rounds),
        cells=tuple(cells),
        rounds=tuple(_rounds(cells, rounds)),
        results=tuple(sorted(results, key=lambda r: r.recorded_ns)),
        variants={v.variant_id: v for v in [*variants, canary]},
        devices={d.device_id: d for d in devices},
        dataset=DATASET,
    )


def unlike(data: SweepData) -> SweepData:
    """Half of the variants under another governor, and one cell's runtime upgraded midway."""
    moved = sorted({r.result.run.variant_name for r in data.results})[::2]

    def changed(record: ResultRecord) -> ResultRecord:
        result = record.result
        name, index = result.run.variant_name, result.round_index
        governor = "ondemand" if name in moved else "performance"
        runtime = "onnxruntime 1.31.0" if (name, index) == ("fp32", 0) else "onnxruntime 1.32.0"
        return replace(
            record,
            result=replace(
                result,
                environment={**result.environment, "governor": governor},
                factors={**result.factors, "runtime": runtime},
            ),
        )

    return replace(data, results=tuple(changed(r) for r in data.results))


def make_sweep_record(rounds: int = 3, **changes: Any) -> SweepRecord:
    """A finished sweep."""
    spec = {
        "name": "demo",
        "dataset": "fashion-mnist",
        "models": ["resnet8"],
        "baseline": "fp32",
        "runtimes": [{"name": "onnxruntime", "threads": [1]}, {"name": "litert", "threads": [1]}],
        "profile": "demo",
        "rounds": rounds,
        "seed": 20,
    }
    record = SweepRecord("s1", "demo", json.dumps(spec), 20, rounds, SweepState.DONE, T0_NS)
    return replace(record, **changes)


class FakeStore:
    """The reading half of a store, over values; :meth:`put` adds a sweep."""

    def __init__(self, *sweeps: SweepData) -> None:
        self.held: dict[str, SweepData] = {}
        self.reads: list[str] = []
        self.closed = False
        for data in sweeps:
            self.put(data)

    def put(self, data: SweepData) -> None:
        self.held[data.sweep.sweep_id] = data

    def sweeps(self) -> list[SweepRecord]:
        return [data.sweep for data in self.held.values()]

    def sweep(self, name_or_id: str) -> SweepRecord:
        for sweep in self.sweeps():
            if name_or_id in (sweep.sweep_id, sweep.name):
                return sweep
        raise NotFound(f"no sweep {name_or_id!r}")

    def cells(self, sweep_id: str) -> list[CellRecord]:
        return list(self.held[sweep_id].cells)

    def rounds(self, sweep_id: str, states: Iterable[RoundState] = ()) -> list[RoundRecord]:
        wanted = set(states)
        return [r for r in self.held[sweep_id].rounds if not wanted or r.state in wanted]

    def results(
        self,
        *,
        sweep_id: str | None = None,
        cell_keys: Iterable[str] = (),
        superseded: bool = False,
    ) -> list[ResultRecord]:
        self.reads.append(sweep_id or "*")
        keys = set(cell_keys)
        return [
            r
            for data in self.held.values()
            for r in data.results
            if sweep_id in (None, r.result.sweep_id)
            and (not keys or r.result.run.cell_key in keys)
            and (superseded or not r.superseded)
        ]

    def result(self, attempt_id: str) -> ResultRecord:
        for record in self.results():
            if record.attempt_id == attempt_id:
                return record
        raise NotFound(f"no result of attempt {attempt_id!r}")

    def round(self, round_id: str) -> RoundRecord:
        rounds = (r for data in self.held.values() for r in data.rounds)
        return next(r for r in rounds if r.round_id == round_id)

    def sweep_marks(self, sweep_id: str) -> SweepMarks:
        cells: dict[str, tuple[int, int]] = {}
        for record in self.held[sweep_id].results:
            if not record.superseded:
                count, newest = cells.get(record.result.run.cell_key, (0, 0))
                newest = max(newest, record.recorded_ns)
                cells[record.result.run.cell_key] = (count + 1, newest)
        rounds = {r.round_id: (r.state, r.fence) for r in self.held[sweep_id].rounds}
        return SweepMarks(cells, rounds)

    def variants(self) -> list[VariantRecord]:
        found = {k: v for data in self.held.values() for k, v in data.variants.items()}
        return list(found.values())

    def devices(self) -> list[DeviceRecord]:
        found = {k: v for data in self.held.values() for k, v in data.devices.items()}
        return list(found.values())

    def dataset(self, name: str) -> DatasetRecord:
        if name != DATASET.name:
            raise NotFound(f"no dataset {name!r}")
        return DATASET

    def counts(self) -> Mapping[str, int]:
        data = self.held.values()
        return {
            "sweeps": len(data),
            "results": sum(len(d.results) for d in data),
            "devices": len(self.devices()),
        }

    def close(self) -> None:
        self.closed = True


def _conditions(p50_ns: float) -> Conditions:
    return Conditions(
        isolation=Isolation.PINNED,
        measure_cpus=(3,),
        housekeeping_cpus=(0, 1),
        temperature_start_c=48.2,
        temperature_end_c=51.0,
        temperature_max_c=51.0,
        clock_median_hz=2.4e9,
        clock_min_hz=2.4e9,
        settle_ns=SECOND_NS,
        warmup_ns=3 * SECOND_NS,
        warmup_queries=int(3e9 / p50_ns),
        wall_per_cpu=1.003,
        involuntary_switches=2,
        drift=0.004,
    )


def _spoiled(cell: CellRecord, number: int, index: int) -> Verdict:
    if cell.run.variant_name == "tucker":
        return INVALID if index % 2 else SUSPECT
    if number % 5 == 3 and index == 1:
        return SUSPECT
    return VALID


def _rounds(cells: Sequence[CellRecord], rounds: int) -> list[RoundRecord]:
    groups: dict[str, list[CellRecord]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return [
        RoundRecord(
            round_id=f"s1-{group.replace('/', '-')}-{index}",
            sweep_id="s1",
            device_id=members[0].device_id,
            group=group,
            index=index,
            state=RoundState.DONE,
            fence=1,
            runs=tuple(c.run for c in members),
            grants=1,
        )
        for group, members in groups.items()
        for index in range(rounds)
    ]
