"""Open dimensions get sizes by what they are called, and the batch is told from the rest."""

from __future__ import annotations

import pytest

from assay.core.dims import settle
from assay.core.errors import UsageError
from assay.core.tensors import TensorSpec, symbol


def spec(name: str, *shape: int | str | None, dtype: str = "float32") -> TensorSpec:
    sizes = tuple(size if isinstance(size, int) else None for size in shape)
    return TensorSpec(name, dtype, sizes, tuple(s if isinstance(s, str) else "" for s in shape))


def test_tokens_and_mask_share_their_sequence_and_leave_the_batch_open() -> None:
    inputs = [spec(name, "batch", "sequence", dtype="int64") for name in ("ids", "mask")]
    sizes = settle(inputs)
    assert sizes.batched and sizes.shapes == {"ids": (128,), "mask": (128,)}
    assert str(sizes) == "sequence=128 (proposed)"
    given = settle(inputs, {"sequence": 7})
    assert given.shapes["mask"] == (7,) and not given.proposed


def test_a_batch_that_is_set_is_part_of_the_sample() -> None:
    sizes = settle([spec("x", "batch", 4)], {"batch": 8})
    assert not sizes.batched and sizes.shapes == {"x": (8, 4)} == sizes.whole
    assert settle([spec("x", "batch", 4)]).whole == {"x": (1, 4)}


@pytest.mark.parametrize(
    "inputs",
    [
        [spec("h", 2, "batch", 8), spec("x", "batch", "time", 4)],  # a batch inside
        [spec("x", "tokens", 4)],  # the first axis is no batch
        [spec("x", 1, 4), spec("rate")],  # a scalar
        [spec("x", 4, 8)],  # a fixed batch
    ],
    ids=str,
)
def test_where_the_first_axis_is_no_common_batch_a_sample_is_whole(
    inputs: list[TensorSpec],
) -> None:
    sizes = settle(inputs)
    assert not sizes.batched
    assert all(len(sizes.shapes[one.name]) == len(one.shape) for one in inputs)
    assert sizes.dims.get("batch", 1) == 1


def test_a_dimension_without_a_name_goes_by_its_place() -> None:
    sizes = settle([spec("image", None, None, None, 3)], {"image[2]": 96})
    assert sizes.shapes["image"] == (224, 96, 3)
    assert sizes.proposed == {"image[1]"}


def test_a_batch_is_known_by_what_exporters_call_it() -> None:
    for name in ("", "batch_size", "N", "unk__214", "p2o.DynamicDimension.0", "s77"):
        sizes = settle([spec("x", name or None, 3, "height", "width")])
        assert sizes.batched and sizes.shapes == {"x": (3, 224, 224)}, name


def test_what_stands_for_any_dimension_is_no_name() -> None:
    assert [symbol(size) for size in ("?", "None", "", None, 3, "T")] == [""] * 5 + ["T"]


def test_sizes_that_no_memory_holds_are_refused() -> None:
    with pytest.raises(UsageError, match="smaller dims"):
        settle([spec("x", "batch", "a", "b")], {"a": 1 << 20, "b": 1 << 20})
