"""Whether this Python and this board can run Assay, and what to do where they cannot.

This file must run on any Python 3: it is what refuses the old ones, so it imports nothing of
Assay at its top and uses no syntax newer than 3.6.
"""

import importlib.util
import os
import struct
import sys

MIN_PYTHON = (3, 10)


def userland_bits() -> int:
    """64 or 32: of this Python, which on a 64-bit kernel may still be the smaller."""
    return struct.calcsize("P") * 8


def python_problem(version: "tuple[int, int]" = sys.version_info[:2]) -> str:
    """Why this Python is too old and what to do, or an empty string."""
    if version >= MIN_PYTHON:
        return ""
    return (
        f"Python {version[0]}.{version[1]} is too old: Assay needs Python 3.10 or later. "
        "On JetPack 4 and 5 install a newer one beside the system's (for instance with uv, pyenv "
        "or Miniforge), make a venv with it and install assay-fleet[agent] there; on Raspberry "
        "Pi OS use Bookworm or later."
    )


def has_ncnn() -> bool:
    """Whether the one runtime with packages for 32-bit Arm is installed."""
    return importlib.util.find_spec("ncnn") is not None


def board_problem(
    machine: str = os.uname().machine,
    bits: int = struct.calcsize("P") * 8,
    ncnn: "bool | None" = None,
) -> str:
    """Why a 32-bit user space cannot run the runtimes and what to do, or an empty string; with ncnn
    it can."""
    if bits >= 64 or (has_ncnn() if ncnn is None else ncnn):
        return ""
    told = f"this is a 32-bit system ({machine}); onnxruntime and LiteRT publish nothing for it. "
    if machine in ("aarch64", "x86_64"):
        return told + (
            "The processor and kernel are 64-bit already: install a 64-bit system image "
            "(Raspberry Pi OS 64-bit, Debian arm64) and run the agent there."
        )
    if machine.startswith("armv6") or machine == "i686":
        return told + (
            "Its processor has no 64-bit mode: use a Raspberry Pi 3, Zero 2 or later instead."
        )
    return told + (
        "If it is a Raspberry Pi 3, 4, 5 or Zero 2, install the 64-bit system image; on a 32-bit "
        "processor (Raspberry Pi 2) install ncnn, which runs there: apt install python3-numpy "
        "python3-psutil, then pip install --no-deps ncnn (Python 3.10, 3.11 or 3.13)."
    )


def require_supported() -> None:
    """Raises UnsupportedPlatform with the remedy where Assay cannot run."""
    problem = python_problem() or board_problem()
    if problem:
        from assay.core.errors import UnsupportedPlatform

        raise UnsupportedPlatform(problem)
