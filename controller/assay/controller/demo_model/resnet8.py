"""ResNet-8, in every form the recipes give it.

The image-classification network of MLPerf Tiny (C. Banbury et al., "MLPerf Tiny Benchmark", 2021),
after K. He et al., "Deep Residual Learning", 2015: a 3 × 3 stem and three residual blocks. A
network is described by a small JSON object (:func:`describe`), from which :func:`restore` builds it
again: weights plus description are a network, without pickled code.

NCHW throughout: torch 2.13 corrupts memory when it trains channels_last with 4 or 6 channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

PLAIN = "plain"
SEPARABLE = "separable"


@dataclass(frozen=True, slots=True)
class ConvForm:
    """How a 3 × 3 convolution is made; ``ranks`` (in, out) only for Tucker-2."""

    kind: str = PLAIN
    ranks: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """A residual block; ``projects`` where its shortcut is a 1 × 1 convolution."""

    mid: int
    out: int
    stride: int
    projects: bool
    first: ConvForm = ConvForm()
    second: ConvForm = ConvForm()


@dataclass(frozen=True, slots=True)
class NetSpec:
    """Widths in channels."""

    in_channels: int
    classes: int
    stem: int
    blocks: tuple[BlockSpec, ...]


def fresh(sample_shape: tuple[int, ...], classes: int) -> ResNet8:
    """The reference widths 16, 32, 64, with random weights from torch's current seed."""
    blocks = (
        BlockSpec(16, 16, 1, False),
        BlockSpec(32, 32, 2, True),
        BlockSpec(64, 64, 2, True),
    )
    return ResNet8(NetSpec(sample_shape[0], classes, 16, blocks))


def describe(net: nn.Module) -> dict[str, Any]:
    """The description of ``net`` as it stands, after pruning or factoring."""
    assert isinstance(net, ResNet8)
    return asdict(_read_spec(net))


def restore(description: Mapping[str, Any]) -> ResNet8:
    """The network of ``description``, with random weights."""
    blocks = tuple(
        BlockSpec(
            **{k: v for k, v in block.items() if k not in ("first", "second")},
            first=_conv_form(block["first"]),
            second=_conv_form(block["second"]),
        )
        for block in description["blocks"]
    )
    return ResNet8(
        NetSpec(description["in_channels"], description["classes"], description["stem"], blocks)
    )


def narrowed(net: nn.Module, width: float, round_to: int) -> ResNet8:
    """A network of ``width`` times the channels, at least ``round_to``, with random weights."""
    assert isinstance(net, ResNet8)
    spec = _read_spec(net)

    def scaled(channels: int) -> int:
        return max(round_to, round(channels * width / round_to) * round_to)

    blocks = tuple(replace(b, mid=scaled(b.mid), out=scaled(b.out)) for b in spec.blocks)
    return ResNet8(replace(spec, stem=scaled(spec.stem), blocks=blocks))


def separated(net: nn.Module) -> ResNet8:
    """The same widths with every block's convolutions depthwise separable, random weights
    (A. Howard et al., "MobileNets", 2017)."""
    assert isinstance(net, ResNet8)
    spec = _read_spec(net)
    form = ConvForm(SEPARABLE)
    return ResNet8(
        replace(spec, blocks=tuple(replace(b, first=form, second=form) for b in spec.blocks))
    )


class ResNet8(nn.Module):
    """Input (N, C, H, W) float32, output logits (N, classes)."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(spec.in_channels, spec.stem, 3, padding=1, bias=False),
            nn.BatchNorm2d(spec.stem),
            nn.ReLU(),
        )
        widths = [spec.stem, *(block.out for block in spec.blocks)]
        self.blocks = nn.Sequential(
            *(Block(width, block) for width, block in zip(widths, spec.blocks, strict=False))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(widths[-1], spec.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        features = self.pool(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(self.flatten(features))
        return logits


class Block(nn.Module):
    """conv, norm, relu, conv, norm, plus the shortcut, relu."""

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, spec.mid, spec.stride, spec.first)
        self.norm1 = nn.BatchNorm2d(spec.mid)
        self.conv2 = _convolution(spec.mid, spec.out, 1, spec.second)
        self.norm2 = nn.BatchNorm2d(spec.out)
        self.shortcut: nn.Module = nn.Identity()
        if spec.projects:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, spec.out, 1, spec.stride, bias=False),
                nn.BatchNorm2d(spec.out),
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Features after the block."""
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: Tensor = self.relu(y + self.shortcut(x))
        return out


class Separable(nn.Sequential):
    """A depthwise 3 × 3, norm, relu, then a 1 × 1."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, out, 1, bias=False),
        )


def _convolution(channels: int, out: int, stride: int, form: ConvForm) -> nn.Module:
    if form.kind == SEPARABLE:
        return Separable(channels, out, stride)
    if form.ranks is None:
        return nn.Conv2d(channels, out, 3, stride, 1, bias=False)
    rank_in, rank_out = form.ranks
    return nn.Sequential(
        nn.Conv2d(channels, rank_in, 1, bias=False),
        nn.Conv2d(rank_in, rank_out, 3, stride, 1, bias=False),
        nn.Conv2d(rank_out, out, 1, bias=False),
    )


def _conv_form(raw: Mapping[str, Any]) -> ConvForm:
    ranks = raw["ranks"]
    return ConvForm(raw["kind"], (ranks[0], ranks[1]) if ranks else None)


def _read_spec(net: ResNet8) -> NetSpec:
    stem = net.stem[0]
    assert isinstance(stem, nn.Conv2d)
    blocks = tuple(_read_block(block) for block in net.blocks if isinstance(block, Block))
    return NetSpec(stem.in_channels, net.classifier.out_features, stem.out_channels, blocks)


def _read_block(block: Block) -> BlockSpec:
    return BlockSpec(
        mid=block.norm1.num_features,
        out=block.norm2.num_features,
        stride=max(m.stride[0] for m in block.conv1.modules() if isinstance(m, nn.Conv2d)),
        projects=not isinstance(block.shortcut, nn.Identity),
        first=_read_form(block.conv1),
        second=_read_form(block.conv2),
    )


def _read_form(conv: nn.Module) -> ConvForm:
    if isinstance(conv, Separable):
        return ConvForm(SEPARABLE)
    if isinstance(conv, nn.Sequential):
        core = conv[1]
        assert isinstance(core, nn.Conv2d)
        return ConvForm("tucker2", (core.in_channels, core.out_channels))
    return ConvForm()
