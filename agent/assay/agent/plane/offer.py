"""How a file could travel, as the controller offers it."""

from __future__ import annotations

from dataclasses import dataclass

from assay.core.encoding import Encoding


@dataclass(frozen=True, slots=True)
class Offer:
    """``wire_bytes`` in all; ``base`` is the digest a patch rests on, ``window_log`` what decoding
    may ask for."""

    encoding: Encoding
    wire_bytes: int
    base: str = ""
    window_log: int = 0
