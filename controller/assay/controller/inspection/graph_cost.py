"""What the readers of model files agree on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GraphCost:
    """``operators`` has one entry per node; ``macs`` is None where a node of weight has no rule."""

    parameters: int
    macs: int | None
    operators: tuple[str, ...]
    precision: str
