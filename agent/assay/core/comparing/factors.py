"""Factors that differ although nobody asked for it."""

from __future__ import annotations

from collections.abc import Mapping

from assay.core.model import RuntimeSpec

_BY_RUNTIME = ("runtime", "provider", "threads", "spinning", "options")
"""What follows from what was asked of the runtime. The variant and what its file decides
(precision, input, batch) differ by the choice of the variant; fidelity stands in the environment
key."""


def undeclared_factors(
    left: Mapping[str, str],
    right: Mapping[str, str],
    left_asked: RuntimeSpec,
    right_asked: RuntimeSpec,
) -> list[str]:
    """The factors that differ between two results of which the same was asked, e.g. ``runtime:
    onnxruntime 1.31.0, onnxruntime 1.32.0`` after a package was upgraded between two rounds.

    Where something else was asked of the runtime, that is what is compared, and nothing is
    undeclared. A factor one of them does not state is no difference.
    """
    if left_asked != right_asked:
        return []
    return [
        f"{name}: {left[name]}, {right[name]}"
        for name in _BY_RUNTIME
        if left.get(name) and right.get(name) and left[name] != right[name]
    ]
