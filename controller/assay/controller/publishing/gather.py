"""What there is to sign: files of one's own, or the list of what a sweep needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from assay.core import digest
from assay.core.errors import BadMessage, UsageError
from assay.core.model import MEDIA_NPZ, ArtifactRef, RunSpec
from assay.core.model.formats import MEDIA_BY_SUFFIX
from assay.core.statement import NamedArtifact, from_entry

_MEDIA = {**MEDIA_BY_SUFFIX, ".npz": MEDIA_NPZ}
_KEYS = ("digest", "size_bytes", "media_type", "name")


def of_files(paths: Iterable[Path]) -> list[NamedArtifact]:
    """These files, hashed here; the type is by the name's end."""
    found = []
    for path in paths:
        media = _MEDIA.get(path.suffix)
        if media is None:
            raise UsageError(f"{path}: its name ends with none of {', '.join(_MEDIA)}")
        if not path.is_file():
            raise UsageError(f"{path} is no file")
        ref = ArtifactRef(digest.of_file(path), path.stat().st_size, media)
        found.append(NamedArtifact(ref, path.name))
    return found


def of_list(path: Path) -> list[NamedArtifact]:
    """The artifacts that ``assay publish wanted --format json`` printed into a file."""
    try:
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadMessage(f"{path} is no list of artifacts: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadMessage(f"{path} is no list of artifacts: not a JSON array of objects")
    return [from_entry({key: row[key] for key in _KEYS if key in row}) for row in rows]


def of_runs(runs: Iterable[RunSpec]) -> list[NamedArtifact]:
    """Every file that these runs need, once."""
    found: dict[ArtifactRef, NamedArtifact] = {}
    for run in runs:
        named = [(run.artifact, run.variant_name), (run.inputs.artifact, run.inputs.dataset)]
        if run.golden is not None:
            named.append((run.golden.artifact, f"golden outputs of {run.variant_name}"))
        for ref, name in named:
            found.setdefault(ref, NamedArtifact(ref, name))
    return list(found.values())


def merged(*lists: Sequence[NamedArtifact]) -> tuple[NamedArtifact, ...]:
    """All of them, each file once, by its first name."""
    found: dict[ArtifactRef, NamedArtifact] = {}
    for artifact in (each for listed in lists for each in listed):
        found.setdefault(artifact.ref, artifact)
    return tuple(found.values())
