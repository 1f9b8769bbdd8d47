"""Devices with nothing to do, all of them at a glance."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, exists, select

from assay.controller.records import Admission, DeviceState, Duty, RoundState
from assay.controller.store.schema import devices, rounds

_OPEN = exists().where(
    rounds.c.device_id == devices.c.device_id,
    rounds.c.state.in_([RoundState.QUEUED.value, RoundState.LEASED.value]),
)
_RESTING = select(devices.c.device_id, devices.c.name, devices.c.state, devices.c.duty).where(
    ~_OPEN
)
_STATES = {state.value: state for state in DeviceState}
_DUTIES = {duty.value: duty for duty in Duty}


def resting(tx: Connection) -> Mapping[str, Admission]:
    """See :meth:`Store.resting`."""
    return {
        device_id: Admission(device_id, name, _STATES[state], _DUTIES[duty])
        for device_id, name, state, duty in tx.execute(_RESTING)
    }
