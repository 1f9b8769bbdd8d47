"""Every setting has a key, a flag and a variable; mistakes are told all at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from assay.agent.cli.enrol import enrol_command
from assay.agent.cli.run import run_command
from assay.agent.config import AgentConfig, flag, load, options, variable
from assay.core.errors import SpecError
from tests.conftest import REPOSITORY

# One value per field, as a user would type it, and what it becomes.
SAMPLES: dict[str, tuple[str, Any]] = {
    "controller": ("bench.example:7433", "bench.example:7433"),
    "token": ("assay1.x", "assay1.x"),
    "home": ("/var/lib/agent", Path("/var/lib/agent")),
    "name": ("pi5-a", "pi5-a"),
    "labels": ("site=lab,rack=2", {"site": "lab", "rack": "2"}),
    "measure_cpus": ("2-3", (2, 3)),
    "housekeeping_cpus": ("0,1", (0, 1)),
    "runtimes": ("litert,onnxruntime", ("litert", "onnxruntime")),
    "cache_quota_bytes": ("2GiB", 2 << 30),
    "spool_quota_bytes": ("1048576", 1 << 20),
    "daily_bytes": ("200MB", 200_000_000),
    "sampler_hz": ("20", 20.0),
    "start_temperature_c": ("55.5", 55.5),
    "trusted_publishers": ("/etc/a.pub,/etc/b.pub", (Path("/etc/a.pub"), Path("/etc/b.pub"))),
    "sysroot": ("/tmp/root", Path("/tmp/root")),
    "metrics_port": ("9100", 9100),
    "metrics_host": ("0.0.0.0", "0.0.0.0"),
}
FIELDS = [field.name for field in dataclasses.fields(AgentConfig)]


def parsed(arguments: list[str], env: dict[str, str]) -> AgentConfig:
    """What a command with all options makes of a command line."""
    seen: list[AgentConfig] = []

    @click.command()
    @options()
    def command(config_file: Path | None, **given: Any) -> None:
        seen.append(load(config_file, given))

    done = CliRunner(env=env).invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return seen[0]


def test_the_samples_cover_every_field() -> None:
    assert list(SAMPLES) == FIELDS


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_a_flag_a_variable_and_a_key(name: str, tmp_path: Path) -> None:
    text, value = SAMPLES[name]
    file = tmp_path / "agent.toml"
    file.write_text(f'{name} = "{text}"\n')
    assert getattr(parsed([flag(name), text], {}), name) == value
    assert getattr(parsed([], {variable(name): text}), name) == value
    assert getattr(parsed(["--config", str(file)], {}), name) == value


@pytest.mark.parametrize("name", FIELDS)
def test_run_takes_every_flag_and_variable(name: str) -> None:
    (parameter,) = [each for each in run_command.params if each.name == name]
    assert parameter.opts == [flag(name)]
    assert parameter.envvar == variable(name)


def test_enrol_takes_what_it_needs() -> None:
    names = {parameter.name for parameter in enrol_command.params}
    assert names == {"config_file", "controller", "token", "home", "name"}


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('name = "from-file"\nmetrics_port = 1\n')
    environment = {variable("name"): "from-env", variable("config"): str(file)}
    assert parsed([], environment).name == "from-env"
    assert parsed(["--name", "from-flag"], environment).name == "from-flag"
    assert parsed([], environment).metrics_port == 1


def test_the_file_may_use_toml_types(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        'measure_cpus = [2, "4-5"]\nsampler_hz = 50\ncache_quota_bytes = 1000\n'
        '[labels]\nsite = "lab"\n'
    )
    config = load(file, {})
    assert config.measure_cpus == (2, 4, 5)
    assert config.sampler_hz == 50.0
    assert config.cache_quota_bytes == 1000
    assert config.labels == {"site": "lab"}


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(
        'contoller = "a:1"\nzzz = 1\nname = "Not Allowed"\nsampler_hz = 0\nmetrics_port = true\n'
        'labels = "a b=c"\nmeasure_cpus = []\ncache_quota_bytes = "5 apples"\n'
        'runtimes = ["tensorrtx"]\n'
    )
    with pytest.raises(SpecError) as caught:
        load(file, {"controller": "no-port"})
    problems = "\n".join(caught.value.problems)
    assert "contoller: unknown key; did you mean controller?" in problems
    assert "zzz: unknown key; known ones are controller," in problems
    assert "--controller: 'no-port' is not HOST:PORT" in problems
    keys = {problem.partition(":")[0] for problem in caught.value.problems}
    bad = {"name", "sampler_hz", "metrics_port", "labels", "measure_cpus", "cache_quota_bytes"}
    assert {*bad, "runtimes"} <= keys
    assert "known ones are onnxruntime," in problems
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["not toml [", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "agent.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SpecError, match=r"agent\.toml"):
        load(file, {})


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(AgentConfig(token="secret"))


def test_the_name_is_the_hosts_in_an_allowed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "My_Board.example.org")
    assert AgentConfig().device_name == "my-board"
    monkeypatch.setattr("socket.gethostname", lambda: "___")
    assert AgentConfig().device_name == "device"


def test_every_setting_stands_in_the_documentation() -> None:
    page = (REPOSITORY / "docs/agent.md").read_text()
    rows = [line.partition("`")[2].partition("`")[0] for line in page.splitlines() if "| `" in line]
    assert [row for row in rows if row in FIELDS] == FIELDS
