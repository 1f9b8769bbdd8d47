"""Starts, watches and ends the blob process."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from assay.controller.home import Home
from assay.core import log
from assay.core.errors import AssayError, PortInUse

_STOP_S = 3.0
_RESTART_S = 1.0

_log = log.get(__name__)


@dataclass(slots=True)
class BlobProcess:
    """The child that serves artifacts; its stdin is the leash that ends it with us."""

    command: list[str]
    child: subprocess.Popen[bytes]
    port: int

    async def watch(self) -> None:
        """Starts it again on the same port whenever it dies; runs until it is cancelled."""
        while True:
            await asyncio.to_thread(self.child.wait)
            _log.error("blob process died", status=self.child.returncode)
            await asyncio.sleep(_RESTART_S)
            command = [*self.command, str(self.port)]
            self.child, self.port = await asyncio.to_thread(_start, command)

    def stop(self) -> None:
        """Ends it, gently first."""
        if self.child.stdin is not None:
            self.child.stdin.close()
        try:
            self.child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


def blob_command(home: Home, host: str, log_level: str, *, json_lines: bool) -> list[str]:
    """The command line of the child, but for its port."""
    style = "json" if json_lines else "text"
    module = "assay.controller.blobs.process"
    return [sys.executable, "-m", module, log_level, style, str(home.root), host]


@contextlib.asynccontextmanager
async def blob_process(command: list[str], port: int) -> AsyncIterator[BlobProcess]:
    """Runs the child until the block ends; :class:`PortInUse` where ``port`` is taken."""
    child, bound = await asyncio.to_thread(_start, [*command, str(port)])
    blobs = BlobProcess(command, child, bound)
    try:
        yield blobs
    finally:
        await asyncio.to_thread(blobs.stop)


def _start(command: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    # A session of its own: Ctrl-C in a terminal is for the controller, which then ends this.
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    line = child.stdout.readline().decode().strip()
    if line.isdecimal():
        return child, int(line)
    child.kill()
    child.wait()
    if line.startswith("port_in_use "):
        raise PortInUse(line.removeprefix("port_in_use "))
    raise AssayError(f"the blob process did not start: {line or 'its log says why'}")
