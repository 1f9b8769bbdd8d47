"""What devices share (a meter, a hub): one of them at a time holds it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from assay.controller.records import RoundState
from assay.controller.store.schema import devices, rounds


def split(shares: str) -> frozenset[str]:
    """The things in a device's column of them."""
    return frozenset(shares.split("\n")) - {""}


def busy(tx: Connection) -> frozenset[str]:
    """What devices with a leased round share: reserved until its end is confirmed or expired."""
    query = (
        select(devices.c.shares)
        .join(rounds, rounds.c.device_id == devices.c.device_id)
        .where(rounds.c.state == RoundState.LEASED.value, devices.c.shares != "")
    )
    return frozenset(thing for shares in tx.execute(query).scalars() for thing in split(shares))


def waits_for_another(tx: Connection, device_id: str) -> bool:
    """Whether a device could take nothing just now, since what it shares is busy."""
    return bool(_things(tx, device_id) & busy(tx))


def sharers(tx: Connection, device_id: str) -> frozenset[str]:
    """The device, and those that share a thing with it."""
    mine = _things(tx, device_id)
    if not mine:
        return frozenset({device_id})
    query = select(devices.c.device_id, devices.c.shares).where(devices.c.shares != "")
    others = {other for other, shares in tx.execute(query) if split(shares) & mine}
    return frozenset(others | {device_id})


def _things(tx: Connection, device_id: str) -> frozenset[str]:
    query = select(devices.c.shares).where(devices.c.device_id == device_id)
    return split(tx.execute(query).scalar() or "")
