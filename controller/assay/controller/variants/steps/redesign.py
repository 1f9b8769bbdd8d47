"""Smaller designs of the same model, to be trained from scratch or taught by the base."""

from __future__ import annotations

from pydantic import Field

from assay.controller.variants.steps.base import NetworkStep, NetworkWork, step


@step("narrow", version=1)
class Narrow(NetworkStep):
    """A student: the same design with a share of the channels, and random weights."""

    designs = True

    width: float = Field(gt=0, le=4, description="Share of the channels.")
    round_to: int = Field(default=8, ge=1, le=64, description="Channels come in multiples of it.")

    def apply(self, work: NetworkWork) -> None:
        """Replaces ``work.net``."""
        work.net = work.model.narrowed(work.net, self.width, self.round_to)


@step("student", version=1)
class Student(NetworkStep):
    """Another network of the user's own, with the weights its factory gives it."""

    factory: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="package.module:factory"
    )

    def apply(self, work: NetworkWork) -> None:
        """Replaces ``work.net``."""
        from assay.controller.variants.own_model import OwnModule

        assert isinstance(work.model, OwnModule), "the recipe was checked to have an own model"
        work.net = work.model.student(self.factory)


@step("separate", version=1)
class Separate(NetworkStep):
    """Depthwise separable convolutions in place of full ones, and random weights."""

    designs = True

    def apply(self, work: NetworkWork) -> None:
        """Replaces ``work.net``."""
        work.net = work.model.separated(work.net)
