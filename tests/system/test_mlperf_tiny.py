"""MLPerf Tiny's image classifier, float and int8, on pictures it was not trained on."""

from __future__ import annotations

import numpy as np
import pytest

from assay.agent.runtimes.litert import LiteRt
from assay.agent.worker.feeds import Dataset
from assay.controller.datasets.fashion_mnist import load, places
from assay.core.model import RuntimeSpec
from assay.core.preprocess import Preprocessing
from assay.core.tensors import real_values
from tests.conftest import SHARED_DATA, need

FOLDER = SHARED_DATA / "mlperf-tiny"
SAMPLES = 200


@pytest.mark.system
def test_float_and_int8_agree_on_padded_fashion_mnist() -> None:
    need(module="ai_edge_litert")
    need(path=FOLDER)
    need(program="apt-get")
    need(root=True)
    images = load(places()).x_test[:SAMPLES].reshape(-1, 28, 28)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    x = np.repeat(padded[..., None], 3, axis=3)
    classes = {}
    for name in ("pretrainedResnet.tflite", "pretrainedResnet_quant.tflite"):
        model = LiteRt.load(FOLDER / name, RuntimeSpec("litert"))
        # Bytes in 0..255 are the real values; int8 inputs are quantised by the model's own scale.
        data = Dataset({"x": x}, Preprocessing.from_json('{"scale": 1}'), model.inputs)
        classes[name] = [
            int(real_values(model.run(data.feed([i], 1)), model.outputs)[0].argmax())
            for i in range(SAMPLES)
        ]
    float32, int8 = (np.array(found) for found in classes.values())
    assert (float32 == int8).mean() >= 0.85, (float32 == int8).sum()
