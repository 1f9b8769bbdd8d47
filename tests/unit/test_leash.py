"""Processes beside the control loop: their ports, their errors, their restarts and their end."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from assay.controller.server.leash import Child, leashed
from assay.core.errors import AssayError, PortInUse

# Answers as the real ones do, and ends with its stdin; a file says how it fares.
_CHILD = """
import sys, pathlib
mood = pathlib.Path(sys.argv[1])
with mood.with_suffix(".starts").open("a") as starts:
    starts.write("x")
said = mood.read_text().strip() if mood.exists() else ""
if said:
    print(said, flush=True)
    sys.exit(3)
print(*[f"{word.partition('=')[0]}={7000 + len(word)}" for word in sys.argv[2:]], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    return tmp_path / "mood"


@pytest.fixture
def command(mood: Path) -> list[str]:
    return [sys.executable, "-c", _CHILD, str(mood)]


def test_it_says_the_ports_it_listens_on_and_ends_with_its_leash(command: list[str]) -> None:
    async def work() -> Child:
        async with leashed("test", command, {"metrics": 0, "live": 0}) as child:
            assert child.ports == {"metrics": 7009, "live": 7006}
            assert child.process.poll() is None
            return child

    assert asyncio.run(work()).process.returncode == 0


@pytest.mark.parametrize(
    ("said", "error"),
    [("port_in_use 9464 is taken", PortInUse), ("", AssayError), ("live=1", AssayError)],
)
def test_what_it_could_not_do_is_told(
    command: list[str], mood: Path, said: str, error: type[AssayError]
) -> None:
    mood.write_text(said or "nonsense")
    with pytest.raises(error):
        Child("test", command, {"metrics": 0})


def test_one_that_dies_is_started_again_as_often_as_it_takes(
    command: list[str], mood: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.controller.server.leash._RESTART_S", 0.01)

    async def work() -> None:
        async with leashed("test", command, {"metrics": 0}) as child:
            first = child.process
            watching = asyncio.create_task(child.watch())
            mood.write_text("port_in_use taken meanwhile")
            first.kill()
            while len(mood.with_suffix(".starts").read_text()) < 3:
                await asyncio.sleep(0.01)
            assert not watching.done(), "a controller does not end because a page cannot be shown"
            mood.unlink()
            while child.process is first:
                await asyncio.sleep(0.01)
            assert child.process.poll() is None
            watching.cancel()
            child.stop()

    asyncio.run(work())
