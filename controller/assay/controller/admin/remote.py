"""Administration of a controller elsewhere."""

from __future__ import annotations

import grpc

from assay.controller.admin import wire
from assay.controller.admin.base import CertificateRecord, DeviceChange
from assay.controller.records import (
    AuditRecord,
    DeviceRecord,
    OperatorRecord,
    Role,
    SweepRecord,
    TokenRecord,
)
from assay.core.channel import call
from assay.core.convert import from_proto
from assay.v1 import admin_pb2, admin_pb2_grpc

_CALL_S = 30.0


class RemoteOffice:
    """:class:`assay.controller.admin.base.Administration` over a channel, which it closes; raises
    what the controller raised, or :class:`Unreachable`."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
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
