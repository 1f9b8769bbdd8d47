"""``assay-agent bench``: measures local model files, without any controller."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from assay.agent.cli.bench_rows import print_outcomes, row_of
from assay.core.errors import CheckFailed, UsageError
from assay.core.listing import format_option
from assay.core.model import (
    MEDIA_NCNN,
    MEDIA_NPZ,
    MEDIA_ONNX,
    MEDIA_TFLITE,
    MEDIA_TORCH,
    PROFILES,
    ArtifactRef,
    GoldenSpec,
    InputSpec,
    RunSpec,
    RuntimeSpec,
    Scenario,
    ScenarioKind,
    VerdictKind,
)

_BY_SUFFIX = {
    ".onnx": ("onnxruntime", MEDIA_ONNX),
    ".tflite": ("litert", MEDIA_TFLITE),
    ".ncnn": ("ncnn", MEDIA_NCNN),
    ".pt2": ("torch", MEDIA_TORCH),
}
_MEDIA = dict(_BY_SUFFIX.values())
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class _Options:
    """What holds for every model of one call."""

    inputs: Path | None
    golden: Path | None
    preprocessing: str
    runtime: str | None
    provider: str
    threads: int
    spinning: bool
    options: Mapping[str, str]
    profile: str
    scenario: Scenario
    shapes: Mapping[str, tuple[int, ...]]
    seed: int
    trace: Path | None


@click.command("bench")
@click.argument("models", nargs=-1, required=True, type=_FILE, metavar="MODEL...")
@click.option("--inputs", type=_FILE, help="Real samples: an .npz with x (and labels y).")
@click.option(
    "--golden", type=_FILE, help="Reference: .npz with x as the model takes it, output_0, ..."
)
@click.option("--preprocessing", default="{}", help="JSON: how x becomes the model's input.")
@click.option("--runtime", type=click.Choice(sorted(_MEDIA)), help="By the file's name if absent.")
@click.option("--provider", default="", help="Execution provider or delegate.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--spinning/--no-spinning", default=True, help="Whether idle threads spin.")
@click.option("--option", "options", multiple=True, metavar="K=V", help="Of the runtime.")
@click.option("--profile", type=click.Choice(list(PROFILES)), default="quick", show_default=True)
@click.option("--quick", "profile", flag_value="quick", help="The same as --profile quick.")
@click.option("--standard", "profile", flag_value="standard", help="--profile standard.")
@click.option("--mlperf", "profile", flag_value="mlperf", help="--profile mlperf.")
@click.option(
    "--scenario",
    type=click.Choice([kind.value for kind in ScenarioKind]),
    default=ScenarioKind.SINGLE_STREAM.value,
    show_default=True,
)
@click.option("--batch", type=click.IntRange(1), default=1, help="Samples in one query.")
@click.option("--qps", type=float, help="Queries per second offered, for --scenario server.")
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=N,...", help="Of open inputs.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), help="Keep raw samples.")
@format_option
def bench_command(models: tuple[Path, ...], output_format: str, **given: Any) -> None:
    """Measures each MODEL (.onnx or .tflite) in a fresh process and says whether the number holds.

    Exit code 0 if every number is VALID or SUSPECT, 1 if one is INVALID.
    """
    scenario = Scenario(
        ScenarioKind(given.pop("scenario")),
        samples_per_query=given.pop("batch"),
        target_qps=given.pop("qps"),
    )
    options = _Options(
        scenario=scenario,
        options=dict(_pair("--option", text) for text in given.pop("options")),
        shapes=dict(_shape(text) for text in given.pop("shapes")),
        **given,
    )
    if options.trace is not None and len(models) > 1:
        raise UsageError("--trace keeps the samples of one model: give one")
    rows = [_bench(model, options) for model in models]
    print_outcomes(rows, output_format)
    invalid = [row["model"] for row in rows if row["verdict"] == VerdictKind.INVALID.value]
    if invalid:
        raise CheckFailed(f"no number that holds for {', '.join(invalid)}")


def _bench(model: Path, options: _Options) -> dict[str, Any]:
    # Imported here: numpy and the whole agent are no part of --help.
    from assay.agent.config import AgentConfig
    from assay.agent.devices.detect import detect
    from assay.agent.home import AgentHome
    from assay.agent.measuring.affinity import CpuChooser, pin_threads
    from assay.agent.measuring.measure import RunPaths, measure

    config = AgentConfig()
    device = detect(config.sysroot)
    plan = CpuChooser(config).plan(device.cpu, options.threads)
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        run, inputs = _run(model, options, Path(folder))
        work_dir = Path(folder) / "work"
        work_dir.mkdir()
        pin_threads(plan.housekeeping_cpus)
        measured = measure(
            run,
            RunPaths(model, inputs, options.golden),
            device,
            config.device_name,
            plan,
            config.sysroot,
            work_dir,
            lambda state: click.echo(f"{model.name}: {state}", err=True),
            threading.Event(),
            native_dir=AgentHome.default().native,
        )
        if options.trace is not None and measured.trace_path is not None:
            shutil.copyfile(measured.trace_path, options.trace)
    return row_of(model, run, measured)


def _run(model: Path, options: _Options, folder: Path) -> tuple[RunSpec, Path]:
    """The run, and the file its inputs come from."""
    spec, media_type = _runtime(model, options)
    inputs, dataset, labelled = _inputs(model, spec, options, folder)
    golden = GoldenSpec(_ref(options.golden, MEDIA_NPZ), 1e-3, 1e-4) if options.golden else None
    artifact = _ref(model, media_type)
    run = RunSpec(
        attempt_id="bench",
        cell_key=artifact.digest,
        variant_id=artifact.digest,
        variant_name=model.name,
        artifact=artifact,
        runtime=spec,
        scenario=options.scenario,
        profile=PROFILES[options.profile],
        inputs=InputSpec(dataset, _ref(inputs, MEDIA_NPZ), options.preprocessing),
        golden=golden,
        evaluate=labelled,
        seed=options.seed,
    )
    return run, inputs


def _runtime(model: Path, options: _Options) -> tuple[RuntimeSpec, str]:
    by_suffix = _BY_SUFFIX.get(model.suffix.lower())
    if options.runtime is None and by_suffix is None:
        raise UsageError(
            f"{model.name}: none of {', '.join(_BY_SUFFIX)}: say --runtime "
            f"{' or '.join(sorted(_MEDIA))}"
        )
    name = options.runtime or (by_suffix[0] if by_suffix else "")
    spec = RuntimeSpec(
        name,
        provider=options.provider,
        threads=options.threads,
        allow_spinning=options.spinning,
        options=options.options,
    )
    return spec, _MEDIA[name]


def _inputs(
    model: Path, spec: RuntimeSpec, options: _Options, folder: Path
) -> tuple[Path, str, bool]:
    """The inputs' file, the dataset's name, and whether it has labels."""
    from assay.agent.measuring.reasons import SYNTHETIC_DATASET
    from assay.agent.measuring.synthetic import write_synthetic
    from assay.agent.runtimes.describe import describe
    from assay.agent.worker.feeds import load_arrays

    if options.inputs is not None:
        return options.inputs, options.inputs.stem, "y" in load_arrays(options.inputs)
    path = folder / "inputs.npz"
    write_synthetic(path, describe(model, spec).inputs, options.shapes, options.seed)
    return path, SYNTHETIC_DATASET, False


def _ref(path: Path, media_type: str) -> ArtifactRef:
    from assay.core.digest import of_file

    return ArtifactRef(of_file(path), path.stat().st_size, media_type)


def _pair(option: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UsageError(f"{option} {text}: KEY=VALUE is needed")
    return key, value


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, sizes = _pair("--shape", text)
    try:
        return name, tuple(int(size) for size in sizes.split(","))
    except ValueError:
        raise UsageError(f"--shape {text}: INPUT=N,N,... is needed") from None
