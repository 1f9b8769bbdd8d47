"""Training, from scratch or to mend what a step before it broke."""

from __future__ import annotations

from pydantic import Field

from assay.controller.variants.steps.base import NetworkStep, NetworkWork, step


class Trained(NetworkStep):
    """The budget every training step has: compare variants only at the same ``samples``."""

    trains = True

    samples: int = Field(gt=0, le=100_000_000, description="Samples seen, repeats counted.")
    batch: int = Field(default=64, ge=1, le=4096)
    rate: float = Field(default=0.1, gt=0, le=10, description="Learning rate at its peak.")
    weight_decay: float = Field(default=5e-4, ge=0, le=1)


@step("train", version=1)
class Train(Trained):
    """Cross-entropy on the labels, under a one-cycle schedule."""

    def apply(self, work: NetworkWork) -> None:
        """Trains ``work.net`` in place."""
        from assay.controller.variants.training import Budget, train

        budget = Budget(self.samples, self.batch, self.rate, self.weight_decay)
        loss = train(work.net, work.train, budget, work.seed, progress=work.progress)
        work.notes["final_loss"] = f"{loss:.4f}"
