"""Training on one CPU core, the same on every run.

One thread on purpose: two torch threads on a loaded machine cost six times the CPU time of one, and
the order of additions would depend on their number. SGD with Nesterov momentum under a one-cycle
schedule (L. Smith, N. Topin, "Super-Convergence", 2018), which gives the most for a small budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(inputs, logits, labels) → a scalar."""

_REPORT_EVERY_BATCHES = 20
_EVALUATION_BATCH = 500


@dataclass(frozen=True, slots=True)
class Samples:
    """A split: raw ``x`` and labels ``y``, made into inputs batch by batch."""

    x: NDArray[Any]
    y: NDArray[np.int64]
    preprocessing: Preprocessing

    def inputs(self, chosen: NDArray[np.intp] | slice) -> Tensor:
        """Model inputs of the chosen samples."""
        return torch.from_numpy(self.preprocessing.apply(self.x[chosen]))

    def labels(self, chosen: NDArray[np.intp] | slice) -> Tensor:
        """Labels of the chosen samples."""
        return torch.from_numpy(self.y[chosen])


@dataclass(frozen=True, slots=True)
class Budget:
    """How long and how fast: ``samples`` seen in all, ``rate`` at the peak of the cycle."""

    samples: int
    batch: int
    rate: float
    weight_decay: float = 5e-4
    momentum: float = 0.9
    warm_up_share: float = 0.2


def make_deterministic(seed: int) -> None:
    """One thread, one seed, deterministic kernels."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    # Not use_deterministic_algorithms, which imports the compiler: seconds for each build.
    torch.set_deterministic_debug_mode("error")


def cross_entropy(_inputs: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """The plain loss."""
    return nn.functional.cross_entropy(logits, labels)


def train(
    net: nn.Module,
    samples: Samples,
    budget: Budget,
    seed: int,
    loss: Loss = cross_entropy,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> float:
    """Trains ``net`` in place and returns the mean loss of the last tenth of the batches."""
    batches = max(1, budget.samples // budget.batch)
    optimiser = torch.optim.SGD(
        net.parameters(),
        lr=budget.rate,
        momentum=budget.momentum,
        weight_decay=budget.weight_decay,
        nesterov=True,
    )
    # torch divides by the length of the warm-up less one: one of a single batch is left out.
    warm_up = 0.0 if batches * budget.warm_up_share == 1 else budget.warm_up_share
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, budget.rate, total_steps=batches, pct_start=warm_up
    )
    net.train()
    losses: list[float] = []
    for index, chosen in enumerate(_batches(len(samples.y), budget.batch, batches, seed)):
        x, y = samples.inputs(chosen), samples.labels(chosen)
        value = loss(x, net(x), y)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(value.item())
        if index % _REPORT_EVERY_BATCHES == 0:
            progress(index * budget.batch, batches * budget.batch)
    net.eval()
    return float(np.mean(losses[-max(1, batches // 10) :]))


def accuracy(net: nn.Module, samples: Samples) -> float:
    """Top-1 share of ``samples``, in evaluation mode."""
    net.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(samples.y), _EVALUATION_BATCH):
            part = slice(start, start + _EVALUATION_BATCH)
            right += int((net(samples.inputs(part)).argmax(1) == samples.labels(part)).sum())
    return right / len(samples.y)


def _batches(samples: int, batch: int, count: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """``count`` batches, shuffled anew whenever the samples are used up."""
    generator = np.random.RandomState(seed)
    order = generator.permutation(samples)
    start = 0
    for _ in range(count):
        if start + batch > samples:
            order = np.concatenate([order[start:], generator.permutation(samples)])
            start = 0
        yield order[start : start + batch]
        start += batch
