"""The models that recipes can name.

A model is a module that offers :class:`ModelModule`, or a factory of the user's own
(:class:`OwnModel`). Both are imported in a build's own process only; here they are known by name
and by their sources.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from assay.controller.own_code.reference import Reference
from assay.core import digest

if TYPE_CHECKING:
    from torch import nn

MODELS: Mapping[str, str] = {"resnet8-fashion": "assay.controller.demo_model.resnet8"}
"""Name in recipes → module."""


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A factory of the user's own, and the file of its weights; without one they are the
    factory's."""

    reference: Reference
    weights: Path | None


@dataclass(frozen=True, slots=True)
class Tried:
    """What a trial found out about a factory: ``sources`` are digests by module, ``state`` is that
    of the weights it starts with."""

    sources: Mapping[str, str]
    state: str


class ModelModule(Protocol):
    """What the module of a model offers; every network is float32 and NCHW."""

    def fresh(self, sample_shape: tuple[int, ...], classes: int) -> nn.Module:
        """The reference network with random weights from torch's current seed."""
        ...

    def describe(self, net: nn.Module) -> dict[str, Any]:
        """JSON that :meth:`restore` builds the same structure from."""
        ...

    def restore(self, description: Mapping[str, Any]) -> nn.Module:
        """The structure of ``description``, with random weights."""
        ...

    def narrowed(self, net: nn.Module, width: float, round_to: int) -> nn.Module:
        """A fresh network with ``width`` times the channels."""
        ...

    def separated(self, net: nn.Module) -> nn.Module:
        """A fresh network with depthwise separable convolutions."""
        ...


def model_module(name: str, own: OwnModel | None = None) -> ModelModule:
    """The module of a model; imports torch."""
    if own is not None:
        from assay.controller.variants.own_model import OwnModule

        return OwnModule(own.reference, own.weights)
    return cast(ModelModule, importlib.import_module(MODELS[name]))


def source_digest(name: str) -> str:
    """The digest of the model's source file: a changed architecture is another model."""
    spec = importlib.util.find_spec(MODELS[name])
    assert spec is not None and spec.origin is not None
    return digest.of_file(Path(spec.origin))
