"""Networks that were trained already, by what they depend on.

One small JSON file per network id beside the content store, written whole or not at all. An entry
whose artifacts are gone counts as absent.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.model import ArtifactRef


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """Weights and the structure they belong to, and the float files exported from them."""

    weights: ArtifactRef
    description: Mapping[str, Any]
    exports: Mapping[str, ArtifactRef] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


class BuildIndex:
    """The index of one content store; safe for several processes."""

    def __init__(self, blobs: ContentStore) -> None:
        self._blobs = blobs
        self._root = blobs.root / "networks"
        self._root.mkdir(parents=True, exist_ok=True)

    def get(self, network_id: str) -> TrainedNetwork | None:
        """The network, without exports whose files are gone; None where it must be trained."""
        try:
            raw = json.loads(self._path(network_id).read_text())
            weights = ArtifactRef(**raw["weights"])
            exports = {name: ArtifactRef(**ref) for name, ref in raw["exports"].items()}
            found = TrainedNetwork(weights, raw["description"], exports, raw["notes"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None  # written by another version: train anew
        if not self._blobs.has(weights.digest):
            return None
        held = {name: ref for name, ref in exports.items() if self._blobs.has(ref.digest)}
        return TrainedNetwork(weights, found.description, held, found.notes)

    def put(self, network_id: str, network: TrainedNetwork) -> None:
        """Records a network whose artifacts are held."""
        handle, name = tempfile.mkstemp(dir=self._root, prefix=".new-")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(asdict(network), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path(network_id))
        finally:
            Path(name).unlink(missing_ok=True)

    def _path(self, network_id: str) -> Path:
        return self._root / f"{digest.hex_of(network_id)}.json"
