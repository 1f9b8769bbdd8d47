"""The control process's servers and its clockwork, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from assay.controller.identity.enrol import Enroller
from assay.controller.identity.pki import Authority, ServerIdentity
from assay.controller.metrics.tally import Tally
from assay.controller.metrics.vitals import VitalsBoard
from assay.controller.server.clockwork import Clockwork
from assay.controller.server.desk import Desk
from assay.controller.server.enrolment import EnrolmentServicer
from assay.controller.server.fleet import FleetServicer
from assay.controller.server.guard import Guard
from assay.controller.server.listening import listen, server_credentials
from assay.controller.server.presence import Presence
from assay.controller.server.recorder import Recorder
from assay.controller.server.rest import Rest
from assay.controller.server.turnstile import Turnstile
from assay.controller.server.waiting import WaitingRoom
from assay.controller.store.base import Store
from assay.core import log
from assay.core.channel import SERVER_OPTIONS, join_address
from assay.core.errors import AssayError
from assay.v1 import enrolment_pb2_grpc, fleet_pb2_grpc

_STORE_THREADS = 4
# Of their own: strangers who knock must not keep the fleet waiting, nor results those who only ask.
_ENROLMENT_THREADS = 2
_REPORT_THREADS = 1
_TICK_S = 1.0
_GRACE_S = 1.0

# Without probing, a call that nobody reads yet has 64 KiB of its message sent, not all of it.
FLEET_OPTIONS = (*SERVER_OPTIONS, ("grpc.http2.bdp_probe", 0))

ENROLMENT_OPTIONS = (
    *SERVER_OPTIONS,
    # Anybody may connect here: who says nothing, or says it without end, is hung up on.
    ("grpc.server_handshake_timeout_ms", 20_000),
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
)
"""Of the one server that asks for no client certificate."""

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the servers listen, and the host devices are told (empty: the one they dialled)."""

    host: str
    enrol_port: int
    fleet_port: int
    blobs_port: int
    advertised_host: str


class ControlServers:
    """Enrolment and Fleet in this process's event loop.

    ``start`` binds and serves, ``stop`` ends every waiting call, commits what was reported and
    writes down who was seen.
    """

    def __init__(self, store: Store, authority: Authority, now_ns: Callable[[], int]) -> None:
        self._store = store
        self._authority = authority
        self._now_ns = now_ns
        self._threads = ThreadPoolExecutor(_STORE_THREADS, thread_name_prefix="store")
        self._door = ThreadPoolExecutor(_ENROLMENT_THREADS, thread_name_prefix="enrolment")
        self._reports = ThreadPoolExecutor(_REPORT_THREADS, thread_name_prefix="reports")
        self._presence = Presence(store)
        self._rest = Rest(store)
        self.tally = Tally()
        self._recorder = Recorder(store, now_ns, self.tally)
        self._clockwork = Clockwork(store, self._presence, self.tally, now_ns)
        self._room = WaitingRoom(lambda: self._blocking(store.wishes))
        self._servers: list[grpc.aio.Server] = []
        self._health = health.aio.HealthServicer()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, identity: ServerIdentity, wanted: Listening) -> Listening:
        """Serves; returns ``wanted`` with the ports that were chosen."""
        fleet = grpc.aio.server(
            interceptors=[Guard(self.tally), Turnstile(self._recorder.backlog)],
            options=FLEET_OPTIONS,
        )
        desk = Desk(self._store, self._presence, self._now_ns, self._rest, self.tally)
        enroller = Enroller(self._store, self._authority, self._now_ns)
        fleet_pb2_grpc.add_FleetServicer_to_server(
            FleetServicer(
                *(desk, enroller, self._room, self._recorder, self._threads, random.Random()),
                reports=self._reports,
            ),
            fleet,
        )
        mutual = server_credentials(identity, ask_client=True)
        fleet_port = listen(fleet, wanted.host, wanted.fleet_port, mutual, option="--fleet-port")

        enrolment = grpc.aio.server(interceptors=[Guard(self.tally)], options=ENROLMENT_OPTIONS)
        enrolment_pb2_grpc.add_EnrolmentServicer_to_server(
            EnrolmentServicer(
                enroller,
                self._door,
                fleet_address=join_address(wanted.advertised_host, fleet_port),
                blobs_address=join_address(wanted.advertised_host, wanted.blobs_port),
            ),
            enrolment,
        )
        open_ = server_credentials(identity, ask_client=False)
        enrol_port = listen(enrolment, wanted.host, wanted.enrol_port, open_, option="--enrol-port")

        for server in (fleet, enrolment):
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._servers = [fleet, enrolment]
        for server in self._servers:
            await server.start()
        self._tasks = [
            asyncio.create_task(self._keep_running("wishes", self._room.run)),
            asyncio.create_task(self._keep_running("clockwork", self._tick)),
        ]
        return Listening(
            wanted.host, enrol_port, fleet_port, wanted.blobs_port, wanted.advertised_host
        )

    @property
    def vitals(self) -> VitalsBoard:
        """How devices fare right now."""
        return self._presence.vitals

    async def watch(self) -> None:
        """Returns never; raises where the background work ends by a mistake of ours."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Ends cleanly within a second or two."""
        self._room.close()
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(*(server.stop(_GRACE_S) for server in self._servers))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._recorder.close)
        with contextlib.suppress(AssayError):
            await self._blocking(lambda: self._presence.flush(self._now_ns(), everything=True))
        self._threads.shutdown()
        self._door.shutdown()
        self._reports.shutdown()

    async def _blocking(self, action: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)

    async def _keep_running(
        self, name: str, action: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """A task that a store which does not answer for a while must not end."""
        while True:
            try:
                await action()
            except AssayError as error:
                _log.error("background work failed", task=name, reason=str(error))
            await asyncio.sleep(_TICK_S)

    async def _tick(self) -> None:
        """Once a second."""
        await self._blocking(self._clockwork.tick)
        # What was just written made it out of date.
        await self._blocking(self._rest.look)
