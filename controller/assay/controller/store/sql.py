"""The store on SQL: SQLite in one file by default, written so that PostgreSQL can join."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from sqlalchemy import Engine, func, select

from assay.controller.records import (
    Admission,
    AuditRecord,
    CellRecord,
    ConflictRecord,
    DatasetRecord,
    DeviceRecord,
    HeldRound,
    IdleQueue,
    LeaseBox,
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
from assay.controller.store.arrival import Arrived, Reported, arrived
from assay.controller.store.engine import Revisions, reading, writing
from assay.controller.store.schema import metadata
from assay.controller.store.tables import (
    administration,
    catalogue,
    enrolment,
    leases,
    naming,
    outcomes,
    queues,
    recording,
    resting,
    results,
    sweeps,
)
from assay.core.model import DeviceFacts, Round


class SqlStore:
    """:class:`assay.controller.store.base.Store` over an engine whose schema is up to date.

    Each method is one transaction; what it promises stands in the interface.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._revisions = Revisions(engine)

    def add_token(self, token: TokenRecord) -> None:
        with writing(self._engine) as tx:
            enrolment.add_token(tx, token)

    def tokens(self) -> list[TokenRecord]:
        with reading(self._engine) as tx:
            return enrolment.all_tokens(tx)

    def revoke_token(self, token_id: str) -> None:
        with writing(self._engine) as tx:
            enrolment.revoke_token(tx, token_id)

    def spend_token(self, secret_sha256: str, now_ns: int) -> TokenRecord:
        with writing(self._engine) as tx:
            return enrolment.spend_token(tx, secret_sha256, now_ns)

    def add_device(self, device: DeviceRecord) -> None:
        with writing(self._engine) as tx:
            enrolment.add_device(tx, device)

    def devices(self) -> list[DeviceRecord]:
        with reading(self._engine) as tx:
            return enrolment.all_devices(tx)

    def device(self, name_or_id: str) -> DeviceRecord:
        with reading(self._engine) as tx:
            return enrolment.device(tx, name_or_id)

    def update_device(self, device: DeviceRecord) -> None:
        with writing(self._engine) as tx:
            enrolment.update_device(tx, device)

    def change_device(
        self, device_id: str, change: Callable[[DeviceRecord], DeviceRecord]
    ) -> DeviceRecord:
        with writing(self._engine) as tx:
            return enrolment.change_device(tx, device_id, change)

    def cordon(self, device_id: str, reason: str) -> bool:
        with writing(self._engine) as tx:
            return enrolment.cordon(tx, device_id, reason)

    def enrol_device(self, secret_sha256: str, device: DeviceRecord, now_ns: int) -> DeviceRecord:
        with writing(self._engine) as tx:
            return enrolment.enrol_device(tx, secret_sha256, device, now_ns)

    def seen(self, device_id: str, facts: DeviceFacts | None, now_ns: int) -> None:
        self.seen_all([(device_id, facts, now_ns)])

    def seen_all(self, signs: Sequence[tuple[str, DeviceFacts | None, int]]) -> None:
        with writing(self._engine) as tx:
            enrolment.seen(tx, signs)

    def add_dataset(self, dataset: DatasetRecord) -> None:
        with writing(self._engine) as tx:
            catalogue.add_dataset(tx, dataset)

    def datasets(self) -> list[DatasetRecord]:
        with reading(self._engine) as tx:
            return catalogue.all_datasets(tx)

    def dataset(self, name: str) -> DatasetRecord:
        with reading(self._engine) as tx:
            return catalogue.dataset(tx, name)

    def add_variant(self, variant: VariantRecord) -> None:
        with writing(self._engine) as tx:
            catalogue.add_variant(tx, variant)

    def variants(self) -> list[VariantRecord]:
        with reading(self._engine) as tx:
            return catalogue.all_variants(tx)

    def variant(self, name_or_id: str) -> VariantRecord:
        with reading(self._engine) as tx:
            return catalogue.variant(tx, name_or_id)

    def replace_variant(self, variant: VariantRecord) -> None:
        with writing(self._engine) as tx:
            catalogue.replace_variant(tx, variant)

    def add_sweep(
        self, sweep: SweepRecord, cells: Sequence[CellRecord], rounds: Sequence[RoundRecord]
    ) -> None:
        rows = sweeps.rows_of({sweep.sweep_id: sweep.name}, cells, rounds)
        with writing(self._engine) as tx:
            sweeps.add_sweep(tx, sweep, rows)

    def add_rounds(self, rounds: Sequence[RoundRecord], *, while_running: bool = False) -> None:
        with reading(self._engine) as tx:
            names = {key: sweeps.sweep(tx, key).name for key in {r.sweep_id for r in rounds}}
        rows = sweeps.rows_of(names, (), rounds)
        with writing(self._engine) as tx:
            sweeps.add_rounds(tx, rows, while_running)

    def sweeps(self) -> list[SweepRecord]:
        with reading(self._engine) as tx:
            return sweeps.all_sweeps(tx)

    def sweep(self, name_or_id: str) -> SweepRecord:
        with reading(self._engine) as tx:
            return sweeps.sweep(tx, name_or_id)

    def set_sweep_state(self, sweep_id: str, state: SweepState) -> None:
        with writing(self._engine) as tx:
            sweeps.set_state(tx, sweep_id, state)

    def set_sweep_priority(self, sweep_id: str, priority: int) -> None:
        with writing(self._engine) as tx:
            sweeps.set_priority(tx, sweep_id, priority)

    def cells(self, sweep_id: str) -> list[CellRecord]:
        with reading(self._engine) as tx:
            return sweeps.its_cells(tx, sweep_id)

    def rounds(self, sweep_id: str, states: Iterable[RoundState] = ()) -> list[RoundRecord]:
        with reading(self._engine) as tx:
            return sweeps.its_rounds(tx, sweep_id, states)

    def is_open(self, sweep_id: str) -> bool:
        with reading(self._engine) as tx:
            return sweeps.is_open(tx, sweep_id)

    def round(self, round_id: str) -> RoundRecord:
        with reading(self._engine) as tx:
            return sweeps.one_round(tx, round_id)

    def queued_rounds(self, device_id: str, limit: int = 50) -> list[RoundRecord]:
        with reading(self._engine) as tx:
            return leases.queued(tx, device_id, limit)

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
        box = LeaseBox(lease_ns, fetch_ns, start_ns)
        with writing(self._engine) as tx:
            return leases.lease(tx, device_id, box, now_ns, round_id)

    def held_rounds(self, device_id: str) -> list[Round]:
        return [held.round for held in self.leases(device_id) if not held.cancelled]

    def admission(self, device_id: str) -> Admission:
        with reading(self._engine) as tx:
            return leases.admission(tx, device_id)

    def resting(self) -> Mapping[str, Admission]:
        with reading(self._engine) as tx:
            return resting.resting(tx)

    def revision(self) -> int | None:
        return self._revisions.now() if self._engine.dialect.name == "sqlite" else None

    def standing(self, device_id: str, beyond: int = 0) -> Standing:
        with reading(self._engine) as tx:
            return leases.standing(tx, device_id, beyond)

    def leases(self, device_id: str) -> list[HeldRound]:
        with reading(self._engine) as tx:
            return leases.held(tx, device_id)

    def wishes(self) -> Wishes:
        with reading(self._engine) as tx:
            return leases.wishes(tx)

    def accept_round(self, round_id: str, fence: int) -> None:
        with writing(self._engine) as tx:
            leases.accept(tx, round_id, fence)

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
        with writing(self._engine) as tx:
            return leases.release(tx, round_id, fence, max_grants, now_ns, trouble, most_uncounted)

    def finish_round(self, round_id: str, fence: int, state: RoundState, now_ns: int) -> bool:
        with writing(self._engine) as tx:
            return leases.finish(tx, round_id, fence, state, now_ns)

    def expire_leases(
        self,
        now_ns: int,
        max_grants: int,
        *,
        delivery_ns: int = 0,
        trouble: str = "",
        spare: Collection[str] = (),
    ) -> list[str]:
        with writing(self._engine) as tx:
            return leases.expire(tx, now_ns, max_grants, delivery_ns, trouble, spare)

    def idle_queues(self) -> list[IdleQueue]:
        with reading(self._engine) as tx:
            return queues.idle(tx)

    def last_work_ns(self, device_id: str, never_taken: str) -> int:
        with reading(self._engine) as tx:
            return queues.last_work_ns(tx, device_id, never_taken)

    def fail_queue(self, queue: IdleQueue, now_ns: int, trouble: str) -> list[str]:
        with writing(self._engine) as tx:
            return queues.fail(tx, queue, now_ns, trouble)

    def ended_lately(self, after_ns: int) -> frozenset[str]:
        with reading(self._engine) as tx:
            return outcomes.ended_lately(tx, after_ns)

    def last_outcomes(self, device_id: str, limit: int) -> list[Outcome]:
        with reading(self._engine) as tx:
            return outcomes.last_outcomes(tx, device_id, limit)

    def may_read(self, device_id: str, digest: str) -> bool:
        with reading(self._engine) as tx:
            return leases.may_read(tx, device_id, digest)

    def ever_leased(self, device_id: str, digests: Sequence[str]) -> frozenset[str]:
        with reading(self._engine) as tx:
            return leases.ever_leased(tx, device_id, digests)

    def put_operator(self, operator: OperatorRecord) -> None:
        with writing(self._engine) as tx:
            administration.put_operator(tx, operator)

    def operators(self) -> list[OperatorRecord]:
        with reading(self._engine) as tx:
            return administration.all_operators(tx)

    def operator(self, name: str) -> OperatorRecord:
        with reading(self._engine) as tx:
            return administration.operator(tx, name)

    def add_audit(self, entry: AuditRecord) -> int:
        with writing(self._engine) as tx:
            return administration.add_audit(tx, entry)

    def end_audit(self, number: int, subject: str, outcome: str, detail: str) -> None:
        with writing(self._engine) as tx:
            administration.end_audit(tx, number, subject, outcome, detail)

    def audit(self, limit: int) -> list[AuditRecord]:
        with reading(self._engine) as tx:
            return administration.last_audit(tx, limit)

    def prune_audit(self, before_ns: int) -> int:
        with writing(self._engine) as tx:
            return administration.prune_audit(tx, before_ns)

    def record(
        self, device_id: str, results: Sequence[Reported], now_ns: int
    ) -> list[RecordOutcome]:
        (recorded,) = self.record_all([(device_id, [arrived(one) for one in results])], now_ns)
        return [item.outcome for item in recorded]

    def record_all(
        self, batches: Sequence[tuple[str, Sequence[Arrived]]], now_ns: int
    ) -> list[list[Recorded]]:
        with writing(self._engine) as tx:
            return recording.record_all(tx, batches, now_ns)

    def conflicts(self) -> list[ConflictRecord]:
        with reading(self._engine) as tx:
            return results.all_conflicts(tx)

    def results(
        self,
        *,
        sweep_id: str | None = None,
        cell_keys: Iterable[str] = (),
        superseded: bool = False,
    ) -> list[ResultRecord]:
        with reading(self._engine) as tx:
            return results.all_results(tx, sweep_id, cell_keys, superseded)

    def result_page(self, sweep_id: str, after: int, limit: int) -> tuple[list[ResultRecord], int]:
        with reading(self._engine) as tx:
            return results.page(tx, sweep_id, after, limit)

    def sweep_marks(self, sweep_id: str) -> SweepMarks:
        with reading(self._engine) as tx:
            return results.marks(tx, sweep_id)

    def attempts(self, beginning: str, limit: int) -> list[str]:
        with reading(self._engine) as tx:
            return results.attempts(tx, beginning, limit)

    def result(self, attempt_id: str) -> ResultRecord:
        with reading(self._engine) as tx:
            return results.result(tx, attempt_id)

    def named_artifacts(self) -> frozenset[str]:
        with reading(self._engine) as tx:
            return naming.named(tx)

    def counts(self) -> Mapping[str, int]:
        with reading(self._engine) as tx:
            return {
                name: tx.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in sorted(metadata.tables.items())
            }

    def check(self) -> list[str]:
        with reading(self._engine) as tx:
            if tx.dialect.name != "sqlite":
                return []
            found = [row[0] for row in tx.exec_driver_sql("PRAGMA integrity_check")]
            dangling = tx.exec_driver_sql("PRAGMA foreign_key_check").all()
        problems = [line for line in found if line != "ok"]
        return problems + [
            f"{row[0]} row {row[1]} refers to a missing row of {row[2]}" for row in dangling
        ]

    def close(self) -> None:
        self._revisions.close()
        self._engine.dispose()
