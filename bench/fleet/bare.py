"""A Fleet server that does nothing: what gRPC itself costs, on the controller's own settings.

``python -m bench.fleet.bare HOME``: prints its port and serves until stdin ends.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from pathlib import Path
from typing import Any

import grpc

from assay.controller.home import Home
from assay.controller.identity.pki import Authority
from assay.controller.server.listening import listen, server_credentials
from assay.core.channel import SERVER_OPTIONS
from assay.v1 import fleet_pb2, fleet_pb2_grpc


class Bare:
    """A Fleet whose Sync answers at once; it is asked nothing else."""

    async def Sync(self, request: fleet_pb2.SyncRequest, context: Any) -> fleet_pb2.SyncResponse:
        """Nothing to do."""
        return fleet_pb2.SyncResponse(proto=1)

    async def nothing(self, _request: Any, _context: Any) -> None:
        """Never called; the generated code wants the other methods to be there."""

    ReportResults = RenewCertificate = nothing


async def main(home: Home) -> None:
    """Serves."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    servicer: Any = Bare()
    fleet_pb2_grpc.add_FleetServicer_to_server(servicer, server)
    identity = Authority(home.pki, dt.datetime.now(dt.UTC)).current_server_identity()
    mutual = server_credentials(identity, ask_client=True)
    port = listen(server, "127.0.0.1", 0, mutual, option="--fleet-port")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(Home(Path(sys.argv[1]))))
