"""Variants: what recipes make of a model.

:func:`build_variants` builds, :mod:`assay.controller.variants.add` takes files made elsewhere.
Recipes are pipelines of steps (:mod:`assay.controller.variants.steps`).
"""

from assay.controller.variants.build import build_variants

__all__ = ["build_variants"]
