"""The networks: each a function without arguments that returns a torch.nn.Module."""

from torch import nn


def build() -> nn.Module:
    return _convolutional(16, 32)


def small() -> nn.Module:
    """A student for the step of that name; its weights are those it is made with."""
    return _convolutional(8, 8)


def _convolutional(first: int, second: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(second),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(second, 3),
    )
