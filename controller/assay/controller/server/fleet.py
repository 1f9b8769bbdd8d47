"""Fleet: Sync and ReportResults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, cast

from google.protobuf.duration_pb2 import Duration

from assay.controller.identity.enrol import Enroller
from assay.controller.planning import scheduler
from assay.controller.records import Recorded, RecordOutcome
from assay.controller.server.desk import Answer, Desk, Report
from assay.controller.server.peer import admitted, device_id_of
from assay.controller.server.recorder import Recorder
from assay.controller.server.waiting import WaitingRoom
from assay.core.channel import MAX_REPORT_BYTES, MAX_RESULTS_PER_REPORT
from assay.core.convert import to_proto
from assay.core.errors import BadMessage
from assay.core.model import Round
from assay.v1 import fleet_pb2, fleet_pb2_grpc, job_pb2

T = TypeVar("T")

MAX_WAIT_S = 30.0
_STATUS = {
    RecordOutcome.STORED: fleet_pb2.RECORD_STATUS_STORED,
    RecordOutcome.ALREADY_STORED: fleet_pb2.RECORD_STATUS_ALREADY_STORED,
    RecordOutcome.STORED_SUPERSEDED: fleet_pb2.RECORD_STATUS_STORED_SUPERSEDED,
    RecordOutcome.CONFLICT: fleet_pb2.RECORD_STATUS_CONFLICT,
    RecordOutcome.REJECTED: fleet_pb2.RECORD_STATUS_REJECTED,
}


class FleetServicer(fleet_pb2_grpc.FleetServicer):
    """The wire's side of the fleet; thin."""

    def __init__(
        self,
        desk: Desk,
        enroller: Enroller,
        room: WaitingRoom,
        recorder: Recorder,
        threads: ThreadPoolExecutor,
        rng: random.Random,
        reports: ThreadPoolExecutor | None = None,
    ) -> None:
        self._desk = desk
        self._enroller = enroller
        self._room = room
        self._recorder = recorder
        self._threads = threads
        self._reports = reports or threads
        self._rng = rng

    async def Sync(self, request: fleet_pb2.SyncRequest, context: Any) -> fleet_pb2.SyncResponse:
        """What the device should hold; held back while that is what it holds already."""
        device_id = device_id_of(context)
        proto = scheduler.negotiate(request.proto_min, request.proto_max)
        report = Report.of(device_id, request)
        self._room.wake(device_id)
        answer = self._desk.known(report, request)
        if answer is None:
            answer = await self._blocking(lambda: self._desk.arrive(report, request))
        wait_s = min(request.wait.ToNanoseconds() / 1e9, MAX_WAIT_S)
        if wait_s > 0 and not _is_news(answer.rounds, report):
            await self._room.until_news(device_id, _keys(answer.rounds), report.takes_any, wait_s)
            answer = self._desk.at_rest(device_id)
            if answer is None:
                answer = await self._blocking(lambda: self._desk.look(report))
        return self._response(proto, answer, long_poll=wait_s > 0)

    async def ReportResults(
        self, request: fleet_pb2.ReportResultsRequest, context: Any
    ) -> fleet_pb2.ReportResultsResponse:
        """Acknowledges what is committed."""
        device_id = device_id_of(context)
        _check_size(request)
        committed = await asyncio.get_running_loop().run_in_executor(
            self._reports, lambda: self._hand_in(device_id, request)
        )
        recorded = await asyncio.wrap_future(committed)
        acks = [_ack(r, done) for r, done in zip(request.results, recorded, strict=True)]
        pause_s = self._recorder.backlog.pause_s(self._rng)
        return fleet_pb2.ReportResultsResponse(
            acks=acks, retry_after=_duration(pause_s) if pause_s else None
        )

    async def RenewCertificate(
        self, request: fleet_pb2.RenewCertificateRequest, context: Any
    ) -> fleet_pb2.RenewCertificateResponse:
        """The same key, certified for longer."""
        device_id = device_id_of(context)
        renewed = await self._blocking(lambda: self._enroller.renew(device_id, request.csr_pem))
        return fleet_pb2.RenewCertificateResponse(
            certificate_pem=renewed.certificate_pem, ca_bundle_pem=renewed.ca_bundle_pem
        )

    def _hand_in(
        self, device_id: str, request: fleet_pb2.ReportResultsRequest
    ) -> Future[list[Recorded]]:
        admitted(self._desk.store, device_id)
        entries = [(r.attempt_id, r.seq, r.sha256, r.body) for r in request.results]
        return self._recorder.record(device_id, entries)

    async def _blocking(self, action: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)

    def _response(self, proto: int, answer: Answer, *, long_poll: bool) -> fleet_pb2.SyncResponse:
        next_s = scheduler.next_sync_in_s(
            devices=self._desk.presence.count(),
            holding=bool(answer.rounds),
            long_poll=long_poll,
            rng=self._rng,
        )
        return fleet_pb2.SyncResponse(
            proto=proto,
            next_sync_in=_duration(next_s),
            assignments=[cast(job_pb2.Round, to_proto(round_)) for round_ in answer.rounds],
            drain=answer.drain,
            passes_over=True,
        )


def _keys(rounds: tuple[Round, ...]) -> frozenset[scheduler.Key]:
    return frozenset((round_.round_id, round_.fence) for round_ in rounds)


def _is_news(rounds: tuple[Round, ...], report: Report) -> bool:
    """Whether the device must start or stop something."""
    wanted = _keys(rounds)
    return not (wanted <= report.held and report.held - report.spooled <= wanted)


def _check_size(request: fleet_pb2.ReportResultsRequest) -> None:
    if len(request.results) > MAX_RESULTS_PER_REPORT:
        raise BadMessage(
            f"{len(request.results)} results in one report; send at most {MAX_RESULTS_PER_REPORT}"
        )
    # One result larger than the limit must still be able to travel, alone.
    size = sum(len(result.body) for result in request.results)
    if size > MAX_REPORT_BYTES and len(request.results) > 1:
        raise BadMessage(f"{size} bytes of results in one report; send at most {MAX_REPORT_BYTES}")


def _ack(result: fleet_pb2.SpooledResult, recorded: Recorded) -> fleet_pb2.RecordAck:
    return fleet_pb2.RecordAck(
        attempt_id=result.attempt_id,
        seq=result.seq,
        status=_STATUS[recorded.outcome],
        detail=recorded.detail,
    )


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromNanoseconds(int(seconds * 1e9))
    return made
