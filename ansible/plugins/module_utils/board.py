"""What kind of host this is, from files under a root; no dependency, any Python from 3.8."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

RASPBERRY_PI, JETSON, GENERIC = "raspberrypi", "jetson", "generic"

_CAP_SYS_RESOURCE = 24

# What each board's sensors need beyond plain files: see docs/deploy.md for the reasons.
DEVICES = {
    RASPBERRY_PI: ("/dev/vcio rw", "/dev/vchiq rw", "char-i2c rw"),
    JETSON: ("char-nvhost* rw", "char-nvidia* rw", "char-nvmap rw", "char-drm rw", "char-i2c rw"),
    GENERIC: ("char-drm rw", "char-i2c rw"),
}
GROUPS = ("video", "render", "gpio", "i2c", "spi", "dialout", "plugdev")


def kind(root: Path = Path("/")) -> str:
    """Which family of boards; ``generic`` where the firmware names none that is known."""
    compatible = _text(root / "proc/device-tree/compatible").split("\0")
    if any(each.startswith("raspberrypi,") for each in compatible):
        return RASPBERRY_PI
    if any(each.startswith("nvidia,tegra") for each in compatible):
        return JETSON
    if (root / "etc/nv_tegra_release").exists():
        return JETSON
    return GENERIC


def model(root: Path = Path("/")) -> str:
    """The board's name as its firmware has it; the vendor's product name on a PC."""
    for path in ("proc/device-tree/model", "sys/class/dmi/id/product_name"):
        name = _text(root / path).strip("\0 \n")
        if name:
            return name
    return platform.machine()


def clock_synchronised() -> bool | None:
    """What systemd says of the clock; None where it does not tell."""
    text = output(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    return {"yes": True, "no": False}.get(text.strip())


def systemd_version() -> int:
    """The major version; 0 where systemd does not run this host."""
    if not Path("/run/systemd/system").is_dir():
        return 0
    words = output(["systemctl", "--version"]).split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def may_raise_limits() -> bool:
    """Whether the service manager can give a service higher limits than its own; in some
    containers it cannot (no CAP_SYS_RESOURCE)."""
    match = re.search(r"^CapBnd:\s+([0-9a-f]+)$", _text(Path("/proc/1/status")), re.MULTILINE)
    return match is None or bool(int(match.group(1), 16) >> _CAP_SYS_RESOURCE & 1)


def missing_packages(names: list[str]) -> list[str]:
    """Which of these Debian packages are not installed; all of them where dpkg is missing."""
    found = output(["dpkg-query", "--show", "--showformat=${Package} ${Status}\n", *names])
    installed = {
        line.split()[0] for line in found.splitlines() if line.endswith("install ok installed")
    }
    return [name for name in names if name not in installed]


def free_bytes(path: Path) -> int:
    """Room on the disk that ``path`` lies on, or would lie on."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def output(command: list[str], timeout_s: float = 30.0) -> str:
    """What a program prints; empty where it is missing, fails to start or takes too long."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
