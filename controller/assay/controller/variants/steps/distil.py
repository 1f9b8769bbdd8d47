"""Knowledge distillation (G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural
Network", 2015)."""

from __future__ import annotations

from pydantic import Field

from assay.controller.variants.steps.base import NetworkWork, step
from assay.controller.variants.steps.train import Trained


@step("distil", version=1)
class Distil(Trained):
    """Trains towards the labels and towards the base network's softened outputs.

    The loss is ``(1 - share) * CE(labels) + share * T² * KL(teacher / T, student / T)``.
    """

    needs_base = True

    temperature: float = Field(default=4.0, ge=1, le=100)
    share: float = Field(default=0.7, ge=0, le=1, description="Weight of the teacher's outputs.")

    def apply(self, work: NetworkWork) -> None:
        """Trains ``work.net`` in place."""
        import torch
        from torch import Tensor
        from torch.nn.functional import cross_entropy, kl_div, log_softmax

        from assay.controller.variants.training import Budget, train

        teacher, hot = work.teacher, self.temperature
        assert teacher is not None, "the recipe was checked to have a base"
        teacher.eval()

        def loss(inputs: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
            with torch.no_grad():
                target = log_softmax(teacher(inputs) / hot, dim=1)
            student = log_softmax(logits / hot, dim=1)
            soft = kl_div(student, target, reduction="batchmean", log_target=True)
            return (1 - self.share) * cross_entropy(logits, labels) + self.share * hot**2 * soft

        budget = Budget(self.samples, self.batch, self.rate, self.weight_decay)
        final = train(work.net, work.train, budget, work.seed, loss, work.progress)
        work.notes["final_loss"] = f"{final:.4f}"
