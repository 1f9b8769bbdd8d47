"""Prometheus' ``http_sd``: agents on the LAN that said where their own ``/metrics`` is.

An agent says so by a capability ``metrics=HOST:PORT`` (agent/assay/agent/plane/exporter.py); one
behind NAT does not, and everything about it rides in Sync.
"""

from __future__ import annotations

from collections.abc import Iterable

from assay.controller.records import DeviceRecord, DeviceState
from assay.core.channel import split_address
from assay.core.errors import UsageError
from assay.core.metrics import METRICS_CAPABILITY


def targets(devices: Iterable[DeviceRecord]) -> list[dict[str, object]]:
    """Target groups as Prometheus reads them: one per active device with a page of its own."""
    found: list[dict[str, object]] = []
    for device in sorted(devices, key=lambda d: d.name):
        address = metrics_address(device)
        if address is None or device.state is not DeviceState.ACTIVE:
            continue
        labels = {"device": device.name}
        if device.facts is not None:
            labels["device_class"] = device.facts.device_class
        found.append({"targets": [address], "labels": labels})
    return found


def metrics_address(device: DeviceRecord) -> str | None:
    """``HOST:PORT`` of the agent's page; None where it has none or names no proper address."""
    for capability in device.facts.capabilities if device.facts else ():
        if not capability.startswith(METRICS_CAPABILITY):
            continue
        address = capability.removeprefix(METRICS_CAPABILITY)
        try:
            split_address(address)
        except (UsageError, ValueError):
            return None
        return address
    return None
