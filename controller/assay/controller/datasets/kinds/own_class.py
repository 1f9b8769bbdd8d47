"""Data from a class of the user's own, read in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from assay.controller.datasets.base import OnProgress
from assay.controller.datasets.kinds.arrays import default_preprocessing
from assay.controller.datasets.kinds.base import Found, Kind, Part, dataset_kind
from assay.controller.datasets.npz import read_npz
from assay.controller.own_code.reference import Reference, is_reference, parse_reference
from assay.core.errors import UsageError
from assay.core.preprocess import Preprocessing

SILENCE_S = 300.0
"""How long the class may work on one sample."""


@dataset_kind("class", takes="package.module:Class, a class of your own that yields samples")
class OwnClass(Kind):
    """Every option goes to the class as a keyword argument, a string.

    The class has ``samples()``, or ``train()``, ``test()`` and perhaps ``calibration()``; each
    yields pairs of a sample (an array) and its label (a number, or a name of ``classes``). It may
    have ``classes`` (a list of names) and ``preprocessing`` (a dict). Docs: docs/datasets.md.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, str]

    @classmethod
    def claims(cls, what: Sequence[str]) -> bool:
        """One reference."""
        return len(what) == 1 and is_reference(what[0]) and not Path(what[0]).exists()

    def read(self, what: Sequence[str], classes: Sequence[str], progress: OnProgress) -> Found:
        """Runs it; what it does wrong comes up as :class:`BadInputs`, with the item's number."""
        from assay.controller.variants.orders import DataOrder, read_data_report
        from assay.controller.variants.process import BuildProcesses, build_folder

        if len(what) != 1:
            raise UsageError(f"{len(what)} things: kind class takes {self.takes}")
        reference = parse_reference(what[0], [Path.cwd()])
        order = DataOrder(reference, dict(self.__pydantic_extra__), list(classes))
        processes = BuildProcesses()
        with build_folder() as folder:
            try:
                processes.run(
                    order,
                    folder,
                    lambda done, note: progress(str(reference), done, 0, note),
                    silence_s=SILENCE_S,
                )
            finally:
                processes.close()
            report = read_data_report(folder)
            arrays = read_npz(folder / report.arrays)
        parts = {
            part: Part(arrays[f"x_{part}"], arrays[f"y_{part}"], _item_of(reference, method))
            for part, method in report.methods.items()
        }
        preprocessing = (
            Preprocessing.from_json(report.preprocessing_json)
            if report.preprocessing_json
            else default_preprocessing(next(iter(parts.values())).x)
        )
        return Found(
            _source(reference, report.sources), parts, tuple(report.classes), preprocessing
        )


def _source(reference: Reference, sources: Mapping[str, str]) -> str:
    from assay.core import digest

    return f"{reference}, sources {digest.short(digest.of_json(dict(sources)))}"


def _item_of(reference: Reference, method: str) -> Callable[[int], str]:
    return lambda row: f"{reference}.{method}(): item {row}"
