"""Does `assay-agent bench A B` say the same every time?

    python bench/measurement/repeat.py [A B] [--tries 5] [--profile demo] [--pair other|same]

Runs the command itself, several times, on two pairs: other, which is A and B (a convolutional model
in fp32 and in int8, by onnxruntime's own quantizer, where none are given), and same, which is A and
a copy of A. Printed is each
finding with its ratio and interval; exit code 1 where the findings of a pair differ, where one of A
and B is inconclusive, or where a model is found to differ from its own copy. For an idle machine:
with the profile demo about 2.5 minutes a try for ten rounds, and as much again for each ten more.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from native_yardstick.models import conv
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, quantize_static

DECIDED = ("confirmed", "equivalent")


def main() -> int:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="A B")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--pair", choices=("other", "same", "both"), default="both")
    arguments = parser.parse_args()
    if len(arguments.models) not in (0, 2):
        parser.error("give two models or none")
    with tempfile.TemporaryDirectory(prefix="assay-repeat-") as scratch:
        one, two = arguments.models or _models(Path(scratch))
        copy = Path(shutil.copyfile(one, Path(scratch) / f"copy-of-{one.name}"))
        print("| pair | try | finding | ratio | interval | rounds (held) | codes |")
        print("|---|---|---|---|---|---|---|")
        tries = {"other": (one, two), "same": (one, copy)}
        other, same = (
            [_try(*pair, number, arguments) for number in range(arguments.tries)]
            if arguments.pair in (name, "both")
            else []
            for name, pair in tries.items()
        )
    agree = len(set(other)) <= 1 and len(set(same)) <= 1
    right = all(f in DECIDED for f in other) and not {"confirmed", "likely"} & set(same)
    print(f"the same on {arguments.tries} tries: {'yes' if agree else 'NO'}; "
          f"decided, and no model beats its copy: {'yes' if right else 'NO'}")  # fmt: skip
    return 0 if agree and right else 1


def _models(folder: Path) -> tuple[Path, Path]:
    fp32 = conv(folder / "fp32.onnx", layers=4, channels=16, size=24)
    int8 = folder / "int8.onnx"
    quantize_static(fp32, int8, _Noise((1, 16, 24, 24)))
    return fp32, int8


class _Noise(CalibrationDataReader):  # type: ignore[misc]
    """A few samples of noise to calibrate with: what is computed does not matter here."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self._left = [rng.normal(size=shape).astype(np.float32) for _ in range(8)]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return {"x": self._left.pop()} if self._left else None


def _try(one: Path, two: Path, number: int, arguments: argparse.Namespace) -> str:
    command = [sys.executable, "-m", "assay.agent", "bench", str(one), str(two)]
    command += ["--profile", arguments.profile, "--rounds", str(arguments.rounds)]
    command += ["--seed", str(number), "--format", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    ratio, low, high = (
        "–" if found[k] is None else f"{found[k]:.3f}" for k in ("ratio", "low", "high")
    )
    print(f"| {one.stem} {two.stem} | {number + 1} | {found['finding']} | {ratio} | {low}–{high} | "
          f"{found['rounds']} ({found['held']}) | {', '.join(found['codes'])} |",
          flush=True)  # fmt: skip
    return str(found["finding"])


if __name__ == "__main__":
    sys.exit(main())
