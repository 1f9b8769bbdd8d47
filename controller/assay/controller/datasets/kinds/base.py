"""What a kind of dataset is: a plug-in that says what it takes, and reads it.

A kind is a frozen pydantic model, so that its options are typed and checked before anything is
read. Reading loads whole splits into memory; nothing stays open afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from assay.controller.datasets.base import OnProgress
from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PARTS = ("train", "calibration", "test")
ALL = "all"
"""The part of samples that come undivided."""


@dataclass(frozen=True, slots=True)
class Part:
    """Samples of one split as found: ``x`` (N, ...), ``y`` (N,) int64; ``where(i)`` names sample
    ``i`` in errors, with its file and row."""

    x: NDArray[Any]
    y: NDArray[np.int64]
    where: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Found:
    """What a kind has read: parts by name, either :data:`ALL` alone or some of :data:`PARTS`.

    ``classes`` is empty where the data names none; ``preprocessing`` is what suits it unless the
    user says otherwise.
    """

    source: str
    parts: Mapping[str, Part]
    classes: tuple[str, ...]
    preprocessing: Preprocessing


class Kind(BaseModel):
    """Options of a kind; the subclass reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ClassVar[str]
    takes: ClassVar[str]

    @classmethod
    def claims(cls, what: Sequence[str]) -> bool:
        """Whether ``what``, as typed, looks like this kind."""
        raise NotImplementedError

    def read(self, what: Sequence[str], classes: Sequence[str], progress: OnProgress) -> Found:
        """Reads it; ``classes`` are the names the user gave, in the order of the labels.

        :class:`~assay.core.errors.NotFound` and :class:`~assay.core.errors.BadInputs` name the file
        and the row.
        """
        raise NotImplementedError


K = TypeVar("K", bound=type[Kind])
_KINDS: dict[str, type[Kind]] = {}


def dataset_kind(name: str, *, takes: str) -> Callable[[K], K]:
    """Registers a kind under ``name``; ``takes`` says in one line what it is given. Registering a
    name twice raises."""

    def register(cls: K) -> K:
        if name in _KINDS:
            raise ValueError(f"dataset kind {name!r} is registered twice")
        cls.kind, cls.takes = name, takes
        _KINDS[name] = cls
        return cls

    return register


def registered() -> dict[str, type[Kind]]:
    """Every kind by name."""
    return dict(_KINDS)
