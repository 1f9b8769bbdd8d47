"""Reads ``adb devices -l``; pure.

What it prints in the field: lines of the daemon's start before the list, an unauthorised phone
without a model, two wordings of ``no permissions`` (with a sentence for a state), a serial with a
space in it, the same phone twice, on USB and found by mDNS, and cheap phones that all have one
serial.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

_STATES = (
    "device",
    "offline",
    "unauthorized",
    "authorizing",
    "connecting",
    "recovery",
    "sideload",
    "bootloader",
    "host",
    "no permissions",
    "no device",
)
_ROW = re.compile(rf"^(?P<serial>\S.*?)\s+(?P<state>{'|'.join(_STATES)})\b(?P<rest>.*)$")
_FIELD = re.compile(r"(\w+):(\S+)")
_MDNS = re.compile(r"^adb-(?P<serial>.+)-[A-Za-z0-9]+(?: \(\d+\))?\._adb(-tls-connect)?\._tcp\.?$")
_ADVICE = {
    "unauthorized": "unlock it and allow this computer's key",
    "no permissions": "this user may not open its USB device: install android-sdk-platform-tools-"
    "common (udev rules) or join the group plugdev",
    "offline": "plug it in again, or adb disconnect and connect",
}


@dataclass(frozen=True, slots=True)
class Attached:
    """A phone as listed; ``problem`` says why it cannot be used (empty if it can). ``target`` is
    what adb is told to mean it: its serial, or its place on the bus where another one has it too.
    """

    serial: str
    state: str
    fields: Mapping[str, str]
    problem: str = ""
    target: str = ""

    @property
    def hardware_serial(self) -> str:
        """What its own serial number seems to be: that inside an mDNS name, else the listed."""
        found = _MDNS.match(self.serial)
        return found["serial"] if found else self.serial

    @property
    def on_usb(self) -> bool:
        """Whether it is on a cable."""
        return "usb" in self.fields or not ("." in self.serial or ":" in self.serial)


def parse_devices(text: str) -> tuple[Attached, ...]:
    """Every row of the list; lines that are none are left out."""
    _, _, listed = text.replace("\r\n", "\n").partition("List of devices attached")
    rows = [row for line in listed.splitlines() if (row := _row(line)) is not None]
    return tuple(_told_apart(row, rows) for row in rows)


def usable(rows: Iterable[Attached]) -> tuple[Attached, ...]:
    """Phones that can be used, each once; one that is on a cable and on the network counts as on
    the cable."""
    chosen: dict[tuple[str, str], Attached] = {}
    for row in rows:
        if row.problem:
            continue
        key = (row.hardware_serial, "" if _MDNS.match(row.serial) else row.fields.get("usb", ""))
        if not key[1]:
            wired = next((k for k in chosen if k[0] == key[0]), None)
            if wired is not None:
                continue
        else:
            chosen.pop((key[0], ""), None)
        chosen[key] = row
    return tuple(chosen.values())


def _row(line: str) -> Attached | None:
    found = _ROW.match(line.rstrip())
    if found is None:
        return None
    state = found["state"]
    fields = dict(_FIELD.findall(found["rest"]))
    problem = ""
    if state != "device":
        advice = _ADVICE.get(state)
        problem = f"{state}: {advice}" if advice else state
    return Attached(found["serial"], state, fields, problem, found["serial"])


def _told_apart(row: Attached, rows: Iterable[Attached]) -> Attached:
    """``row`` by its place on the bus where others have its serial; adb takes no such serial."""
    alike = [one for one in rows if one.serial == row.serial and one is not row]
    if not alike or row.problem:
        return row
    models = [(one.fields.get("product"), one.fields.get("model")) for one in alike]
    mine = (row.fields.get("product"), row.fields.get("model"))
    if "usb" not in row.fields or mine in models:
        problem = f"another phone here has the serial {row.serial}: attach one of them at a time"
        return replace(row, problem=problem)
    return replace(row, target=f"usb:{row.fields['usb']}")
