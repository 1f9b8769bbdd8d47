"""The model of the demo: ResNet-8 for Fashion-MNIST, and the recipes that compress it."""

from __future__ import annotations

from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"


def demo_recipes() -> list[Path]:
    """The recipe files of the demo, the baseline first."""
    rest = sorted({path.stem for path in RECIPES.glob("*.toml")} - {"fp32"})
    return [RECIPES / f"{stem}.toml" for stem in ("fp32", *rest)]
