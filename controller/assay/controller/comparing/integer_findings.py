"""Why integers are slower than floats where they are: it is common, and has causes one can see.

Without instructions for dot products of int8 (VNNI on x86, dotprod and i8mm on Arm) the kernels
multiply pairs and widen; quantised operators that the runtime did not fuse leave conversions in the
graph around float arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from assay.controller.comparing.numbers import ratio
from assay.controller.comparing.rows import Row
from assay.controller.comparing.wording import Sentence, listed, row_name
from assay.core.model import Provenance

_DOT_PRODUCTS = frozenset({"dotprod", "i8mm", "avx512_vnni", "avx_vnni", "amx_int8"})
# At least one of these is there wherever the processor's features are known.
_VECTORS = frozenset({"neon", "avx2", "avx512"}) | _DOT_PRODUCTS
# Where else operators ran (a GPU, a vendor's delegate), the processor says nothing about them.
_ON_PROCESSOR = ("CPU", "Xnnpack", "XNNPACK", "builtin")
_CONVERSION = re.compile(r"((?:Dynamic)?(?:Quantize|Dequantize)Linear|(?:DE)?QUANTIZE) x(\d+)")
_OPERATOR = re.compile(r"[\w.:]+ x(\d+)")
# A model converts at its input and at its output.
_USUAL = 2


def slower_integers(ranked: Sequence[Row]) -> Sentence | None:
    """Which int8 rows are slower than the same model in float32 under the same runtime, their
    spreads apart, and why; None where there is none."""
    floats = {(r.model, r.runtime): r for r in reversed(ranked) if _precision(r) == "float32"}
    said = []
    for row in ranked:
        other = floats.get((row.model, row.runtime))
        if other is None or _precision(row) not in ("int8", "uint8"):
            continue
        mine, theirs = row.figures.p50, other.figures.p50
        if mine is None or theirs is None or not theirs.clear_of(mine):
            continue
        why = causes(row.figures.counted[-1].result.provenance)
        times = ratio(mine.value / theirs.value)
        said.append(f"{row_name(row)} takes {times} the p50 of {other.variant}: {why}")
    return Sentence("Slower in int8", "; ".join(said) + ".") if said else None


def causes(provenance: Provenance) -> str:
    """What of the processor and of the optimised graph explains it."""
    found = []
    words = set(provenance.device.capabilities)
    here = all(place.startswith(_ON_PROCESSOR) for place in provenance.placement)
    if here and words & _VECTORS and not words & _DOT_PRODUCTS:
        found.append("this processor has no instructions for int8 dot products")
    text = " ".join(provenance.placement)
    left = [(name, int(count)) for name, count in _CONVERSION.findall(text)]
    conversions = sum(count for _, count in left)
    total = sum(int(count) for count in _OPERATOR.findall(text))
    if conversions > _USUAL:
        names = listed([f"{name} x{count}" for name, count in left])
        found.append(f"{conversions} of the {total} operators it runs only convert ({names})")
    if not (found or total):
        found.append("its runtime does not tell what the optimised graph is")
    return " and ".join(found) or (
        "neither the processor’s instructions nor conversions left in the graph explain it"
    )


def _precision(row: Row) -> str:
    counted = row.figures.counted
    return counted[-1].result.factors.get("precision", "") if counted else ""
