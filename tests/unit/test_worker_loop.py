"""The timed loops: order, staging, limits, and from when an open loop counts."""

from __future__ import annotations

import itertools
import time
from array import array

import numpy as np
import pytest

from assay.agent.runtimes.base import Bound, no_op
from assay.agent.worker.interpreter import inference, quiet
from assay.agent.worker.isolation import Schedule
from assay.agent.worker.loop import (
    ClosedLoop,
    OpenLoop,
    even_gaps_ns,
    new_buffer,
    poisson_gaps_ns,
)
from assay.agent.worker.stopping import Stop, StopRule, Warmth, judge_warmup
from assay.agent.worker.timed import Timer, latency_of
from assay.core.errors import RuntimeRejected
from assay.core.model import Fidelity, Isolation, Mode
from tests.tinymodels import MS, SHORT

LONG_NS = 10**10
PLAIN = Schedule(Isolation.NONE, pauses=False)


def recording(n: int, *, staged: bool = False) -> tuple[Bound, list[str]]:
    done: list[str] = []
    calls = tuple(lambda i=i: done.append(f"call {i}") for i in range(n))
    stages = tuple(lambda i=i: done.append(f"stage {i}") for i in range(n)) if staged else None
    return Bound(calls, stages, lambda i: [], Fidelity.RAW_BINDING), done


def test_queries_go_round_in_order_and_on_in_the_next_block() -> None:
    bound, done = recording(3)
    loop, out = ClosedLoop(bound, (2, 0, 1)), new_buffer(10)
    assert loop.run_block(4, LONG_NS, out) == 4
    assert loop.run_block(2, LONG_NS, out) == 2
    assert done == [f"call {i}" for i in (2, 0, 1, 2, 0, 1)]
    assert all(sample > 0 for sample in out[:4])


def test_inputs_are_staged_before_their_call() -> None:
    bound, done = recording(2, staged=True)
    ClosedLoop(bound, (0, 1)).run_block(2, LONG_NS, new_buffer(2))
    assert done == ["stage 0", "call 0", "stage 1", "call 1"]


def test_staging_is_no_part_of_the_sample() -> None:
    slow = Bound((no_op,), (lambda: time.sleep(0.02),), lambda i: [], Fidelity.RAW_BINDING)
    out = new_buffer(3)
    ClosedLoop(slow, (0,)).run_block(3, LONG_NS, out)
    assert min(out) < 20 * MS


def test_a_block_ends_with_its_time_or_its_buffer() -> None:
    bound, done = recording(1)
    loop = ClosedLoop(bound, (0,))
    assert loop.run_block(10**9, LONG_NS, new_buffer(50)) == 50
    assert loop.run_block(50, 0, new_buffer(50)) == 1
    assert len(done) == 51


def test_an_open_loop_counts_from_when_a_query_was_to_start() -> None:
    bound = Bound((lambda: time.sleep(0.004),), None, lambda i: [], Fidelity.RAW_BINDING)
    out = new_buffer(6)
    loop = OpenLoop(bound, (0,), even_gaps_ns(1000.0), from_intended=True)
    assert loop.run_block(6, LONG_NS, out) == 6
    # Served at a quarter of the rate offered: each waits for all before it.
    assert all(b - a >= 2 * MS for a, b in itertools.pairwise(out))
    assert loop.late >= 5 and loop.last_late_ns >= 10 * MS


def test_a_paced_loop_counts_the_service_alone() -> None:
    bound = Bound((lambda: time.sleep(0.004),), None, lambda i: [], Fidelity.RAW_BINDING)
    out = new_buffer(6)
    loop = OpenLoop(bound, (0,), even_gaps_ns(1000.0), from_intended=False)
    begin = time.perf_counter_ns()
    loop.run_block(6, LONG_NS, out)
    # One after another: services fill no more than the time, waits would be counted twice.
    assert min(out) >= 4 * MS and sum(out) <= time.perf_counter_ns() - begin


def test_queries_do_not_start_before_their_time() -> None:
    starts: list[int] = []
    call = (lambda: starts.append(time.perf_counter_ns()),)
    loop = OpenLoop(
        Bound(call, None, lambda i: [], Fidelity.RAW_BINDING),
        (0,),
        even_gaps_ns(200.0),
        from_intended=True,
    )
    begin = time.perf_counter_ns()
    loop.run_block(5, LONG_NS, new_buffer(5))
    assert all(start - begin >= 5 * MS * (i + 1) for i, start in enumerate(starts))


def test_poisson_gaps_are_seeded_and_have_their_rate() -> None:
    first = list(itertools.islice(poisson_gaps_ns(1000.0, 3), 20_000))
    assert first == list(itertools.islice(poisson_gaps_ns(1000.0, 3), 20_000))
    assert np.mean(first) == pytest.approx(1e6, rel=0.03)
    assert np.std(first) == pytest.approx(1e6, rel=0.05)


def test_a_timer_measures_until_its_rule_says_so() -> None:
    timer = Timer(
        ClosedLoop(Bound((no_op,), None, lambda i: [], Fidelity.RAW_BINDING), (0,)), PLAIN
    )
    timed = timer.measure(SHORT, seed=1, block_ns=50 * MS)
    assert timed.stop is not None and timed.duration_ns >= SHORT.t_min_ns
    assert sum(timed.block_queries) == timed.reservoir.seen
    latency = latency_of(
        timed,
        1,
        fidelity=Fidelity.RAW_BINDING,
        harness_floor_ns=1.0,
        binding_floor_ns=None,
        response_time=False,
    )
    assert latency.n == timed.reservoir.seen
    assert latency.min_ns <= latency.p50_low_ns <= latency.p50_ns <= latency.p50_high_ns
    assert latency.p99_ns is not None and latency.p50_ns <= latency.p99_ns <= latency.max_ns
    assert latency.early_stopping_ns["p99"] >= latency.p99_ns


def test_a_long_timed_part_pauses_between_blocks() -> None:
    doing: list[str] = []
    bound = Bound((lambda: doing.append("query"),), None, lambda i: [], Fidelity.RAW_BINDING)
    timed = Timer(ClosedLoop(bound, (0,)), PLAIN).measure(
        SHORT, seed=1, block_ns=20 * MS, pause=lambda: doing.append("pause"), quiet_ns=100 * MS
    )
    assert doing.count("pause") >= 3 and doing[0] == doing[-1] == "query"
    assert ("pause", "pause") not in itertools.pairwise(doing)
    # What runs after a pause to warm up again is not counted.
    assert timed.reservoir.seen == sum(timed.block_queries) < doing.count("query")


def test_a_slow_query_still_ends_the_run() -> None:
    bound = Bound((lambda: time.sleep(0.3),), None, lambda i: [], Fidelity.RAW_BINDING)
    timed = Timer(ClosedLoop(bound, (0,)), PLAIN).measure(SHORT, seed=1)
    assert timed.stop is Stop.LONGEST_TIME and 3 <= timed.reservoir.seen <= 4


def test_warm_up_of_a_constant_latency_is_steady() -> None:
    bound = Bound((lambda: time.sleep(0.001),), None, lambda i: [], Fidelity.RAW_BINDING)
    warm = Timer(ClosedLoop(bound, (0,)), PLAIN).warm_up(SHORT, Mode.SUSTAINED)
    assert warm.steady and warm.queries >= 10 and warm.elapsed_ns >= SHORT.warmup_min_ns


@pytest.mark.parametrize(
    ("elapsed_ms", "queries", "medians", "mode", "warmth"),
    [
        (10, 100, [1.0] * 5, Mode.BURST, Warmth.WARMING),
        (100, 9, [1.0] * 5, Mode.BURST, Warmth.WARMING),
        (100, 100, [1.0] * 5, Mode.BURST, Warmth.STEADY),
        (100, 100, [1.0, 1.1, 1.2, 1.3, 1.4], Mode.BURST, Warmth.WARMING),
        (100, 100, [1.0, 1.1, 1.2, 1.3, 1.4], Mode.SUSTAINED, Warmth.STEADY),
        (4000, 100, [1.0, 1.1, 1.2, 1.3, 1.4], Mode.BURST, Warmth.GIVEN_UP),
    ],
)
def test_when_warm_up_is_over(
    elapsed_ms: int, queries: int, medians: list[float], mode: Mode, warmth: Warmth
) -> None:
    assert judge_warmup(SHORT, mode, elapsed_ms * MS, queries, medians) is warmth


def test_a_run_stops_only_when_time_count_and_interval_suffice() -> None:
    rule = StopRule(SHORT)
    assert rule.decide(200 * MS, 10_000, lambda: 0.0) is None
    assert rule.decide(400 * MS, 63, lambda: 0.0) is None
    assert rule.decide(400 * MS, 64, lambda: 0.5) is None
    assert rule.decide(500 * MS, 64, lambda: 0.1) is Stop.CONVERGED
    assert rule.decide(900 * MS, 5, lambda: 0.5) is Stop.LONGEST_TIME


def test_the_interval_is_not_asked_for_at_every_block() -> None:
    asked: list[int] = []
    rule = StopRule(SHORT)
    for ms in range(300, 900, 10):
        rule.decide(ms * MS, 1000, lambda ms=ms: asked.append(ms) or 1.0)  # type: ignore[misc]
    assert len(asked) < 9 and asked[0] == 300


def test_nothing_is_collected_while_it_is_quiet() -> None:
    import gc

    with quiet():
        assert not gc.isenabled() and gc.get_freeze_count() > 0
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_what_a_raw_call_raises_is_named() -> None:
    told = "onnxruntime failed to run the model: bad shape$"
    with pytest.raises(RuntimeRejected, match=told), inference("onnxruntime"):
        raise ArithmeticError("bad shape\nand more")


def test_a_buffer_holds_whole_nanoseconds() -> None:
    buffer: array[int] = new_buffer(4)
    buffer[0] = 2**62
    assert np.frombuffer(buffer, dtype=np.int64)[0] == 2**62
