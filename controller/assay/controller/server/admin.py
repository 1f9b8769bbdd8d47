"""Admin on the wire: who calls is looked up on every call; the office does the rest, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from google.protobuf.message import Message

from assay.controller.admin import wire
from assay.controller.admin.looks import SweepLooks
from assay.controller.admin.office import Office
from assay.controller.admin.sweeping import Sweeping
from assay.controller.admin.views import SweepFile
from assay.controller.home import Home
from assay.controller.records import ResultRecord
from assay.controller.server.door import Door
from assay.controller.server.exports import Exports
from assay.controller.server.peer import names_of
from assay.controller.store.base import Store
from assay.core.channel import MAX_REPORT_BYTES
from assay.core.convert import fill
from assay.v1 import admin_pb2, admin_pb2_grpc

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_LOOK_S = 1.0
_SOURCE_BYTES = 200
_PAGE = 500
_FRAME_BYTES = 6  # its tag and length within the reply, at most


@dataclass(frozen=True, slots=True)
class Threads:
    """Where calls wait: ``quick`` ones, those that may be ``reading`` much, those that wait for a
    sweep to be ``planned``, and for a report or a file to be ``made``; none of them keeps another
    kind waiting: who looks on holds up nobody who works."""

    quick: ThreadPoolExecutor
    reading: ThreadPoolExecutor
    planned: ThreadPoolExecutor
    made: ThreadPoolExecutor

    def shutdown(self) -> None:
        """Waits for what has begun; what has not does not begin any more."""
        for pool in (self.quick, self.reading, self.planned, self.made):
            pool.shutdown(cancel_futures=True)


class AdminServicer(admin_pb2_grpc.AdminServicer):
    """The wire's side of administration; thin."""

    def __init__(self, home: Home, door: Door, threads: Threads, sweeping: Sweeping) -> None:
        self._home = home
        self._door = door
        self._threads = threads
        self._sweeping = sweeping
        self._looks = SweepLooks(door.store)
        self._exports = Exports(home)

    async def ListTokens(self, request: Any, context: Any) -> admin_pb2.ListTokensResponse:
        """Every token."""
        return await self._office(
            context,
            lambda office: admin_pb2.ListTokensResponse(
                tokens=[wire.token_message(token) for token in office.tokens()]
            ),
        )

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

        def listed(office: Office) -> admin_pb2.ListDevicesResponse:
            found = [office.device(name)] if name else office.devices()
            return admin_pb2.ListDevicesResponse(devices=_filled(admin_pb2.DeviceRecord, found))

        return await self._office(context, listed)

    async def ChangeDevice(
        self, request: admin_pb2.ChangeDeviceRequest, context: Any
    ) -> admin_pb2.ChangeDeviceResponse:
        """One change to one device."""
        record = await self._office(
            context, lambda office: office.change_device(request.name, wire.change_of(request))
        )
        return admin_pb2.ChangeDeviceResponse(device=fill(admin_pb2.DeviceRecord(), record))

    async def PlanSweep(
        self, request: admin_pb2.PlanSweepRequest, context: Any
    ) -> admin_pb2.PlanSweepResponse:
        """What a sweep file would measure."""
        file = _file(request)
        plan = await self._planned(context, lambda office: office.plan_sweep(file))
        return admin_pb2.PlanSweepResponse(plan=fill(admin_pb2.SweepPlan(), plan))

    async def RunSweep(
        self, request: admin_pb2.RunSweepRequest, context: Any
    ) -> admin_pb2.RunSweepResponse:
        """Starts or resumes a sweep."""
        file = _file(request)
        started = await self._planned(context, lambda office: office.run_sweep(file))
        return fill(admin_pb2.RunSweepResponse(), started)

    async def ResumeSweep(
        self, request: admin_pb2.ResumeSweepRequest, context: Any
    ) -> admin_pb2.ResumeSweepResponse:
        """Adds the rounds that a sweep lacks."""
        started = await self._planned(context, lambda office: office.resume_sweep(request.name))
        reply = admin_pb2.ResumeSweepResponse(rounds_added=started.rounds_added)
        fill(reply.sweep, started.sweep)
        return reply

    async def WatchSweep(
        self, request: admin_pb2.WatchSweepRequest, context: Any
    ) -> AsyncIterator[admin_pb2.WatchSweepResponse]:
        """How a sweep stands, until it has ended or its watcher may no longer see it."""
        if request.once:
            look = await self._reading(context, lambda office: office.look_at_sweep(request.name))
            yield admin_pb2.WatchSweepResponse(look=wire.look_message(look))
            return
        sweep = await self._office(context, lambda office: office.watched_sweep(request.name))
        shown = None
        while shown is None or not shown.ended:
            if shown is not None:
                await asyncio.sleep(_LOOK_S)
                await self._office(context, lambda office: None)  # who was revoked is cut here
            look = await self._in(self._threads.reading, lambda: self._looks.look(sweep.sweep_id))
            if look != shown:
                yield admin_pb2.WatchSweepResponse(look=wire.look_message(look))
            shown = look

    async def ListSweeps(
        self, request: admin_pb2.ListSweepsRequest, context: Any
    ) -> admin_pb2.ListSweepsResponse:
        """Every sweep."""

        def listed(office: Office) -> admin_pb2.ListSweepsResponse:
            looks = office.look_at_sweeps() if request.looks else []
            found = [look.sweep for look in looks] if request.looks else office.sweeps()
            return admin_pb2.ListSweepsResponse(
                sweeps=_filled(admin_pb2.SweepRecord, found),
                looks=[wire.look_message(look, latest=False) for look in looks],
            )

        where = self._reading if request.looks else self._office
        return await where(context, listed)

    async def ListRounds(
        self, request: admin_pb2.ListRoundsRequest, context: Any
    ) -> admin_pb2.ListRoundsResponse:
        """The rounds of a sweep."""
        return await self._reading(
            context,
            lambda office: admin_pb2.ListRoundsResponse(
                rounds=_filled(admin_pb2.SweepRound, office.rounds(request.sweep))
            ),
        )

    async def ListResults(
        self, request: admin_pb2.ListResultsRequest, context: Any
    ) -> AsyncIterator[admin_pb2.ListResultsResponse]:
        """The results of a sweep."""
        sweep = await self._office(context, lambda office: office.listed_sweep(request.sweep))
        read = partial(_result_page, self._door.store, sweep.sweep_id)
        replies, after = await self._in(self._threads.reading, partial(read, 0))
        while replies:
            for reply in replies:
                yield reply
            replies, after = await self._in(self._threads.reading, partial(read, after))

    async def GetResult(
        self, request: admin_pb2.GetResultRequest, context: Any
    ) -> admin_pb2.GetResultResponse:
        """One result."""
        found = await self._office(context, lambda office: office.result(request.attempt))
        return admin_pb2.GetResultResponse(result=fill(admin_pb2.ResultRecord(), found))

    async def ExportResults(
        self, request: admin_pb2.ExportResultsRequest, context: Any
    ) -> AsyncIterator[admin_pb2.ExportResultsResponse]:
        """Results as a file."""
        # Who may not has no place kept for it.
        await self._office(context, lambda office: None)
        async with self._exports.place(context) as path:
            made = await self._made(
                context, lambda office: office.export(wire.export_order(request), path)
            )
            reply = admin_pb2.ExportResultsResponse(
                results=made.results, missing_traces=made.missing_traces
            )
            yield reply
            with path.open("rb") as file:
                while data := await self._in(
                    self._threads.reading, lambda: file.read(MAX_REPORT_BYTES)
                ):
                    yield admin_pb2.ExportResultsResponse(data=data)

    async def GetReport(
        self, request: admin_pb2.GetReportRequest, context: Any
    ) -> AsyncIterator[admin_pb2.GetReportResponse]:
        """The report of a sweep."""

        def made(office: Office) -> bytes:
            markdown = wire.is_markdown(request.format)
            return office.report(request.sweep, markdown=markdown, force=request.force)

        body = await self._made(context, made)
        for start in range(0, len(body), MAX_REPORT_BYTES):
            yield admin_pb2.GetReportResponse(
                data=body[start : start + MAX_REPORT_BYTES], forced=request.force
            )

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
        return await self._office(
            context,
            lambda office: admin_pb2.ListOperatorsResponse(
                operators=_filled(admin_pb2.OperatorRecord, office.operators())
            ),
        )

    async def AddOperator(
        self, request: admin_pb2.AddOperatorRequest, context: Any
    ) -> admin_pb2.AddOperatorResponse:
        """An operator's identity."""
        pem = await self._office(
            context,
            lambda office: office.add_operator(
                request.name, wire.role_of(request.role), request.days
            ),
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
        return await self._office(
            context,
            lambda office: admin_pb2.ListCertificatesResponse(
                certificates=_filled(admin_pb2.CertificateRecord, office.certificates())
            ),
        )

    async def ListAudit(
        self, request: admin_pb2.ListAuditRequest, context: Any
    ) -> admin_pb2.ListAuditResponse:
        """The newest entries of the log."""
        return await self._office(
            context,
            lambda office: admin_pb2.ListAuditResponse(
                entries=_filled(admin_pb2.AuditRecord, office.audit(request.limit))
            ),
        )

    async def _office(self, context: Any, work: Callable[[Office], T]) -> T:
        return await self._in(self._threads.quick, self._for_caller(context, work))

    async def _reading(self, context: Any, work: Callable[[Office], T]) -> T:
        return await self._in(self._threads.reading, self._for_caller(context, work))

    async def _planned(self, context: Any, work: Callable[[Office], T]) -> T:
        return await self._in(self._threads.planned, self._for_caller(context, work))

    async def _made(self, context: Any, work: Callable[[Office], T]) -> T:
        return await self._in(self._threads.made, self._for_caller(context, work))

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _for_caller(self, context: Any, work: Callable[[Office], T]) -> Callable[[], T]:
        peer, names = context.peer(), names_of(context)
        door = self._door

        def blocking() -> T:
            caller = door.caller(peer, names)
            office = Office(
                self._home, door.store, caller, door.now_ns, self._sweeping, self._looks
            )
            return work(office)

        return blocking


def _filled(kind: type[M], values: Iterable[Any]) -> list[M]:
    """Messages of these values. Takes long for a fleet: in a thread, never in the event loop."""
    return [fill(kind(), value) for value in values]


def _file(request: admin_pb2.PlanSweepRequest | admin_pb2.RunSweepRequest) -> SweepFile:
    source = request.source.encode()[:_SOURCE_BYTES].decode(errors="ignore")
    return SweepFile(source or "sweep file", request.text)


def _result_page(
    store: Store, sweep_id: str, after: int
) -> tuple[list[admin_pb2.ListResultsResponse], int]:
    """Some of the results beyond ``after``, as messages, and where they end: a large sweep does not
    stand in memory whole."""
    found, after = store.result_page(sweep_id, after, _PAGE)
    return list(_result_batches(found)), after


def _result_batches(found: list[ResultRecord]) -> Iterator[admin_pb2.ListResultsResponse]:
    """Messages of at most a MiB, or of one result."""
    reply, size = admin_pb2.ListResultsResponse(), 0
    for record in found:
        message = fill(admin_pb2.ResultRecord(), record)
        more = message.ByteSize() + _FRAME_BYTES
        if reply.results and size + more > MAX_REPORT_BYTES:
            yield reply
            reply, size = admin_pb2.ListResultsResponse(), 0
        reply.results.append(message)
        size += more
    if reply.results:
        yield reply
