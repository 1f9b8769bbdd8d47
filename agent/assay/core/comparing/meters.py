"""Whether two energies may be compared: only where one meter read both, through one calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from assay.core.model import Absent, Conditions, Energy

CALIBRATED = "power_calibration"
"""The note of a result that says by which calibration its power was read, if by one."""


class Metered(Protocol):
    """What a run says of its energy, as a stored result and a measured one have it alike."""

    @property
    def energy(self) -> Energy | Absent:
        """Of an inference."""
        ...

    @property
    def conditions(self) -> Conditions | None:
        """With the notes of the run."""
        ...


def meter_of(run: Metered) -> Mapping[str, str]:
    """How the energy was read: ``power_tier``, ``power_source``, ``power_scope`` and
    ``power_calibration`` (``none`` for raw readings); empty where none was."""
    if isinstance(run.energy, Absent):
        return {}
    notes = run.conditions.notes if run.conditions is not None else {}
    return {
        "power_tier": run.energy.tier.value,
        "power_source": run.energy.source,
        "power_scope": run.energy.scope,
        CALIBRATED: notes.get(CALIBRATED, "none"),
    }


def meter_differences(left: Mapping[str, str], right: Mapping[str, str]) -> list[str]:
    """The parts of two meters that differ, e.g. ``power_scope: rail_sum, board_input``; a run
    without energy differs from none."""
    if not (left and right):
        return []
    return [f"{name}: {left[name]}, {right[name]}" for name in left if left[name] != right[name]]
