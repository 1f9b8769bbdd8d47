"""What native benchmark binaries print, by field; composed lines and real recordings."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.agent.phones.benchmarks import (
    Printed,
    parse_benchmark_model,
    parse_benchncnn,
    parse_perf_test,
)
from assay.agent.phones.latency import latency_of
from assay.core.errors import BadMessage
from assay.core.model import Fidelity
from tests.conftest import SHARED_DATA, need

NEW = """INFO: STARTING!
INFO: Unconsumed cmdline flags: --enable_foo=1
INFO: Loaded model /data/local/tmp/m.tflite
INFO: Initialized session in 5.685ms.
INFO: Running benchmark for at least 1 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=68 first=18535 curr=14411 min=14150 max=18535 avg=14462.3 std=520 p5=14190 median=14390 p95=14900
INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
INFO: count=150 first=14500 curr=14600 min=1.42e+04 max=1.55e+04 avg=14575.2 std=90 p5=14300 median=14570 p95=14800
INFO: Inference timings in us: Init: 5685, First inference: 18535, Warmup (avg): 14462.3, Inference (avg): 14575.2
"""  # noqa: E501


def recorded(path: str) -> str:
    file = SHARED_DATA / "boards" / path
    need(path=file)
    return Path(file).read_text()


def test_a_new_benchmark_model_is_read_by_field() -> None:
    found = parse_benchmark_model(NEW)
    assert found.count == 150 and found.mean_ns == 14_575_200
    assert (found.min_ns, found.max_ns) == (14_200_000, 15_500_000)
    assert (found.first_ns, found.init_ns) == (18_535_000, 5_685_000)
    assert found.percentiles_ns == {"p50": 14_570_000, "p95": 14_800_000}


def test_logcat_prefixes_and_carriage_returns_change_nothing() -> None:
    prefixed = "".join(f"05-01 12:00:00.1 123 124 I tflite  : {x}\r\n" for x in NEW.splitlines())
    assert parse_benchmark_model(prefixed) == parse_benchmark_model(NEW)


def test_a_single_inference_has_only_curr() -> None:
    text = "count=1 curr=21500\nInference timings in us: Init: 1, Inference (avg): 21500\n"
    found = parse_benchmark_model(text)
    assert (found.count, found.min_ns, found.percentiles_ns["p50"]) == (1, 21.5e6, 21.5e6)


def test_of_several_runs_in_one_log_the_last_counts() -> None:
    assert parse_benchmark_model(NEW.replace("median=14570", "median=1") + NEW).percentiles_ns[
        "p50"
    ] == pytest.approx(14_570_000)


def test_a_run_is_told_by_its_own_lines_alone() -> None:
    with pytest.raises(BadMessage, match="no complete result"):
        parse_benchmark_model(f"{NEW}INFO: STARTING!\nINFO: Loaded model other.tflite\n")
    silent = "INFO: STARTING!\nINFO: Inference timings in us: Init: 1, Inference (avg): 500\n"
    found = parse_benchmark_model(NEW + silent)
    assert (found.count, found.mean_ns, found.percentiles_ns) == (0, 500_000, {})
    # Profiling prints such a line between a run's and its summary.
    begin = NEW.index("INFO: Inference timings")
    mixed = f"{NEW[:begin]}Memory (bytes): count=0\n{NEW[begin:]}"
    assert parse_benchmark_model(mixed) == parse_benchmark_model(NEW)


def test_several_nets_are_no_result() -> None:
    with pytest.raises(BadMessage, match="give it one"):
        parse_benchncnn(NCNN + NCNN.replace("squeezenet", "mobilenet"))


def test_half_a_line_is_no_result() -> None:
    with pytest.raises(BadMessage, match="no complete result"):
        parse_benchmark_model(NEW[: NEW.index("Inference timings")])
    with pytest.raises(BadMessage):
        parse_benchmark_model(NEW[: NEW.index(", Inference (avg)")].rsplit("Warmup", 1)[0])


PERF = (
    "Session creation time cost: 0.0104 s\nTotal inference requests: 500\n"
    "Average inference time cost: 2.361 ms\nMin Latency: 0.0021 s\nMax Latency: 0.0093 s\n"
    "P50 Latency: 0.00236 s\nP90 Latency: 0.00241 s\n"
)
NCNN = "loop_count = 4\n          squeezenet  min =    8.44  max =    8.51  avg =    8.47\n"


@pytest.mark.parametrize("cut", range(1, 8))
def test_what_is_left_of_a_number_is_no_number(cut: int) -> None:
    # "14575.2" cut short would be 145 µs, "2.361 ms" 2.361 ns, "8.47" 8.4 ms.
    for parse, text in ((parse_benchmark_model, NEW), (parse_benchncnn, NCNN)):
        with pytest.raises(BadMessage, match="no complete result"):
            parse(text[:-cut])
    with pytest.raises(BadMessage, match="no complete result"):
        parse_perf_test(PERF[: PERF.index("\nMin Latency") + 1 - cut])
    until_p50 = PERF[: PERF.index("\nP90 Latency") + 1]
    assert parse_perf_test(until_p50).percentiles_ns == {"p50": pytest.approx(2.36e6)}
    with pytest.raises(BadMessage, match="no median"):
        latency_of(parse_perf_test(until_p50[:-cut]), 10**9)


def test_a_time_without_its_unit_is_none() -> None:
    with pytest.raises(BadMessage, match="no complete result"):
        parse_perf_test(PERF.replace("2.361 ms", "2.361"))


def test_a_run_that_began_after_a_complete_one_is_not_its() -> None:
    with pytest.raises(BadMessage, match="no complete result"):
        parse_perf_test(PERF + "Session creation time cost: 0.0099 s\n")


def test_a_profilers_lines_are_not_the_runs() -> None:
    text = recorded(
        "phone-benchmark-tflite/litert-readme-op-profiling/commands/benchmark_model.enable_op_profiling.old.txt"
    )
    found = parse_benchmark_model(text)
    # Below the run's own line it says "Memory (bytes): count=0".
    assert (found.count, found.mean_ns, found.std_ns) == (50, 79_760_900, 1_929_000)
    begin = NEW.index("INFO: Inference timings")
    mixed = f"{NEW[:begin]}Memory (bytes): count=0\n{NEW[begin:]}"
    assert parse_benchmark_model(mixed) == parse_benchmark_model(NEW)


@pytest.mark.parametrize(
    "printed",
    [
        Printed(100, 5e6, 6e6, 9e6, percentiles_ns={"p50": 5e6}),
        Printed(100, 5e6, 1e6, 4e6, percentiles_ns={"p50": 5e6}),
        Printed(100, 0.0, 0.0, 0.0, percentiles_ns={"p50": 0.0}),
    ],
)
def test_numbers_that_contradict_each_other_are_no_result(printed: Printed) -> None:
    with pytest.raises(BadMessage, match="cannot be"):
        latency_of(printed, 10**9)


def test_a_crash_is_named() -> None:
    text = recorded(
        "phone-benchmark-tflite/iree-3472/commands/benchmark_model.segfault-truncated.txt"
    )
    with pytest.raises(BadMessage, match="Segmentation fault"):
        parse_benchmark_model(text)


def test_the_first_generation_is_read() -> None:
    text = recorded("phone-benchmark-tflite/yuenshome-77/commands/benchmark_model.tf1.txt")
    first = text[: text.index("echo '[INFO]")]
    found = parse_benchmark_model(first)
    assert (found.count, found.mean_ns) == (15, pytest.approx(66_767_600))
    assert found.min_ns == 66_699_000
    assert found.init_ns == 9_933_000 and "p50" not in found.percentiles_ns
    # The recording's second run has no result line: the first one's is not its.
    with pytest.raises(BadMessage, match="no complete result"):
        parse_benchmark_model(text)


def test_a_logcat_line_alone_gives_what_it_says() -> None:
    text = recorded("phone-benchmark-tflite/litert-g3doc-logcat/commands/logcat-line.txt")
    found = parse_benchmark_model(text)
    assert (found.mean_ns, found.first_ns, found.count) == (14_575_200, 18_535_000, 0)


def test_perf_test_mixes_units_and_spacing() -> None:
    text = recorded("phone-benchmark-ort/acl-850/commands/onnxruntime_perf_test.1.3.1-acl.txt")
    first = parse_perf_test(text[: text.index("# onnx")])
    assert (first.count, first.mean_ns, first.init_ns) == (10, 144_871_000, 127_918_000)
    warned = recorded(
        "phone-benchmark-ort/onnxruntime-2798/commands/onnxruntime_perf_test.warning.txt"
    )
    found = parse_perf_test(warned)
    assert (found.count, found.mean_ns) == (1, 734_606_000)


def test_perf_test_percentiles_are_in_seconds() -> None:
    text = (
        "Session creation time cost: 0.0104 s\nTotal inference requests: 500\n"
        "Average inference time cost: 2.361 ms\nMin Latency: 0.0021 s\nMax Latency: 0.0093 s\n"
        "P50 Latency: 0.00236 s\nP90 Latency: 0.00241 s\nP95 Latency: 0.0025 s\n"
        "P99 Latency: 0.0061 s\nP999 Latency: 0.0093 s\n"
    )
    found = parse_perf_test(text)
    assert found.percentiles_ns["p50"] == pytest.approx(2.36e6)
    latency = latency_of(found, 10**9)
    assert latency.p90_ns == pytest.approx(2.41e6) and latency.fidelity is Fidelity.EXTERNAL_BINARY
    # 500 samples do not carry a p99 (662 do).
    assert latency.p99_ns is None


def test_benchncnn_gives_one_net() -> None:
    text = recorded("phone-sd8gen2/ncnn-benchmark-readme/commands/benchncnn.txt")
    with pytest.raises(BadMessage, match="give it one"):
        parse_benchncnn(text)
    assert parse_benchncnn(NCNN) == Printed(4, 8.47e6, 8.44e6, 8.51e6)
    with pytest.raises(BadMessage, match="no complete result"):
        parse_benchncnn("loop_count = 4\n     squeezenet  min =    8.44  max =   ")


@pytest.mark.parametrize("parse", [parse_benchmark_model, parse_perf_test, parse_benchncnn])
@pytest.mark.parametrize("text", ["", "\0\0", "sh: not found"])
def test_nothing_is_no_number(parse: object, text: str) -> None:
    with pytest.raises(BadMessage):
        parse(text)  # type: ignore[operator]


def test_a_mean_is_no_median() -> None:
    with pytest.raises(BadMessage, match="no median"):
        latency_of(Printed(100, 5e6, 4e6, 6e6), 10**9)
