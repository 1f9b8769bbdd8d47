"""What each reason code means and what would cure it, in one table for every place that shows one.

The codes are those of docs/measurement.md and of :data:`assay.core.errors.TABLE` (a run that
failed); the last group is what a comparison may be inconclusive for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """``meaning`` completes “because …”; ``cure`` is what to do, as an imperative."""

    meaning: str
    cure: str


_QUIET = "stop other work on the board, or give the agent cores of its own (isolcpus, cpusets)"
_COOL = "cool the board or raise the settle time, and measure again"
_LONGER = "use a longer profile"
_LOOK = "look at the run's log on the device (`assay-agent doctor`), then measure again"

REASONS: dict[str, Reason] = {
    # hard: the number does not hold
    "throttled": Reason("the board throttled during the run", _COOL),
    "freq_moved": Reason(
        "the clock moved during the run",
        "lock the clock (governor `performance`) and cool the board",
    ),
    "cpu_contended": Reason("other work took the measured cores", _QUIET),
    "not_steady": Reason(
        "the latency had not settled after warm-up", f"{_LONGER}; if it persists, {_QUIET}"
    ),
    "output_mismatch": Reason(
        "the outputs differ from the reference run of the same file",
        "check the runtime's version and provider on this device; the model is wrong there",
    ),
    "clock_jump": Reason("the board's clock jumped", "let time synchronisation settle first"),
    "low_n": Reason("there were too few samples", _LONGER),
    "swap_or_major_faults": Reason(
        "the board swapped or read pages from disk", "free memory on the board, turn swap off"
    ),
    "emulated": Reason(
        "the run's processor was emulated: outputs count, times do not",
        "measure on a board with such a processor",
    ),
    "worker_crashed": Reason("the worker process crashed", _LOOK),
    "worker_oom": Reason(
        "the board ran out of memory", "use a smaller variant or batch, or a board with more memory"
    ),
    "model_hash_mismatch": Reason(
        "the file on the device was not the one asked for", "check the board's storage"
    ),
    # soft: shown, not ranked
    "drift": Reason("the latency drifted within the run", _COOL),
    "outliers": Reason("too many samples lay far from the median", _QUIET),
    "overhead_bound": Reason(
        "the harness itself is a large part of so short an inference",
        "measure larger batches, or a runtime path with less overhead",
    ),
    "throttle_history_dirty": Reason(
        "the board had throttled since it started", "reboot it with a better supply or cooling"
    ),
    "usb_powered": Reason("the board was powered over USB", "use its own power supply"),
    "power_uncalibrated": Reason("the power sensor's gain is unknown", "calibrate the sensor"),
    "energy_aliased": Reason(
        "the power sensor is too slow for this load", "use a faster sensor or a longer load"
    ),
    "energy_inconclusive": Reason("the energy's uncertainty exceeds 20 %", _LONGER),
    "baseline_drift": Reason("idle power moved between before and after", _COOL),
    "hot_start": Reason("the board was still hot at the start", _COOL),
    "low_voltage": Reason(
        "the board's supply sagged", "use the 27 W supply and a short, thick cable"
    ),
    "battery_low": Reason("the battery was low", "charge it"),
    "isolation_none": Reason(
        "the run could not be pinned to cores of its own",
        "let the agent pin (a board with two or more cores, CAP_SYS_NICE)",
    ),
    "fallback_ops": Reason(
        "some operators fell back to another provider", "use a variant the provider supports whole"
    ),
    "background_load": Reason("other processes were busy", _QUIET),
    "steal": Reason(
        "the hypervisor took CPU time away", "use hardware of your own, or a dedicated instance"
    ),
    "scraped": Reason("the agent was scraped during a timed block", "scrape less often"),
    "outputs_nonfinite": Reason(
        "the model itself gives NaN or infinity for these inputs",
        "give it inputs in the range it was made for",
    ),
    "outputs_unchecked": Reason(
        "the outputs could not be checked", "use a runtime that can return them"
    ),
    "synthetic_input": Reason(
        "the inputs were made up from the model's declared shapes",
        "measure with real samples (`assay dataset add`)",
    ),
    # failures: no number at all
    "runtime_absent": Reason(
        "the device has no such runtime", "install it there (`assay-agent doctor` says how)"
    ),
    "runtime_rejected": Reason(
        "the runtime refused the model",
        "export the variant with operators and an opset this runtime knows",
    ),
    "bad_inputs": Reason("the dataset does not fit the model", "choose a dataset of its shape"),
    "usage": Reason("the run asked for what cannot be", "correct the sweep file"),
    "bad_spec": Reason(
        "the run's preprocessing could not be read", "add the dataset again with this version"
    ),
    "worker_timeout": Reason("the run outlived its time box", "use a shorter profile or less load"),
    "fetch_timeout": Reason(
        "the run's files were not here in time",
        "look at the line, or raise `fetch_s` or lower `fetch_bytes_per_s` in [limits]",
    ),
    "start_timeout": Reason(
        "no worker began in time", "look at the board's load, or raise `start_s` in [limits]"
    ),
    "corrupt_artifact": Reason("the file arrived damaged", "check network and storage, then retry"),
    "unsigned_artifact": Reason(
        "the device trusts no publisher that signed its files",
        "sign them (`assay publish sign`), or trust the key there",
    ),
    "signatures_unchecked": Reason(
        "the device could not check its files' signatures", "look for want of memory in its log"
    ),
    "over_budget": Reason(
        "the files are more than a day of the device's line may carry", "raise its daily_bytes"
    ),
    "disk_full": Reason("the device's disk was full", "free space there"),
    "sampler_error": Reason("a sensor stopped answering", "check the sensor"),
    "lease_lost": Reason("the device lost its lease", "check its connection, then retry"),
    "not_found": Reason("a file was missing", "build the variant again"),
    "internal": Reason("Assay itself failed", _LOOK),
    # comparisons
    "too_few_rounds": Reason("there are too few rounds", "measure at least 10 rounds"),
    "wide_interval": Reason(
        "the interval is too wide", "isolate the board better; failing that, measure more rounds"
    ),
    "asymmetric_validity": Reason(
        "one side's rounds were not VALID more often than the other's", _QUIET
    ),
    "device_drift": Reason("the canary moved: the device itself changed", _COOL),
    "environment_differs": Reason(
        "the two were measured under different conditions", "measure both under the same"
    ),
}

_UNKNOWN = Reason("", _LOOK)


def reason(code: str) -> Reason:
    """What ``code`` means; a code of a newer agent is repeated as it is."""
    return REASONS.get(code) or Reason(code.replace("_", " "), _UNKNOWN.cure)
