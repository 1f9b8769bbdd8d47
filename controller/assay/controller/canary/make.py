"""Makes the canary's files: ``python -m assay.controller.canary.make FOLDER``.

Kept beside them so that it is known what they are. It prints what :mod:`assay.controller.canary`
pins. Run it for a reason only: another canary starts another history of drift.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from assay.controller.inspection import golden, inspect
from assay.controller.variants import export, ncnn
from assay.core import digest
from assay.core.model import MEDIA_NCNN, MEDIA_ONNX, MEDIA_TFLITE
from assay.core.npz import write_npz

SEED = 20
SAMPLES = 8
INPUT_SHAPE = (1, 48, 48)


class Canary(nn.Module):
    """A few convolutions and two dense layers; random weights, about 40 M MACs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 48, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(48, 48, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.AvgPool2d(4), nn.Flatten()),
            *(nn.Linear(432, 32), nn.ReLU(), nn.Linear(32, 10)),
        )
        for layer in self.layers:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Ten numbers without a meaning."""
        out: Tensor = self.layers(x)
        return out


def main(folder: Path) -> None:
    """Writes the four files and prints their pins."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    net = Canary().eval()
    x = torch.randn(SAMPLES, *INPUT_SHAPE).numpy()
    for media, name, write in (
        (MEDIA_ONNX, "canary.onnx", export.to_onnx),
        (MEDIA_TFLITE, "canary.tflite", export.to_tflite),
        (MEDIA_NCNN, "canary.ncnn", ncnn.to_ncnn),
    ):
        path = folder / name
        write(net, torch.zeros(1, *INPUT_SHAPE), path)
        outputs = golden.reference_runner(path, media)(x)
        rtol, atol = golden.tolerance("fp32", outputs)
        kept = folder / f"{name}.golden.npz"
        arrays = {"x": x, **{f"output_{i}": output for i, output in enumerate(outputs)}}
        write_npz(kept, arrays)
        cost = inspect.static_cost(path, media)
        print(media, digest.of_file(path), digest.of_file(kept), rtol, atol, cost, sep="\n  ")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
