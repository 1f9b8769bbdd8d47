"""Administration of a controller elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from assay.controller.admin import wire
from assay.controller.admin.base import CertificateRecord, DeviceChange
from assay.controller.admin.views import (
    Exported,
    ExportOrder,
    StartedSweep,
    SweepFile,
    SweepLook,
    SweepPlan,
    SweepRound,
)
from assay.controller.records import (
    AuditRecord,
    DeviceRecord,
    OperatorRecord,
    ResultRecord,
    Role,
    SweepRecord,
    TokenRecord,
)
from assay.core.channel import Backoff, call, stream
from assay.core.convert import from_proto
from assay.core.errors import Unreachable, VersionMismatch
from assay.v1 import admin_pb2, admin_pb2_grpc

_CALL_S = 30.0
_PLAN_S = 660.0  # longer than the controller gives itself (aside.LONGEST_S)
_READ_S = 660.0
_LONGEST_EXPORT_S = 3500.0  # the controller allows an hour
_WATCH_S = 30.0 * 86_400
_TRIES = 6


class RemoteOffice:
    """:class:`assay.controller.admin.base.Administration` over a channel, which it closes; raises
    what the controller raised, or :class:`Unreachable`."""

    def __init__(self, channel: grpc.Channel, sleep: Callable[[float], None] = time.sleep) -> None:
        self._channel = channel
        self._sleep = sleep
        self._stub = admin_pb2_grpc.AdminStub(channel)

    def tokens(self) -> list[TokenRecord]:
        """See :class:`Administration`."""
        request = admin_pb2.ListTokensRequest()
        reply = call(self._stub.ListTokens, request, timeout_s=_CALL_S)
        return [wire.token_record(message) for message in reply.tokens]

    def create_token(self, *, note: str, uses: int, lifetime_s: int, approval: bool) -> str:
        """See :class:`Administration`."""
        request = admin_pb2.CreateTokenRequest(
            note=note, uses=uses, lifetime_s=lifetime_s, approval=approval
        )
        return call(self._stub.CreateToken, request, timeout_s=_CALL_S).token

    def revoke_token(self, token_id: str) -> None:
        """See :class:`Administration`."""
        request = admin_pb2.RevokeTokenRequest(token_id=token_id)
        call(self._stub.RevokeToken, request, timeout_s=_CALL_S)

    def devices(self) -> list[DeviceRecord]:
        """See :class:`Administration`."""
        return self._devices("")

    def device(self, name: str) -> DeviceRecord:
        """See :class:`Administration`."""
        return self._devices(name)[0]

    def change_device(self, name: str, change: DeviceChange) -> DeviceRecord:
        """See :class:`Administration`."""
        request = wire.change_message(name, change)
        reply = call(self._stub.ChangeDevice, request, timeout_s=_CALL_S)
        return from_proto(reply.device, DeviceRecord)

    def sweeps(self) -> list[SweepRecord]:
        """See :class:`Administration`."""
        request = admin_pb2.ListSweepsRequest()
        reply = call(self._stub.ListSweeps, request, timeout_s=_CALL_S)
        return [from_proto(message, SweepRecord) for message in reply.sweeps]

    def plan_sweep(self, file: SweepFile) -> SweepPlan:
        """See :class:`Administration`."""
        request = admin_pb2.PlanSweepRequest(source=file.source, text=file.text)
        return from_proto(call(self._stub.PlanSweep, request, timeout_s=_PLAN_S).plan, SweepPlan)

    def run_sweep(self, file: SweepFile) -> StartedSweep:
        """See :class:`Administration`."""
        request = admin_pb2.RunSweepRequest(source=file.source, text=file.text)
        return from_proto(call(self._stub.RunSweep, request, timeout_s=_PLAN_S), StartedSweep)

    def resume_sweep(self, name: str) -> StartedSweep:
        """See :class:`Administration`."""
        request = admin_pb2.ResumeSweepRequest(name=name)
        # It may have to wait for others that are being planned.
        reply = call(self._stub.ResumeSweep, request, timeout_s=_PLAN_S)
        return StartedSweep(from_proto(reply.sweep, SweepRecord), reply.rounds_added)

    def watch_sweep(self, name: str) -> Iterator[SweepLook]:
        """See :class:`Administration`; a connection that is lost is made again, for a while."""
        backoff = Backoff()
        failures = 0
        request = admin_pb2.WatchSweepRequest(name=name)
        while True:
            try:
                for reply in stream(self._stub.WatchSweep, request, timeout_s=_WATCH_S):
                    failures = 0
                    backoff.succeeded()
                    look = wire.look_of(reply.look)
                    yield look
                    if look.ended:
                        return
                lost = "it ended the call"
            except Unreachable as error:
                lost = str(error)
            failures += 1
            if failures == _TRIES:
                raise Unreachable(
                    f"the controller does not answer any more ({lost}); sweep {name} goes on when "
                    f"it is back: `assay sweep status {name} --follow`"
                )
            self._sleep(backoff.next_s())

    def look_at_sweep(self, name: str) -> SweepLook:
        """See :class:`Administration`."""
        request = admin_pb2.WatchSweepRequest(name=name, once=True)
        for reply in stream(self._stub.WatchSweep, request, timeout_s=_CALL_S):
            return wire.look_of(reply.look)
        raise Unreachable("the controller ended the call; try again")

    def look_at_sweeps(self) -> list[SweepLook]:
        """See :class:`Administration`."""
        request = admin_pb2.ListSweepsRequest(looks=True)
        reply = call(self._stub.ListSweeps, request, timeout_s=_READ_S)
        return [wire.look_of(message) for message in reply.looks]

    def rounds(self, sweep: str) -> list[SweepRound]:
        """See :class:`Administration`."""
        request = admin_pb2.ListRoundsRequest(sweep=sweep)
        reply = call(self._stub.ListRounds, request, timeout_s=_CALL_S)
        return [from_proto(message, SweepRound) for message in reply.rounds]

    def results(self, sweep: str) -> list[ResultRecord]:
        """See :class:`Administration`."""
        request = admin_pb2.ListResultsRequest(sweep=sweep)
        replies = stream(self._stub.ListResults, request, timeout_s=_READ_S)
        return [from_proto(one, ResultRecord) for reply in replies for one in reply.results]

    def result(self, attempt: str) -> ResultRecord:
        """See :class:`Administration`."""
        request = admin_pb2.GetResultRequest(attempt=attempt)
        return from_proto(
            call(self._stub.GetResult, request, timeout_s=_CALL_S).result, ResultRecord
        )

    def export(self, order: ExportOrder, path: Path) -> Exported:
        """See :class:`Administration`."""
        replies = stream(
            self._stub.ExportResults, wire.export_message(order), timeout_s=_LONGEST_EXPORT_S
        )
        first: admin_pb2.ExportResultsResponse | None = None
        partial = path.with_name(path.name + ".part")
        try:
            with partial.open("wb") as file:
                for reply in replies:
                    first = first or reply
                    file.write(reply.data)
            if first is None:
                raise Unreachable("the controller ended the call; try again")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return Exported(first.results, first.missing_traces)

    def report(self, sweep: str, *, markdown: bool = False, force: bool = False) -> bytes:
        """See :class:`Administration`; :class:`VersionMismatch` where the controller cannot
        ``force``."""
        kind = admin_pb2.REPORT_FORMAT_MARKDOWN if markdown else admin_pb2.REPORT_FORMAT_HTML
        request = admin_pb2.GetReportRequest(sweep=sweep, format=kind, force=force)
        replies = list(stream(self._stub.GetReport, request, timeout_s=_READ_S))
        if force and not any(reply.forced for reply in replies):
            raise VersionMismatch("the controller does not know --force from elsewhere; upgrade it")
        return b"".join(reply.data for reply in replies)

    def cancel_sweep(self, name: str) -> None:
        """See :class:`Administration`."""
        request = admin_pb2.CancelSweepRequest(name=name)
        call(self._stub.CancelSweep, request, timeout_s=_CALL_S)

    def prioritise_sweep(self, name: str, priority: int) -> None:
        """See :class:`Administration`."""
        request = admin_pb2.PrioritiseSweepRequest(name=name, priority=priority)
        call(self._stub.PrioritiseSweep, request, timeout_s=_CALL_S)

    def operators(self) -> list[OperatorRecord]:
        """See :class:`Administration`."""
        request = admin_pb2.ListOperatorsRequest()
        reply = call(self._stub.ListOperators, request, timeout_s=_CALL_S)
        return [from_proto(message, OperatorRecord) for message in reply.operators]

    def add_operator(self, name: str, role: Role, days: int) -> bytes:
        """See :class:`Administration`."""
        request = admin_pb2.AddOperatorRequest(name=name, role=wire.role_number(role), days=days)
        return call(self._stub.AddOperator, request, timeout_s=_CALL_S).identity_pem

    def revoke_operator(self, name: str) -> None:
        """See :class:`Administration`."""
        request = admin_pb2.RevokeOperatorRequest(name=name)
        call(self._stub.RevokeOperator, request, timeout_s=_CALL_S)

    def certificates(self) -> list[CertificateRecord]:
        """See :class:`Administration`."""
        request = admin_pb2.ListCertificatesRequest()
        reply = call(self._stub.ListCertificates, request, timeout_s=_CALL_S)
        return [from_proto(message, CertificateRecord) for message in reply.certificates]

    def audit(self, limit: int) -> list[AuditRecord]:
        """See :class:`Administration`."""
        request = admin_pb2.ListAuditRequest(limit=limit)
        reply = call(self._stub.ListAudit, request, timeout_s=_CALL_S)
        return [from_proto(message, AuditRecord) for message in reply.entries]

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _devices(self, name: str) -> list[DeviceRecord]:
        request = admin_pb2.ListDevicesRequest(name=name)
        reply = call(self._stub.ListDevices, request, timeout_s=_CALL_S)
        return [from_proto(message, DeviceRecord) for message in reply.devices]
