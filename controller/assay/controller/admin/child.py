"""What runs beside the control loop: ``python -m assay.controller.admin.child``.

Reads one order, a line of JSON, from its standard input; answers with one line of JSON on its
standard output, the result in base64 or an error's code and message; and ends itself when its input
closes: then whoever started it is gone.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

from assay.controller.admin.sweeping import Here
from assay.controller.admin.views import ExportOrder, SweepFile
from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core import log
from assay.core.convert import fill
from assay.core.errors import AssayError
from assay.v1 import admin_pb2


def main() -> int:
    """Does one order."""
    log.configure("warning")
    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        said = {"body": base64.b64encode(done(order)).decode()}
    except AssayError as error:
        said = {"error": error.code, "message": str(error)}
    print(json.dumps(said), flush=True)
    return 0


def done(order: dict[str, Any]) -> bytes:
    """What the order asks for, as the bytes of its message or file."""
    home = Home.default()
    store = open_store(home)
    here = Here(home, store)
    try:
        if order["do"] == "report":
            return here.report(order["sweep"], markdown=order["markdown"], force=order["force"])
        if order["do"] == "export":
            parts = {each.name: order[each.name] for each in fields(ExportOrder)}
            made = here.export(ExportOrder(**parts), Path(order["path"]))
            reply = admin_pb2.ExportResultsResponse(
                results=made.results, missing_traces=made.missing_traces
            )
            return reply.SerializeToString()
        file = SweepFile(order["source"], order["text"])
        if order["do"] == "plan":
            return fill(admin_pb2.SweepPlan(), here.plan(file)).SerializeToString()
        return fill(admin_pb2.RunSweepResponse(), here.start(file)).SerializeToString()
    finally:
        store.close()


def _end_with_parent() -> None:
    # Not through sys.stdin: a thread that waits there would hold up a clean end.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
