"""What a change makes of a device's record: pure."""

from __future__ import annotations

from dataclasses import replace

from assay.controller.admin.base import DeviceChange, DeviceVerb
from assay.controller.identity.enrol import check_name
from assay.controller.records import DeviceRecord, DeviceState, Duty
from assay.core.errors import BadMessage, UsageError

_DUTIES = {DeviceVerb.CORDON: Duty.CORDONED, DeviceVerb.DRAIN: Duty.DRAINING}


def changed(record: DeviceRecord, change: DeviceChange) -> DeviceRecord:
    """The record after the change; raises where it does not fit the device's state."""
    verb = change.verb
    if verb is DeviceVerb.APPROVE:
        return _from(record, DeviceState.PENDING)
    if verb is DeviceVerb.RELEASE:
        return _from(record, DeviceState.QUARANTINED)
    if verb is DeviceVerb.REVOKE:
        return replace(record, state=DeviceState.REVOKED)
    if verb is DeviceVerb.LABEL:
        return _labelled(record, change)
    if verb is DeviceVerb.RENAME:
        return replace(record, name=check_name(change.new_name))
    if verb is DeviceVerb.UNCORDON:
        return _uncordoned(record)
    return replace(record, duty=_DUTIES[verb], duty_reason=change.reason)


def _from(record: DeviceRecord, state: DeviceState) -> DeviceRecord:
    if record.state is not state:
        raise UsageError(f"device {record.name} is {record.state.value}, not {state.value}")
    return replace(record, state=DeviceState.ACTIVE)


def _uncordoned(record: DeviceRecord) -> DeviceRecord:
    if record.duty is Duty.ON:
        raise UsageError(f"device {record.name} is on duty already")
    return replace(record, duty=Duty.ON, duty_reason="")


def _labelled(record: DeviceRecord, change: DeviceChange) -> DeviceRecord:
    if any(not key or "=" in key for key in change.labels):
        raise BadMessage("a label's key must not be empty or hold '='")
    kept = {k: v for k, v in record.labels.items() if k not in change.drop_labels}
    return replace(record, labels={**kept, **change.labels})
