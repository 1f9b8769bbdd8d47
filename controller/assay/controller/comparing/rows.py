"""What a sweep says, as rows: the one source of the terminal table, the report and ``/metrics``.

Only VALID results rank. A row without any is shown with what there is, labelled, and left out of
ranking, ratios and comparisons.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.controller.comparing.figures import CellFigures, Estimate
from assay.controller.records import CellRecord, StaticCost
from assay.core.comparing.compare import Comparison


class RowStatus(enum.Enum):
    """The best a cell's results reached; FAILED gave no number, PENDING has no result yet."""

    VALID = "VALID"
    SUSPECT = "SUSPECT"
    INVALID = "INVALID"
    FAILED = "FAILED"
    PENDING = "PENDING"


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many of a cell's results carry a reason code; ``detail`` is the newest one's."""

    code: str
    hard: bool
    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class Row:
    """One cell. Ratios are to the section's reference, None where either side does not count;
    ``valid`` of ``total`` results are VALID; ``tied`` others share its ``rank``. ``duels`` are its
    p50 against those of rows before it in the section, by cell key, where there are rounds enough
    to compare every row with every other."""

    cell: CellRecord
    variant: str
    model: str
    format: str
    runtime: str
    size_bytes: int
    cost: StaticCost | None
    figures: CellFigures
    status: RowStatus
    valid: int
    total: int
    reasons: tuple[ReasonCount, ...]
    baseline: bool
    rank: int | None = None
    tied: int = 0
    latency_ratio: float | None = None
    size_ratio: float | None = None
    comparison: Comparison | None = None
    duels: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether its figures rank."""
        return self.figures.counts

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one inference."""
        return self.cost.macs if self.cost else None


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that may be compared: one device, one scenario, one environment.

    ``differs`` names what sets this environment apart from the group's first; empty there. Where it
    was ``forced``, rows of all environments stand in one section and ``differs`` names every
    difference within it.
    """

    device: str
    device_class: str
    scenario: str
    differs: tuple[str, ...]
    rows: tuple[Row, ...]
    reference: Row | None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class CanaryRow:
    """The fixed small model that shows how the device itself moved over the rounds."""

    cell: CellRecord
    device: str
    device_class: str
    runtime: str
    figures: CellFigures
    shift: float | None
    valid: int
    total: int

    @property
    def p50(self) -> Estimate | None:
        """The median latency; of no account unless ``figures.counts``."""
        return self.figures.p50


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole sweep. The counts are over results of measured cells, canaries left out."""

    name: str
    sections: tuple[Section, ...]
    canaries: tuple[CanaryRow, ...]
    valid: int
    suspect: int
    invalid: int
    reasons: tuple[ReasonCount, ...]

    @property
    def total(self) -> int:
        """All results of measured cells."""
        return self.valid + self.suspect + self.invalid

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row of every section."""
        return tuple(row for section in self.sections for row in section.rows)
