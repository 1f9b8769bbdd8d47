"""Join tokens and devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    LargeBinary,
    Row,
    String,
    bindparam,
    insert,
    or_,
    select,
    update,
)

from assay.controller.records import DeviceRecord, DeviceState, Duty, TokenRecord
from assay.controller.store.schema import devices, tokens
from assay.core.convert import from_bytes, to_bytes
from assay.core.errors import AlreadyExists, NotFound, Unauthenticated
from assay.core.model import DeviceFacts

# Signs of life come by the thousand: the statements are built once.
_DEVICE = select(devices).where(devices.c.device_id == bindparam("id", type_=String))
_SEEN = (
    update(devices)
    .where(
        devices.c.device_id == bindparam("id", type_=String),
        or_(devices.c.last_seen_ns.is_(None), devices.c.last_seen_ns <= bindparam("now_ns")),
    )
    .values(last_seen_ns=bindparam("now_ns", type_=BigInteger))
)
_TOLD = _SEEN.values(facts=bindparam("facts", type_=LargeBinary))


def add_token(tx: Connection, token: TokenRecord) -> None:
    """A new token."""
    tx.execute(
        insert(tokens).values(
            token_id=token.token_id,
            secret_sha256=token.secret_sha256,
            created_ns=token.created_ns,
            expires_ns=token.expires_ns,
            uses_left=token.uses_left,
            revoked=token.revoked,
            note=token.note,
            approval=token.approval,
        )
    )


def all_tokens(tx: Connection) -> list[TokenRecord]:
    """Oldest first."""
    rows = tx.execute(select(tokens).order_by(tokens.c.created_ns, tokens.c.token_id))
    return [_token(row) for row in rows]


def revoke_token(tx: Connection, token_id: str) -> None:
    """The token buys nothing from now on."""
    found = tx.execute(update(tokens).where(tokens.c.token_id == token_id).values(revoked=True))
    if found.rowcount == 0:
        raise NotFound(f"no token {token_id!r}; `assay token list` names them")


def spend_token(tx: Connection, secret_sha256: str, now_ns: int) -> TokenRecord:
    """Takes one use; see :meth:`Store.spend_token`."""
    token = _valid_token(tx, secret_sha256, now_ns)
    if token.uses_left < 1:
        raise Unauthenticated(
            f"join token {token.token_id} is used up; make another with `assay token create`"
        )
    tx.execute(
        update(tokens)
        .where(tokens.c.token_id == token.token_id)
        .values(uses_left=tokens.c.uses_left - 1)
    )
    return _token(tx.execute(select(tokens).where(tokens.c.token_id == token.token_id)).one())


def enrol_device(
    tx: Connection, secret_sha256: str, device: DeviceRecord, now_ns: int
) -> DeviceRecord:
    """See :meth:`Store.enrol_device`."""
    known = tx.execute(select(devices).where(devices.c.key_sha256 == device.key_sha256)).first()
    if known is not None:
        _valid_token(tx, secret_sha256, now_ns)
        return _device(known)
    _refuse_taken_name(tx, device.name, "")
    token = spend_token(tx, secret_sha256, now_ns)
    joining = replace(device, state=DeviceState.PENDING) if token.approval else device
    add_device(tx, joining)
    return joining


def add_device(tx: Connection, device: DeviceRecord) -> None:
    """A new device; its name and key must be free."""
    _refuse_taken_name(tx, device.name, "")
    same = select(devices.c.name).where(
        or_(devices.c.device_id == device.device_id, devices.c.key_sha256 == device.key_sha256)
    )
    owner = tx.execute(same).scalar()
    if owner is not None:
        raise AlreadyExists(f"device {owner!r} has the same id or key")
    tx.execute(insert(devices).values(device_id=device.device_id, **_device_values(device)))


def all_devices(tx: Connection) -> list[DeviceRecord]:
    """By name."""
    return [_device(row) for row in tx.execute(select(devices).order_by(devices.c.name))]


def device(tx: Connection, name_or_id: str) -> DeviceRecord:
    """One device; the id wins over a name that looks like one."""
    for column in (devices.c.device_id, devices.c.name):
        row = tx.execute(select(devices).where(column == name_or_id)).first()
        if row is not None:
            return _device(row)
    raise NotFound(f"no device {name_or_id!r}; `assay device list` names them")


def update_device(tx: Connection, record: DeviceRecord) -> None:
    """Replaces the record of the same id, but for a sign of life that came in meanwhile."""
    _refuse_taken_name(tx, record.name, record.device_id)
    same = devices.c.device_id == record.device_id
    row = tx.execute(select(devices.c.last_seen_ns).where(same).with_for_update()).first()
    if row is None:
        raise NotFound(f"no device {record.device_id!r}")
    values = _device_values(record)
    newer_facts = (row.last_seen_ns or 0) > (record.last_seen_ns or 0)
    if newer_facts:
        del values["facts"], values["last_seen_ns"]
    tx.execute(update(devices).where(same).values(**values))
    if newer_facts:
        _note_shares(tx, record.device_id)


def change_device(
    tx: Connection, device_id: str, change: Callable[[DeviceRecord], DeviceRecord]
) -> DeviceRecord:
    """The record after the change; see :meth:`Store.change_device`."""
    row = tx.execute(select(devices).where(devices.c.device_id == device_id).with_for_update())
    found = row.first()
    if found is None:
        raise NotFound(f"no device {device_id!r}")
    before = _device(found)
    after = change(before)
    if after != before:
        update_device(tx, after)
    return after


def seen(tx: Connection, signs: Sequence[tuple[str, DeviceFacts | None, int]]) -> None:
    """Signs of life; one that is older than what is noted changes nothing."""
    alive = [
        {"id": device_id, "now_ns": now_ns} for device_id, facts, now_ns in signs if facts is None
    ]
    if alive:
        tx.execute(_SEEN, alive)
    for device_id, facts, now_ns in signs:
        if facts is not None:
            told = {"id": device_id, "now_ns": now_ns, "facts": to_bytes(facts)}
            if tx.execute(_TOLD, told).rowcount:
                _note_shares(tx, device_id)


def cordon(tx: Connection, device_id: str, reason: str) -> bool:
    """Takes an active device off duty; False where it is not on it (any more)."""
    on_duty = devices.c.state == DeviceState.ACTIVE.value, devices.c.duty == Duty.ON.value
    done = tx.execute(
        update(devices)
        .where(devices.c.device_id == device_id, *on_duty)
        .values(duty=Duty.CORDONED.value, duty_reason=reason)
    )
    return done.rowcount == 1


def set_duty(tx: Connection, device_ids: Iterable[str], duty: Duty, reason: str) -> None:
    """Changes the duty of devices that are on it."""
    tx.execute(
        update(devices)
        .where(devices.c.device_id.in_(sorted(device_ids)), devices.c.duty == Duty.ON.value)
        .values(duty=duty.value, duty_reason=reason)
    )


def _note_shares(tx: Connection, device_id: str) -> None:
    row = tx.execute(_DEVICE, {"id": device_id}).first()
    if row is not None and (shares := _shares(_device(row))) != row.shares:
        tx.execute(update(devices).where(devices.c.device_id == device_id).values(shares=shares))


def _shares(record: DeviceRecord) -> str:
    return "\n".join(sorted(share.replace("\n", " ") for share in record.shares))


def _valid_token(tx: Connection, secret_sha256: str, now_ns: int) -> TokenRecord:
    row = tx.execute(
        select(tokens).where(tokens.c.secret_sha256 == secret_sha256).with_for_update()
    ).first()
    if row is None:
        raise Unauthenticated("this join token is unknown here; make one with `assay token create`")
    token = _token(row)
    if token.revoked:
        raise Unauthenticated(f"join token {token.token_id} was revoked")
    if token.expires_ns <= now_ns:
        raise Unauthenticated(
            f"join token {token.token_id} has expired; make another with `assay token create`"
        )
    return token


def _refuse_taken_name(tx: Connection, name: str, but_by: str) -> None:
    owner = tx.execute(select(devices.c.device_id).where(devices.c.name == name)).scalar()
    if owner is not None and owner != but_by:
        raise AlreadyExists(
            f"the device name {name!r} is taken by another key (device {owner}); choose another "
            "name, or rename that device with `assay device rename`"
        )


def _device_values(record: DeviceRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "state": record.state.value,
        "key_sha256": record.key_sha256,
        "enrolled_ns": record.enrolled_ns,
        "certificate_not_after_ns": record.certificate_not_after_ns,
        "labels": dict(record.labels),
        "facts": None if record.facts is None else to_bytes(record.facts),
        "last_seen_ns": record.last_seen_ns,
        "duty": record.duty.value,
        "duty_reason": record.duty_reason,
        "shares": _shares(record),
    }


def _token(row: Row[Any]) -> TokenRecord:
    return TokenRecord(
        token_id=row.token_id,
        secret_sha256=row.secret_sha256,
        created_ns=row.created_ns,
        expires_ns=row.expires_ns,
        uses_left=row.uses_left,
        revoked=row.revoked,
        note=row.note,
        approval=row.approval,
    )


def _device(row: Row[Any]) -> DeviceRecord:
    return DeviceRecord(
        device_id=row.device_id,
        name=row.name,
        state=DeviceState(row.state),
        key_sha256=row.key_sha256,
        enrolled_ns=row.enrolled_ns,
        certificate_not_after_ns=row.certificate_not_after_ns,
        labels=row.labels,
        facts=None if row.facts is None else from_bytes(row.facts, DeviceFacts),
        last_seen_ns=row.last_seen_ns,
        duty=Duty(row.duty),
        duty_reason=row.duty_reason,
    )
