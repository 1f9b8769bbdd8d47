"""Client processes that obey their stdin: a line in, a line of JSON out, the end with its end."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


class Processes:
    """Python modules started side by side; leave the block to end them."""

    def __init__(self, module: str, arguments: Sequence[Sequence[object]]) -> None:
        self._all = [
            subprocess.Popen(
                [sys.executable, "-m", module, *map(str, each)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for each in arguments
        ]

    def __enter__(self) -> Processes:
        for process in self._all:
            assert process.stdout is not None
            process.stdout.readline()  # it has read its credentials
        return self

    def __exit__(self, *_exc: object) -> None:
        for process in self._all:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._all:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ask(self) -> list[dict[str, Any]]:
        """What each has to say; the first time it starts them."""
        for process in self._all:
            assert process.stdin is not None
            print(file=process.stdin, flush=True)
        said = []
        for process in self._all:
            assert process.stdout is not None
            said.append(json.loads(process.stdout.readline()))
        return said


def shares(count: int, processes: int) -> list[tuple[int, int]]:
    """(first, how many) for each process; together all."""
    bounds = [count * index // processes for index in range(processes + 1)]
    return [(low, high - low) for low, high in itertools.pairwise(bounds)]
