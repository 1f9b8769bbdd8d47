"""Takes out of a recording what tells one board or person from another; pure."""

from __future__ import annotations

import re
from collections.abc import Callable

_MAC = re.compile(rb"(?<![0-9A-Fa-f])[0-9A-Fa-f]{2}(?:[:_-][0-9A-Fa-f]{2}){5}(?![0-9A-Fa-f:])")
_NO_MAC = b"00:00:00:00:00:00"
_NO_BOOT_ID = b"00000000-0000-4000-8000-000000000000\n"
_OS_KEYS = (b"ID=", b"NAME=", b"PRETTY_NAME=", b"VERSION=", b"VERSION_ID=", b"VERSION_CODENAME=")
_PROPERTIES = re.compile(
    rb"^\[?(?:ro\.product\.(?:system\.)?(?:model|manufacturer|brand|board|device|name)"
    rb"|ro\.product\.cpu\.[\w.]+|ro\.soc\.[\w.]+|ro\.board\.platform|ro\.hardware"
    rb"|ro\.build\.version\.(?:release|sdk))\]?\s*[=:]"
)


def scrub_content(path: str, content: bytes) -> bytes:
    """The content of ``path`` (relative to the root) without serial numbers, MAC addresses, boot
    id, hostnames; of properties and os-release only the lines that name model and system."""
    rule = _RULES.get(path)
    return _MAC.sub(_NO_MAC, rule(content) if rule is not None else content)


def scrub_path(path: str) -> str:
    """A path without the addresses that kernels put into names (Bluetooth batteries)."""
    return _MAC.sub(_NO_MAC, path.encode()).decode()


def _lines(content: bytes, keep: Callable[[bytes], bool]) -> bytes:
    return b"".join(line for line in content.splitlines(keepends=True) if keep(line))


def _cpuinfo(content: bytes) -> bytes:
    return _lines(content, lambda line: not re.match(rb"(?i)\s*serial\b", line))


def _os_release(content: bytes) -> bytes:
    return _lines(content, lambda line: line.startswith(_OS_KEYS))


def _properties(content: bytes) -> bytes:
    return _lines(content, lambda line: _PROPERTIES.match(line) is not None)


_RULES: dict[str, Callable[[bytes], bytes]] = {
    "proc/cpuinfo": _cpuinfo,
    "proc/sys/kernel/random/boot_id": lambda _: _NO_BOOT_ID,
    "etc/os-release": _os_release,
    "usr/lib/os-release": _os_release,
    "system/build.prop": _properties,
    "commands/getprop.txt": _properties,
}
