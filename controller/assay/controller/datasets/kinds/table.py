"""Features in rows: CSV files."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from assay.controller.datasets.base import OnProgress
from assay.controller.datasets.kinds.base import ALL, PARTS, Found, Kind, Part, dataset_kind
from assay.core.errors import BadInputs, NotFound, UsageError
from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SUFFIXES = (".csv", ".tsv")
_LARGEST = 3.4e38
_FILES = {1: (ALL,), 2: ("train", "test"), 3: PARTS}


@dataset_kind("csv", takes="CSV files: one, or train and test, or train, calibration and test")
class Table(Kind):
    """The first row names the columns. One column holds the label, a class's name or number; all
    others are features, kept as float32 (N, columns). A .tsv file is parted by tabs."""

    label: str = Field(default="label", description="The column of the label.")
    split: str = Field(default="", description="The column that says train, calibration or test.")
    ignore: str = Field(default="", description="Columns to leave out, with commas between.")
    delimiter: str = Field(default="", max_length=1, description="Instead of a comma or tab.")

    @classmethod
    def claims(cls, what: Sequence[str]) -> bool:
        """Files of these suffixes."""
        return len(what) in _FILES and all(Path(one).suffix.lower() in _SUFFIXES for one in what)

    def read(self, what: Sequence[str], classes: Sequence[str], progress: OnProgress) -> Found:
        """Reads them."""
        if len(what) not in _FILES:
            raise UsageError(f"{len(what)} files: kind csv takes {self.takes}")
        if self.split and len(what) > 1:
            raise UsageError("a column of splits goes with one file")
        rows: dict[str, list[_Row]] = {}
        columns: tuple[str, ...] = ()
        for part, path in zip(_FILES[len(what)], map(Path, what), strict=True):
            progress("csv", 0, 0, f"reading {path.name}")
            header, found = self._rows(path)
            if columns and header != columns:
                raise BadInputs(f"{path}: its columns are not those of {what[0]}")
            columns = header
            for row in found:
                rows.setdefault(row.part or part, []).append(row)
        names = tuple(classes) or _names({row.label for one in rows.values() for row in one})
        parts = {part: _part(found, names, bool(classes)) for part, found in rows.items()}
        return Found(", ".join(what), parts, names, Preprocessing())

    def _rows(self, path: Path) -> tuple[tuple[str, ...], list[_Row]]:
        """The features' columns, and the rows."""
        tab = path.suffix.lower() == ".tsv"
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, delimiter=self.delimiter or ("\t" if tab else ","))
                header = next(reader, [])
                self._check_header(path, header)
                rows = [
                    self._row(f"{path}: line {reader.line_num}", header, cells)
                    for cells in reader
                    if cells
                ]
        except FileNotFoundError:
            raise NotFound(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise BadInputs(f"{path}: cannot be read as a CSV file: {error}") from error
        if not rows:
            raise BadInputs(f"{path}: no rows below the names of the columns")
        return tuple(name for name in header if name not in self._others()), rows

    def _others(self) -> set[str]:
        return {self.label, self.split, *(one.strip() for one in self.ignore.split(","))}

    def _check_header(self, path: Path, header: Sequence[str]) -> None:
        for column in (self.label, self.split):
            if column and column not in header:
                listed = ", ".join(header[:8]) + (", ..." if len(header) > 8 else "")
                raise BadInputs(
                    f"{path}: line 1 names no column {column!r} (but {listed}): name the label's "
                    "by --option label=COLUMN"
                )
        if len(set(header)) < len(header):
            raise BadInputs(f"{path}: line 1 names a column twice")
        if not set(header) - self._others():
            raise BadInputs(f"{path}: no column is left for features")

    def _row(self, where: str, header: Sequence[str], cells: Sequence[str]) -> _Row:
        if len(cells) != len(header):
            raise BadInputs(f"{where}: {len(cells)} values, but {len(header)} columns are named")
        named = dict(zip(header, cells, strict=True))
        part = named[self.split].strip() if self.split else ""
        if self.split and part not in PARTS:
            raise BadInputs(f"{where}: split {part!r} is not one of {', '.join(PARTS)}")
        if not named[self.label].strip():
            raise BadInputs(f"{where}: no label")
        others = self._others()
        features = [_number(where, name, named[name]) for name in header if name not in others]
        return _Row(where, part, named[self.label].strip(), features)


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    part: str
    label: str
    features: list[float]


def _number(where: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:  # not a number compares false
        raise BadInputs(f"{where}: column {column!r}: {text!r} is not a finite float32")
    return value


def _names(labels: set[str]) -> tuple[str, ...]:
    """Whole numbers in their order, anything else by the alphabet."""
    if all(label.isdecimal() for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def _part(rows: Sequence[_Row], names: Sequence[str], given: bool) -> Part:
    import numpy as np

    places = {name: i for i, name in enumerate(names)}
    x = np.array([row.features for row in rows], dtype=np.float32)
    y: NDArray[np.int64] = np.array([_label(row, places, given) for row in rows], dtype=np.int64)
    return Part(x, y, _where(rows))


def _label(row: _Row, places: Mapping[str, int], given: bool) -> int:
    """Its name's place; a number counts where names were given and it is none of them."""
    if row.label in places:
        return places[row.label]
    if given and row.label.isdecimal() and int(row.label) < len(places):
        return int(row.label)
    raise BadInputs(f"{row.where}: label {row.label!r} is none of the {len(places)} classes")


def _where(rows: Sequence[_Row]) -> Callable[[int], str]:
    return lambda row: rows[row].where
