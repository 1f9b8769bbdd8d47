"""The sweep file: what to measure, where and how often, checked whole before anything starts.

Reference: docs/reference/sweep-file.md, written from these models by ``make docs``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from assay.controller import toml_file
from assay.core.model import PROFILES, Mode, Profile, Scenario, ScenarioKind
from assay.core.model.formats import FORMATS

_SWEPT = tuple(known.runtime for known in FORMATS if known.swept)

_REFERENCE = "docs/reference/sweep-file.md"
_YEAR_S = 31_536_000.0

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceSelector(_Strict):
    """Which devices: every given condition must hold; none given means every active device."""

    names: list[str] = Field(default=[], description="Device names; shell patterns are allowed.")
    classes: list[str] = Field(default=[], description="Device classes, e.g. `rpi5`, `x86_64`.")
    labels: dict[str, str] = Field(
        default={},
        description="Labels, the agent's own or set by `assay device label`; all must match.",
    )
    capabilities: list[str] = Field(
        default=[],
        description="What a device must say of itself (`assay device show`), e.g. `cpu:avx2`, "
        "`gpu:nvidia`; all of it, word by word.",
    )
    memory_bytes: int = Field(
        default=0, ge=0, description="The least main memory a device must have, bytes."
    )


class RuntimeChoice(_Strict):
    """A runtime and the settings to try with it; lists are multiplied out."""

    name: str = Field(description=f"The runtime: `{'`, `'.join(_SWEPT)}`.")
    version: str = Field(default="", description="Required version; empty: what the device has.")
    provider: str = Field(
        default="", description="Execution provider or delegate; empty: the CPU default."
    )
    threads: list[Annotated[int, Field(ge=1, le=256)]] = Field(
        default=[1], min_length=1, description="Intra-operator threads."
    )
    allow_spinning: bool | None = Field(
        default=None,
        description="Whether idle threads spin; by default in bursts, where none is idle for long, "
        "and not in paced runs, whose pauses they would burn. Set it to false for energy runs of "
        "several threads.",
    )
    options: dict[str, str] = Field(default={}, description="Runtime options, passed through.")

    @field_validator("name")
    @classmethod
    def _a_runtime_of_sweeps(cls, name: str) -> str:
        if name not in _SWEPT:
            raise ValueError(f"{name!r} is none of {', '.join(_SWEPT)}")
        return name


class ScenarioChoice(_Strict):
    """How queries arrive; MLPerf's words."""

    kind: Literal["single_stream", "multi_stream", "offline", "server"] = Field(
        default="single_stream", description="Arrival pattern."
    )
    mode: Literal["burst", "sustained", "paced"] = Field(
        default="burst", description="How long and how hard the device is driven."
    )
    batch: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        default=[1], min_length=1, description="Samples in one query."
    )
    target_qps: float | None = Field(
        default=None, gt=0, description="Queries per second; for `server` and `paced` only."
    )

    @model_validator(mode="after")
    def _rate_where_it_means_something(self) -> ScenarioChoice:
        open_loop = self.kind == "server" or self.mode == "paced"
        if open_loop and self.target_qps is None:
            raise ValueError("target_qps is required for kind 'server' and mode 'paced'")
        if not open_loop and self.target_qps is not None:
            raise ValueError("target_qps only goes with kind 'server' or mode 'paced'")
        return self

    def scenarios(self) -> list[Scenario]:
        """One scenario per batch size."""
        return [
            Scenario(ScenarioKind(self.kind), Mode(self.mode), batch, self.target_qps)
            for batch in self.batch
        ]


class Exclusion(_Strict):
    """Cells to leave out: every given pattern must match."""

    variant: str = Field(default="*", description="Pattern on the variant's name.")
    runtime: str = Field(default="*", description="Pattern on the runtime's name.")
    device: str = Field(default="*", description="Pattern on the device's name.")
    threads: int | None = Field(default=None, description="Only at this number of threads.")
    batch: int | None = Field(default=None, description="Only at this batch size.")

    @model_validator(mode="after")
    def _says_something(self) -> Exclusion:
        if not self.model_fields_set:
            raise ValueError("an empty exclusion would leave everything out")
        return self


class Limits(_Strict):
    """How long a round may take before and beside its runs, whose own limits come from the profile.
    What each expiry leads to: docs/protocol.md."""

    queue_s: float = Field(
        default=259_200.0,
        gt=0,
        le=_YEAR_S,
        description="How long a device may take nothing at all while rounds wait for it, seconds. "
        "Then they fail and the sweep ends without them; `assay sweep resume` tries again.",
    )
    fetch_s: float = Field(
        default=300.0,
        gt=0,
        le=_YEAR_S,
        description="What fetching the files of a round may take, seconds, before their size.",
    )
    fetch_bytes_per_s: float = Field(
        default=32_768.0,
        ge=100,
        le=1e12,
        description="The slowest line that is no failure: the round's bytes at this pace are "
        "added to `fetch_s`. A run without its files fails, and is tried again in another round.",
    )
    start_s: float = Field(
        default=300.0,
        gt=0,
        le=_YEAR_S,
        description="How long a device may hold a round before it begins, and a run before its "
        "worker does (cooling down not counted), seconds. Tried again.",
    )


class SweepSpec(_Strict):
    """A sweep file."""

    name: Name = Field(description="Name of the sweep; running the same file again resumes it.")
    dataset: str = Field(
        default="",
        description="Dataset whose test split feeds the runs; empty: each variant's own. Variants "
        "that were added with inputs of their own keep them.",
    )
    variants: list[str] = Field(
        default=[], description="Variant names; shell patterns are allowed."
    )
    models: list[str] = Field(default=[], description="Every variant of these models.")
    recipes: list[str] = Field(
        default=[],
        description="Recipe files (paths from this file); built first where they are not yet.",
    )
    baseline: str = Field(description="The variant that ratios and verdicts refer to.")
    devices: DeviceSelector = Field(default=DeviceSelector(), description="Where to measure.")
    runtimes: list[RuntimeChoice] = Field(min_length=1, description="In what to measure.")
    scenarios: list[ScenarioChoice] = Field(
        default=[ScenarioChoice()], min_length=1, description="How queries arrive."
    )
    dims: dict[str, Annotated[int, Field(ge=1, le=1 << 31)]] = Field(
        default={},
        description="Sizes of open dimensions, by name, for variants with inputs of their own; "
        "`assay variant show` names them. Inputs and golden outputs are made anew for them.",
    )
    exclude: list[Exclusion] = Field(default=[], description="Cells to leave out.")
    profile: str = Field(
        default="standard", description="How long to measure: demo, quick, standard or mlperf."
    )
    rounds: int = Field(
        default=10, ge=1, le=1000, description="Rounds: fresh processes of every cell, interleaved."
    )
    retries: int = Field(
        default=3,
        ge=0,
        le=10,
        description="How often rounds are added for cells that lack VALID results.",
    )
    canary: bool = Field(default=True, description="Whether a canary runs in every round.")
    accuracy: bool = Field(
        default=True, description="Whether accuracy is measured on the device (first round)."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Draws the order within rounds.")
    limits: Limits = Field(
        default=Limits(), description="How long waiting, fetching and beginning may take."
    )

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, value: str) -> str:
        if value not in PROFILES:
            raise ValueError(f"{value!r} is not one of {', '.join(PROFILES)}")
        return value

    @model_validator(mode="after")
    def _names_something(self) -> SweepSpec:
        if not (self.variants or self.models or self.recipes):
            raise ValueError("name at least one of variants, models, recipes")
        return self

    @property
    def measuring(self) -> Profile:
        """The profile's figures."""
        return PROFILES[self.profile]


def load_spec(path: Path) -> SweepSpec:
    """Reads and checks a sweep file; :class:`SpecError` lists every mistake with its path."""
    return toml_file.load(path, SweepSpec, _REFERENCE)


def parse_spec(text: str, source: str) -> SweepSpec:
    """Checks the text of a sweep file that messages call ``source``."""
    return toml_file.parse(text, SweepSpec, source, _REFERENCE)


def check_spec(raw: dict[str, Any], source: str) -> SweepSpec:
    """Checks a parsed sweep file."""
    return toml_file.check(raw, SweepSpec, source, _REFERENCE)
