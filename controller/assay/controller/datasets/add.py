"""From what a user names to a dataset in the store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from assay.controller.datasets.base import OnProgress, RawDataset, silent
from assay.controller.datasets.kinds import ALL, Found, Kind, Part, registered
from assay.controller.datasets.splits import DEFAULT, Splitting, divide, publish
from assay.controller.records import DatasetRecord
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.errors import BadInputs, UsageError
from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def add_dataset(
    kind: Kind,
    what: Sequence[str],
    name: str,
    classes: Sequence[str],
    preprocessing_json: str | None,
    store: Store,
    blobs: ContentStore,
    progress: OnProgress = silent,
    splitting: Splitting = DEFAULT,
) -> DatasetRecord:
    """Reads ``what`` and adds it to the store under ``name``.

    :class:`AlreadyExists` where the name belongs to other content.
    """
    try:
        found = kind.read(what, classes, progress)
        raw = assemble(found, name, classes, preprocessing_json, splitting)
        record = publish(raw, blobs, time.time_ns(), progress, splitting)
    except MemoryError:
        raise BadInputs(f"{', '.join(what)}: does not fit into this machine's memory") from None
    store.add_dataset(record)
    return store.dataset(name)


def choose_kind(what: Sequence[str], name: str | None, options: Mapping[str, str]) -> Kind:
    """The kind of that name, or the one that claims ``what``, with its options.

    :class:`UsageError` where there is none, or where it has no such option.
    """
    known = registered()
    if name is None:
        name = next((key for key, cls in known.items() if cls.claims(what)), None)
    if name not in known:
        kinds = "\n".join(f"  {key}: {cls.takes}" for key, cls in known.items())
        raise UsageError(f"{', '.join(what)}: no kind of dataset takes that; there are\n{kinds}")
    try:
        return known[name].model_validate(options)
    except ValidationError as error:
        raise UsageError("\n".join(_problem(known[name], one) for one in error.errors())) from None


def assemble(
    found: Found,
    name: str,
    classes: Sequence[str] = (),
    preprocessing_json: str | None = None,
    splitting: Splitting = DEFAULT,
) -> RawDataset:
    """Checks what a kind has read, and divides it where it came undivided.

    ``classes`` given by the user are believed, also where some have no sample; else they are what
    the data names, or ``0``, ``1`` and so on, and then each needs a sample.
    """
    parts = {key: part for key, part in found.parts.items() if len(part.y)}
    if not parts:
        raise BadInputs(f"{found.source}: no samples")
    names = tuple(classes) or found.classes or _numbered(parts)
    for part in parts.values():
        _check_labels(part, names)
    if not classes:
        _require_every_class(found.source, parts, names)
    preprocessing = found.preprocessing
    if preprocessing_json is not None:
        preprocessing = Preprocessing.from_json(preprocessing_json)
    some = next(iter(parts.values()))
    preprocessing.apply(some.x[:1])
    source = found.source
    if ALL in parts:
        source += f"; divided by seed {splitting.seed}"
        train, test = divide(len(some.y), splitting)
        arrays = {"train": (some.x[train], some.y[train]), "test": (some.x[test], some.y[test])}
    else:
        arrays = {key: (part.x, part.y) for key, part in parts.items()}
    nothing = (some.x[:0], some.y[:0])
    x_calibration, y_calibration = arrays.get("calibration", (None, None))
    return RawDataset(
        name,
        source,
        names,
        preprocessing.to_json(),
        *arrays.get("train", nothing),
        *arrays.get("test", nothing),
        x_calibration,
        y_calibration,
    )


def _numbered(parts: Mapping[str, Part]) -> tuple[str, ...]:
    highest = max(int(part.y.max()) for part in parts.values())
    return tuple(str(i) for i in range(highest + 1))


def _check_labels(part: Part, names: Sequence[str]) -> None:
    wrong = (part.y < 0) | (part.y >= len(names))
    if wrong.any():
        row = int(wrong.argmax())
        raise BadInputs(
            f"{part.where(row)}: label {part.y[row]}, but there are {len(names)} classes, "
            "counted from 0"
        )


def _require_every_class(source: str, parts: Mapping[str, Part], names: Sequence[str]) -> None:
    import numpy as np

    counts: NDArray[np.int64] = sum(
        (np.bincount(part.y, minlength=len(names)) for part in parts.values()),
        start=np.zeros(len(names), dtype=np.int64),
    )
    if not counts.all():
        empty = [names[i] for i in np.flatnonzero(counts == 0)[:5]]
        raise BadInputs(
            f"{source}: no sample of class {', '.join(empty)}: labels count from 0 without gaps; "
            "name the classes where some are meant to be empty"
        )


def _problem(kind: type[Kind], error: Any) -> str:
    option = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(kind.model_fields) or "none"
        return f"kind {kind.kind} has no option {option!r}; it has {known}"
    if error["type"] == "literal_error":
        choices = error["ctx"]["expected"].replace(" or ", ", ")
        return f"option {option}: {error['input']!r} is not one of {choices}"
    return f"option {option}: {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
