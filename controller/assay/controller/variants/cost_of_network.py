"""Multiply-accumulates of a torch network, to steer compression towards a target."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def layer_macs(net: nn.Module, example: Tensor) -> dict[str, int]:
    """MACs of every convolution and dense layer for one sample; ``example`` is (1, ...)."""
    found: dict[str, int] = {}
    handles = []
    for name, layer in net.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            handles.append(layer.register_forward_hook(_counter(found, name)))
    was_training = net.training
    net.eval()
    try:
        with torch.no_grad():
            net(example)
    finally:
        for handle in handles:
            handle.remove()
        net.train(was_training)
    return found


def total_macs(net: nn.Module, example: Tensor) -> int:
    """MACs of one sample through ``net``."""
    return sum(layer_macs(net, example).values())


def _counter(found: dict[str, int], name: str) -> Any:
    def count(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            kernel = math.prod(layer.kernel_size) * layer.in_channels // layer.groups
            found[name] = math.prod(output.shape[1:]) * kernel
        elif isinstance(layer, nn.Linear):
            found[name] = math.prod(output.shape[1:]) * layer.in_features

    return count
