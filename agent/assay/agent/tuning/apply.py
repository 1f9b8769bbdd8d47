"""Sets knobs and puts them back; what is needed to put back is on disk before anything is set.

The file ``tune.json`` in the agent's home lists what was changed, oldest first. Setting twice keeps
what stood before the first time. After a reboot only what survives one is put back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assay.agent.home import write_atomically
from assay.agent.sysroot import maybe_text
from assay.agent.tuning.knobs import Change, CommandChange, FileChange, Knob
from assay.core.errors import SamplerError, SpecError

FILE = "tune.json"
Run = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Done:
    """One change that was made, put back, or failed with ``error``."""

    knob: str
    what: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    knob: str
    boot_id: str
    change: Change


def apply(
    knobs: Iterable[Knob], root: Path, home: Path, boot_id: str, run: Run
) -> tuple[Done, ...]:
    """Makes every change in order; ``run`` takes a command's words and raises SamplerError. A
    change that fails is told and the rest is made all the same."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = [k for k in _load(home) if k.boot_id == boot_id or k.change.survives_reboot]
    done = []
    for knob in knobs:
        for change in knob.changes:
            known = any(k.change.key == change.key for k in kept)
            if known and change.undone() is None:
                continue
            if not known:
                kept.append(_Kept(knob.name, boot_id, change))
                _store(home, kept)
            done.append(Done(knob.name, str(change), _make(change, root, run)))
    return tuple(done)


def restore(root: Path, home: Path, boot_id: str, run: Run) -> tuple[Done, ...]:
    """Puts everything back in the reverse order; what fails stays in the file for another try."""
    done, left = [], []
    for one in reversed(_load(home)):
        back = one.change.undone()
        if back is None:
            continue
        if one.boot_id != boot_id and not one.change.survives_reboot:
            done.append(Done(one.knob, f"{back}, which the reboot has done"))
            continue
        error = _make(back, root, run)
        done.append(Done(one.knob, str(back), error))
        left += [one] if error else []
    if left:
        _store(home, left[::-1])
    else:
        (home / FILE).unlink(missing_ok=True)
    return tuple(done)


def _make(change: Change, root: Path, run: Run) -> str:
    """Why it failed; empty where it did not."""
    if isinstance(change, CommandChange):
        try:
            run(*change.do)
        except SamplerError as error:
            return str(error)
        return ""
    path = root / change.path
    try:
        path.write_text(change.wanted)
    except OSError as error:
        return f"/{change.path}: {error.strerror}"
    found = maybe_text(path)
    # Some files take a write and keep what they had.
    return "" if found == change.wanted else f"/{change.path} still holds {found}"


def _load(home: Path) -> list[_Kept]:
    path = home / FILE
    try:
        return [_read(entry) for entry in json.loads(path.read_bytes())["changes"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"cannot be read: {error}; put the board back by hand and remove the file"
        raise SpecError(str(path), [told]) from error


def _read(entry: dict[str, Any]) -> _Kept:
    told = entry["change"]
    change: Change
    if "path" in told:
        change = FileChange(**told)
    else:
        change = CommandChange(**{**told, "do": tuple(told["do"]), "undo": tuple(told["undo"])})
    return _Kept(entry["knob"], entry["boot_id"], change)


def _store(home: Path, kept: list[_Kept]) -> None:
    text = json.dumps({"changes": [asdict(one) for one in kept]}, indent=1)
    write_atomically(home / FILE, text.encode() + b"\n")
