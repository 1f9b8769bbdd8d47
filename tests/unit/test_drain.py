"""Draining an agent from outside: a mark in its home, and waiting until nothing is held."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from assay.agent.cli.drain import drain_command, resume_command
from assay.agent.home import AgentHome
from assay.agent.plane.drain import Drain
from assay.core.errors import NotFound, Partial


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return AgentHome(tmp_path / "home").create()


class Clock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def read(self) -> float:
        return self.now_s


def test_the_mark_stays_until_it_is_taken_away(home: AgentHome) -> None:
    drain = Drain(home)
    assert not drain.marked
    drain.mark()
    assert Drain(home).marked
    drain.unmark()
    drain.unmark()
    assert not drain.marked


def test_waiting_ends_when_the_last_round_is_over(home: AgentHome) -> None:
    held = home.rounds / "r1.json"
    held.write_text("{}")
    clock = Clock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now_s >= 105:
            held.unlink()

    with home.lock():
        Drain(home).wait(60, sleep=sleep, now_s=clock.read)
    assert 105 <= clock.now_s < 106


def test_waiting_gives_up_and_says_what_is_left(home: AgentHome) -> None:
    for name in ("r1", "r2"):
        (home.rounds / f"{name}.json").write_text("{}")
    clock = Clock()
    with home.lock(), pytest.raises(Partial, match="2 rounds not over after 30 s"):
        Drain(home).wait(30, sleep=clock.sleep, now_s=clock.read)
    assert clock.now_s == 130


def test_nobody_waits_for_an_agent_that_does_not_run(home: AgentHome) -> None:
    (home.rounds / "r1.json").write_text("{}")
    with pytest.raises(Partial, match=r"no agent runs on .* holds 1 round:"):
        Drain(home).wait(3600)


def test_a_directory_without_an_agent_is_not_marked(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no agent's home"):
        Drain(AgentHome(tmp_path)).mark()
    assert not list(tmp_path.iterdir())


def test_the_commands_mark_and_unmark(home: AgentHome) -> None:
    runner = CliRunner()
    done = runner.invoke(drain_command, ["--home", str(home.root), "--wait", "0"])
    assert (done.exit_code, "nothing is held" in done.output) == (0, True)
    assert home.draining.exists()
    assert runner.invoke(resume_command, ["--home", str(home.root)]).exit_code == 0
    assert not home.draining.exists()
