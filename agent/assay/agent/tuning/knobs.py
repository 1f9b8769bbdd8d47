"""One thing of a board that can be set for clean numbers, and how; values only."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, TypeAlias


class State(enum.Enum):
    """How a knob stands."""

    FINE = "fine"
    CHANGE = "change"
    BY_HAND = "by hand"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class FileChange:
    """Writes ``wanted`` to a kernel file that holds ``before``; ``path`` is below the root. A
    reboot undoes it."""

    path: str
    before: str
    wanted: str
    survives_reboot: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """What of the board it changes."""
        return self.path

    def __str__(self) -> str:
        return f"/{self.path}: {self.before} -> {self.wanted}"

    def undone(self) -> FileChange:
        """The change back."""
        return FileChange(self.path, self.wanted, self.before)


@dataclass(frozen=True, slots=True)
class CommandChange:
    """Runs ``do``; ``undo`` puts it back. One without ``undo`` only saves what stands for a later
    one and is not run again while that is needed. A reboot undoes it unless ``survives_reboot``.
    """

    key: str
    do: tuple[str, ...]
    undo: tuple[str, ...] = ()
    survives_reboot: bool = False

    def __str__(self) -> str:
        return " ".join(self.do)

    def undone(self) -> CommandChange | None:
        """The change back, if there is one."""
        return CommandChange(self.key, self.undo) if self.undo else None


Change: TypeAlias = "FileChange | CommandChange"


@dataclass(frozen=True, slots=True)
class Knob:
    """``now`` and ``wanted`` are for people. ``changes`` are made in order and put back in the
    reverse one; ``by_hand`` says what only a person should do."""

    name: str
    now: str
    wanted: str
    why: str
    changes: tuple[Change, ...] = ()
    by_hand: str = ""
    absent: str = ""

    @property
    def state(self) -> State:
        """ABSENT where this board has no such thing, FINE where nothing is to be done."""
        if self.absent:
            return State.ABSENT
        if self.changes:
            return State.CHANGE
        return State.BY_HAND if self.by_hand else State.FINE
