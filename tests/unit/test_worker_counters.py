"""What the worker reads about itself and the board, from recorded files."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.agent.worker import clockprobe
from assay.agent.worker.counters import Counters, Usage, change, read_counters, read_usage
from assay.agent.worker.counters import run_delay_ns as longest_delay
from assay.agent.worker.isolation import Schedule, choose_schedule
from assay.agent.worker.memory import ProcessMemory
from assay.agent.worker.pagecache import page_cache_state
from assay.core.model import Isolation

STAT = "cpu  30 0 0 70 0 0 0 0 0 0\ncpu0 {busy0} 0 0 {idle0} 0 0 0 {steal0} 0 0\n" + (
    "cpu1 {busy1} 0 0 {idle1} 0 0 0 {steal1} 0 0\nintr 1 2\n"
)


def proc(folder: Path, psi_us: int, swapped: int, **ticks: int) -> Path:
    (folder / "pressure").mkdir(parents=True)
    (folder / "pressure/cpu").write_text(f"some avg10=0 total={psi_us}\nfull avg10=0 total=0\n")
    (folder / "vmstat").write_text(f"pgmajfault 7\npswpin {swapped}\npswpout 1\n")
    (folder / "stat").write_text(STAT.format(**ticks))
    (folder / "self/task/41").mkdir(parents=True)
    (folder / "self/task/41/schedstat").write_text("100 5000000 3\n")
    return folder


def test_shares_are_of_the_cpus_they_speak_of(tmp_path: Path) -> None:
    zeros = dict.fromkeys(("busy0", "idle0", "steal0", "busy1", "idle1", "steal1"), 0)
    before = read_counters(proc(tmp_path / "a", 0, 5, **zeros))
    later = {"busy0": 30, "idle0": 70, "steal0": 0, "busy1": 90, "idle1": 0, "steal1": 10}
    after = read_counters(proc(tmp_path / "b", 250_000, 9, **later))
    stamp = {"monotonic_ns": 10**9, "realtime_ns": 10**9, "boottime_ns": 10**9}
    before = dataclasses.replace(before, monotonic_ns=0, realtime_ns=0, boottime_ns=0)
    seen = change(before, dataclasses.replace(after, **stamp), measure_cpus=(1,))
    assert seen.steal_share == pytest.approx(0.10)
    assert seen.background_share == pytest.approx(0.30)
    assert seen.psi_cpu_some_share == pytest.approx(0.25)
    assert (seen.swapped_pages, seen.clock_jump_ns) == (4, 0)


def test_a_kernel_that_tells_nothing_gives_no_shares(tmp_path: Path) -> None:
    empty = read_counters(tmp_path)
    seen = change(empty, empty, (0,))
    assert seen.steal_share is seen.background_share is seen.psi_cpu_some_share is None
    assert seen.swapped_pages == 0


@pytest.mark.parametrize("clock", ["realtime_ns", "boottime_ns"])
def test_a_clock_that_leaves_the_monotonic_one_is_seen(clock: str) -> None:
    before = Counters(0, 0, 0, {}, None, None)
    stamps = {"monotonic_ns": 10**9, "realtime_ns": 10**9, "boottime_ns": 10**9}
    stamps[clock] -= 3 * 10**9
    after = dataclasses.replace(before, **stamps)
    assert change(before, after, ()).clock_jump_ns == -3 * 10**9


def test_the_thread_that_waited_longest_counts(tmp_path: Path) -> None:
    folder = proc(tmp_path / "a", 0, 0, busy0=0, idle0=0, steal0=0, busy1=0, idle1=0, steal1=0)
    assert read_usage(folder).run_delay_ns == {41: 5_000_000}
    before = Usage(0, 0, 0, {1: 100, 2: 100})
    after = Usage(0, 0, 0, {1: 150, 2: 900, 3: 70})
    assert longest_delay(before, after) == 800
    assert longest_delay(before, Usage(0, 0, 0, {})) is None


def test_this_process_can_be_read() -> None:
    first = read_usage()
    sum(range(200_000))
    second = read_usage()
    assert second.cpu_ns > first.cpu_ns
    assert os.getpid() in second.run_delay_ns or not second.run_delay_ns
    assert read_counters().monotonic_ns > 0


def test_memory_is_read_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
    (tmp_path / "smaps_rollup").write_text(
        "0-1 ---p 0 00:00 0 [rollup]\nRss: 9 kB\nPss:  512 kB\n"
        "Private_Clean: 100 kB\nPrivate_Dirty: 28 kB\n"
    )
    memory = ProcessMemory(tmp_path)
    assert memory.resident_bytes() == 1 << 20
    assert memory.peak_bytes() == 2 << 20
    assert memory.pss_bytes() == 512 << 10
    assert memory.uss_bytes() == 128 << 10


def test_memory_that_cannot_be_read_is_absent(tmp_path: Path) -> None:
    memory = ProcessMemory(tmp_path / "gone")
    assert memory.resident_bytes() is memory.peak_bytes() is None
    assert memory.pss_bytes() is memory.uss_bytes() is None
    assert not memory.reset_peak()


def test_the_peak_of_this_process_can_be_reset() -> None:
    memory = ProcessMemory()
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    high = memory.peak_bytes()
    del block
    assert memory.reset_peak()
    low = memory.peak_bytes()
    assert high is not None and low is not None and high - low > 32 << 20


def test_a_file_just_written_lies_in_the_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"x" * 300_000)
    assert path.read_bytes()
    assert page_cache_state(path) in ("warm", "unknown")
    assert page_cache_state(tmp_path / "gone") == "unknown"
    (tmp_path / "empty").write_bytes(b"")
    assert page_cache_state(tmp_path / "empty") == "unknown"


def test_fifo_needs_pinning_and_blocks_that_pause(tmp_path: Path) -> None:
    limited = tmp_path / "limited"
    limited.write_text("950000\n")
    assert not choose_schedule(Isolation.NONE, continuous=False, rt_runtime=limited).fifo
    assert not choose_schedule(Isolation.PINNED, continuous=True, rt_runtime=limited).fifo
    slow = {"query_ns": 100_000_001, "rt_runtime": limited}
    assert not choose_schedule(Isolation.PINNED, **slow).fifo  # type: ignore[arg-type]
    for query_ns in (0, 50_000_000, 100_000_000):
        schedule = Schedule(Isolation.FIFO_PINNED, pauses=True, query_ns=query_ns)
        longest = schedule.block_ns + 2 * query_ns
        assert longest <= 500_000_000
        assert longest / (longest + schedule.pause_ns) < 0.9


def test_all_cpus_or_none_is_no_isolation() -> None:
    """In a process of its own: pinning also changes its priority."""
    code = (
        "import os; from assay.agent.worker.isolation import pin\n"
        "print(pin(()).value, pin(tuple(range(os.cpu_count()))).value, pin((4000,)).value)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["none", "none", "none"]


def test_the_clock_probe_takes_time() -> None:
    assert clockprobe.probe_ns(rounds=2) > 50_000
