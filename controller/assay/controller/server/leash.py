"""Processes that serve beside the control loop: started, watched, started again, ended with us."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence

from assay.core import log
from assay.core.errors import AssayError, PortInUse

_STOP_S = 3.0
_RESTART_S = 1.0

_log = log.get(__name__)


class Child:
    """A process on a leash: its stdin, which ends it with us, however we end.

    ``ports`` are those it is asked for by name (0: any), once it runs those it listens on. It is
    given them as ``NAME=PORT`` behind its command, and answers with the same words on its stdout,
    or with an error's code and message.
    """

    def __init__(self, name: str, command: Sequence[str], ports: Mapping[str, int]) -> None:
        self.name = name
        self._command = tuple(command)
        self.process, self.ports = _start(name, self._command, ports)

    async def watch(self) -> None:
        """Starts it again on the same ports whenever it dies; runs until it is cancelled."""
        while True:
            await asyncio.to_thread(self.process.wait)
            _log.error("process died", process=self.name, status=self.process.returncode)
            while not await self._started_again():
                pass

    async def _started_again(self) -> bool:
        await asyncio.sleep(_RESTART_S)
        again = asyncio.to_thread(_start, self.name, self._command, self.ports)
        try:
            self.process, self.ports = await again
        except AssayError as error:
            _log.error("process not started again", process=self.name, error=str(error))
            return False
        return True

    def stop(self) -> None:
        """Ends it, gently first."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.asynccontextmanager
async def leashed(
    name: str, command: Sequence[str], ports: Mapping[str, int]
) -> AsyncIterator[Child]:
    """Runs the child until the block ends; :class:`PortInUse` where one of ``ports`` is taken."""
    child = await asyncio.to_thread(Child, name, command, ports)
    try:
        yield child
    finally:
        await asyncio.to_thread(child.stop)


def _start(
    name: str, command: Sequence[str], ports: Mapping[str, int]
) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
    # A session of its own: Ctrl-C in a terminal is for the controller, which then ends this.
    # Unbuffered: what is written to it arrives at once.
    process = subprocess.Popen(
        [*command, *(f"{port}={number}" for port, number in ports.items())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        bufsize=0,
    )
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    found = dict(word.partition("=")[::2] for word in line.split())
    if found.keys() == ports.keys():
        return process, {port: int(number) for port, number in found.items()}
    process.kill()
    process.wait()
    if line.startswith("port_in_use "):
        raise PortInUse(line.removeprefix("port_in_use "))
    raise AssayError(f"the {name} process did not start: {line or 'its log says why'}")
