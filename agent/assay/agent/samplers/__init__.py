"""Sensors, one file each; adding one means adding its file.

A sensor of an installed package is found by its entry point in the group ``assay.samplers``, which
names a class decorated with :func:`sampler`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path

from assay.agent.samplers.base import Channel, Meter, Reading, Sampler, registry, sampler
from assay.core.model import Absent, SamplerFacts

__all__ = [
    "Channel",
    "Meter",
    "Reading",
    "Sampler",
    "all_samplers",
    "facts_of",
    "probe_all",
    "registry",
    "sampler",
    "sampler_facts",
]


GROUP = "assay.samplers"


def all_samplers() -> Mapping[str, type[Sampler]]:
    """Every sampler by name, its file imported now; a plug-in that cannot be imported is left
    out and named on stderr."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except (ImportError, AttributeError, ValueError) as error:
            print(f"sampler plug-in {entry.value} left out: {error}", file=sys.stderr)
    return dict(sorted(registry().items()))


def probe_all(sysroot: Path = Path("/")) -> dict[str, Sampler | Absent]:
    """Asks every sampler whether it works here; the caller closes those that do. One whose probe
    raises is absent by that: a plug-in's bug must not keep the agent from starting."""
    return {name: _probed(kind, sysroot) for name, kind in all_samplers().items()}


def _probed(kind: type[Sampler], sysroot: Path) -> Sampler | Absent:
    try:
        return kind.probe(sysroot)
    except Exception as error:
        return Absent(f"{type(error).__name__}: {error}")


def sampler_facts(sysroot: Path = Path("/")) -> tuple[SamplerFacts, ...]:
    """Every sampler with, where it does not work here, the reason."""
    probed = probe_all(sysroot)
    for found in probed.values():
        if not isinstance(found, Absent):
            found.close()
    return tuple(facts_of(name, found) for name, found in probed.items())


def facts_of(name: str, found: Sampler | Absent) -> SamplerFacts:
    """What a probe answered; the unit is that of its first channel here (a phone's battery tells
    volts but no watts)."""
    if isinstance(found, Absent):
        return SamplerFacts(name, registry()[name].unit, found.reason)
    return SamplerFacts(name, found.channels[0].unit)
