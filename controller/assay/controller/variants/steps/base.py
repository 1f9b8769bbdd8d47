"""What a step of a recipe is.

A recipe is a pipeline. *Network steps* change a torch network (prune, factor, train); *file
steps* change the exported file (quantise, halve). A step is a frozen pydantic model, so that its
parameters are typed and checked where the recipe is read; its work imports torch and the tools only
when it is done, in the build's own process.

``version`` is part of the identity of everything the step makes: raise it when the step's outcome
changes for the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from assay.controller.variants.models import ModelModule
    from assay.controller.variants.training import Samples

OnStep = Callable[[int, int], None]
"""Called with (done, total) within one step."""


@dataclass(slots=True)
class NetworkWork:
    """The network as the steps so far have left it; a step may replace ``net``.

    ``teacher`` is the base recipe's network, untouched, in evaluation mode. ``notes`` end in the
    variant's record.
    """

    net: nn.Module
    teacher: nn.Module | None
    model: ModelModule
    train: Samples
    seed: int
    progress: OnStep
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class FileWork:
    """The file as the steps so far have left it; a step writes anew into ``folder`` and moves
    ``path``. ``calibration`` holds float32 model inputs (N, ...)."""

    path: Path
    folder: Path
    calibration: NDArray[Any] | None
    notes: dict[str, str] = field(default_factory=dict)


class Step(BaseModel):
    """Parameters of a step; the subclass does the work."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: ClassVar[str]
    version: ClassVar[int]
    tools: ClassVar[tuple[str, ...]] = ()


class NetworkStep(Step):
    """A step on the torch network; ``trains`` where it moves weights by data."""

    needs_base: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    designs: ClassVar[bool] = False
    """Whether it knows how the demo's model is made, and can make another like it."""

    def apply(self, work: NetworkWork) -> None:
        """Does the work; raises :class:`~assay.core.errors.BuildFailed` where it cannot."""
        raise NotImplementedError


class FileStep(Step):
    """A step on the exported file."""

    def arithmetic(self, file_format: str) -> str:
        """What the file then computes in: a kind of :mod:`assay.controller.inspection.golden`."""
        raise NotImplementedError

    def to_onnx(self, work: FileWork) -> None:
        """Does the work on an ONNX file."""
        raise NotImplementedError

    def to_tflite(self, work: FileWork) -> None:
        """Does the work on a .tflite file; never called where :meth:`no_tflite` says why not."""
        raise NotImplementedError

    def no_tflite(self) -> str:
        """Why these parameters have no .tflite form; "" where they have one."""
        return ""


S = TypeVar("S", bound=type[Step])
_STEPS: dict[str, type[Step]] = {}


def step(use: str, *, version: int, tools: tuple[str, ...] = ()) -> Callable[[S], S]:
    """Registers a step under the name recipes ``use``; ``tools`` are the distributions whose
    versions count. Registering a name twice raises."""

    def register(cls: S) -> S:
        if use in _STEPS:
            raise ValueError(f"step {use!r} is registered twice")
        cls.use, cls.version, cls.tools = use, version, tools
        _STEPS[use] = cls
        return cls

    return register


def registered() -> dict[str, type[Step]]:
    """Every step by name."""
    return dict(_STEPS)
