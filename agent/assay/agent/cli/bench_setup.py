"""What ``assay-agent bench`` measures and how: from its options to a run, and the run taken."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assay.core.errors import UsageError
from assay.core.model import (
    MEDIA_NPZ,
    PROFILES,
    ArtifactRef,
    GoldenSpec,
    InputSpec,
    RunSpec,
    RuntimeSpec,
    Scenario,
)
from assay.core.model.formats import FORMATS, MEDIA_BY_RUNTIME

if TYPE_CHECKING:
    from assay.agent.measuring.measure import Measured

_RUNTIMES = {known.suffix: known.runtime for known in FORMATS}


@dataclass(frozen=True, slots=True)
class Options:
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
    dims: Mapping[str, int]
    state: Mapping[str, str]
    seed: int
    trace: Path | None


class LocalBench:
    """Measures models on this machine, one fresh process after the other."""

    def __init__(self) -> None:
        # Imported here: numpy and the whole agent are no part of --help.
        from assay.agent.config import AgentConfig
        from assay.agent.devices.detect import detect
        from assay.agent.measuring.affinity import CpuChooser

        self._config = AgentConfig()
        self._device = detect(self._config.sysroot)
        # Made once: after the first run this process is confined to the CPUs that are left.
        self._chooser = CpuChooser(self._config)

    def measure(
        self, model: Path, options: Options, on_state: Callable[[str], None] = lambda state: None
    ) -> tuple[RunSpec, Measured]:
        """The run that ``options`` ask for, and what it yielded."""
        from assay.agent.home import AgentHome
        from assay.agent.measuring.affinity import pin_threads
        from assay.agent.measuring.measure import RunPaths, measure

        config, plan = self._config, self._chooser.plan(self._device.cpu, options.threads)
        home = AgentHome.default()
        with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
            run, inputs = _run(model, options, Path(folder))
            work_dir = Path(folder) / "work"
            work_dir.mkdir()
            pin_threads(plan.housekeeping_cpus)
            measured = measure(
                run,
                RunPaths(model, inputs, options.golden),
                self._device,
                config.device_name,
                plan,
                config.sysroot,
                work_dir,
                on_state,
                threading.Event(),
                native_dir=home.native,
                calibration_dir=home.root,
            )
            if options.trace is not None and measured.trace_path is not None:
                shutil.copyfile(measured.trace_path, options.trace)
        return run, measured


def _run(model: Path, options: Options, folder: Path) -> tuple[RunSpec, Path]:
    """The run, and the file its inputs come from."""
    spec, media_type = runtime_of(model, options)
    path, inputs, labelled = _inputs(model, spec, options, folder)
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
        inputs=inputs,
        golden=golden,
        evaluate=labelled,
        seed=options.seed,
    )
    return run, path


def runtime_of(model: Path, options: Options) -> tuple[RuntimeSpec, str]:
    """Which runtime takes ``model``, and the media type of its files."""
    name = options.runtime or _RUNTIMES.get(model.suffix.lower())
    if name is None:
        raise UsageError(
            f"{model.name}: none of {', '.join(_RUNTIMES)}: say --runtime "
            f"{' or '.join(sorted(MEDIA_BY_RUNTIME))}"
        )
    spec = RuntimeSpec(
        name,
        provider=options.provider,
        threads=options.threads,
        allow_spinning=options.spinning,
        options=options.options,
    )
    return spec, MEDIA_BY_RUNTIME[name]


def _inputs(
    model: Path, spec: RuntimeSpec, options: Options, folder: Path
) -> tuple[Path, InputSpec, bool]:
    """The inputs' file, what is said of it, and whether it has labels."""
    from assay.agent.measuring.reasons import SYNTHETIC_DATASET
    from assay.agent.measuring.synthetic import dims_of, write_synthetic
    from assay.agent.runtimes.describe import describe
    from assay.agent.worker.feeds import load_arrays

    path, name, labelled, made = folder / "inputs.npz", SYNTHETIC_DATASET, False, ""
    if options.inputs is not None:
        path, name = options.inputs, options.inputs.stem
        labelled = "y" in load_arrays(path)
    else:
        inputs = describe(model, spec).inputs
        dims = {**dims_of(inputs, options.shapes), **options.dims}
        sizes, made = write_synthetic(path, inputs, dims, options.seed)
        if sizes.proposed:
            click.echo(f"{model.name}: sizes {sizes}; --dim sets them", err=True)
    ref = _ref(path, MEDIA_NPZ)
    return path, InputSpec(name, ref, options.preprocessing, options.state, made), labelled


def _ref(path: Path, media_type: str) -> ArtifactRef:
    from assay.core.digest import of_file

    return ArtifactRef(of_file(path), path.stat().st_size, media_type)
