"""Whether what the controller keeps is whole: the database, the files, the files that are named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from assay.controller.home import Home
from assay.controller.records import RoundState, SweepState, VariantFile
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.digest import of_file, short
from assay.core.errors import AssayError, NotFound
from assay.core.model import ArtifactRef, RunSpec

_OPEN = (RoundState.QUEUED, RoundState.LEASED)
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``ok`` False: it is broken."""

    check: str
    ok: bool
    detail: str


def look(home: Home, store: Store, *, read: bool, named: bool) -> Iterator[Finding]:
    """The database and the files; with ``read`` every file is read and its digest compared, with
    ``named`` also whether the files are there that variants, datasets and open rounds name."""
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("store", lambda: _database(store)),
        ("artifacts", lambda: [_artifacts(home, read)]),
    ]
    if named:
        checks.append(("named files", lambda: [_named(home, store)]))
    for name, check in checks:
        try:
            yield from check()
        except (AssayError, OSError, ValueError) as error:
            yield Finding(name, False, str(error))


def _database(store: Store) -> Iterator[Finding]:
    problems, counts, conflicts = store.check(), store.counts(), store.conflicts()
    holds = f"{counts['devices']} devices, {counts['sweeps']} sweeps, {counts['results']} results"
    yield Finding("store", not problems, "; ".join(problems) or holds)
    if conflicts:
        last = conflicts[-1]
        yield Finding(
            "conflicts",
            False,
            f"{len(conflicts)} results came twice with different bytes, last for attempt "
            f"{last.attempt_id}: the first stands; is an identity or a spool copied?",
        )


def _artifacts(home: Home, read: bool) -> Finding:
    content = ContentStore(home.artifacts)
    held = list(content.held())
    bad = [short(digest) for digest, _ in held if _is_broken(content, digest, read)]
    size = sum(size for _, size in held)
    detail = f"{len(held)} files, {size / 2**20:.1f} MiB {'read' if read else 'found'}"
    if bad:
        detail += f"; unreadable or changed: {', '.join(bad)}: remove them and build or add again"
    return Finding("artifacts", not bad, detail)


def _is_broken(content: ContentStore, digest: str, read: bool) -> bool:
    try:
        path = content.path(digest)
        return not os.access(path, os.R_OK) or (read and of_file(path) != digest)
    except (NotFound, FileNotFoundError):
        return False  # collected meanwhile; whether it is missed is another question
    except OSError:
        return True


def _named(home: Home, store: Store) -> Finding:
    """Raw traces are not asked for: a result may stand without."""
    content = ContentStore(home.artifacts)
    wanted = {ref.digest: what for what, ref in _wanted(store)}
    absent = [f"{short(d)} ({what})" for d, what in wanted.items() if not content.has(d)]
    detail = f"{len(wanted)} files named by variants, datasets and open rounds"
    if absent:
        more = f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else ""
        detail = f"not there: {', '.join(absent[:_SHOWN])}{more}: build or add them again"
    return Finding("named files", not absent, detail)


def _wanted(store: Store) -> Iterator[tuple[str, ArtifactRef]]:
    for dataset in store.datasets():
        yield from ((f"dataset {dataset.name}", ref) for ref in dataset.splits.values())
    for variant in store.variants():
        for file in variant.files.values():
            yield from ((f"variant {variant.name}", ref) for ref in _of_file(file))
    for sweep in store.sweeps():
        if sweep.state is SweepState.RUNNING:
            for round_ in store.rounds(sweep.sweep_id, _OPEN):
                for run in round_.runs:
                    yield from ((f"sweep {sweep.name}", ref) for ref in _of_run(run))


def _of_file(file: VariantFile) -> Iterator[ArtifactRef]:
    yield file.artifact
    if file.golden is not None:
        yield file.golden.artifact
    if file.inputs is not None:
        yield file.inputs.artifact


def _of_run(run: RunSpec) -> Iterator[ArtifactRef]:
    yield run.artifact
    yield run.inputs.artifact
    if run.golden is not None:
        yield run.golden.artifact
