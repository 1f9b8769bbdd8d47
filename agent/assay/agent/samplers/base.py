"""What a sensor is: three questions, and how a new one is added.

A sampler is a class in a file of its own in this package, decorated with :func:`sampler`:
:meth:`Sampler.probe` says whether it is here and, if not, why; :meth:`Sampler.read` gives one
reading of each of its channels; :meth:`Sampler.close` lets go. Values are in base units: seconds,
hertz, degrees Celsius, volts, amperes, watts, joules, bytes, ratios.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from typing_extensions import Self

from assay.core.model import Absent, PowerTier


@dataclass(frozen=True, slots=True)
class Meter:
    """How far a power (W) or cumulative energy (J) channel can be trusted.

    ``scope`` is what it covers: module, board_input, rail_sum, rail, battery, package, wall.
    ``total`` marks a channel that stands for its whole scope, to which no other may be added.
    ``quantum`` is the smallest step in the channel's unit; ``gain_u`` the relative standard
    uncertainty of the gain, None where nobody stated it (then only comparisons on the same board
    hold); ``offset_u`` that of its zero, in the channel's unit; ``wrap_j`` is where a counter
    starts anew.
    """

    tier: PowerTier
    scope: str
    total: bool = False
    quantum: float = 0.0
    gain_u: float | None = None
    offset_u: float = 0.0
    wrap_j: float | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    """One number a sampler gives: ``name`` is unique within the sampler."""

    name: str
    quantity: str
    unit: str
    meter: Meter | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one channel."""

    channel: Channel
    value: float


class Sampler(ABC):
    """A sensor of this board; ``name``, ``unit`` and ``max_hz`` are set by :func:`sampler`."""

    name: ClassVar[str]
    unit: ClassVar[str]
    max_hz: float
    channels: tuple[Channel, ...]
    silence: str = ""
    """Why the last read left a channel out, where that is a fault and no state of the board."""

    @classmethod
    @abstractmethod
    def probe(cls, sysroot: Path) -> Self | Absent:
        """The sampler, having answered once, or why it cannot work here; raises nothing."""

    @abstractmethod
    def read(self) -> tuple[Reading, ...]:
        """A reading of every channel that answers; raises SamplerError when none does."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Lets go of whatever is held, which for most is nothing; may be called twice."""


def clean_name(text: str) -> str:
    """A label as a channel's name: only what a series in a trace may be called."""
    return re.sub(r"[^A-Za-z0-9_./-]+", "_", text.strip())[:80] or "unnamed"


def unique_names(labels: Iterable[str]) -> list[str]:
    """A channel name for each label; what would be taken twice gets a number (``gpu_2``)."""
    names: list[str] = []
    for label in labels:
        name = base = clean_name(label)
        number = 2
        while name in names:
            name, number = f"{base}_{number}", number + 1
        names.append(name)
    return names


S = TypeVar("S", bound=type[Sampler])

_REGISTRY: dict[str, type[Sampler]] = {}


def sampler(name: str, *, unit: str, max_hz: float = 100.0) -> Callable[[S], S]:
    """Registers a class as the sampler ``name``; a name taken already raises ``ValueError``.

    ``unit`` is that of its main channels; ``max_hz`` how often it may be read, because a faster
    loop would only see the same conversion twice or burn the CPU it watches.
    """

    def register(cls: S) -> S:
        if name in _REGISTRY:
            raise ValueError(f"sampler {name} is registered twice: {_REGISTRY[name]} and {cls}")
        cls.name, cls.unit, cls.max_hz = name, unit, max_hz
        _REGISTRY[name] = cls
        return cls

    return register


def registry() -> Mapping[str, type[Sampler]]:
    """What has been registered so far; see :func:`assay.agent.samplers.all_samplers`."""
    return dict(_REGISTRY)
