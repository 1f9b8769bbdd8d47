"""One network in every runtime on this machine: p50 by fresh process, and how far outputs differ.

    python bench/runtimes/side_by_side.py [--rounds 6] [--seconds 1.0]

The network is a small residual CNN of random weights, so times compare runtimes and say nothing of
a model. In a round every runtime runs once, in an order drawn anew. Printed: the median over the
rounds and the range of their p50, which holds the true median with a confidence of 1 - 2^(1-rounds)
(97 % for six); ratios are to onnxruntime in the same round, which cancels drift.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEED = 3
FILES = {"onnxruntime": "m.onnx", "litert": "m.tflite", "ncnn": "m.ncnn", "torch": "m.pt2"}


def make_models(folder: Path) -> None:
    """The same network in every form."""
    import numpy as np
    import torch
    from torch import nn

    from assay.controller.variants import export, ncnn

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first = nn.Conv2d(width, width, 3, padding=1)
            self.second = nn.Conv2d(width, width, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + self.second(torch.relu(self.first(x))))

    torch.manual_seed(SEED)
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), Block(16)),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), Block(32)),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(), Block(64)),
        *(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10)),
    ).eval()
    example = torch.randn(1, 3, 32, 32)
    export.to_onnx(net, example, folder / FILES["onnxruntime"])
    export.to_tflite(net, example, folder / FILES["litert"])
    ncnn.to_ncnn(net, example, folder / FILES["ncnn"])
    torch.export.save(torch.export.export(net, (example,)), str(folder / FILES["torch"]))
    np.save(folder / "x.npy", example.numpy())


def measure(name: str, folder: Path, seconds: float) -> None:
    """The child: one runtime; prints p50 in ns and the outputs as JSON."""
    import numpy as np

    from assay.agent.runtimes import runtime
    from assay.core.model import RuntimeSpec

    model = runtime(name).load(folder / FILES[name], RuntimeSpec(name, threads=1))
    feed = {model.inputs[0].name: np.load(folder / "x.npy")}
    bound = model.bind([feed])
    if bound.stages is not None:
        bound.stages[0]()
    call, clock, times = bound.calls[0], time.perf_counter_ns, []
    warm_until = clock() + int(seconds * 5e8)
    while clock() < warm_until:
        call()
    end = clock() + int(seconds * 1e9)
    while (begin := clock()) < end:
        call()
        times.append(clock() - begin)
    told = {"p50_ns": statistics.median(times), "y": bound.outputs(0)[0].ravel().tolist()}
    print("\n" + json.dumps(told))


def main() -> None:
    """Makes the models, runs the rounds, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--child", nargs=2, metavar=("RUNTIME", "FOLDER"))
    options = parser.parse_args()
    if options.child:
        measure(options.child[0], Path(options.child[1]), options.seconds)
        return
    order = random.Random(SEED)
    p50: dict[str, list[float]] = {name: [] for name in FILES}
    outputs: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_models(Path(folder))
        for _ in range(options.rounds):
            for name in order.sample(sorted(FILES), len(FILES)):
                argv = [sys.executable, __file__, "--child", name, folder]
                argv += ["--seconds", str(options.seconds)]
                out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
                told = json.loads(out.strip().splitlines()[-1])
                p50[name].append(told["p50_ns"])
                outputs[name] = told["y"]
    reference = outputs["onnxruntime"]
    sure = 1 - 2 ** (1 - options.rounds)
    print(f"| runtime | p50 µs ({sure:.0%} interval) | / onnxruntime | largest output difference |")
    print("|---|---|---|---|")
    for name, values in p50.items():
        ratios = [mine / base for mine, base in zip(values, p50["onnxruntime"], strict=True)]
        off = max(abs(a - b) for a, b in zip(outputs[name], reference, strict=True))
        low, middle, high = (f(values) / 1e3 for f in (min, statistics.median, max))
        shown = f"{middle:.0f} ({low:.0f}–{high:.0f})"
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        print(f"| {name} | {shown} | {ratio} | {off:.1e} |")


if __name__ == "__main__":
    main()
