"""What a model takes and gives, found out in a process of its own.

``python -m assay.agent.runtimes.describe FILE`` reads a RuntimeSpec as JSON from stdin and prints
one JSON line: a broken file may crash its runtime, and no runtime belongs into the asking process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.agent.environ import child_environment
from assay.agent.runtimes import runtime
from assay.core import errors
from assay.core.errors import AssayError, WorkerCrashed
from assay.core.jsonable import jsonable
from assay.core.model import RuntimeSpec
from assay.core.tensors import TensorSpec

_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model's inputs and outputs, as its runtime names them."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def describe(model: Path, spec: RuntimeSpec, timeout_s: float = _TIMEOUT_S) -> ModelDescription:
    """Loads ``model`` in a child process; raises what the runtime's ``load`` does, and
    :class:`WorkerCrashed` where the runtime died of the file."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "assay.agent.runtimes.describe", str(model.absolute())],
            input=json.dumps(jsonable(spec)).encode(),
            capture_output=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,
            env=child_environment(),
        )
    except subprocess.TimeoutExpired:
        raise WorkerCrashed(f"{spec.name} did not load {model.name} in {timeout_s:g} s") from None
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    try:
        told = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise WorkerCrashed(
            f"{spec.name} died of {model.name} (status {done.returncode}): it is no sound model"
        ) from None
    if "code" in told:
        raise _error(str(told["code"]), str(told["message"]))
    return ModelDescription(_specs(told["inputs"]), _specs(told["outputs"]))


def _specs(listed: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(**{**one, "shape": tuple(one["shape"]), "symbols": tuple(one["symbols"])})
        for one in listed
    )


def _error(code: str, message: str) -> AssayError:
    kinds = (value for value in vars(errors).values() if isinstance(value, type))
    for kind in kinds:
        if issubclass(kind, AssayError) and kind.code == code:
            return kind(message)
    return AssayError(message)


def main(path: str) -> int:
    """The child."""
    spec = RuntimeSpec(**json.load(sys.stdin))
    try:
        model = runtime(spec.name).load(Path(path), spec)
        told = {"inputs": jsonable(model.inputs), "outputs": jsonable(model.outputs)}
    except AssayError as error:
        told = {"code": error.code, "message": str(error)}
    print("\n" + json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
