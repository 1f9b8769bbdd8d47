"""Administration's values and their messages."""

from __future__ import annotations

from assay.controller.admin.base import DeviceChange, DeviceVerb
from assay.controller.admin.views import ExportOrder, SweepLook
from assay.controller.records import ResultRecord, Role, RoundState, SweepRecord, TokenRecord
from assay.core.convert import fill, from_proto
from assay.core.errors import BadMessage
from assay.v1 import admin_pb2


def token_message(record: TokenRecord) -> admin_pb2.TokenRecord:
    """Without the secret's hash."""
    return admin_pb2.TokenRecord(
        token_id=record.token_id,
        created_ns=record.created_ns,
        expires_ns=record.expires_ns,
        uses_left=record.uses_left,
        revoked=record.revoked,
        note=record.note,
        approval=record.approval,
    )


def token_record(message: admin_pb2.TokenRecord) -> TokenRecord:
    """The inverse; ``secret_sha256`` is empty."""
    return TokenRecord(
        token_id=message.token_id,
        secret_sha256="",
        created_ns=message.created_ns,
        expires_ns=message.expires_ns,
        uses_left=message.uses_left,
        revoked=message.revoked,
        note=message.note,
        approval=message.approval,
    )


def change_message(name: str, change: DeviceChange) -> admin_pb2.ChangeDeviceRequest:
    """A change to the device of that name."""
    return admin_pb2.ChangeDeviceRequest(
        name=name,
        verb=admin_pb2.DeviceVerb.Value(f"DEVICE_VERB_{change.verb.name}"),
        reason=change.reason,
        labels=dict(change.labels),
        drop_labels=change.drop_labels,
        new_name=change.new_name,
    )


def change_of(message: admin_pb2.ChangeDeviceRequest) -> DeviceChange:
    """The inverse; :class:`BadMessage` on a verb this version does not know."""
    name = admin_pb2.DeviceVerb.Name(message.verb) if message.verb in _VERBS else ""
    if name not in _KNOWN:
        raise BadMessage(f"device verb {message.verb} is not known here; upgrade the controller")
    return DeviceChange(
        verb=_KNOWN[name],
        reason=message.reason,
        labels=dict(message.labels),
        drop_labels=tuple(message.drop_labels),
        new_name=message.new_name,
    )


def role_of(number: int) -> Role:
    """The role of a request; :class:`BadMessage` where it names none."""
    for role in Role:
        if number == role_number(role):
            return role
    raise BadMessage(f"role {number} is not known here; upgrade the controller")


def role_number(role: Role) -> admin_pb2.Role.ValueType:
    """The inverse."""
    return admin_pb2.Role.Value(f"ROLE_{role.name}")


def look_message(look: SweepLook, *, latest: bool = True) -> admin_pb2.SweepLook:
    """How a sweep stands; with its latest result unless told otherwise."""
    message = admin_pb2.SweepLook(
        runs_done=look.runs_done,
        runs_total=look.runs_total,
        rounds={state.value: count for state, count in look.rounds.items()},
        verdicts=look.verdicts,
        left_ns=look.left_ns,
        cells=look.cells,
        cells_short=look.cells_short,
    )
    fill(message.sweep, look.sweep)
    if latest and look.latest is not None:
        fill(message.latest, look.latest)
    return message


def look_of(message: admin_pb2.SweepLook) -> SweepLook:
    """The inverse. Rounds in a state this version does not know are left out."""
    known = {state.value: state for state in RoundState}
    return SweepLook(
        sweep=from_proto(message.sweep, SweepRecord),
        runs_done=message.runs_done,
        runs_total=message.runs_total,
        rounds={known[text]: count for text, count in message.rounds.items() if text in known},
        verdicts=dict(message.verdicts),
        left_ns=message.left_ns,
        cells=message.cells,
        cells_short=message.cells_short,
        latest=from_proto(message.latest, ResultRecord) if message.HasField("latest") else None,
    )


def is_markdown(number: int) -> bool:
    """Which report is asked for; :class:`BadMessage` on one this version does not know."""
    if number not in (admin_pb2.REPORT_FORMAT_HTML, admin_pb2.REPORT_FORMAT_MARKDOWN):
        raise BadMessage(f"report format {number} is not known here; upgrade the controller")
    return number == admin_pb2.REPORT_FORMAT_MARKDOWN


def export_message(order: ExportOrder) -> admin_pb2.ExportResultsRequest:
    """What is to be exported."""
    return admin_pb2.ExportResultsRequest(
        sweep=order.sweep,
        format=admin_pb2.ExportFormat.Value(_EXPORT + order.file_format.upper()),
        samples=order.samples,
        superseded=order.superseded,
    )


def export_order(message: admin_pb2.ExportResultsRequest) -> ExportOrder:
    """The inverse; :class:`BadMessage` on a format this version does not know."""
    names = {number: name for name, number in admin_pb2.ExportFormat.items() if number}
    if message.format not in names:
        raise BadMessage(
            f"export format {message.format} is not known here; upgrade the controller"
        )
    file_format = names[message.format].removeprefix(_EXPORT).lower()
    return ExportOrder(message.sweep, file_format, message.samples, message.superseded)


_EXPORT = "EXPORT_FORMAT_"
_VERBS = frozenset(admin_pb2.DeviceVerb.values())
_KNOWN = {f"DEVICE_VERB_{verb.name}": verb for verb in DeviceVerb}
