"""Recipe files: how a variant is made from a model.

Reference: docs/recipes.md. A recipe names a model, optionally another recipe as its ``base`` (whose
trained network it starts from), and a pipeline of steps: network steps first, then file steps. The
model may be the user's own: ``package.module:factory``, looked for in the recipe's folder and in
the current one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assay.controller.own_code.reference import Reference, is_reference, parse_reference
from assay.controller.variants.models import MODELS, OwnModel, Tried
from assay.controller.variants.steps import FileStep, NetworkStep, Step, registered
from assay.controller.variants.steps.redesign import Student
from assay.core.errors import SpecError

Format = Literal["onnx", "tflite", "ncnn"]


class _RecipeFile(BaseModel):
    """The file's top level."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="Name of the variant.")
    summary: str = Field(default="", description="One line for people.")
    model: str | None = Field(
        default=None,
        description="The model it is made from; the base's unless given. A name, or "
        "package.module:factory of your own.",
    )
    weights: str | None = Field(
        default=None,
        description="Weights of your own model, a path from this file; the factory's unless given.",
    )
    base: str | None = Field(
        default=None, description="Recipe whose network it starts from; a path from this file."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Draws weights and batches.")
    formats: list[Format] = Field(
        default=["onnx"],
        min_length=1,
        description="Files to make; tflite and ncnn need their converters.",
    )
    steps: list[dict[str, Any]] = Field(default=[], description="The pipeline.")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe as checked; ``base`` is already read."""

    path: Path
    name: str
    summary: str
    model: str
    base: Recipe | None
    seed: int
    formats: tuple[Format, ...]
    network_steps: tuple[NetworkStep, ...]
    file_steps: tuple[FileStep, ...]
    own: OwnModel | None = None
    tried: Mapping[str, Tried] = field(default_factory=dict)
    """What trials of its factories found, by reference; empty until they were tried."""

    @property
    def students(self) -> tuple[Reference, ...]:
        """The other factories its steps name."""
        if self.own is None:
            return ()
        folders = [Path(folder) for folder in self.own.reference.folders]
        steps = (step for step in self.network_steps if isinstance(step, Student))
        return tuple(parse_reference(step.factory, folders) for step in steps)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The pipeline of this file, without the base's."""
        return (*self.network_steps, *self.file_steps)

    def arithmetic(self, file_format: str) -> str:
        """What the file computes in: a kind of :mod:`assay.controller.inspection.golden`."""
        return self.file_steps[-1].arithmetic(file_format) if self.file_steps else "fp32"


def load_recipe(
    path: Path,
    own: OwnModel | None = None,
    _readers: tuple[Path, ...] = (),
) -> Recipe:
    """Reads and checks a recipe and its bases; :class:`SpecError` lists every mistake.

    ``own`` stands in for the model and the weights that the recipe and its bases name.
    """
    path = path.resolve()
    if path in _readers:
        raise SpecError(path.name, ["base: the recipes go round in a circle"])
    raw = _parse(path)
    problems: list[str] = []
    given = _top_level(raw, problems)
    steps = _steps(raw.get("steps", []), problems)
    if given is None:
        raise SpecError(path.name, problems)
    base = load_recipe(path.parent / given.base, own, (*_readers, path)) if given.base else None
    model = str(own.reference) if own else given.model or (base.model if base else "")
    own = own or _own_model(path, given, base)
    problems += _wrong_names(given, model, base)
    problems += _contradictions(given, steps, base, own)
    if problems:
        raise SpecError(path.name, problems)
    return Recipe(
        path=path,
        name=given.name,
        summary=given.summary,
        model=model,
        base=base,
        seed=given.seed,
        formats=tuple(dict.fromkeys(given.formats)),
        network_steps=tuple(s for s in steps.values() if isinstance(s, NetworkStep)),
        file_steps=tuple(s for s in steps.values() if isinstance(s, FileStep)),
        own=own,
    )


def _own_model(path: Path, given: _RecipeFile, base: Recipe | None) -> OwnModel | None:
    """The user's own model, where the recipe or its base names one."""
    if base is not None:
        return base.own
    if given.model is None or not is_reference(given.model):
        return None
    reference = parse_reference(given.model, [path.parent, Path.cwd()])
    return OwnModel(reference, path.parent / given.weights if given.weights else None)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(str(path), [f"cannot be read: {error.strerror}"]) from None
    except (ValueError, RecursionError) as error:  # numbers too long, lists too deep
        raise SpecError(path.name, [f"is not TOML: {error}"]) from None


def _top_level(raw: dict[str, Any], problems: list[str]) -> _RecipeFile | None:
    try:
        return _RecipeFile.model_validate(raw)
    except ValidationError as error:
        problems += [_problem(e) for e in error.errors()]
        return None


def _steps(raw: Any, problems: list[str]) -> dict[int, Step]:
    """The sound steps by their place in the file."""
    known = registered()
    steps = {}
    tables = [table for table in raw if isinstance(table, dict)] if isinstance(raw, list) else []
    for index, table in enumerate(tables):
        use = table.get("use")
        if use not in known:
            named = "is missing" if use is None else f"{use!r} is no step"
            listed = ", ".join(sorted(known))
            problems.append(f"steps[{index}].use: {named}; known ones are {listed}")
            continue
        try:
            parameters = {key: value for key, value in table.items() if key != "use"}
            steps[index] = known[use].model_validate(parameters)
        except ValidationError as error:
            problems += [f"steps[{index}].{_problem(e)}" for e in error.errors()]
    return steps


def _wrong_names(given: _RecipeFile, model: str, base: Recipe | None) -> list[str]:
    """What is wrong with the model, the weights and the base that the file names."""
    problems = []
    if not model:
        problems.append("model: is missing")
    elif model not in MODELS and not is_reference(model):
        known = ", ".join(sorted(MODELS))
        problems.append(f"model: {model!r} is not one of {known}, nor package.module:factory")
    if given.weights is not None and base is not None:
        problems.append(f"weights: belong into {base.path.name}, whose network is the start")
    elif given.weights is not None and model in MODELS:
        problems.append(f"weights: go with a model of your own; {model} is trained here")
    if base is not None and base.model != model:
        problems.append(f"base: {base.name} is made from {base.model}, not from {model}")
    if base is not None and base.file_steps:
        problems.append(f"base: {base.name} ends in file steps; a base ends in a network")
    return problems


def _contradictions(
    given: _RecipeFile, steps: Mapping[int, Step], base: Recipe | None, own: OwnModel | None
) -> list[str]:
    """What is wrong with steps that are right each for itself."""
    problems = []
    trains = any(isinstance(one, NetworkStep) and one.trains for one in steps.values())
    if base is None and own is None and not trains and len(steps) == len(given.steps):
        problems.append("steps: without a base something must train the network")
    file_steps = [index for index, one in steps.items() if isinstance(one, FileStep)]
    for index, one in steps.items():
        if isinstance(one, FileStep):
            problems += _unmakeable(given, index, one)
        elif isinstance(one, NetworkStep):
            unfit = _unfit(one, base, own)
            if file_steps and index > file_steps[0]:
                unfit.insert(0, f"{one.use!r} must come before file steps")
            problems += [f"steps[{index}].use: {why}" for why in unfit]
    return problems


def _unfit(one: NetworkStep, base: Recipe | None, own: OwnModel | None) -> list[str]:
    """Why the step cannot work on this model."""
    problems = []
    if one.needs_base and base is None:
        problems.append(f"{one.use!r} needs a base to learn from")
    if own is not None and one.designs:
        problems.append(
            f"{one.use!r} does not know how your model is made; name another factory in a step "
            "'student'"
        )
    if own is None and isinstance(one, Student):
        problems.append(f"{one.use!r} goes with a model of your own")
    return problems


def _unmakeable(given: _RecipeFile, index: int, one: FileStep) -> list[str]:
    """Formats that a file step cannot be written in."""
    ncnn = f"{one.use} has no ncnn form, whose files are float32"
    reasons = {"tflite": one.no_tflite(), "ncnn": ncnn}
    return [
        f"steps[{index}]: {why}; leave {name} out of formats"
        for name, why in reasons.items()
        if name in given.formats and why
    ]


def _problem(error: Any) -> str:
    path = ""
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "no such key; see docs/recipes.md"
    elif error["type"] == "missing":
        message = "is missing"
    elif error["type"] == "string_pattern_mismatch":
        message = f"{error['input']!r} is not made of a-z, 0-9, dots and dashes"
    elif error["type"] == "literal_error":
        choices = error["ctx"]["expected"].replace(" or ", ", ")
        message = f"{error['input']!r} is not one of {choices}"
    elif isinstance(error["input"], (str, int, float, bool)):
        message = f"{error['input']!r}: {message[0].lower()}{message[1:]}"
    return f"{path.lstrip('.')}: {message}"
