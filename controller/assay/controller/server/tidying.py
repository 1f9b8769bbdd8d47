"""Garbage collection of the content store by the clock: `assay store gc` once a day.

In a process of its own, with the lowest claim to the CPU: it looks at every file, and the control
loop must not wait.
"""

from __future__ import annotations

import asyncio
import os
import sys

from assay.controller.home import Home
from assay.core import log

_FIRST_AFTER_S = 3_600.0
_EVERY_S = 86_400.0
_LONGEST_S = 3_600.0
_NICENESS = 19

_log = log.get(__name__)


async def tidy(
    home: Home, *, first_after_s: float = _FIRST_AFTER_S, every_s: float = _EVERY_S
) -> None:
    """Runs until it is cancelled; a collection under way is ended then."""
    await asyncio.sleep(first_after_s)
    while True:
        await _collect(home)
        await asyncio.sleep(every_s)


async def _collect(home: Home) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "assay.controller", "store", "gc", "--format", "json"),
        env={**os.environ, "ASSAY_HOME": str(home.root)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        _, said = await asyncio.wait_for(process.communicate(), _LONGEST_S)
    except TimeoutError:
        _log.error("garbage was not collected", reason=f"it took over {_LONGEST_S:g} s")
        return
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    outcome = said.decode(errors="replace").strip().rpartition("\n")[2]
    if process.returncode == 0:
        _log.info("garbage was collected", said=outcome)
    else:
        _log.error("garbage was not collected", status=process.returncode, reason=outcome)
