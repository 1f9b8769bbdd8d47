"""Integers that are slower than floats, explained by the processor and by the optimised graph."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assay.controller.comparing.findings import sentences
from assay.controller.comparing.integer_findings import causes
from assay.controller.comparing.summary import summarise
from assay.controller.comparing.sweep_data import SweepData
from assay.core.model import Provenance
from tests.factories import SHAPES, make_facts, make_result, make_sweep

FUSED = (
    "CPUExecutionProvider: 11 operators (DequantizeLinear x1, QLinearConv x9, QuantizeLinear x1)"
)
LEFT = "CPUExecutionProvider: 30 operators (Conv x9, DequantizeLinear x12, QuantizeLinear x9)"


def provenance(placement: str, *capabilities: str) -> Provenance:
    found = make_result().result.provenance
    device = make_facts(capabilities=capabilities)
    return replace(found, placement=(placement,), device=device)


def measured(int8_ns: float, *, precision: str = "int8") -> SweepData:
    shapes = [SHAPES[0], replace(SHAPES[3], p50_ns=int8_ns)]
    data = make_sweep(shapes=shapes, runtimes=["onnxruntime"], spoil=False)

    def told(result: object) -> object:
        given = result.factors["variant"]  # type: ignore[attr-defined]
        kind = precision if given.startswith("int8") else "float32"
        factors = {**result.factors, "precision": kind}  # type: ignore[attr-defined]
        where = provenance(LEFT, "neon", "fp16")
        return replace(result, factors=factors, provenance=where)  # type: ignore[type-var]

    results = tuple(replace(r, result=told(r.result)) for r in data.results)  # type: ignore[arg-type]
    return replace(data, results=results)


def said(data: SweepData) -> list[str]:
    return [s.text for s in sentences(summarise(data)) if s.lead == "Slower in int8"]


def test_int8_that_is_slower_is_explained() -> None:
    (text,) = said(measured(1_900_000))
    assert text.startswith("int8-static in onnxruntime takes 1.5")
    assert "the p50 of fp32: this processor has no instructions for int8 dot products" in text
    assert "21 of the 30 operators it runs only convert (DequantizeLinear x12" in text


@pytest.mark.parametrize("int8_ns", [500_000, 1_240_000])
def test_int8_that_is_faster_or_not_told_apart_needs_no_word(int8_ns: float) -> None:
    assert said(measured(int8_ns)) == []


def test_another_precision_is_none_of_it() -> None:
    assert said(measured(1_900_000, precision="float16")) == []


@pytest.mark.parametrize("word", ["dotprod", "i8mm", "avx512_vnni", "avx_vnni", "amx_int8"])
def test_a_processor_with_dot_products_is_not_to_blame(word: str) -> None:
    assert causes(provenance(FUSED, "neon", word)).startswith("neither the processor’s")
    assert causes(provenance(LEFT, word)).startswith("21 of the 30 operators")


def test_conversions_at_both_ends_are_usual() -> None:
    told = causes(provenance(FUSED, "avx2"))
    assert told == "this processor has no instructions for int8 dot products"


def test_a_processor_that_did_not_compute_is_not_to_blame() -> None:
    line = FUSED.replace("CPUExecutionProvider", "CUDAExecutionProvider")
    assert causes(provenance(line, "avx2")).startswith("neither the processor’s")


def test_what_is_not_known_is_not_claimed() -> None:
    assert "does not tell" in causes(provenance("CPUExecutionProvider"))


def test_litert_is_read_as_well() -> None:
    line = "builtin: 7 operators (CONV_2D x2, DEQUANTIZE x3, QUANTIZE x2)"
    told = causes(provenance(line, "dotprod"))
    assert told == "5 of the 7 operators it runs only convert (DEQUANTIZE x3 and QUANTIZE x2)"
