"""``assay-agent bench``: measures local model files, without any controller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.agent.cli.bench_rows import print_outcomes, row_of
from assay.agent.cli.bench_setup import LocalBench, Options, runtime_of
from assay.agent.cli.bench_words import changed, dim, pair, shape
from assay.core.errors import CheckFailed, UsageError
from assay.core.listing import format_option
from assay.core.model import PROFILES, Mode, Scenario, ScenarioKind, VerdictKind
from assay.core.model.formats import MEDIA_BY_RUNTIME

if TYPE_CHECKING:
    from assay.agent.measuring.measure import Measured

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("bench")
@click.argument("models", nargs=-1, required=True, type=_FILE, metavar="MODEL...")
@click.option(
    "--inputs",
    type=_FILE,
    help="Real samples: an .npz with x (and labels y), or an array for each input by name.",
)
@click.option(
    "--golden", type=_FILE, help="Reference: .npz with x as the model takes it, output_0, ..."
)
@click.option("--preprocessing", default="{}", help="JSON: how x becomes the model's input.")
@click.option(
    "--runtime",
    type=click.Choice(sorted(MEDIA_BY_RUNTIME)),
    help="By the file's name if absent.",
)
@click.option("--provider", default="", help="Execution provider or delegate.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--spinning/--no-spinning", default=True, help="Whether idle threads spin.")
@click.option("--option", "options", multiple=True, metavar="K=V", help="Of the runtime.")
@click.option("--profile", type=click.Choice(list(PROFILES)), default="quick", show_default=True)
@click.option("--quick", "profile", flag_value="quick", help="The same as --profile quick.")
@click.option("--standard", "profile", flag_value="standard", help="--profile standard.")
@click.option("--mlperf", "profile", flag_value="mlperf", help="--profile mlperf.")
@click.option(
    "--scenario",
    type=click.Choice([kind.value for kind in ScenarioKind]),
    default=ScenarioKind.SINGLE_STREAM.value,
    show_default=True,
)
@click.option("--batch", type=click.IntRange(1), default=1, help="Samples in one query.")
@click.option("--qps", type=float, help="Queries per second, for server and paced.")
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    default=Mode.BURST.value,
    show_default=True,
    help="As fast as it goes, until it is hot, or at --qps.",
)
@click.option("--shape", "shapes", multiple=True, metavar="INPUT=N,...", help="Of open inputs.")
@click.option("--dim", "dims", multiple=True, metavar="NAME=N", help="Of an open dimension.")
@click.option("--state", multiple=True, metavar="INPUT=OUTPUT", help="Fed back query by query.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), help="Keep raw samples.")
@click.option(
    "--against",
    multiple=True,
    metavar="K=V",
    help="Compare MODEL with itself under other threads, provider, spinning, runtime, option.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 40),
    default=40,
    show_default=True,
    help="At most; a comparison decides at 10, 20 or 40.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.01,
    show_default=True,
    help="What is too small a difference to matter, as a ratio.",
)
@click.option(
    "--statistic",
    type=click.Choice(["p50", "p90", "p99", "energy", "peak_memory"]),
    default="p50",
    show_default=True,
    help="What is compared.",
)
@click.option("--force", is_flag=True, help="Compare although conditions differ.")
@click.option("--apart", is_flag=True, help="Measure two models once each; compare nothing.")
@format_option
def bench_command(models: tuple[Path, ...], output_format: str, **given: Any) -> None:
    """Measures each MODEL in a fresh process and says whether the number holds; two are compared.

    Two models, or one and --against, run in turn, in rounds of fresh processes, until one sentence
    can be said: confirmed, likely, equivalent or inconclusive, with its interval.

    Exit code 0 if every number is VALID or SUSPECT and a comparison says something, else 1.
    """
    scenario = Scenario(
        ScenarioKind(given.pop("scenario")),
        Mode(given.pop("mode")),
        samples_per_query=given.pop("batch"),
        target_qps=given.pop("qps"),
    )
    against = given.pop("against")
    contest = {name: given.pop(name) for name in ("rounds", "margin", "statistic", "force")}
    apart = given.pop("apart")
    options = Options(
        scenario=scenario,
        options=dict(pair("--option", text) for text in given.pop("options")),
        shapes=dict(shape(text) for text in given.pop("shapes")),
        dims=dict(dim(text) for text in given.pop("dims")),
        state=dict(pair("--state", text) for text in given.pop("state")),
        **given,
    )
    if options.inputs is not None and (options.shapes or options.dims):
        raise UsageError("--shape and --dim size inputs that are made up: leave out --inputs")
    sides = _sides(models, options, against, apart=apart)
    if options.trace is not None and (sides or len(models) > 1):
        raise UsageError("--trace keeps the samples of one model: give one")
    if sides:
        _compare(sides, seed=options.seed, output_format=output_format, **contest)
        return
    bench = LocalBench()
    rows = [row_of(model, *bench.measure(model, options, _teller(model))) for model in models]
    print_outcomes(rows, output_format)
    invalid = [row["model"] for row in rows if row["verdict"] == VerdictKind.INVALID.value]
    if invalid:
        raise CheckFailed(f"no number that holds for {', '.join(invalid)}")


def _teller(model: Path) -> Callable[[str], None]:
    return lambda state: click.echo(f"{model.name}: {state}", err=True)


def _sides(
    models: tuple[Path, ...], options: Options, against: tuple[str, ...], *, apart: bool
) -> list[tuple[str, Path, Options]]:
    """The two that are compared, by name; none where nothing is."""
    if against:
        if len(models) != 1:
            raise UsageError("--against compares one model with itself: give one")
        name = models[0].name
        other = f"{name} with {' '.join(against)}"
        return [(name, models[0], options), (other, models[0], changed(options, against))]
    if len(models) != 2 or apart:
        return []
    named = [model.name for model in models]
    if named[0] == named[1]:
        named = [str(model) for model in models]
    if named[0] == named[1]:
        named = [f"{named[0]} (A)", f"{named[1]} (B)"]
    return [(name, model, options) for name, model in zip(named, models, strict=True)]


def _compare(sides: list[tuple[str, Path, Options]], **how: Any) -> None:
    from assay.agent.cli.bench_versus import versus

    bench = LocalBench()

    def measure(side: int, number: int) -> Measured:
        _, model, options = sides[side]
        # Another seed each round: samples and their order are drawn anew, for both alike.
        return bench.measure(model, replace(options, seed=options.seed + number))[1]

    names = (sides[0][0], sides[1][0])
    runtimes = {runtime_of(model, options)[0].name for _, model, options in sides}
    versus(names, measure, same_runtime=len(runtimes) == 1, max_rounds=how.pop("rounds"), **how)
