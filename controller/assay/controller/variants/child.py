"""The build process: ``python -m assay.controller.variants.child FOLDER PROGRESS_FD``.

Reads its order from the folder, writes its files and at last its report there, and tells how far it
is in JSON lines on the given descriptor. An :class:`~assay.core.errors.AssayError` ends it with
status 3 and its text on the descriptor. It ends itself when its standard input closes: then whoever
started it is gone.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from assay.core.errors import AssayError

STATUS_REFUSED = 3


def main() -> int:
    """Does one order."""
    folder, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def say(**fields: Any) -> None:
        os.write(descriptor, (json.dumps(fields) + "\n").encode())

    try:
        _build(folder, say)
    except AssayError as error:
        say(error=error.code, message=str(error))
        return STATUS_REFUSED
    return 0


def _build(folder: Path, say: Any) -> None:
    from assay.controller.variants import orders
    from assay.controller.variants.progress import Meter

    order = orders.read_order(folder)
    meter = Meter(lambda done, note: say(done=done, note=note))
    if isinstance(order, orders.ModelOrder):
        from assay.controller.variants.own_trial import try_model

        orders.write_report(folder, try_model(order, folder, meter))
    elif isinstance(order, orders.DataOrder):
        from assay.controller.datasets.own_data import read_data

        orders.write_report(folder, read_data(order, folder, meter))
    elif isinstance(order, orders.NetworkOrder):
        from assay.controller.variants.network_build import build_network

        orders.write_report(folder, build_network(order, folder, meter))
    else:
        from assay.controller.variants.file_build import build_files

        orders.write_report(folder, build_files(order, folder, meter))


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
