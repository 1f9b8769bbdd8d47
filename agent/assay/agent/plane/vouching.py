"""The child that checks envelopes: ``python -m assay.agent.plane.vouching``.

A process of its own, so that the agent does not grow by what checking signatures takes. Reads
``{"trusted": [paths], "envelopes": [base64]}`` on stdin and writes what holds to stdout, or, with
exit status 1, why nothing can be checked.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from assay.core.dsse import decode
from assay.core.errors import AssayError, BadMessage, UnsignedArtifact
from assay.core.statement import as_entry


def vouch(trusted: Iterable[Path], envelopes: Iterable[bytes]) -> dict[str, Any]:
    """Every artifact that a trusted publisher signed, why each other envelope counts for nothing,
    and the ids of the trusted keys. :class:`~assay.core.errors.CheckFailed` where a key cannot be
    used."""
    from assay.core.publishers import checked, load_publisher

    publishers = [load_publisher(path) for path in trusted]
    signed: list[dict[str, Any]] = []
    refused: list[str] = []
    for data in envelopes:
        try:
            statement, _ = checked(decode(data), publishers)
        except (BadMessage, UnsignedArtifact) as error:
            refused.append(str(error))
        else:
            signed += [as_entry(artifact) for artifact in statement.artifacts]
    keyids = [publisher.keyid for publisher in publishers]
    return {"signed": signed, "refused": refused, "keyids": keyids}


def main() -> int:
    """The child."""
    order = json.load(sys.stdin)
    envelopes = [base64.b64decode(each) for each in order["envelopes"]]
    try:
        answer = vouch([Path(path) for path in order["trusted"]], envelopes)
    except AssayError as error:
        print(error)
        return error.meaning.exit_code
    # Whole or not at all: what comes with status 1 is why a key cannot be used.
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
