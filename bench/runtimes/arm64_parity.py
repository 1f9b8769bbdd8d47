"""Outputs of the aarch64 wheels, under qemu-user as a Cortex-A72, against those of x86-64.

    python bench/runtimes/arm64_parity.py        (root; a minute or two; see tests/system/arm64.py)

One table: for each runtime and model the largest difference of an output, and what an emulated run
that died said. Nothing is timed: an emulator's times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TOLERANCE = 1e-5
_PATIENCE_S = 240


def child(runtime_name: str, model: Path, x: Path) -> None:
    """Prints the outputs for ``x`` as JSON; runs on either side."""
    import numpy as np

    from assay.agent.runtimes import runtime
    from assay.core.model import RuntimeSpec

    loaded = runtime(runtime_name).load(model, RuntimeSpec(runtime_name, threads=1))
    outputs = loaded.run({loaded.inputs[0].name: np.load(x)})
    told = {"y": [value.ravel().tolist() for value in outputs], "version": loaded.runtime_version}
    print("\n" + json.dumps(told))


def outputs_of(python: str, argv: list[str], extra: Path | None = None) -> dict[str, object] | str:
    """What a child told, or how it ended."""
    environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    if extra is not None:
        environment["PYTHONPATH"] = str(extra)
    try:
        done = subprocess.run(
            [python, __file__, "--child", *argv],
            capture_output=True,
            text=True,
            env=environment,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_PATIENCE_S} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["silent"])[-1]
        number = -done.returncode if done.returncode < 0 else done.returncode - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else done.returncode
        return f"ended with {name}: {last[:160]}"
    found: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def models(folder: Path) -> list[tuple[str, str, Path, Path]]:
    """(runtime, model's name, file, input): a CNN in every form, and a small one in ONNX."""
    import numpy as np

    sys.path.insert(0, str(REPOSITORY))
    from bench.runtimes.side_by_side import FILES, make_models

    from tests.tinymodels import save_mlp

    make_models(folder)
    save_mlp(folder / "mlp.onnx", batch=1)
    np.save(folder / "row.npy", np.random.default_rng(1).normal(size=(1, 16)).astype(np.float32))
    names = ("onnxruntime", "litert", "ncnn")
    found = [(name, "residual CNN", folder / FILES[name], folder / "x.npy") for name in names]
    return [("onnxruntime", "MLP", folder / "mlp.onnx", folder / "row.npy"), *found]


def aarch64_ncnn(folder: Path) -> Path:
    """ncnn's aarch64 wheel, unpacked; the agent's wheelhouse does not hold it."""
    from tests.collection import load
    from tests.system import arm64

    house = load("packaging/wheelhouse.py")
    (root,) = arm64.BUILD.glob("root-*")
    (interpreter,) = (root / "usr/bin").glob("python3.[0-9]*[0-9]")
    target = house.Target("agent", interpreter.name.removeprefix("python"), "aarch64")
    platforms = [f"--platform={tag}" for tag in target.platforms]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    command += [str(folder), "--only-binary=:all:", "--python-version", target.python]
    subprocess.run([*command, *platforms, "ncnn", "tqdm"], check=True)
    return folder


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=3, metavar=("RUNTIME", "MODEL", "INPUT"))
    options = parser.parse_args()
    if options.child:
        child(options.child[0], Path(options.child[1]), Path(options.child[2]))
        return
    sys.path.insert(0, str(REPOSITORY))
    from tests.system import arm64

    board = str(arm64.python())
    print("| runtime | model | largest difference | outputs |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, model, file, x in models(folder):
            argv = [name, str(file), str(x)]
            extra = aarch64_ncnn(folder / "ncnn") if name == "ncnn" else None
            here, there = outputs_of(sys.executable, argv), outputs_of(board, argv, extra)
            if isinstance(here, str) or isinstance(there, str):
                print(f"| {name} | {model} | {there if isinstance(there, str) else here} | – |")
                continue
            pairs = [
                (a, b)
                for mine, other in zip(here["y"], there["y"], strict=True)
                for a, b in zip(mine, other, strict=True)
            ]
            off = max(abs(a - b) for a, b in pairs)
            largest = max(abs(a) for a, _ in pairs)
            held = "equal within 1e-5" if off <= TOLERANCE * max(1.0, largest) else "**differ**"
            print(f"| {name} {here['version']} | {model} | {off:.1e} of {largest:.2g} | {held} |")


if __name__ == "__main__":
    main()
