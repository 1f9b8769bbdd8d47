"""inputs.toml: what is put into a model that no dataset feeds. Reference: docs/reference/inputs.md.

Checked here by itself, and against the model where that is loaded
(:mod:`assay.controller.variants.own_inputs`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from assay.controller import toml_file
from assay.controller.variants.own_inputs import Declared, FromFile
from assay.core import digest
from assay.core.errors import SpecError
from assay.core.synthetic import Rule

_REFERENCE = "docs/reference/inputs.md"
_WAYS = ("range", "vocabulary", "constant", "mask_of", "length_of", "values")

Size = Annotated[int, Field(ge=1, le=1 << 31)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputTable(_Strict):
    """How one input gets its values; without any key by its type."""

    range: tuple[float, float] | None = Field(
        default=None,
        description="Uniform values from the first to the second; whole types include both, "
        "quantised inputs take them as real values.",
    )
    vocabulary: Size | None = Field(
        default=None, description="Token ids: whole numbers from 0 to one below this."
    )
    constant: float | None = Field(default=None, description="The same value everywhere.")
    lengths: tuple[Size, Size] | None = Field(
        default=None,
        description="How much of the sequence a sample uses, drawn from the first to the second; "
        "the rest is `padding`.",
    )
    padding: float = Field(default=0.0, description="What stands beyond a sample's length.")
    mask_of: str = Field(
        default="", description="Ones as long as the named input's samples are, then zeros."
    )
    length_of: str = Field(default="", description="The length of the named input's samples.")
    values: str = Field(
        default="", description="An .npz of real values, its path from this file; samples first."
    )
    array: str = Field(
        default="", description="The array in `values`; the input's own name if empty."
    )

    @model_validator(mode="after")
    def _one_way(self) -> InputTable:
        given = [name for name in _WAYS if getattr(self, name) not in (None, "")]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        if self.lengths is not None and given and given[0] not in ("range", "vocabulary"):
            raise ValueError(f"lengths does not go with {given[0]}")
        if self.array and not self.values:
            raise ValueError("array needs values")
        for name in ("range", "lengths"):
            pair = getattr(self, name)
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name}: {pair[0]} is above {pair[1]}")
        return self

    def rule(self) -> Rule:
        """The same in the words of :mod:`assay.core.synthetic`."""
        low, high = self.range or (None, None)
        if self.vocabulary is not None:
            low, high = 0.0, float(self.vocabulary - 1)
        return Rule(
            low, high, self.constant, self.lengths, self.padding, self.mask_of, self.length_of
        )


class InputsFile(_Strict):
    """The file."""

    seed: int = Field(default=0, ge=0, lt=2**32, description="Draws every value that is made up.")
    samples: int = Field(
        default=32, ge=1, le=4096, description="Distinct samples; fewer where 64 MiB are full."
    )
    dims: dict[str, Size] = Field(
        default={},
        description="Sizes of the model's open dimensions, by name; one without a name is called "
        "`input[axis]`.",
    )
    inputs: dict[str, InputTable] = Field(
        default={}, description="How inputs get their values; by type where they are not named."
    )
    state: dict[str, str] = Field(
        default={},
        description="Inputs that get, from query to query, what an output gave: input = output. "
        "A sequence begins with zeros, or with what `inputs` says.",
    )

    @field_validator("state")
    @classmethod
    def _each_output_once(cls, value: dict[str, str]) -> dict[str, str]:
        twice = sorted({out for out in value.values() if list(value.values()).count(out) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is passed on more than once")
        return value


def load_inputs(path: Path) -> Declared:
    """Reads and checks a file; :class:`SpecError` lists every mistake with its path."""
    file = toml_file.load(path, InputsFile, _REFERENCE)
    files, problems = {}, []
    for name, table in file.inputs.items():
        if table.values:
            source = path.parent / table.values
            if _is_file(source):
                files[name] = FromFile(
                    str(source.resolve()), table.array or name, digest.of_file(source)
                )
            else:
                problems.append(f"inputs.{name}.values: {source}: no such file")
    if problems:
        raise SpecError(str(path), problems)
    rules = {name: table.rule() for name, table in file.inputs.items() if name not in files}
    return Declared(file.seed, file.samples, dict(file.dims), rules, files, dict(file.state))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no file can be called so
        return False


def pages() -> list[tuple[str, type[Any]]]:
    """The tables of the file, for its reference page."""
    return [("The file", InputsFile), ("`[inputs.NAME]`", InputTable)]
