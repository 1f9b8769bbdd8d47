"""Any other Linux machine: by DMI, device tree or the processor's name."""

from __future__ import annotations

import re

from assay.agent.devices.classes import class_of_architecture
from assay.agent.devices.family import Clues, Identity
from assay.agent.sysroot import maybe_text

# What firmware vendors leave in where a name should be.
_FILLER = re.compile(
    r"^(to be filled.*|default string|system (product name|manufacturer|version)|not specified"
    r"|none|unknown|o\.e\.m\.?|oem)$",
    re.IGNORECASE,
)


def identify(clues: Clues) -> Identity:
    """Always something: the last family to be asked."""
    board = clues.model or _dmi(clues) or clues.info.value("Hardware") or clues.cpu.model
    return Identity(
        board,
        class_of_architecture(clues.cpu.architecture),
        power_mode=maybe_text(clues.sysroot / "sys/firmware/acpi/platform_profile"),
    )


def _dmi(clues: Clues) -> str:
    folder = clues.sysroot / "sys/class/dmi/id"
    words = [maybe_text(folder / name) or "" for name in ("sys_vendor", "product_name")]
    vendor, product = ("" if _FILLER.match(word) else word for word in words)
    return product if product.startswith(vendor) else f"{vendor} {product}".strip()
