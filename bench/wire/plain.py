"""The controller's blob process in plaintext, for one known device; only the benchmark starts it.

``python -m bench.wire.plain DEVICE_ID LEVEL text|json HOME HOST blobs=PORT``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from assay.controller.blobs import process, service
from assay.controller.home import Home
from assay.core import log


def _listen(server: Any, host: str, port: int, _credentials: Any, *, option: str) -> int:
    return int(server.add_insecure_port(f"{host}:{port}"))


if __name__ == "__main__":
    device_id, level, style, root, host, port = sys.argv[1:]
    log.configure(level, json_lines=style == "json")
    blobs: Any = process
    blobs.listen = _listen
    calls: Any = service
    calls.device_id_of = lambda _context: device_id
    process.main(Home(Path(root)), host, int(port.removeprefix("blobs=")))
