"""Where administration listens: a unix socket in the home, and a port where one is asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from assay.controller.admin.aside import Aside
from assay.controller.admin.retention import prune_audit
from assay.controller.home import Home
from assay.controller.identity.pki import ServerIdentity
from assay.controller.server.admin import AdminServicer, Threads
from assay.controller.server.door import Door
from assay.controller.server.guard import Guard
from assay.controller.server.listening import listen, server_credentials
from assay.controller.server.reflecting import OperatorsReflection
from assay.controller.store.base import Store
from assay.core import log
from assay.core.channel import MAX_LISTING_BYTES, SERVER_OPTIONS, with_most_bytes
from assay.core.errors import AssayError
from assay.v1 import admin_pb2, admin_pb2_grpc

# Of their own, so that nobody who administers can hold up the fleet.
_THREADS = 2  # of each kind
_GRACE_S = 1.0
_PRUNE_EVERY_S = 3600.0
_LONGEST_PATH = 107  # of a unix socket, in bytes; the kernel's limit

# A list of a large fleet is one message.
_OPTIONS = with_most_bytes(SERVER_OPTIONS, sent=MAX_LISTING_BYTES)

_log = log.get(__name__)


class AdminServer:
    """Admin, health and reflection in this process's event loop. The audit log is kept for
    ``audit_days``; 0: for ever."""

    def __init__(
        self, home: Home, store: Store, now_ns: Callable[[], int], *, audit_days: int = 0
    ) -> None:
        self._home = home
        self._store = store
        self._now_ns = now_ns
        self._audit_days = audit_days
        self._threads = Threads(*(_pool(name) for name in ("quick", "reading", "planned", "made")))
        self._aside = Aside(home)
        self._door = Door(store, now_ns)
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()

    async def start(self, identity: ServerIdentity, host: str, port: int | None) -> tuple[str, int]:
        """Serves; the socket's path (empty where there is none) and the port (0: none)."""
        self._server = grpc.aio.server(interceptors=[Guard()], options=_OPTIONS)
        self._add_services(self._server)
        bound = 0
        if port is not None:
            mutual = server_credentials(identity, ask_client=True)
            bound = listen(self._server, host, port, mutual, option="--admin-port")
        path = self._bind_socket(self._server)
        await self._server.start()
        if path:
            Path(path).chmod(0o600)
        return path, bound

    async def watch(self) -> None:
        """Returns never; drops what is too old of the audit log, now and every hour."""
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(self._threads.quick, self._prune)
            except AssayError as error:
                _log.error("audit log was not pruned", reason=str(error))
            await asyncio.sleep(_PRUNE_EVERY_S)

    def _prune(self) -> None:
        dropped = prune_audit(self._store, self._audit_days, self._now_ns())
        if dropped:
            _log.info("audit log was pruned", entries=dropped, older_than_days=self._audit_days)

    async def stop(self) -> None:
        """Ends it within a second or two."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(_GRACE_S)
        self._home.admin_socket.unlink(missing_ok=True)
        self._aside.close()
        await asyncio.to_thread(self._threads.shutdown)

    def _add_services(self, server: grpc.aio.Server) -> None:
        admin_pb2_grpc.add_AdminServicer_to_server(
            AdminServicer(self._home, self._door, self._threads, self._aside), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [
            admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name,
            health.SERVICE_NAME,
            reflection.SERVICE_NAME,
        ]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            OperatorsReflection(names, self._door, self._threads.quick), server
        )

    def _bind_socket(self, server: grpc.aio.Server) -> str:
        path = self._home.admin_socket
        path.unlink(missing_ok=True)
        if len(os.fsencode(path.absolute())) > _LONGEST_PATH:
            _log.warning("no admin socket: the path is too long for one", path=str(path))
            return ""
        server.add_insecure_port(f"unix:{path.absolute()}")
        return str(path.absolute())


def _pool(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix=f"admin-{name}")
