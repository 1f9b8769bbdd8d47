"""A program under an emulator is told by the kernel below it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assay.agent.devices.detect import detect
from assay.agent.devices.emulation import EMULATED, emulation_reasons, is_emulated
from tests.boards import composed, write

X86_ALIAS = "cpu:type:x86,ven0002fam0019mod0011:feature:,0000,0001"
ARM_ALIAS = "cpu:type:aarch64:feature:,0000,0001"


@pytest.mark.parametrize(
    ("arch", "alias", "machine", "emulated"),
    [
        ("x86_64", "", "aarch64", True),
        ("aarch64", "", "x86_64", True),
        ("x86_64", "", "x86_64", False),
        ("x86_64", "", "i686", False),
        ("aarch64", "", "armv7l", False),
        ("aarch64", "", "armv8l", False),
        ("", X86_ALIAS, "aarch64", True),
        ("", ARM_ALIAS, "aarch64", False),
        ("", "", "aarch64", False),
        ("riscv64", "", "riscv64", False),
    ],
)
def test_the_kernels_own_machine_decides(
    arch: str, alias: str, machine: str, emulated: bool, tmp_path: Path
) -> None:
    files = {"proc/sys/kernel/arch": arch, "sys/devices/system/cpu/modalias": alias}
    root = write(tmp_path, {name: text for name, text in files.items() if text})
    assert is_emulated(root, machine) is emulated


def test_an_emulated_devices_numbers_do_not_hold() -> None:
    device = detect(composed("rpi4"), samplers=())
    assert emulation_reasons(device) == ()
    marked = replace(device, capabilities=(*device.capabilities, EMULATED))
    (reason,) = emulation_reasons(marked)
    assert reason.code == "emulated" and reason.hard and "aarch64" in reason.detail
