"""Calibrations of this board's power sensors, kept in the agent's home.

One JSON file, by ``sampler.channel``. A board that is another one than it was fitted on, after a
card moved house, is refused: a calibration belongs to a board.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from assay.agent.home import write_atomically
from assay.agent.power.calibration import (
    GaugeCalibration,
    LinearCalibration,
    calibrated,
    gauge_watts,
)
from assay.agent.samplers.recording import Series
from assay.core.errors import SpecError
from assay.core.model import Absent

FILE = "calibration.json"
GAUGE = "battery.watts"
"""The series that a phone's gauge becomes by its sign and unit."""
_CURRENT, _VOLTS = "battery.current", "battery.volts"


@dataclass(frozen=True, slots=True)
class BoardCalibration:
    """What was fitted on ``board``: ``power`` by sampler.channel, ``scope`` is the reference
    meter's; ``gauge`` is a phone's sign and unit."""

    board: str
    scope: str = "board_input"
    power: Mapping[str, LinearCalibration] | None = None
    gauge: GaugeCalibration | None = None


def store(home: Path, calibration: BoardCalibration) -> Path:
    """Writes it to ``home``, whole or not at all, and returns the file."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = home / FILE
    write_atomically(path, json.dumps(asdict(calibration), indent=1).encode() + b"\n")
    return path


def load(home: Path, board: str) -> BoardCalibration | Absent:
    """The calibration in ``home`` for ``board``, or why there is none; :class:`SpecError` where
    the file is not one."""
    path = home / FILE
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Absent("this board's power sensor has not been calibrated")
    except (OSError, ValueError) as error:
        raise SpecError(str(path), [f"cannot be read: {error}"]) from error
    try:
        found = BoardCalibration(
            raw["board"],
            raw["scope"],
            {key: LinearCalibration(**fit) for key, fit in (raw["power"] or {}).items()},
            GaugeCalibration(**raw["gauge"]) if raw["gauge"] else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise SpecError(str(path), [f"not a calibration: {error}; remove it and calibrate"]) from (
            error
        )
    if found.board != board:
        return Absent(f"calibrated on {found.board}, this is {board}: calibrate again")
    return found


def gauge_known(home: Path, board: str) -> bool:
    """Whether ``home`` holds sign and unit of a phone's gauge."""
    try:
        kept = load(home, board)
    except SpecError:
        return False
    return not isinstance(kept, Absent) and kept.gauge is not None


def apply(
    series: Mapping[str, Series], calibration: BoardCalibration
) -> tuple[dict[str, Series], dict[str, str]]:
    """The series with calibrated ones in place of theirs, and why any stayed as it was; pure."""
    changed, why = dict(series), {}
    for key, fit in (calibration.power or {}).items():
        if key not in series:
            continue
        found = calibrated(series[key], fit, calibration.scope)
        if isinstance(found, Absent):
            why[key] = found.reason
        else:
            changed[key] = found
    if calibration.gauge is not None and _VOLTS in series:
        current = series.get(_CURRENT, Series([], []))
        watts = gauge_watts(current, series[_VOLTS], calibration.gauge)
        if isinstance(watts, Absent):
            why[GAUGE] = watts.reason
        else:
            changed[GAUGE] = watts
    return changed, why
