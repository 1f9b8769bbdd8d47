"""ONNX's own operator models (Debian's libonnx-testdata): each gives what it should, or a reason.

All of them take some seconds. A crash or a hang of the process fails the test with the model's
name.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, need
from tests.system.onnx_models import NO_TENSOR, OTHER, REFUSED, SAME

pytestmark = pytest.mark.system

DATA = Path("/usr/share/libonnx-testdata/data")
TIME_BOX_S = 300

# (outcome, pattern on the name, pattern on what was said, why that is so)
REASONS = (
    (NO_TENSOR, "", r"seq\(|optional\(", "sequences and optional values are no tensors"),
    (NO_TENSOR, "BFLOAT16", r"bfloat16", "numpy has no bfloat16"),
    (OTHER, "bernoulli|training_dropout", "off by", "draws at random"),
    (OTHER, "FLOAT_to_STRING", "", "how a float is written as text is nobody's promise"),
    (
        OTHER,
        "resize_downsample_scales_(cubic|linear)_align_corners|maxunpool_export_with_output_shape",
        "",
        "the expected data of onnx 1.12 was wrong",
    ),
    (
        REFUSED,
        "adagrad|adam|momentum|gradient",
        r"is not a registered function/op",
        "an operator for training, which onnxruntime has not",
    ),
    (REFUSED, "", r"NOT_IMPLEMENTED", "an operator version or type that onnxruntime has not"),
    (REFUSED, "batchwise", r"layout|[Bb]atchwise", "a layout that onnxruntime has not"),
    (REFUSED, "strnorm", r"locale", "the machine lacks the locale en_US.UTF-8"),
)


def reason_for(name: str, outcome: str, said: str) -> str:
    """Why a model did not give what it should; empty where nobody knows."""
    for kind, names, words, why in REASONS:
        if outcome == kind and re.search(names, name) and re.search(words, said):
            return why
    return ""


def test_every_operator_model_gives_what_it_should_or_a_reason() -> None:
    need(module="onnx")
    need(module="onnxruntime")
    need(path=DATA)
    folders = sorted(path.parent for path in DATA.glob("*/*/model.onnx"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.onnx_models"],
        input="\n".join(map(str, folders)),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=TIME_BOX_S,
        check=False,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(rows) == len(folders), (
        f"ended with {done.returncode} at {folders[min(len(rows), len(folders) - 1)]}"
    )
    reasons = {name: reason_for(name, outcome, said) for name, outcome, said in rows}
    unknown = [row for row in rows if row[1] != SAME and not reasons[row[0]]]
    assert not unknown, unknown
    counts = Counter(SAME if row[1] == SAME else reasons[row[0]] for row in rows)
    print("\n".join(f"{count:5} {what}" for what, count in counts.most_common()))
    assert counts[SAME] >= 950
