"""All files of a round, before its first run: from then on it needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from assay.agent.measuring.observe import RunPaths
from assay.agent.plane.fetch import Fetcher
from assay.agent.plane.limits import Limit
from assay.agent.plane.quiet import Stopping
from assay.core.cas import ContentStore
from assay.core.errors import AssayError, Cancelled, FetchTimeout, OverBudget
from assay.core.model import ArtifactRef, RunSpec


class Gathered:
    """The verified file of every digest asked for, or why it is not here. What is ``refused``, by
    digest, is not fetched."""

    def __init__(self, refused: Mapping[str, AssayError]) -> None:
        self._found: dict[str, Path | AssayError] = dict(refused)

    def add(self, run: RunSpec, fetcher: Fetcher, limit: Limit) -> None:
        """Fetches what ``run`` needs while ``limit`` lasts; each is read anew once. Raises only
        :class:`Cancelled`, :class:`Stopping`, and :class:`OverBudget` for what fits another day."""
        for ref in refs_of([run]):
            if ref.digest not in self._found:
                self._found[ref.digest] = _fetch(ref, fetcher, limit)

    def paths(self, run: RunSpec) -> RunPaths:
        """Where the files of ``run`` lie; raises what went wrong with the first that is absent."""
        golden = self._path(run.golden.artifact) if run.golden is not None else None
        return RunPaths(self._path(run.artifact), self._path(run.inputs.artifact), golden)

    def _path(self, ref: ArtifactRef) -> Path:
        found = self._found[ref.digest]
        if isinstance(found, AssayError):
            raise found
        return found


def refs_of(runs: Sequence[RunSpec]) -> Iterator[ArtifactRef]:
    """Every file these runs need."""
    for run in runs:
        yield run.artifact
        yield run.inputs.artifact
        if run.golden is not None:
            yield run.golden.artifact


def missing_bytes(runs: Sequence[RunSpec], store: ContentStore) -> int:
    """What is not here of all files these runs need, as they are."""
    sizes = {ref.digest: ref.size_bytes - store.partial_bytes(ref) for ref in refs_of(runs)}
    return sum(size for digest, size in sizes.items() if not store.has(digest))


def _fetch(ref: ArtifactRef, fetcher: Fetcher, limit: Limit) -> Path | AssayError:
    try:
        return fetcher.fetch(ref, limit)
    except Cancelled:
        if not limit.timed_out:
            raise
        return FetchTimeout(
            f"artifact {ref.digest} ({ref.size_bytes} bytes) was not here within the "
            f"{limit.limit_s:g} s of its round; what has arrived is kept: mend the line, or allow "
            "more by limits.fetch_s or limits.fetch_bytes_per_s in the sweep file"
        )
    except Stopping:
        raise
    except OverBudget as error:
        if not error.never:
            raise
        return error
    except AssayError as error:
        return error
    except OSError as error:
        return AssayError(f"artifact {ref.digest} cannot be kept on this device: {error}")
