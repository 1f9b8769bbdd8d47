"""What Arm cores are called and how they rank, by the numbers in ``/proc/cpuinfo``.

Source: the MIDR_EL1 values in Linux ``arch/arm64/include/asm/cputype.h`` and util-linux
``lscpu-arm.c``. The rank only orders the core kinds of one chip where the kernel gives neither
capacity nor clocks: 0 for little cores, 1 for big, 2 for prime.
"""

from __future__ import annotations

_LITTLE, _BIG, _PRIME = 0, 1, 2

_CORES: dict[tuple[int, int], tuple[str, int]] = {
    (0x41, 0xB76): ("ARM1176", _LITTLE),
    (0x41, 0xC07): ("Cortex-A7", _LITTLE),
    (0x41, 0xC08): ("Cortex-A8", _LITTLE),
    (0x41, 0xC09): ("Cortex-A9", _BIG),
    (0x41, 0xC0F): ("Cortex-A15", _BIG),
    (0x41, 0xD03): ("Cortex-A53", _LITTLE),
    (0x41, 0xD04): ("Cortex-A35", _LITTLE),
    (0x41, 0xD05): ("Cortex-A55", _LITTLE),
    (0x41, 0xD46): ("Cortex-A510", _LITTLE),
    (0x41, 0xD80): ("Cortex-A520", _LITTLE),
    (0x41, 0xD07): ("Cortex-A57", _BIG),
    (0x41, 0xD08): ("Cortex-A72", _BIG),
    (0x41, 0xD09): ("Cortex-A73", _BIG),
    (0x41, 0xD0A): ("Cortex-A75", _BIG),
    (0x41, 0xD0B): ("Cortex-A76", _BIG),
    (0x41, 0xD0C): ("Neoverse-N1", _BIG),
    (0x41, 0xD0D): ("Cortex-A77", _BIG),
    (0x41, 0xD41): ("Cortex-A78", _BIG),
    (0x41, 0xD42): ("Cortex-A78AE", _BIG),
    (0x41, 0xD4B): ("Cortex-A78C", _BIG),
    (0x41, 0xD47): ("Cortex-A710", _BIG),
    (0x41, 0xD4D): ("Cortex-A715", _BIG),
    (0x41, 0xD81): ("Cortex-A720", _BIG),
    (0x41, 0xD87): ("Cortex-A725", _BIG),
    (0x41, 0xD83): ("Neoverse-V3AE", _BIG),
    (0x41, 0xD40): ("Neoverse-V1", _BIG),
    (0x41, 0xD49): ("Neoverse-N2", _BIG),
    (0x41, 0xD44): ("Cortex-X1", _PRIME),
    (0x41, 0xD48): ("Cortex-X2", _PRIME),
    (0x41, 0xD4E): ("Cortex-X3", _PRIME),
    (0x41, 0xD82): ("Cortex-X4", _PRIME),
    (0x41, 0xD85): ("Cortex-X925", _PRIME),
    (0x48, 0xD02): ("TaiShan v120", _PRIME),
    (0x4E, 0x003): ("Denver 2", _BIG),
    (0x4E, 0x004): ("Carmel", _BIG),
    (0x51, 0x06F): ("Krait", _BIG),
    (0x51, 0x201): ("Kryo (little)", _LITTLE),
    (0x51, 0x205): ("Kryo", _BIG),
    (0x51, 0x211): ("Kryo", _BIG),
    (0x51, 0x800): ("Kryo 2xx Gold", _BIG),
    (0x51, 0x801): ("Kryo 2xx Silver", _LITTLE),
    (0x51, 0x802): ("Kryo 3xx Gold", _BIG),
    (0x51, 0x803): ("Kryo 3xx Silver", _LITTLE),
    (0x51, 0x804): ("Kryo 4xx Gold", _BIG),
    (0x51, 0x805): ("Kryo 4xx Silver", _LITTLE),
    (0x51, 0x001): ("Oryon", _BIG),
    (0x53, 0x001): ("Exynos M1", _PRIME),
    (0x53, 0x002): ("Exynos M3", _PRIME),
    (0x53, 0x003): ("Exynos M4", _PRIME),
    (0x53, 0x004): ("Exynos M5", _PRIME),
}

# Core kinds that differ in little but the clock and share one number on one chip.
_VARIANTS = {(0x51, 0x001): {0x3: ("Oryon Phoenix L", _PRIME), 0x4: ("Oryon Phoenix M", _BIG)}}


def core_name(implementer: int, part: int, variant: int = 0) -> str:
    """Such as ``Cortex-A76``; the bare numbers where the table does not know them."""
    known = _look_up(implementer, part, variant)
    return known[0] if known else f"implementer 0x{implementer:02x} part 0x{part:03x}"


def core_rank(implementer: int, part: int, variant: int = 0) -> int:
    """0, 1 or 2; unknown cores count as big, since little ones are the well-known ones."""
    known = _look_up(implementer, part, variant)
    return known[1] if known else _BIG


def _look_up(implementer: int, part: int, variant: int) -> tuple[str, int] | None:
    by_variant = _VARIANTS.get((implementer, part), {})
    return by_variant.get(variant) or _CORES.get((implementer, part))
