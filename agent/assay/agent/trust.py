"""What the doctor says about publishers: whom this device trusts to say what it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.agent.examine import ABSENT, OK, REFUSED, Finding
from assay.core.errors import CheckFailed


def examine_publishers(trusted: Sequence[Path] | None) -> list[Finding]:
    """One finding for each trusted key, or one that says there is none. A key that cannot be used
    means that nothing can be run."""
    if not trusted:
        why = "trusted_publishers is not set: what the controller leases is run"
        return [Finding("signatures", "publishers", ABSENT, "", why)]
    return [_examined(path) for path in trusted]


def _examined(path: Path) -> Finding:
    from assay.core.publishers import load_publisher

    try:
        publisher = load_publisher(path)
    except CheckFailed as error:
        return Finding("signatures", path.name, REFUSED, "", str(error))
    return Finding("signatures", path.name, OK, publisher.keyid[:12], "what it signed is run")
