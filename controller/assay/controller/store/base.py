"""The store: one interface, one contract suite (tests/contract/test_store.py) for every backend.

Every method is one transaction and durable when it returns. Methods are safe to call from several
threads and from several processes on the same database. Absent things raise
:class:`~assay.core.errors.NotFound`; taken names raise :class:`~assay.core.errors.AlreadyExists`.
Times are given by the caller, so that tests own the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from assay.controller.records import (
    Admission,
    AuditRecord,
    CellRecord,
    ConflictRecord,
    DatasetRecord,
    DeviceRecord,
    HeldRound,
    IdleQueue,
    OperatorRecord,
    Outcome,
    Recorded,
    RecordOutcome,
    ResultRecord,
    RoundRecord,
    RoundState,
    Standing,
    SweepMarks,
    SweepRecord,
    SweepState,
    TokenRecord,
    VariantRecord,
    Wishes,
)
from assay.controller.store.arrival import Arrived, Reported
from assay.core.model import DeviceFacts, Round


class Store(Protocol):
    """The truth about tokens, devices, datasets, variants, sweeps, rounds and results."""

    # tokens
    def add_token(self, token: TokenRecord) -> None: ...
    def tokens(self) -> list[TokenRecord]: ...
    def revoke_token(self, token_id: str) -> None: ...
    def spend_token(self, secret_sha256: str, now_ns: int) -> TokenRecord:
        """Takes one use off a token; :class:`Unauthenticated` if it is unknown, spent, revoked or
        expired. Atomic: a token with one use enrols one device however many ask at once."""
        ...

    # devices
    def add_device(self, device: DeviceRecord) -> None: ...
    def devices(self) -> list[DeviceRecord]: ...
    def device(self, name_or_id: str) -> DeviceRecord: ...
    def update_device(self, device: DeviceRecord) -> None:
        """Replaces the record of the same ``device_id``; facts and last-seen only where no newer
        sign of life has come in since the record was read."""
        ...

    def change_device(
        self, device_id: str, change: Callable[[DeviceRecord], DeviceRecord]
    ) -> DeviceRecord:
        """What ``change`` makes of the record as it is now, in one transaction: whatever others did
        to it meanwhile (a revocation, a duty) is not undone. Nothing where ``change`` raises; it
        must not ask the store."""
        ...

    def cordon(self, device_id: str, reason: str) -> bool:
        """Takes an active device that is on duty off it, whatever else of it changes meanwhile;
        False where it is not on duty."""
        ...

    def enrol_device(self, secret_sha256: str, device: DeviceRecord, now_ns: int) -> DeviceRecord:
        """Adds ``device`` for one use of the token, both or neither: AlreadyExists where its name
        is taken by another key, Unauthenticated as :meth:`spend_token`. A key that is known keeps
        its identity: the stored record is returned, no use is taken, and the token need only be
        known, in time and not revoked (a reply that was lost is asked for again). A token that
        asks for approval makes the device PENDING, whatever ``device`` says."""
        ...

    def seen(self, device_id: str, facts: DeviceFacts | None, now_ns: int) -> None:
        """Notes a sign of life and, where given, what the device says about itself."""
        ...

    def seen_all(self, signs: Sequence[tuple[str, DeviceFacts | None, int]]) -> None:
        """:meth:`seen` for many devices in one transaction."""
        ...

    # datasets and variants
    def add_dataset(self, dataset: DatasetRecord) -> None:
        """Adding the same content again is no error."""
        ...

    def datasets(self) -> list[DatasetRecord]: ...
    def dataset(self, name: str) -> DatasetRecord: ...
    def add_variant(self, variant: VariantRecord) -> None:
        """Same id: files and notes are merged in; same name with another id: AlreadyExists."""
        ...

    def variants(self) -> list[VariantRecord]: ...
    def variant(self, name_or_id: str) -> VariantRecord: ...
    def replace_variant(self, variant: VariantRecord) -> None:
        """Gives ``variant.name`` to this record; the former owner keeps its id and loses the name
        (it is renamed ``<name>@<12 hex of its id>``)."""
        ...

    # sweeps
    def add_sweep(
        self, sweep: SweepRecord, cells: Sequence[CellRecord], rounds: Sequence[RoundRecord]
    ) -> None: ...
    def add_rounds(self, rounds: Sequence[RoundRecord], *, while_running: bool = False) -> None:
        """More rounds for a sweep (a retry); sets the sweep RUNNING again. With ``while_running``
        nothing where it does not run any more: whoever cancelled it meanwhile has the last word."""
        ...

    def sweeps(self) -> list[SweepRecord]: ...
    def sweep(self, name_or_id: str) -> SweepRecord: ...
    def set_sweep_state(self, sweep_id: str, state: SweepState) -> None:
        """CANCELLED also cancels its queued rounds at once; leased ones end by the next sync. DONE
        only from RUNNING: one that was cancelled stays so."""
        ...

    def set_sweep_priority(self, sweep_id: str, priority: int) -> None: ...
    def cells(self, sweep_id: str) -> list[CellRecord]: ...
    def rounds(self, sweep_id: str, states: Iterable[RoundState] = ()) -> list[RoundRecord]:
        """By group and index; all states where none is named."""
        ...

    def is_open(self, sweep_id: str) -> bool:
        """Whether a round of the sweep is queued or leased."""
        ...

    def round(self, round_id: str) -> RoundRecord: ...

    # leases
    def queued_rounds(self, device_id: str, limit: int = 50) -> list[RoundRecord]:
        """What may be granted to this device, in that order: highest priority first, then index
        (so that sweeps take turns), then the older sweep, then group. Empty for a device that is
        not active or not on duty; one on PROBATION gets rounds of HEALTH_PRIORITY alone."""
        ...

    def lease_round(
        self,
        device_id: str,
        lease_ns: int,
        now_ns: int,
        *,
        round_id: str | None = None,
        fetch_ns: int = 0,
        start_ns: int = 0,
    ) -> Round | None:
        """Grants this device its next queued round, or the one named, fence + 1 and every attempt
        under a fresh id (``<round>.<fence>.<position>``), so that results of two grants never share
        a key; None where the device already holds one, is not active or on duty, shares a thing
        with a device that holds one, or nothing waits for it. The grant carries
        the other limits along (0: none)."""
        ...

    def held_rounds(self, device_id: str) -> list[Round]:
        """What this device should be running now: its leased rounds of sweeps not cancelled."""
        ...

    def admission(self, device_id: str) -> Admission:
        """Name and state of a device by its id; cheap, for every call."""
        ...

    def standing(self, device_id: str, beyond: int = 0) -> Standing:
        """All that one Sync is decided by, in one transaction; of the queue the first 20 rounds and
        as many more as ``beyond``."""
        ...

    def resting(self) -> Mapping[str, Admission]:
        """By id, every device without a round that is leased to it or waits for it: of each,
        :meth:`standing` says no more than this."""
        ...

    def revision(self) -> int | None:
        """A number that is another one after any commit of anybody; None where there is none.
        Costs next to nothing and does not wait for others: may be asked on every call."""
        ...

    def leases(self, device_id: str) -> list[HeldRound]:
        """Every round leased to this device, those of cancelled sweeps included."""
        ...

    def wishes(self) -> Wishes:
        """What there is to tell devices; cheap enough to ask a few times a second."""
        ...

    def accept_round(self, round_id: str, fence: int) -> None:
        """Notes that the device has reported an attempt of this grant."""
        ...

    def release_round(
        self,
        round_id: str,
        fence: int,
        max_grants: int,
        now_ns: int,
        trouble: str = "",
        *,
        most_uncounted: int = 0,
    ) -> RoundState | None:
        """Ends a lease whose device no longer holds it: back to QUEUED (FAILED after ``max_grants``
        grants), or CANCELLED where the sweep is; None where the fence is not the current one. The
        grant does not count where fewer than ``most_uncounted`` grants of the round did not."""
        ...

    def finish_round(self, round_id: str, fence: int, state: RoundState, now_ns: int) -> bool:
        """DONE or FAILED; False where the fence is not the current one. The sweep itself stays
        RUNNING until :func:`assay.controller.planning.sweeps.tend` saw whether it lacks rounds."""
        ...

    def expire_leases(
        self,
        now_ns: int,
        max_grants: int,
        *,
        delivery_ns: int = 0,
        trouble: str = "",
        spare: Collection[str] = (),
    ) -> list[str]:
        """Puts rounds whose lease ran out ``delivery_ns`` ago back into the queue (FAILED after
        ``max_grants`` grants, CANCELLED where the sweep is); returns their ids. Those of the
        devices to ``spare`` stay leased."""
        ...

    # queues that do not move, and how rounds end
    def idle_queues(self) -> list[IdleQueue]:
        """What waits in running sweeps for devices that hold no lease and share nothing with one
        that does."""
        ...

    def last_work_ns(self, device_id: str, never_taken: str) -> int:
        """When the device, or one that shares something with it, last took a round or ended one;
        0: never. Rounds whose trouble begins with ``never_taken`` do not count."""
        ...

    def fail_queue(self, queue: IdleQueue, now_ns: int, trouble: str) -> list[str]:
        """FAILED for every round of this queue, unless the device, or one that shares something
        with it, holds a lease by now; returns their ids."""
        ...

    def ended_lately(self, after_ns: int) -> frozenset[str]:
        """The devices a round of which became DONE or FAILED since then."""
        ...

    def last_outcomes(self, device_id: str, limit: int) -> list[Outcome]:
        """How the device's last rounds ended (DONE or FAILED after a grant), the newest first."""
        ...

    def may_read(self, device_id: str, digest: str) -> bool:
        """Whether a round leased to this device now names the artifact."""
        ...

    def ever_leased(self, device_id: str, digests: Sequence[str]) -> frozenset[str]:
        """Those of ``digests`` that a round granted to this device, ended or not, has named."""
        ...

    # administration
    def put_operator(self, operator: OperatorRecord) -> None:
        """Adds one, or replaces the one of that name."""
        ...

    def operators(self) -> list[OperatorRecord]: ...
    def operator(self, name: str) -> OperatorRecord: ...
    def add_audit(self, entry: AuditRecord) -> int:
        """Appends it; returns its number, for :meth:`end_audit`."""
        ...

    def end_audit(self, number: int, subject: str, outcome: str, detail: str) -> None:
        """Writes down how what an entry tells of came out."""
        ...

    def audit(self, limit: int) -> list[AuditRecord]:
        """The newest entries, oldest first."""
        ...

    def prune_audit(self, before_ns: int) -> int:
        """Drops older entries; returns how many."""
        ...

    # results
    def record(
        self, device_id: str, results: Sequence[Reported], now_ns: int
    ) -> list[RecordOutcome]:
        """Records (attempt_id, seq, sha256, body) in one transaction, idempotently, in order.

        A body that is unreadable, has another hash, names an attempt that was never leased to this
        device, or has a median that is no positive time (nothing can be compared with it) is
        REJECTED and changes nothing. A round all of whose attempts have a result of the current
        fence becomes DONE."""
        ...

    def record_all(
        self, batches: Sequence[tuple[str, Sequence[Arrived]]], now_ns: int
    ) -> list[list[Recorded]]:
        """:meth:`record` for (device, results) of many devices in one transaction, with the reason
        of whatever was not simply stored. They have been looked at before, by
        :func:`assay.controller.store.arrival.arrived`, where nothing waits for it."""
        ...

    def conflicts(self) -> list[ConflictRecord]:
        """Bodies that were refused because another is stored under their key."""
        ...

    def results(
        self,
        *,
        sweep_id: str | None = None,
        cell_keys: Iterable[str] = (),
        superseded: bool = False,
    ) -> list[ResultRecord]:
        """In the order of recording; superseded ones only on request."""
        ...

    def result_page(self, sweep_id: str, after: int, limit: int) -> tuple[list[ResultRecord], int]:
        """The next ``limit`` results of :meth:`results` at most, and what to give as ``after`` for
        those that follow (0: from the start on); none at the end."""
        ...

    def sweep_marks(self, sweep_id: str) -> SweepMarks:
        """What has moved in a sweep, without reading the results and rounds themselves."""
        ...

    def attempts(self, beginning: str, limit: int) -> list[str]:
        """Attempts with a result whose ids begin so, in their order; at most ``limit``."""
        ...

    def result(self, attempt_id: str) -> ResultRecord: ...

    # upkeep
    def named_artifacts(self) -> frozenset[str]:
        """The digests of every file that must be kept: of variants and datasets, of running sweeps
        and leased rounds, of rounds with a result, traces among them, and of canaries given."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Rows per table, for ``doctor`` and ``/metrics``."""
        ...

    def check(self) -> list[str]:
        """What is wrong with the database itself, one line each; empty where nothing is."""
        ...

    def close(self) -> None: ...
