"""The blob process: ``python -m assay.controller.blobs.process LEVEL text|json HOME HOST
blobs=PORT``.

Started by :mod:`assay.controller.server.serve`. Prints its port on stdout once it listens (or an
error's code and message), then every second what it has moved (:mod:`.counting`), and ends when
stdin does, so that it never outlives its controller, not even one that was killed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from assay.controller.blobs.counting import ByteCount, to_lines
from assay.controller.blobs.directory import DirectoryBlobs
from assay.controller.blobs.encodings import Encodings
from assay.controller.blobs.service import BlobsGuard, BlobsServicer, RawChunks
from assay.controller.home import Home
from assay.controller.identity.pki import Authority
from assay.controller.publishing.envelopes import Envelopes
from assay.controller.server.listening import listen, server_credentials
from assay.controller.store import open_store
from assay.core import log
from assay.core.channel import SERVER_OPTIONS
from assay.core.errors import AssayError
from assay.v1 import blobs_pb2_grpc

# A device that stalls holds one thread and nothing else.
_THREADS = 64
_GRACE_S = 0.5
_TELL_S = 1.0

_log = log.get(__name__)


def main(home: Home, host: str, port: int) -> None:
    """Serves until stdin ends or SIGTERM arrives."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    store = open_store(home)
    blobs = DirectoryBlobs(home.artifacts)
    blobs.sweep_incoming()
    count = ByteCount()
    server = grpc.server(
        ThreadPoolExecutor(_THREADS, thread_name_prefix="blobs"),
        interceptors=[BlobsGuard(), RawChunks()],
        options=SERVER_OPTIONS,
    )
    blobs_pb2_grpc.add_BlobsServicer_to_server(
        BlobsServicer(
            store,
            blobs,
            Encodings(home.artifacts),
            time.time_ns,
            count,
            Envelopes(home.signatures),
        ),
        server,
    )
    identity = Authority(home.pki, dt.datetime.now(dt.UTC)).current_server_identity()
    try:
        bound = listen(
            server,
            host,
            port,
            server_credentials(identity, ask_client=True),
            option="--blobs-port",
        )
    except AssayError as error:
        print(f"{error.code} {error}", flush=True)
        return
    server.start()
    print(f"blobs={bound}", flush=True)
    threading.Thread(target=_watch_stdin, args=(ended,), daemon=True).start()
    threading.Thread(target=_tell, args=(count, ended), daemon=True).start()
    ended.wait()
    server.stop(_GRACE_S).wait()
    store.close()


def _watch_stdin(ended: threading.Event) -> None:
    # Nothing is ever sent: reading returns when the other end is closed, by whatever way.
    os.read(sys.stdin.fileno(), 1)
    ended.set()


def _tell(count: ByteCount, ended: threading.Event) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        while not ended.wait(_TELL_S):
            if text := to_lines(count.take()):
                print(text, end="", flush=True)


if __name__ == "__main__":
    level, style, root, host_, port_ = sys.argv[1:]
    log.configure(level, json_lines=style == "json")
    main(Home(Path(root)), host_, int(port_.removeprefix("blobs=")))
