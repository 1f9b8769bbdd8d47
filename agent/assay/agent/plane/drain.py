"""Draining: an agent finishes what it holds and takes nothing new, for as long as a mark lies in
its home. The mark is a file, so that it outlives the agent and needs no connection to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from assay.agent.home import AgentHome
from assay.core.errors import NotFound, Partial, UsageError

_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Drain:
    """The mark of one home."""

    home: AgentHome

    @property
    def marked(self) -> bool:
        """Whether the agent should take nothing new; cheap enough to ask at every Sync."""
        return self.home.draining.exists()

    def mark(self) -> None:
        """From now on nothing new; :class:`NotFound` where no agent has ever lived."""
        if not self.home.rounds.is_dir():
            raise NotFound(
                f"{self.home.root} is no agent's home: give the one the agent runs on with --home"
            )
        self.home.draining.touch(mode=0o644)

    def unmark(self) -> None:
        """Takes new rounds again; no error where none was refused."""
        self.home.draining.unlink(missing_ok=True)

    @property
    def rounds_held(self) -> int:
        """How many rounds are not over yet; one is over when all its results are acknowledged."""
        return len(list(self.home.rounds.glob("*.json")))

    def wait(
        self,
        patience_s: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Returns once nothing is held; :class:`Partial` where rounds are left after
        ``patience_s``, or at once where no agent runs that could end them."""
        deadline_s = now_s() + patience_s
        while held := self.rounds_held:
            if not self._agent_runs():
                raise Partial(
                    f"no agent runs on {self.home.root}, which holds {_rounds(held)}: start it to "
                    "finish them, or leave them; the controller grants them anew"
                )
            if now_s() >= deadline_s:
                raise Partial(
                    f"{_rounds(held)} not over after {patience_s:g} s; the agent takes nothing new "
                    "until `assay-agent resume`"
                )
            sleep(_POLL_S)

    def _agent_runs(self) -> bool:
        try:
            with self.home.lock():
                return False
        except UsageError:
            return True


def _rounds(count: int) -> str:
    return "1 round" if count == 1 else f"{count} rounds"
