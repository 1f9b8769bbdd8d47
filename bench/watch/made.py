"""A fleet and its results in a real store, as large as a benchmark wants them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from assay.controller.comparing.sweep_data import SweepData
from assay.controller.home import Home
from assay.controller.records import DeviceRecord, RoundState, SweepState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core import digest
from assay.core.convert import to_bytes
from assay.core.model import Result, Round, RunSpec
from tests.factories import DATASET, SHAPES, Shape, make_device, make_sweep

_LEASE_NS = 3_600_000_000_000
Entry = tuple[str, int, str, bytes]


def variants(count: int) -> list[Shape]:
    """As many made-up variants, each in both runtimes."""
    sizes = {"onnxruntime": 312_400, "litert": 318_900}
    return [
        replace(SHAPES[i % len(SHAPES)], name=f"variant-{i:02}", bytes_by_runtime=sizes)
        for i in range(count)
    ]


def devices(count: int) -> list[DeviceRecord]:
    """As many boards of two classes."""
    made = [make_device(f"board-{i:04}") for i in range(count)]
    for i, device in enumerate(made):
        assert device.facts is not None
        if i % 2:
            facts = replace(device.facts, device_class="rpi4", board="Raspberry Pi 4 Model B")
            made[i] = replace(device, facts=facts)
    return made


def filled(home: Home, data: SweepData, *, kept_back: int = 0) -> tuple[Store, list[Entry]]:
    """A store with ``data`` recorded through leases, as agents would; the caller closes it.

    The last ``kept_back`` results are not recorded but returned, the sweep goes on.
    """
    home.create()
    store = open_store(home)
    store.add_dataset(DATASET)
    for variant in data.variants.values():
        store.add_variant(variant)
    for device in data.devices.values():
        store.add_device(device)
        store.seen(device.device_id, device.facts, device.last_seen_ns or 0)
    queued = [
        replace(
            each,
            state=RoundState.QUEUED,
            fence=0,
            grants=0,
            runs=tuple(
                replace(r, attempt_id=f"{each.round_id}-{i}") for i, r in enumerate(each.runs)
            ),
        )
        for each in data.rounds
    ]
    store.add_sweep(replace(data.sweep, state=SweepState.RUNNING), data.cells, queued)
    made = {(r.result.run.cell_key, r.result.round_id): r.result for r in data.results}
    held: list[Entry] = []
    while leases := _leases(store, data):
        batches = [
            (device_id, [_entry(run, lease, made) for run in lease.runs])
            for device_id, lease in leases
        ]
        if kept_back and _is_last(data, leases):
            device_id, entries = batches[-1]
            batches[-1] = (device_id, entries[:-kept_back])
            held = entries[-kept_back:]
        store.record_all(batches, time.time_ns())
        if held:
            return store, held
    store.set_sweep_state(data.sweep.sweep_id, SweepState.DONE)
    return store, held


def _leases(store: Store, data: SweepData) -> list[tuple[str, Round]]:
    found = [
        (device_id, store.lease_round(device_id, _LEASE_NS, time.time_ns()))
        for device_id in data.devices
    ]
    return [(name, lease) for name, lease in found if lease is not None]


def _is_last(data: SweepData, leases: list[tuple[str, Round]]) -> bool:
    last = {each.round_id for each in data.rounds if each.index == data.sweep.rounds - 1}
    return leases[-1][1].round_id in last


def _entry(run: RunSpec, lease: Round, made: Mapping[tuple[str, str], Result]) -> Entry:
    result = replace(
        made[run.cell_key, lease.round_id], attempt_id=run.attempt_id, fence=lease.fence, run=run
    )
    body = to_bytes(result)
    return run.attempt_id, result.seq, digest.hex_of(digest.of_bytes(body)), body


def full_sweep(device_count: int, variant_count: int, rounds: int = 3) -> SweepData:
    """Every variant in both runtimes on every device."""
    return make_sweep(
        shapes=variants(variant_count), devices=devices(device_count), rounds=rounds, spoil=False
    )
