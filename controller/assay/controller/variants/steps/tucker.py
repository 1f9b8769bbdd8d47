"""Low-rank convolutions by Tucker-2 (Y.-D. Kim et al., "Compression of Deep Convolutional Neural
Networks for Fast and Low Power Mobile Applications", 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from assay.controller.variants.steps.base import NetworkStep, NetworkWork, step
from assay.core.errors import BuildFailed

if TYPE_CHECKING:
    from torch import Tensor, nn

_BISECTIONS = 30
_MIN_CHANNELS = 8


@step("tucker2", version=1)
class Tucker2(NetworkStep):
    """Each k × k convolution becomes 1 × 1, k × k on fewer channels, 1 × 1, until a MACs target.

    One energy threshold for all layers, found by bisection: each side of a kernel keeps the fewest
    singular directions that hold this share of its squared norm, rounded up to ``round_to``. Layers
    that would not become cheaper stay as they are, and so do first layers, whose few input channels
    leave nothing to factor.
    """

    macs_ratio: float = Field(gt=0, lt=1, description="MACs to keep, as a share of now.")
    round_to: int = Field(default=4, ge=1, le=64)

    def apply(self, work: NetworkWork) -> None:
        """Factors ``work.net`` in place."""
        from assay.controller.variants.cost_of_network import layer_macs, total_macs

        example = work.train.inputs(slice(0, 1))
        macs = layer_macs(work.net, example)
        before = sum(macs.values())
        if not before:
            raise BuildFailed("tucker2: the network has no convolution and no dense layer")
        layers = _factorable(work.net, macs)
        energy = _energy_for(layers, before, self.macs_ratio, self.round_to)
        for layer in layers:
            ranks = layer.ranks(energy, self.round_to)
            if layer.macs_at(ranks) < layer.macs:
                _replace(work.net, layer.name, _factored(layer, ranks))
        after = total_macs(work.net, example)
        work.notes["macs_kept"] = f"{after / before:.3f}"
        work.notes["tucker_energy"] = f"{energy:.4f}"


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution with the squared singular values of its kernel, unfolded by input and output
    channels, as running shares of their sum."""

    name: str
    conv: nn.Conv2d
    macs: int
    energy_in: tuple[float, ...]
    energy_out: tuple[float, ...]

    def ranks(self, energy: float, round_to: int) -> tuple[int, int]:
        """(in, out) ranks that hold ``energy`` of each unfolding."""
        return (
            _rank(self.energy_in, energy, round_to),
            _rank(self.energy_out, energy, round_to),
        )

    def macs_at(self, ranks: tuple[int, int]) -> int:
        """MACs of the three factors."""
        conv, (rank_in, rank_out) = self.conv, ranks
        kernel = math.prod(conv.kernel_size)
        positions_out = self.macs // (kernel * conv.in_channels * conv.out_channels)
        positions_in = positions_out * math.prod(conv.stride)
        return (
            positions_in * conv.in_channels * rank_in
            + positions_out * kernel * rank_in * rank_out
            + positions_out * rank_out * conv.out_channels
        )


def _rank(energy: tuple[float, ...], wanted: float, round_to: int) -> int:
    needed = next((i + 1 for i, share in enumerate(energy) if share >= wanted), len(energy))
    return min(len(energy), math.ceil(needed / round_to) * round_to)


def _factorable(net: nn.Module, macs: dict[str, int]) -> list[_Layer]:
    from torch import nn

    found = []
    for name, conv in net.named_modules():
        if not isinstance(conv, nn.Conv2d) or conv.groups > 1 or math.prod(conv.kernel_size) == 1:
            continue
        if conv.in_channels < _MIN_CHANNELS or name not in macs:
            continue
        kernel = conv.weight.detach()
        found.append(
            _Layer(
                name,
                conv,
                macs[name],
                _energies(kernel.transpose(0, 1).flatten(1)),
                _energies(kernel.flatten(1)),
            )
        )
    return found


def _energies(unfolded: Tensor) -> tuple[float, ...]:
    import torch

    squares = torch.linalg.svdvals(unfolded.double()) ** 2
    return tuple((squares.cumsum(0) / squares.sum()).tolist())


def _energy_for(layers: list[_Layer], before: int, ratio: float, round_to: int) -> float:
    """The highest energy at which the network meets the target."""
    fixed = before - sum(layer.macs for layer in layers)

    def share(energy: float) -> float:
        kept = (min(layer.macs, layer.macs_at(layer.ranks(energy, round_to))) for layer in layers)
        return (fixed + sum(kept)) / before

    low, high = 0.0, 1.0
    if share(low) > ratio:
        raise BuildFailed(
            f"tucker2: {share(low):.2f} of the MACs is the least that ranks of {round_to} leave; "
            f"ask for more than macs_ratio = {ratio}"
        )
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) <= ratio else (low, middle)
    return low


def _factored(layer: _Layer, ranks: tuple[int, int]) -> nn.Sequential:
    """The three convolutions whose product is the best rank-(in, out) fit (HOSVD)."""
    import torch
    from torch import nn

    conv, (rank_in, rank_out) = layer.conv, ranks
    kernel = conv.weight.detach().double()
    basis_out = torch.linalg.svd(kernel.flatten(1), full_matrices=False)[0][:, :rank_out]
    unfolded_in = kernel.transpose(0, 1).flatten(1)
    basis_in = torch.linalg.svd(unfolded_in, full_matrices=False)[0][:, :rank_in]
    core = torch.einsum("oihw,or,is->rshw", kernel, basis_out, basis_in)
    first = nn.Conv2d(conv.in_channels, rank_in, 1, bias=False)
    middle = nn.Conv2d(
        rank_in,
        rank_out,
        (conv.kernel_size[0], conv.kernel_size[1]),
        (conv.stride[0], conv.stride[1]),
        padding=_pair(conv.padding),
        dilation=(conv.dilation[0], conv.dilation[1]),
        bias=False,
        padding_mode=conv.padding_mode,
    )
    last = nn.Conv2d(rank_out, conv.out_channels, 1, bias=conv.bias is not None)
    with torch.no_grad():
        first.weight.copy_(basis_in.T[:, :, None, None])
        middle.weight.copy_(core)
        last.weight.copy_(basis_out[:, :, None, None])
        if conv.bias is not None and last.bias is not None:
            last.bias.copy_(conv.bias)
    return nn.Sequential(first, middle, last)


def _pair(padding: str | tuple[int, ...]) -> str | tuple[int, int]:
    return padding if isinstance(padding, str) else (padding[0], padding[1])


def _replace(net: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    net.get_submodule(parent).register_module(attribute, layer)
