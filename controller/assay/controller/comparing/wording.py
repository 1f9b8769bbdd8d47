"""What sentences about a sweep are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.controller.comparing.rows import Row


@dataclass(frozen=True, slots=True)
class Sentence:
    """``lead`` says what it is about in a word or two; ``caution`` ones limit the others."""

    lead: str
    text: str
    caution: bool = False


def row_name(row: Row) -> str:
    """``int8-static in litert``."""
    return f"{row.variant} in {row.runtime}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """``a, b and c``; of more than ``most`` names the first ones and how many more there are."""
    shown = list(names[:most])
    if len(names) > most:
        return ", ".join(shown) + f" and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
