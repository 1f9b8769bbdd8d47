"""Made-up values keep to what is declared of them, and say how they were made."""

from __future__ import annotations

import json

import numpy as np
import pytest

from assay.core.dims import settle
from assay.core.errors import UsageError
from assay.core.synthetic import Rule, check_rules, describe, make_inputs
from assay.core.tensors import TensorSpec

IDS = TensorSpec("ids", "int64", (None, None), ("batch", "sequence"))
MASK = TensorSpec("mask", "int64", (None, None), ("batch", "sequence"))
LENGTHS = TensorSpec("lengths", "int32", (None,), ("batch",))
TEXT = [IDS, MASK, LENGTHS]


def test_tokens_stay_in_the_vocabulary_and_mask_and_lengths_agree() -> None:
    rules = {
        "ids": Rule(low=5, high=99, lengths=(3, 8), padding=0),
        "mask": Rule(mask_of="ids"),
        "lengths": Rule(length_of="ids"),
    }
    made = make_inputs(TEXT, settle(TEXT, {"sequence": 8}), 1, rules, samples=20)
    used = made["mask"].astype(bool)
    assert made["ids"].shape == (20, 8) and made["lengths"].shape == (20,)
    assert made["ids"][used].min() >= 5 and made["ids"][used].max() <= 99
    assert not made["ids"][~used].any()
    assert (made["mask"].sum(1) == made["lengths"]).all()
    assert set(made["lengths"]) <= set(range(3, 9)) and len(set(made["lengths"])) > 1
    assert made["lengths"].dtype == np.int32


def test_another_rule_leaves_other_inputs_as_they_were() -> None:
    sizes = settle(TEXT)
    plain = make_inputs(TEXT, sizes, 3)
    ruled = make_inputs(TEXT, sizes, 3, {"mask": Rule(constant=1)})
    assert np.array_equal(plain["ids"], ruled["ids"]) and (ruled["mask"] == 1).all()


def test_real_ranges_of_quantised_inputs_go_through_their_scale() -> None:
    spec = TensorSpec("x", "int8", (1, 64), ("", ""), scale=0.5, zero_point=-10)
    made = make_inputs([spec], settle([spec]), 0, {"x": Rule(low=0, high=2)})["x"]
    assert made.dtype == np.int8 and made.min() == -10 and made.max() == -6


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint16", "int64", "bool", "str"])
def test_every_type_is_made(dtype: str) -> None:
    spec = TensorSpec("x", dtype, (3, 4))
    made = make_inputs([spec], settle([spec]), 0, samples=2)["x"]
    assert made.shape == (2, 3, 4)
    assert made.dtype.kind == "U" if dtype == "str" else made.dtype == dtype
    assert len(np.unique(made)) > 1


def test_large_samples_are_fewer() -> None:
    spec = TensorSpec("x", "float32", (1, 1 << 20))
    assert len(make_inputs([spec], settle([spec]), 0)["x"]) == 8


def test_how_they_were_made_is_told() -> None:
    told = json.loads(describe([IDS], settle([IDS]), 7, {"ids": Rule(low=0, high=9)}))
    assert told["seed"] == 7 and told["dims"] == {"sequence": 128}
    assert told["inputs"]["ids"] == {
        "dtype": "int64",
        "shape": [128],
        "values": "low 0, high 9",
    }


def test_every_rule_that_does_not_fit_is_named() -> None:
    rules = {"word": Rule(low=0, high=1), "mask": Rule(mask_of="idss")}
    first, second = check_rules(TEXT, rules)
    assert first.startswith("inputs.word: the model has no such input; it takes ids int64")
    assert second.startswith("inputs.mask.mask_of: the model has no input 'idss'")
    with pytest.raises(UsageError, match=r"inputs.ids.lengths: up to 300"):
        make_inputs(TEXT, settle(TEXT), 1, {"ids": Rule(lengths=(1, 300))})
