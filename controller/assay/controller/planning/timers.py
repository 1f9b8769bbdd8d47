"""The timers of a round, as the controller counts them: pure.

A round waits in its queue, is leased, begins, runs. How long each may take stands in the sweep file
(``[limits]``) but for the runs, whose limits come from their profile. Fetching and the beginning of
each run are counted on the device (:mod:`assay.agent.plane.limits`), by limits that its lease
carries.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from assay.controller.planning.scheduler import Key
from assay.controller.planning.spec import Limits
from assay.controller.records import DeviceRecord, DeviceState, Duty, IdleQueue, RoundRecord
from assay.core.model import ArtifactRef, Round, RunSpec

QUEUE_TIMEOUT = "queue_timeout"
START_TIMEOUT = "start_timeout"
LEASE_EXPIRED = "lease_expired"
GIVEN_UP = "given_up"
PUT_OFF = "put_off"
TROUBLES: Mapping[str, str] = {
    QUEUE_TIMEOUT: "its device took nothing for as long as `queue_s` allows; not tried again "
    "before `assay sweep resume`",
    START_TIMEOUT: "its device held it and did not begin within `start_s`; granted anew",
    LEASE_EXPIRED: "its lease ran out; granted anew",
    GIVEN_UP: "its device no longer had it; granted anew",
    PUT_OFF: "its files are more than its device's line may carry today; granted anew once there "
    "is room, and not counted",
}
"""What may go wrong with a round as a whole, and what follows."""

_NS_PER_S = 1_000_000_000


def limits_of(spec_json: str) -> Limits:
    """The limits in a stored sweep file; the usual ones where it says none."""
    return Limits.model_validate(json.loads(spec_json).get("limits", {}))


def fetch_ns(limits: Limits, runs: Iterable[RunSpec]) -> int:
    """What fetching all files of a round may take: the time of a slow line, and some more."""
    sizes = {ref.digest: ref.size_bytes for run in runs for ref in _refs(run)}
    return int((limits.fetch_s + sum(sizes.values()) / limits.fetch_bytes_per_s) * _NS_PER_S)


def start_ns(limits: Limits) -> int:
    """How long a device may take to begin what it holds."""
    return int(limits.start_s * _NS_PER_S)


def waits_too_long(queue: IdleQueue, worked_ns: int, limits: Limits, now_ns: int) -> bool:
    """Whether a device has taken nothing for too long: ``worked_ns`` is when it last took a round,
    or ended one. While a device works, whatever waits for it may wait."""
    return now_ns - max(queue.since_ns, worked_ns) >= limits.queue_s * _NS_PER_S


def not_begun(leased: Iterable[Round], held: Collection[Key], begun: Collection[Key]) -> Key | None:
    """The grant that its device should have begun by now, if there is one: it is leased, nothing
    of it is under way, and the device holds no other round that might keep it busy.

    ``held`` is every grant the device reports, ``begun`` those of them that it works on.
    """
    for round_ in leased:
        key = (round_.round_id, round_.fence)
        if key not in begun and all(one == key for one in held):
            return key
    return None


def queue_trouble(device: DeviceRecord, limits: Limits) -> str:
    """What is written beside rounds that nobody took."""
    why = ""
    if device.state is not DeviceState.ACTIVE:
        why = f", it is {device.state.value}"
    elif device.duty is not Duty.ON:
        why = f", it is {device.duty.value}"
        why += f" ({device.duty_reason})" if device.duty_reason else ""
    elif device.waits_for:
        why = f", it waits for {', '.join(device.waits_for)}"
    hours = limits.queue_s / 3600
    return f"{QUEUE_TIMEOUT}: device {device.name} took nothing for {hours:.3g} h{why}"


def given_up_trouble() -> str:
    """What is written beside a round that its device no longer reports."""
    return f"{GIVEN_UP}: its device no longer had it"


def put_off_trouble() -> str:
    """What is written beside a round whose files its device cannot fetch today."""
    return f"{PUT_OFF}: its files are more than is left of its device's daily_bytes"


def start_trouble(limit_ns: int) -> str:
    """What is written beside a round that was held and not begun."""
    return f"{START_TIMEOUT}: held for {limit_ns / _NS_PER_S:g} s and not begun"


def trouble_code(trouble: str) -> str:
    """The code in front of what is written beside a round; empty where nothing is."""
    return trouble.partition(":")[0]


def abandoned(rounds: Iterable[RoundRecord]) -> frozenset[str]:
    """Groups whose newest round nobody took: adding more would only make them wait again."""
    newest: dict[str, RoundRecord] = {}
    for round_ in rounds:
        if round_.group not in newest or newest[round_.group].index < round_.index:
            newest[round_.group] = round_
    return frozenset(g for g, r in newest.items() if trouble_code(r.trouble) == QUEUE_TIMEOUT)


def _refs(run: RunSpec) -> Iterable[ArtifactRef]:
    yield run.artifact
    yield run.inputs.artifact
    if run.golden is not None:
        yield run.golden.artifact
