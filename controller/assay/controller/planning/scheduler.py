"""What to tell a device: pure decisions over what the store holds and the device reports.

A round belongs to one device from the plan on; what is decided here is when it is granted, when a
grant counts as lost, and how often a device should call. No I/O, no clock of its own.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay.controller.records import HeldRound
from assay.core.channel import PROTO
from assay.core.errors import VersionMismatch
from assay.core.model import Round

_S = 1_000_000_000

MAX_GRANTS = 3
"""A round that was granted this often and never came back whole has failed."""

MOST_PUT_OFF = 100
"""So many grants of a round may be put off by its device without counting."""

DELIVERY_NS = 60 * _S
"""A lease runs on the device from receipt; the controller waits this much longer before it takes
the round back, and expires nothing for as long after its own start."""

SILENT_NS = 90 * _S
"""No sign of life for this long (beyond an announced quiet window) is silence."""

SITE_LABEL = "site"
"""The label of devices that share a line: where most of them fall silent at once it is that."""

MASS_LEAST = 3
"""Fewer devices than this fall silent each for itself."""

_MASS_WINDOW_NS = 900 * _S
_CALLS_PER_S = 200.0
_AFTER_LONG_POLL_S = 0.5
_HOLDING_S = 5.0
_IDLE_S = 2.0
_JITTER = 0.2

Key = tuple[str, int]
"""A grant: (round_id, fence)."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a device's report changes: grants it took up for the first time, grants whose device
    no longer has them, and the rounds it should go on with."""

    accepted: tuple[Key, ...]
    ended: tuple[Key, ...]
    kept: tuple[Round, ...]


def negotiate(proto_min: int, proto_max: int) -> int:
    """The protocol version to speak; :class:`VersionMismatch` names both sides' where none fits."""
    if proto_min <= PROTO <= proto_max:
        return PROTO
    older = "agent" if proto_max < PROTO else "controller"
    raise VersionMismatch(
        f"the agent speaks protocol versions {proto_min} to {proto_max}, this controller {PROTO}; "
        f"upgrade the {older}"
    )


def reconcile(
    leased: Iterable[HeldRound], reported: Collection[Key], put_off: Collection[Key] = ()
) -> Reconciliation:
    """Compares what is leased to a device with what it reports.

    A grant it does not report was lost with the device's memory if the device had reported it
    before (its attempts' keys are burnt, so it needs a new fence), and merely has not arrived yet
    if it had not. A cancelled grant has ended once it is not reported, one that is ``put_off`` has
    in any case.
    """
    accepted: list[Key] = []
    ended: list[Key] = []
    kept: list[Round] = []
    for held in leased:
        key = (held.round.round_id, held.round.fence)
        if key in put_off:
            ended.append(key)
            continue
        if key in reported:
            if not held.accepted:
                accepted.append(key)
        elif held.accepted or held.cancelled:
            ended.append(key)
            continue
        if not held.cancelled:
            kept.append(held.round)
    return Reconciliation(tuple(accepted), tuple(ended), tuple(kept))


def choose(
    queued: Sequence[Key], spooled: Collection[Key], put_off: Collection[Key] = ()
) -> str | None:
    """The round to grant next: the first in order whose results are not already on their way and
    which its device has not put off, in whichever grant.

    ``spooled`` are the grants the device has finished measuring. Such a round may be back in the
    queue because its lease ran out during a partition; granting it anew would throw away results
    that only wait to be sent.
    """
    later = {round_id for round_id, _ in put_off}
    return next((key[0] for key in queued if key not in spooled and key[0] not in later), None)


def next_sync_in_s(*, devices: int, holding: bool, long_poll: bool, rng: random.Random) -> float:
    """How long a device should wait before it calls again, with jitter; grows with the fleet so
    that it makes no more than some 200 calls a second in all."""
    wish_s = _HOLDING_S if holding else _AFTER_LONG_POLL_S if long_poll else _IDLE_S
    base_s = max(wish_s, devices / _CALLS_PER_S)
    return base_s * rng.uniform(1 - _JITTER, 1 + _JITTER)


def may_expire(*, started_ns: int, now_ns: int, silences_ns: Collection[int]) -> bool:
    """Whether leases may be taken back now.

    ``silences_ns`` is how long each device has been silent. Not soon after a start, since devices
    could not call; and not while more devices fell silent lately than still talk: then it is our
    network, and taking their work away would only waste it.
    """
    return now_ns - started_ns >= DELIVERY_NS and not _is_cut_off(silences_ns)


def fell_silent(silences_ns: Collection[int]) -> int:
    """How many devices fell silent lately."""
    return sum(SILENT_NS < silence <= _MASS_WINDOW_NS for silence in silences_ns)


def cut_off(silences_ns: Mapping[str, int], sites: Mapping[str, str]) -> frozenset[str]:
    """Devices at sites that :func:`may_expire` would say no for if there were no other; by device
    how long it has been silent, and its site, empty where it has none."""
    at: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for device_id, silence in silences_ns.items():
        if sites.get(device_id):
            at[sites[device_id]][device_id] = silence
    return frozenset(d for those in at.values() if _is_cut_off(those.values()) for d in those)


def _is_cut_off(silences_ns: Collection[int]) -> bool:
    lately = fell_silent(silences_ns)
    return lately >= MASS_LEAST and lately > sum(each <= SILENT_NS for each in silences_ns)
