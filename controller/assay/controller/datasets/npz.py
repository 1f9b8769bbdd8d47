"""Reads the .npz files that hold datasets and weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core import npz
from assay.core.errors import BadInputs, BadMessage, NotFound

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the file; :class:`BadInputs` if it is not an .npz of plain arrays."""
    if not path.exists():
        raise NotFound(f"{path}: no such file")
    try:
        return npz.read_npz(path)
    except BadMessage as error:
        raise BadInputs(str(error)) from error
