"""What a sweep says of energy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from assay.controller.comparing.figures import EnergyFigure
from assay.controller.comparing.numbers import joules
from assay.controller.comparing.rows import Row, Summary
from assay.controller.comparing.wording import Sentence, listed, row_name
from assay.core.comparing.meters import meter_differences
from assay.core.model import Absent


def least_energy(ranked: Sequence[Row], *, forced: bool = False) -> Sentence | None:
    """Which of the rows takes the least, or why none was measured; energies that were not read
    alike are not compared, unless that was ``forced``."""
    measured = [
        (r, r.figures.energy)
        for r in ranked
        if isinstance(r.figures.energy, EnergyFigure) and not r.figures.energy.inconclusive
    ]
    if measured:
        # Of those read alike: the reference's way, where it has one, else the first one's.
        meter = measured[0][1].meter
        apart = [(r, e) for r, e in measured if e.meter != meter]
        measured = [(r, e) for r, e in measured if forced or e.meter == meter]
        row, figure = min(measured, key=lambda pair: pair[1].total.value)
        bar = figure.total.value + figure.u2_j
        ties = [row_name(r) for r, e in measured if e.total.value - e.u2_j <= bar and r is not row]
        return Sentence(
            "Least energy",
            f"{row_name(row)}, {joules(figure.total.value)} ± {joules(figure.u2_j)} an inference "
            f"({figure.tier}, {figure.scope})"
            + (f"; not told apart from {listed(ties)}" if ties else "")
            + _otherwise_read(meter, apart, forced=forced)
            + ".",
        )
    reasons = Counter(
        r.figures.energy.reason for r in ranked if isinstance(r.figures.energy, Absent)
    )
    if not reasons:
        return None
    return Sentence("Energy", f"not measured: {reasons.most_common(1)[0][0]}.")


def energies_apart(summary: Summary) -> list[Sentence]:
    """Which cells had some of their energies read otherwise, before a calibration for instance."""
    split = [
        (row, row.figures.energy.apart, section.forced)
        for section in summary.sections
        for row in section.rows
        if isinstance(row.figures.energy, EnergyFigure) and row.figures.energy.apart
    ]
    if not split:
        return []
    names = dict.fromkeys(name for _, apart, _ in split for name in apart)
    cells = listed(list(dict.fromkeys(row_name(row) for row, _, _ in split)))
    done = "counted all the same" if split[0][2] else "left out of the energies"
    text = f"runs of {cells} that were read otherwise are {done}: {'; '.join(names)}."
    return [Sentence("Energies read otherwise", text, True)]


def _otherwise_read(
    meter: Mapping[str, str], apart: Sequence[tuple[Row, EnergyFigure]], *, forced: bool
) -> str:
    """Whose meters differ from ``meter``, and in what, by name."""
    if not apart:
        return ""
    names = dict.fromkeys(n for _, e in apart for n in meter_differences(meter, e.meter))
    done = "though read otherwise, compared" if forced else "not compared"
    return f"; {done} with {listed([row_name(r) for r, _ in apart])} ({'; '.join(names)})"
