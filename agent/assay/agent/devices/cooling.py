"""Cooling devices that mean the processor is held back.

``/sys/class/thermal/cooling_device*``: most entries are no such thing. Fans move on healthy
boards, chargers stand at 100000, ``TCC Offset`` is a setting: so an allow-list by type.
"""

from __future__ import annotations

import re
from pathlib import Path

from assay.agent.sysroot import find, maybe_int, maybe_text

_HOLDS_BACK = re.compile(
    r"^(thermal-cpufreq-\d+|thermal-devfreq-\d+(-[\w.]+)?|cpufreq-cpu\d+|cpu\d*-(emergency|balanced"
    r"|hotplug|heavy|critical)|gpu-(balanced|emergency|heavy|critical)|thermal-cluster-\d+-\d+"
    r"|cpu-(critical|hot|emergency|balanced)|Processor|intel_powerclamp)$"
)


def holds_back(kind: str) -> bool:
    """Whether a cooling device of this type in a state above 0 means throttling."""
    return bool(_HOLDS_BACK.match(kind))


def read_cooling(sysroot: Path) -> dict[str, int]:
    """The state of each device that holds the processor back, by type; 0 means it does not."""
    states: dict[str, int] = {}
    for path in cooling_states(sysroot).values():
        state = maybe_int(path)
        kind = maybe_text(path.with_name("type")) or ""
        # intel_powerclamp says -1 while it is not in use.
        if state is not None:
            states[kind] = max(states.get(kind, 0), state, 0)
    return states


def cooling_states(sysroot: Path) -> dict[str, Path]:
    """The ``cur_state`` files of the devices that hold the processor back, by folder name."""
    return {
        folder.name: folder / "cur_state"
        for folder in find(sysroot, "sys/class/thermal/cooling_device*")
        if holds_back(maybe_text(folder / "type") or "")
    }
