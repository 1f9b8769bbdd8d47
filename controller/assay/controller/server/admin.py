"""Admin on the wire: who calls is looked up on every call; the office does the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from grpc_reflection.v1alpha import reflection

from assay.controller.admin import wire
from assay.controller.admin.office import Caller, Office
from assay.controller.home import Home
from assay.controller.identity.certificates import OPERATOR_URI
from assay.controller.records import AuditRecord, Role
from assay.controller.server.guard import refuse
from assay.controller.server.peer import names_of
from assay.controller.store.base import Store
from assay.core.convert import fill
from assay.core.errors import AssayError, NotFound, PermissionDenied, Unauthenticated
from assay.v1 import admin_pb2, admin_pb2_grpc

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Door:
    """Tells who calls; whoever is turned away is written into the audit log. Blocking."""

    store: Store
    now_ns: Callable[[], int]

    def caller(self, peer: str, names: list[str]) -> Caller:
        """The operator behind a connection; :class:`Unauthenticated` where there is none."""
        if peer.startswith("unix:"):
            # Its file permissions let this account in, and no other.
            return Caller("socket", Role.OPERATOR, "socket")
        origin = peer.partition(":")[2].rpartition(":")[0]
        try:
            return self._operator(names, origin)
        except AssayError as error:
            self._turned_away(names, origin, error)
            raise

    def _operator(self, names: list[str], origin: str) -> Caller:
        said = [n.removeprefix(OPERATOR_URI) for n in names if n.startswith(OPERATOR_URI)]
        if len(said) != 1:
            raise Unauthenticated("the client certificate names no operator")
        name, _, certificate_id = said[0].partition("/")
        try:
            known = self.store.operator(name)
        except NotFound:
            raise Unauthenticated(f"this controller does not know operator {name!r}") from None
        if known.revoked:
            raise Unauthenticated(f"operator {name} was revoked")
        if known.certificate_id != certificate_id:
            raise Unauthenticated(f"operator {name} has a newer certificate; use that")
        return Caller(name, known.role, origin)

    def _turned_away(self, names: list[str], origin: str, error: AssayError) -> None:
        entry = AuditRecord(
            at_ns=self.now_ns(),
            actor=" ".join(names) or "unknown",
            role=Role.VIEWER,
            origin=origin,
            action="call",
            subject="",
            outcome=error.code,
            detail=str(error),
        )
        self.store.add_audit(entry)


class AdminServicer(admin_pb2_grpc.AdminServicer):
    """The wire's side of administration; thin."""

    def __init__(self, home: Home, door: Door, threads: ThreadPoolExecutor) -> None:
        self._home = home
        self._door = door
        self._threads = threads

    async def ListTokens(self, request: Any, context: Any) -> admin_pb2.ListTokensResponse:
        """Every token."""
        tokens = await self._office(context, lambda office: office.tokens())
        return admin_pb2.ListTokensResponse(tokens=[wire.token_message(t) for t in tokens])

    async def CreateToken(
        self, request: admin_pb2.CreateTokenRequest, context: Any
    ) -> admin_pb2.CreateTokenResponse:
        """A new token."""
        token = await self._office(
            context,
            lambda office: office.create_token(
                note=request.note,
                uses=request.uses,
                lifetime_s=request.lifetime_s,
                approval=request.approval,
            ),
        )
        return admin_pb2.CreateTokenResponse(token=token)

    async def RevokeToken(
        self, request: admin_pb2.RevokeTokenRequest, context: Any
    ) -> admin_pb2.RevokeTokenResponse:
        """A token buys nothing from now on."""
        await self._office(context, lambda office: office.revoke_token(request.token_id))
        return admin_pb2.RevokeTokenResponse()

    async def ListDevices(
        self, request: admin_pb2.ListDevicesRequest, context: Any
    ) -> admin_pb2.ListDevicesResponse:
        """All devices, or the one that is named."""
        name = request.name
        found = await self._office(
            context, lambda office: [office.device(name)] if name else office.devices()
        )
        devices = [fill(admin_pb2.DeviceRecord(), record) for record in found]
        return admin_pb2.ListDevicesResponse(devices=devices)

    async def ChangeDevice(
        self, request: admin_pb2.ChangeDeviceRequest, context: Any
    ) -> admin_pb2.ChangeDeviceResponse:
        """One change to one device."""
        change = wire.change_of(request)
        record = await self._office(
            context, lambda office: office.change_device(request.name, change)
        )
        return admin_pb2.ChangeDeviceResponse(device=fill(admin_pb2.DeviceRecord(), record))

    async def ListSweeps(self, request: Any, context: Any) -> admin_pb2.ListSweepsResponse:
        """Every sweep."""
        found = await self._office(context, lambda office: office.sweeps())
        sweeps = [fill(admin_pb2.SweepRecord(), record) for record in found]
        return admin_pb2.ListSweepsResponse(sweeps=sweeps)

    async def CancelSweep(
        self, request: admin_pb2.CancelSweepRequest, context: Any
    ) -> admin_pb2.CancelSweepResponse:
        """Ends a sweep."""
        await self._office(context, lambda office: office.cancel_sweep(request.name))
        return admin_pb2.CancelSweepResponse()

    async def PrioritiseSweep(
        self, request: admin_pb2.PrioritiseSweepRequest, context: Any
    ) -> admin_pb2.PrioritiseSweepResponse:
        """Moves a sweep's rounds."""
        await self._office(
            context, lambda office: office.prioritise_sweep(request.name, request.priority)
        )
        return admin_pb2.PrioritiseSweepResponse()

    async def ListOperators(self, request: Any, context: Any) -> admin_pb2.ListOperatorsResponse:
        """Every operator."""
        found = await self._office(context, lambda office: office.operators())
        operators = [fill(admin_pb2.OperatorRecord(), record) for record in found]
        return admin_pb2.ListOperatorsResponse(operators=operators)

    async def AddOperator(
        self, request: admin_pb2.AddOperatorRequest, context: Any
    ) -> admin_pb2.AddOperatorResponse:
        """An operator's identity."""
        role = wire.role_of(request.role)
        pem = await self._office(
            context, lambda office: office.add_operator(request.name, role, request.days)
        )
        return admin_pb2.AddOperatorResponse(identity_pem=pem)

    async def RevokeOperator(
        self, request: admin_pb2.RevokeOperatorRequest, context: Any
    ) -> admin_pb2.RevokeOperatorResponse:
        """An operator is refused from the next call on."""
        await self._office(context, lambda office: office.revoke_operator(request.name))
        return admin_pb2.RevokeOperatorResponse()

    async def ListCertificates(
        self, request: Any, context: Any
    ) -> admin_pb2.ListCertificatesResponse:
        """The controller's own certificates."""
        found = await self._office(context, lambda office: office.certificates())
        certificates = [fill(admin_pb2.CertificateRecord(), record) for record in found]
        return admin_pb2.ListCertificatesResponse(certificates=certificates)

    async def ListAudit(
        self, request: admin_pb2.ListAuditRequest, context: Any
    ) -> admin_pb2.ListAuditResponse:
        """The newest entries of the log."""
        found = await self._office(context, lambda office: office.audit(request.limit))
        entries = [fill(admin_pb2.AuditRecord(), record) for record in found]
        return admin_pb2.ListAuditResponse(entries=entries)

    async def _office(self, context: Any, work: Callable[[Office], T]) -> T:
        peer, names = context.peer(), names_of(context)

        def blocking() -> T:
            caller = self._door.caller(peer, names)
            return work(Office(self._home, self._door.store, caller, self._door.now_ns))

        return await asyncio.get_running_loop().run_in_executor(self._threads, blocking)


class OperatorsReflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """gRPC server reflection, for operators."""

    def __init__(self, service_names: list[str], door: Door, threads: ThreadPoolExecutor) -> None:
        super().__init__(service_names)
        self._door = door
        self._threads = threads

    async def ServerReflectionInfo(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        """What the library answers, once the caller is known to be an operator."""
        peer, names = context.peer(), names_of(context)
        loop = asyncio.get_running_loop()
        try:
            caller = await loop.run_in_executor(
                self._threads, lambda: self._door.caller(peer, names)
            )
            if caller.role is not Role.OPERATOR:
                raise PermissionDenied(f"{caller.name} is a viewer; reflection is for operators")
        except AssayError as error:
            await refuse(context, error)
        async for answer in super().ServerReflectionInfo(request_iterator, context):
            yield answer
