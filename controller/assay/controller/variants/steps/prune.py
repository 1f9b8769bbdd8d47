"""Structured (filter) pruning to a target of multiply-accumulates.

Channels that belong together (a residual sum, a convolution and its norm and its readers) are found
by DepGraph (G. Fang et al., "DepGraph: Towards Any Structural Pruning", 2023; torch-pruning). The
user names a target, not a ratio: a global ratio of 0.5 may leave 15 % of the MACs. Where to cut is
measured, as in NetAdapt (T.-J. Yang et al., 2018); which channels to cut there is the criterion's.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from assay.controller.variants.steps.base import NetworkStep, NetworkWork, step
from assay.core.errors import BuildFailed

if TYPE_CHECKING:
    from torch import Tensor, nn

_PROBE_SAMPLES = 256


@step("prune", version=1, tools=("torch-pruning",))
class Prune(NetworkStep):
    """Removes channels in turns until the target is met.

    In each turn every group of coupled channels offers its ``round_to`` least important ones; taken
    is the offer that raises the loss on a probe of training samples least per MAC saved. Groups
    stay multiples of ``round_to`` channels, which SIMD kernels like, and keep that many at least.
    """

    criterion: Literal["l1", "l2", "taylor", "bn_scale"] = "l1"
    macs_ratio: float = Field(gt=0, lt=1, description="MACs to keep, as a share of now.")
    round_to: int = Field(default=8, ge=1, le=64)

    def apply(self, work: NetworkWork) -> None:
        """Prunes ``work.net``."""
        from assay.controller.variants.cost_of_network import total_macs

        probe = slice(0, _PROBE_SAMPLES)
        x, y = work.train.inputs(probe), work.train.labels(probe)
        before = macs = total_macs(work.net, x[:1])
        if not before:
            raise BuildFailed("prune: the network has no convolution and no dense layer")
        while macs > self.macs_ratio * before:
            loss = _loss(work.net, (x, y))
            found = (
                _offer(work.net, cut, (x, y), (macs, loss))
                for cut in _cuts(work.net, self.criterion, self.round_to, (x, y))
            )
            offers = [offer for offer in found if offer is not None]
            if not offers:
                raise BuildFailed(
                    f"prune: {macs / before:.2f} of the MACs is the least that groups of "
                    f"{self.round_to} channels leave; ask for more than macs_ratio = "
                    f"{self.macs_ratio}"
                )
            best = min(offers, key=lambda offer: offer.harm_per_mac)
            work.net, macs = best.net, best.macs
            work.progress(before - macs, round((1 - self.macs_ratio) * before))
        work.net.eval()
        work.notes["macs_kept"] = f"{macs / before:.3f}"


@dataclass(frozen=True, slots=True)
class _Cut:
    """Channels to remove from the group that a layer leads."""

    layer: str
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Offer:
    """A network after one cut."""

    net: nn.Module
    macs: int
    harm_per_mac: float


def _offer(
    net: nn.Module, cut: _Cut, probe: tuple[Tensor, Tensor], now: tuple[int, float]
) -> _Offer | None:
    """None where the cut goes through the outputs: there the classes are."""
    import torch

    from assay.controller.variants.cost_of_network import total_macs

    trial = copy.deepcopy(net)
    layer = trial.get_submodule(cut.layer)
    _group(_graph(trial, probe[0][:1]), layer, list(cut.channels)).prune()
    with torch.no_grad():
        if trial(probe[0][:1]).shape != net(probe[0][:1]).shape:
            return None
    kept = total_macs(trial, probe[0][:1])
    macs, loss = now
    return _Offer(trial, kept, (_loss(trial, probe) - loss) / max(1, macs - kept))


def _loss(net: nn.Module, probe: tuple[Tensor, Tensor]) -> float:
    """Cross-entropy with norms by the probe's own statistics: a cut shifts the running ones."""
    import torch
    from torch.nn.functional import cross_entropy

    trial = copy.deepcopy(net).train()
    with torch.no_grad():
        return float(cross_entropy(trial(probe[0]), probe[1]))


def _cuts(
    net: nn.Module, criterion: str, round_to: int, probe: tuple[Tensor, Tensor]
) -> list[_Cut]:
    """One per group of coupled channels that can still give ``round_to``."""
    from torch import nn

    importance = _importance(criterion)
    if criterion == "taylor":
        _fill_gradients(net, probe)
    graph = _graph(net, probe[0][:1])
    names = {module: name for name, module in net.named_modules()}
    seen: set[str] = set()
    cuts = []
    for name, layer in net.named_modules():
        if not isinstance(layer, nn.Conv2d) or name in seen or layer.groups > 1:
            continue
        whole = _group(graph, layer, list(range(layer.out_channels)))
        seen |= {names[d.target.module] for d, _ in whole if _prunes_outputs(d)}
        scores = importance(whole)
        if layer.out_channels < 2 * round_to or scores is None:
            continue
        surplus = layer.out_channels % round_to or round_to
        cuts.append(_Cut(name, tuple(sorted(scores.argsort()[:surplus].tolist()))))
    net.zero_grad(set_to_none=True)
    return cuts


def _importance(criterion: str) -> Any:
    from torch_pruning import importance

    if criterion == "taylor":
        return importance.GroupTaylorImportance()
    if criterion == "bn_scale":
        return importance.BNScaleImportance()
    return importance.GroupMagnitudeImportance(p=1 if criterion == "l1" else 2)


def _fill_gradients(net: nn.Module, probe: tuple[Tensor, Tensor]) -> None:
    from torch.nn.functional import cross_entropy

    net.eval()
    net.zero_grad()
    cross_entropy(net(probe[0]), probe[1]).backward()  # type: ignore[no-untyped-call]


def _graph(net: nn.Module, example: Tensor) -> Any:
    import torch_pruning

    return torch_pruning.DependencyGraph().build_dependency(net, example)


def _group(graph: Any, layer: nn.Module, channels: list[int]) -> Any:
    import torch_pruning

    return graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, idxs=channels)


def _prunes_outputs(dependency: Any) -> bool:
    import torch_pruning

    return bool(dependency.handler == torch_pruning.prune_conv_out_channels)
