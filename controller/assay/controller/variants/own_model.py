"""The user's torch module as recipes need it; only ever in a build process.

A network is its factory's, then what steps did to it: convolutions that were factored, and sizes
that were cut. That difference is written down (:meth:`OwnModule.describe`), so that a changed
network is rebuilt from its factory and its weights, without pickled code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from assay.controller.own_code.load import load, told_plainly
from assay.controller.own_code.reference import Reference
from assay.controller.variants.own_weights import load_weights
from assay.core.errors import BuildFailed

_MADE_BY = "assay_made_by"
_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")


@dataclass(frozen=True, slots=True)
class OwnModule:
    """A :class:`~assay.controller.variants.models.ModelModule` from a factory without arguments."""

    reference: Reference
    weights: Path | None

    def fresh(self, sample_shape: tuple[int, ...], classes: int) -> nn.Module:
        """What the factory makes, with the user's weights where they were given."""
        net = make(self.reference)
        if self.weights is not None:
            load_weights(net, self.weights)
        return net

    def student(self, factory: str) -> nn.Module:
        """What another factory makes, with the weights that it gives it."""
        module, _, name = factory.partition(":")
        return make(Reference(module, name, self.reference.folders))

    def describe(self, net: nn.Module) -> dict[str, Any]:
        """How ``net`` differs from what its factory makes."""
        made_by = str(getattr(net, _MADE_BY))
        plain = self.student(made_by)
        factored = _factored(plain, net)
        _factor(plain, factored)
        return {"factory": made_by, "factored": factored, "resized": _resized(plain, net)}

    def restore(self, description: Mapping[str, Any]) -> nn.Module:
        """The structure of ``description``; its weights are to be loaded."""
        net = self.student(description["factory"])
        _factor(net, description["factored"])
        for name, change in description["resized"].items():
            _resize(net.get_submodule(name), change)
        return net

    def narrowed(self, net: nn.Module, width: float, round_to: int) -> nn.Module:
        """Refused: widths are the factory's."""
        raise BuildFailed("narrow does not know how your network is made: use step student")

    def separated(self, net: nn.Module) -> nn.Module:
        """Refused likewise."""
        raise BuildFailed("separate does not know how your network is made: use step student")


def make(reference: Reference) -> nn.Module:
    """Calls the factory, in evaluation mode; :class:`BuildFailed` says what it did instead."""
    factory = load(reference)
    with told_plainly(f"{reference}()"):
        net = factory()
    if not isinstance(net, nn.Module) or isinstance(net, torch.jit.ScriptModule):
        raise BuildFailed(f"{reference}() gave a {type(net).__name__}, not a plain torch.nn.Module")
    if any(parameter.dtype != torch.float32 for parameter in net.parameters()):
        raise BuildFailed(f"{reference}() has parameters that are not float32: call net.float()")
    setattr(net, _MADE_BY, str(reference))
    return net.eval()


def require_rebuildable(model: OwnModule, net: nn.Module, example: torch.Tensor) -> None:
    """Rebuilds ``net`` from its description and weights and compares the outputs.

    :class:`BuildFailed` where a step left a network whose difference cannot be written down.
    """
    with told_plainly("rebuilding the changed network"):
        again = model.restore(model.describe(net))
        again.load_state_dict(net.state_dict())
        with torch.no_grad():
            same = torch.equal(again.eval()(example), net.eval()(example))
    if not same:
        raise BuildFailed(
            "the changed network gives other outputs when it is rebuilt from its factory: its "
            "forward depends on something beside its layers"
        )


def _factored(plain: nn.Module, net: nn.Module) -> dict[str, list[dict[str, Any]]]:
    """Convolutions that have become several, by name."""
    found = {}
    for name, layer in plain.named_modules():
        if isinstance(layer, nn.Conv2d):
            now = net.get_submodule(name)
            if isinstance(now, nn.Sequential):
                found[name] = [_conv(one) for one in now if isinstance(one, nn.Conv2d)]
    return found


def _conv(layer: nn.Conv2d) -> dict[str, Any]:
    settings = {key: getattr(layer, key) for key in _CONV}
    return {**settings, "bias": layer.bias is not None, "padding_mode": layer.padding_mode}


def _convolution(settings: Mapping[str, Any]) -> nn.Conv2d:
    whole: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    return nn.Conv2d(**whole)


def _factor(net: nn.Module, factored: Mapping[str, Any]) -> None:
    for name, layers in factored.items():
        convolutions = [_convolution(layer) for layer in layers]
        parent, _, attribute = name.rpartition(".")
        net.get_submodule(parent).register_module(attribute, nn.Sequential(*convolutions))


def _resized(plain: nn.Module, net: nn.Module) -> dict[str, dict[str, Any]]:
    """By name the layers whose sizes changed: whole numbers among their attributes, and the shapes
    of their parameters and buffers."""
    found = {}
    for name, layer in plain.named_modules():
        now = net.get_submodule(name)
        if type(now) is not type(layer):
            raise BuildFailed(f"{name} has become a {type(now).__name__}, which cannot be rebuilt")
        attributes = {
            key: value
            for key, value in vars(now).items()
            if key in vars(layer) and _is_size(value) and value != vars(layer)[key]
        }
        shapes = {
            key: list(tensor.shape)
            for key, tensor in _tensors(now).items()
            if key in _tensors(layer) and tensor.shape != _tensors(layer)[key].shape
        }
        if attributes or shapes:
            found[name] = {"attributes": attributes, "shapes": shapes}
    return found


def _resize(layer: nn.Module, change: Mapping[str, Any]) -> None:
    for key, value in change["attributes"].items():
        setattr(layer, key, tuple(value) if isinstance(value, list) else value)
    for key, shape in change["shapes"].items():
        if key in layer._parameters:
            layer._parameters[key] = nn.Parameter(torch.zeros(shape))
        else:
            layer._buffers[key] = torch.zeros(shape)


def _tensors(layer: nn.Module) -> dict[str, torch.Tensor]:
    """A layer's own parameters and buffers, without those of layers inside it."""
    return {
        **dict(layer.named_parameters(recurse=False)),
        **dict(layer.named_buffers(recurse=False)),
    }


def _is_size(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    whole = isinstance(value, tuple) and all(isinstance(one, int) for one in value)
    return isinstance(value, int) or whole
