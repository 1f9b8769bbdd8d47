"""Renews this device's certificate in time, without the agent growing by what that takes.

``python -m assay.agent.plane.renewal HOME`` is the child that asks for it; :class:`Renewal` decides
when, and keeps the old certificate until the new one has synced.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from assay.agent.clock import Clock
from assay.agent.home import AgentHome
from assay.agent.plane.identity import Identity
from assay.agent.plane.quiet import QuietWindow
from assay.core import log
from assay.core.errors import AssayError

_LOG = log.get(__name__)
_S = 1_000_000_000
_RETRY_NS = 3600 * _S
_FAILURES_BEFORE_TRY = 20
"""So many failed Syncs in a row may mean a refused certificate, whatever this clock says."""


@dataclass(slots=True)
class Renewal:
    """Told of every step of the session, by its thread. ``use`` makes the agent dial with an
    identity from now on; ``ask`` runs the child and says whether it brought a new one."""

    home: AgentHome
    identity: Identity
    use: Callable[[Identity], None]
    ask: Callable[[], bool]
    clock: Clock = field(default_factory=Clock)
    _trial: Identity | None = None
    _next_try_ns: int = 0
    _failures: int = 0

    def start(self) -> None:
        """Takes up a renewed certificate that an earlier process did not get to sync with."""
        self._try_out()

    def after_step(self, answered: bool | None) -> None:
        """``answered`` is whether the controller did; None where it was not asked."""
        if answered is None:
            return
        self._failures = 0 if answered else self._failures + 1
        if self._trial is not None:
            self._judge(self._trial, answered)
        elif self._due():
            self._next_try_ns = self.clock.boottime_ns() + _RETRY_NS
            if self.ask():
                self._try_out()

    def _due(self) -> bool:
        if self.clock.boottime_ns() < self._next_try_ns:
            return False
        by_clock = self.identity.renewal_due(self.clock.unix_ns() / _S)
        return by_clock or self._failures >= _FAILURES_BEFORE_TRY

    def _try_out(self) -> None:
        self._trial = Identity.load_next(self.home)
        if self._trial is not None:
            self.use(self._trial)

    def _judge(self, trial: Identity, answered: bool) -> None:
        self._trial = None
        if answered:
            self.home.next_identity.replace(self.home.identity)
            self.identity = trial
            _LOG.info("certificate was renewed", good_until_unix_s=trial.not_after_unix_s)
            return
        # Perhaps only the network went; the old one is still there, and this one is asked for anew.
        self.home.next_identity.unlink(missing_ok=True)
        self.use(self.identity)
        _LOG.warning("renewed certificate did not get through; the old one is used again")


def ask_by_child(home: AgentHome, quiet: QuietWindow) -> bool:
    """Runs the child, held back by the quiet window like every call."""
    command = [sys.executable, "-m", __name__, str(home.root)]
    pipe = subprocess.PIPE
    with (
        quiet.packet() as packet,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as child,
    ):
        packet.attach(child.terminate)
        said, trouble = child.communicate()
    if child.returncode != 0:
        why = said.decode("utf-8", "replace").strip() or trouble.decode("utf-8", "replace")[-2000:]
        _LOG.warning("certificate could not be renewed", reason=why)
    return child.returncode == 0


def main(root: Path) -> int:
    """The child: says on stdout why it failed."""
    from assay.agent.plane.enrol import renew

    try:
        renew(AgentHome(root))
    except AssayError as error:
        print(error)
        return error.meaning.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
