"""inputs.toml: every mistake at once, by itself and against the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from assay.controller.variants.inputs_file import load_inputs
from assay.controller.variants.own_inputs import Declared, FromFile, make
from assay.core.errors import SpecError, UsageError
from assay.core.synthetic import Rule
from assay.core.tensors import TensorSpec

IDS = TensorSpec("ids", "int64", (None, None), ("batch", "sequence"))
MASK = TensorSpec("mask", "int64", (None, None), ("batch", "sequence"))
H = TensorSpec("h", "float32", (1, 4), ("", ""))
OUT = [TensorSpec("y", "float32", (1, 2), ("", "")), TensorSpec("h_out", "float32", (1, 4))]


def written(folder: Path, text: str) -> Path:
    path = folder / "inputs.toml"
    path.write_text(text)
    return path


def test_a_file_is_read_into_rules(tmp_path: Path) -> None:
    text = """
        seed = 5
        [dims]
        sequence = 16
        [inputs.ids]
        vocabulary = 100
        lengths = [4, 16]
        [inputs.mask]
        mask_of = "ids"
        [state]
        h = "h_out"
    """
    found = load_inputs(written(tmp_path, text))
    assert found.seed == 5 and found.dims == {"sequence": 16} and found.state == {"h": "h_out"}
    assert found.rules["ids"] == Rule(low=0, high=99, lengths=(4, 16))
    assert found.rules["mask"] == Rule(mask_of="ids")
    assert Declared.from_json(found.to_json()) == found


def test_every_mistake_is_named_with_its_path(tmp_path: Path) -> None:
    text = """
        sed = 1
        [dims]
        n = 0
        [inputs.a]
        range = [2, 1]
        [inputs.b]
        range = [0, 1]
        vocabulary = 5
        [inputs.c]
        lengths = [1, 2]
        constant = 1
        [state]
        h = "o"
        k = "o"
    """
    with pytest.raises(SpecError) as caught:
        load_inputs(written(tmp_path, text))
    said = "\n".join(sorted(caught.value.problems))
    for part in (
        "sed: no such key; see docs/reference/inputs.md",
        "dims.n: 0: input should be greater than or equal to 1",
        "inputs.a: range: 2.0 is above 1.0",
        "inputs.b: range and vocabulary exclude each other",
        "inputs.c: lengths does not go with constant",
        "state: o is passed on more than once",
    ):
        assert part in said
    assert len(caught.value.problems) == 6


def test_values_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, '[inputs.a]\nvalues = "x.npz"\n')
    with pytest.raises(SpecError, match=r"inputs.a.values: .*x.npz: no such file"):
        load_inputs(path)


def test_real_values_settle_sizes_and_are_no_synthetic_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", ids=np.arange(30).reshape(5, 6), m=np.ones((5, 1, 6)))
    text = '[inputs.ids]\nvalues = "real.npz"\n[inputs.mask]\nvalues = "real.npz"\narray = "m"\n'
    made = make([IDS, MASK], OUT, load_inputs(written(tmp_path, text)))
    assert made.dataset == "real" and made.sizes.dims == {"sequence": 6}
    assert made.arrays["ids"].tolist() == np.arange(30).reshape(5, 6).tolist()
    assert made.arrays["mask"].shape == (5, 6) and made.arrays["mask"].dtype == np.int64
    told = json.loads(made.made_json)["inputs"]["mask"]["values"]
    assert told.startswith("real.npz: m (sha256:")


def test_real_text_is_taken_as_it_is(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", name=np.array([["Ähre"], ["oat"], [""]]))
    (tmp_path / "inputs.toml").write_text('[inputs.name]\nvalues = "rows.npz"\n')
    name = TensorSpec("name", "str", (None, 1), ("N", ""))
    made = make([name], OUT, load_inputs(tmp_path / "inputs.toml"))
    assert made.arrays["name"].tolist() == [["Ähre"], ["oat"], [""]] and made.dataset == "rows"
    with pytest.raises(UsageError, match=r"inputs.name: str has no range: give values from a file"):
        make([name], OUT, Declared(rules={"name": Rule(low=0, high=1)}))


def test_one_input_made_up_makes_them_synthetic(tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", ids=np.arange(30).reshape(5, 6))
    declared = load_inputs(written(tmp_path, '[inputs.ids]\nvalues = "real.npz"\n'))
    made = make([IDS, MASK], OUT, declared)
    assert made.dataset == "synthetic" and len(made.arrays["mask"]) == 5


def test_state_begins_with_zeros_unless_it_is_said(tmp_path: Path) -> None:
    made = make([H], OUT, Declared(state={"h": "h_out"}))
    assert not made.arrays["h"].any()
    made = make([H], OUT, Declared(state={"h": "h_out"}, rules={"h": Rule(low=1, high=2)}))
    assert made.arrays["h"].min() >= 1


def test_everything_that_does_not_fit_the_model_is_named() -> None:
    declared = Declared(
        rules={"word": Rule(constant=1)},
        files={"token": FromFile("x.npz", "a", "sha256:0")},
        state={"s": "h_out", "h": "z"},
    )
    with pytest.raises(UsageError) as caught:
        make([H], OUT, declared)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "inputs.word",
        "inputs.token",
        "state.s",
        "state.h",
    ]


@pytest.mark.parametrize("shape", [(5, 7), (5, 2, 6)])
def test_real_values_of_another_shape_are_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "r.npz", h=np.zeros(shape))
    declared = load_inputs(written(tmp_path, '[inputs.h]\nvalues = "r.npz"\n'))
    with pytest.raises(UsageError, match=r"inputs.h.values: samples are"):
        make([H], OUT, declared)
