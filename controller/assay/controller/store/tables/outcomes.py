"""How a device's rounds end."""

from __future__ import annotations

from sqlalchemy import Connection, select

from assay.controller.records import FailedRun, Outcome, RoundState
from assay.controller.store.schema import results, rounds
from assay.core.convert import from_bytes
from assay.core.model import Result

_ENDED = (RoundState.DONE.value, RoundState.FAILED.value)


def ended_lately(tx: Connection, after_ns: int) -> frozenset[str]:
    """Devices with a round that ended since then."""
    query = (
        select(rounds.c.device_id)
        .where(rounds.c.since_ns > after_ns, rounds.c.state.in_(_ENDED))
        .distinct()
    )
    return frozenset(tx.execute(query).scalars())


def last_outcomes(tx: Connection, device_id: str, limit: int) -> list[Outcome]:
    """The newest first, of those whose time is known."""
    of_device = rounds.c.device_id == device_id, rounds.c.state.in_(_ENDED)
    query = (
        select(rounds.c.round_id, rounds.c.state, rounds.c.trouble)
        .where(*of_device, rounds.c.fence > 0, rounds.c.since_ns > 0)
        .order_by(rounds.c.since_ns.desc(), rounds.c.round_id)
        .limit(limit)
    )
    return [
        _outcome(tx, row.round_id, row.trouble, failed=row.state == RoundState.FAILED.value)
        for row in tx.execute(query)
    ]


def _outcome(tx: Connection, round_id: str, trouble: str, *, failed: bool) -> Outcome:
    of_round = results.c.round_id == round_id, results.c.superseded.is_(False)
    sound = select(results.c.entry).where(*of_round, results.c.failure_code.is_(None)).limit(1)
    if tx.execute(sound).first() is not None:
        return Outcome(round_id, failed=failed, trouble=trouble, sound=True, failures=())
    bodies = tx.execute(select(results.c.body).where(*of_round).order_by(results.c.entry))
    found = [from_bytes(body, Result) for body in bodies.scalars()]
    failures = tuple(FailedRun(r.run.variant_id, r.failure) for r in found if r.failure)
    return Outcome(round_id, failed=failed, trouble=trouble, sound=False, failures=failures)
