"""A fleet that comes back all at once after a restart is served, not shed.

gRPC core answers calls that wait to be accepted beyond about a thousand with CANCELLED or INTERNAL
unless the server raises its limits (:data:`assay.core.channel.SERVER_OPTIONS`); without them this
test sees hundreds of CANCELLED.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import grpc

from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.store import open_store
from assay.v1 import fleet_pb2
from tests.plane_client import Board, Key, controller_process, enrol

CALLS = 2_000
BOARDS = 10


def test_no_call_is_shed_when_a_fleet_reconnects(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with controller_process(home) as controller:
        serving = controller.start()
        store = open_store(home)
        token = create_token(home, store, uses=BOARDS)
        boards = []
        for index in range(BOARDS):
            key = Key()
            enrolled = enrol(serving.enrolment_address, token, f"board-{index}", key)
            boards.append(Board(enrolled, key))
        request = fleet_pb2.SyncRequest(proto_min=1, proto_max=1, accepting=True)
        for board in boards:
            board.fleet.Sync(request, timeout=20)
        # While the controller does not run, the calls pile up in its socket buffers.
        os.kill(serving.pid, signal.SIGSTOP)
        calls = [
            board.fleet.Sync.future(request, timeout=60)
            for _ in range(CALLS // BOARDS)
            for board in boards
        ]
        time.sleep(1)
        os.kill(serving.pid, signal.SIGCONT)
        codes = Counter(code_of(call) for call in calls)
        for board in boards:
            board.__exit__()
        store.close()
    assert codes == {grpc.StatusCode.OK: CALLS}


def code_of(call: grpc.CallFuture[fleet_pb2.SyncResponse]) -> grpc.StatusCode:
    """The status a call ended with."""
    call.exception()
    return call.code()
