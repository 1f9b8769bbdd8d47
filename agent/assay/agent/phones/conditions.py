"""What a phone's own services say of its state around a run, and what follows; pure.

``dumpsys`` has near-duplicate keys and an event log below the block that counts, so only the first
block is read; a thermal status of 0 without a ready HAL or any sensor means unknown, not cool.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from assay.core.model import Absent, Reason

SCRIPT = (
    "dumpsys thermalservice; echo @@battery; dumpsys battery; echo @@screen; "
    "dumpsys power | grep -m1 mWakefulness=; echo @@airplane; "
    "settings get global airplane_mode_on"
)
_STATUS = re.compile(r"^\s*Thermal Status:\s*(\d+)", re.MULTILINE)
_BATTERY_LOW = 0.20
_POWERED = ("AC powered", "USB powered", "Wireless powered", "Dock powered")


@dataclass(frozen=True, slots=True)
class PhoneState:
    """None where the phone does not tell. ``thermal_status`` is Android's: 0 none, 1 light,
    2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown."""

    thermal_status: int | None = None
    powered: bool | None = None
    battery_level: float | None = None
    screen: str = ""
    airplane: bool | None = None


def parse_state(text: str) -> PhoneState:
    """What :data:`SCRIPT` printed; parts of it may be missing or an error message."""
    thermal, _, rest = text.partition("@@battery")
    battery, _, rest = rest.partition("@@screen")
    screen, _, airplane = rest.partition("@@airplane")
    block = _first_block(battery)
    awake = re.search(r"mWakefulness=(\w+)", screen)
    flying = airplane.strip().splitlines()[:1]
    return PhoneState(
        thermal_status=_thermal_status(thermal),
        powered=_powered(block),
        battery_level=_battery_level(block),
        screen=awake[1] if awake else "",
        airplane=flying == ["1"] if flying in (["0"], ["1"]) else None,
    )


def power_absence(state: PhoneState, *, on_usb: bool) -> Absent:
    """Why a tethered phone tells no energy here."""
    if on_usb or state.powered:
        return Absent(
            "usb_powered: with the cable in, the gauge shows the charge and not the load; use adb "
            "over Wi-Fi with the cable cut"
        )
    return Absent("the battery's gauge is not calibrated for this phone")


def statuses_in(text: str) -> list[int]:
    """The thermal statuses that stand in a text, as ``dumpsys thermalservice`` writes them."""
    return [int(found) for found in _STATUS.findall(text)]


def reasons_of(
    before: PhoneState, after: PhoneState, *, on_usb: bool, during: Sequence[int] = ()
) -> tuple[Reason, ...]:
    """What speaks against a run between two states, and thermal statuses ``during`` it."""
    found = []
    worst = max(before.thermal_status or 0, after.thermal_status or 0, *during)
    if worst > 0:
        found.append(Reason("throttled", True, f"Android's thermal status was {worst}"))
    if on_usb or before.powered or after.powered:
        found.append(Reason("usb_powered", False, "a charging phone is warmer than one in use"))
    level = after.battery_level
    if level is not None and level < _BATTERY_LOW:
        found.append(Reason("battery_low", False, f"{level:.0%}: Android saves power"))
    return tuple(found)


def _thermal_status(text: str) -> int | None:
    status = _STATUS.search(text)
    if status is None:
        return None
    blind = re.search(r"HAL Ready:\s*false", text) and not re.search(r"Temperature\{", text)
    return None if blind and status[1] == "0" else int(status[1])


def _first_block(text: str) -> dict[str, str]:
    """``key: value`` lines up to the first that is none, so that an event log is not read."""
    found: dict[str, str] = {}
    for line in text.strip().splitlines():
        key, colon, value = line.strip().partition(":")
        if not colon or (not line.startswith(" ") and found):
            break
        found.setdefault(key.strip(), value.strip())
    return found


def _powered(block: dict[str, str]) -> bool | None:
    told = [block[key] == "true" for key in _POWERED if key in block]
    return any(told) if told else None


def _battery_level(block: dict[str, str]) -> float | None:
    level, scale = block.get("level", ""), block.get("scale", "100")
    if not level.isdigit() or not scale.isdigit() or int(scale) == 0:
        return None
    return int(level) / int(scale)
