"""The six dashboards on Prometheus. Every panel says what it shows; units are base units."""

from __future__ import annotations

from typing import Any

from dashboards.parts import (
    CELL,
    DEVICE,
    HALF,
    THIRD,
    TO_DEVICE,
    TO_REPORT,
    TO_VARIANT,
    WIDE,
    Query,
    bars,
    board,
    lines,
    number,
    rows,
    scatter,
    states,
)

_NAMES = "{{variant}} {{runtime}} {{device}}"
_DEVICE_VARIABLES = ("device_class", "device")
_CELL_VARIABLES = ("model", "device_class", "device", "runtime", "scenario")
_P50 = f"assay:latency_p50:seconds{{{CELL}}}"


def boards() -> dict[str, dict[str, Any]]:
    """Every dashboard by the name of its file."""
    return {
        "fleet": fleet(),
        "sweep": sweep(),
        "variants": variants(),
        "device": device(),
        "power": power(),
        "plane": plane(),
    }


def fleet() -> dict[str, Any]:
    """Who is there, and how they fare."""
    count = 'sum(assay_devices{{state=~"{}"}})'
    return board(
        "fleet",
        "Assay fleet",
        "Devices by state and class, their health, what they run and what waits for them.",
        _DEVICE_VARIABLES,
        [
            number(
                "Online",
                "Devices heard lately or in an announced quiet window.",
                "none",
                Query(count.format("online")),
            ),
            number(
                "Silent or lost",
                "Devices not heard for longer than they announced.",
                "none",
                Query(count.format("silent|lost")),
                bad_above=1,
            ),
            number(
                "Throttled",
                "Boards that hold themselves back now.",
                "none",
                Query(f"sum(assay_device_throttled{{{DEVICE}}})"),
                bad_above=1,
            ),
            number(
                "Sensors that do not work",
                "Sensor readers that report no success.",
                "none",
                Query(f"sum(1 - assay_sampler_success{{{DEVICE}}})"),
            ),
            lines(
                "Devices by state",
                "How many devices were in each state.",
                "none",
                [Query("sum by (state) (assay_devices)", "{{state}}")],
            ),
            bars(
                "Devices by class",
                "Enrolled devices of each class.",
                "none",
                [
                    Query(
                        f"count by (device_class) (assay_device_active{{{DEVICE}}})",
                        "{{device_class}}",
                    )
                ],
            ),
            lines(
                "Temperature",
                "The processor's, as of each Sync.",
                "celsius",
                [Query(f"assay_device_temperature_celsius{{{DEVICE}}}", "{{device}}")],
            ),
            lines(
                "Silence",
                "Beyond the last sign of life or the quiet window.",
                "s",
                [
                    Query(
                        f"assay:device_silence:seconds{{{DEVICE}}}",
                        "{{device}}",
                    )
                ],
            ),
            lines(
                "Spool",
                "Results measured and not yet acknowledged.",
                "none",
                [Query(f"assay_device_spool_entries{{{DEVICE}}}", "{{device}}")],
            ),
            lines(
                "Free disk",
                "Room on the disk of each agent.",
                "bytes",
                [Query(f"assay_device_disk_free_bytes{{{DEVICE}}}", "{{device}}")],
            ),
            states(
                "Measuring",
                "When each device settled, warmed up or measured.",
                Query(f"assay_device_measuring{{{DEVICE}}}", "{{device}}"),
            ),
            rows(
                "Devices",
                "What each device says of itself.",
                {
                    "known": (f"assay_device_info{{{DEVICE}}}", "none"),
                    "memory": (f"assay_device_memory_bytes{{{DEVICE}}}", "bytes"),
                    "certificate ends": (
                        f"1000 * assay_device_certificate_expiry_timestamp_seconds{{{DEVICE}}}",
                        "dateTimeAsIso",
                    ),
                },
                hidden=("known",),
                linked={"device": TO_DEVICE},
            ),
            rows(
                "Sensors",
                "1 works, 0 does not.",
                {"works": (f"assay_sampler_success{{{DEVICE}}}", "bool")},
                HALF,
                linked={"device": TO_DEVICE},
            ),
            rows(
                "Versions",
                "How many agents run each version.",
                {"agents": (f"count by (agent_version) (assay_device_info{{{DEVICE}}})", "none")},
                HALF,
            ),
        ],
    )


def sweep() -> dict[str, Any]:
    """How far the running work is, and what fails."""
    here = 'sweep=~"$sweep"'
    return board(
        "sweep",
        "Assay sweep",
        "Progress, queue, failures and time left of the running sweeps and the newest five.",
        ("sweep", *_DEVICE_VARIABLES),
        [
            bars(
                "Done",
                "Share of each sweep's runs that have a result.",
                "percentunit",
                [
                    Query(
                        f"assay:sweep_done:ratio{{{here}}}",
                        "{{sweep}}",
                    )
                ],
            ),
            bars(
                "Time left",
                "From the pace so far.",
                "s",
                [Query(f"assay_sweep_left_seconds{{{here}}}", "{{sweep}}")],
            ),
            lines(
                "Runs",
                "Done and waiting.",
                "none",
                [Query(f"assay_sweep_runs{{{here}}}", "{{sweep}} {{state}}")],
            ),
            lines(
                "Results by verdict",
                "Only VALID ones rank.",
                "none",
                [Query(f"assay_sweep_results{{{here}}}", "{{sweep}} {{verdict}}")],
            ),
            lines(
                "Share not VALID",
                "Of each sweep's results: a board or a bench that measures badly climbs here.",
                "percentunit",
                [Query(f"assay:results_not_valid:ratio{{{here}}}", "{{sweep}}")],
            ),
            lines(
                "Failures by class",
                "infra is tried again, model never, device cordons.",
                "none",
                [Query(f"assay_sweep_failures{{{here}}}", "{{sweep}} {{class}}")],
            ),
            lines(
                "Queue by device",
                "Rounds that wait and rounds that are leased.",
                "none",
                [Query(f"assay_device_rounds{{{DEVICE}}}", "{{device}} {{state}}")],
            ),
            lines(
                "Since the newest result",
                "A sweep that stands still climbs here.",
                "s",
                [Query(f"time() - assay_sweep_progress_timestamp_seconds{{{here}}}", "{{sweep}}")],
            ),
            lines(
                "Rounds",
                "Of running sweeps, by state.",
                "none",
                [Query("assay_rounds", "{{state}}")],
            ),
            rows(
                "Why results are not VALID",
                "Reason codes over all stored results; docs/reference/reasons.md explains each.",
                {"results": ("assay_result_reasons_total > 0", "none")},
                HALF,
            ),
            rows(
                "Sweeps",
                "Running ones and the newest five.",
                {
                    "running": (f"assay_sweep_running{{{here}}}", "bool"),
                    "submitted": (
                        f"1000 * assay_sweep_start_timestamp_seconds{{{here}}}",
                        "dateTimeAsIso",
                    ),
                },
                HALF,
                linked={"sweep": TO_REPORT},
            ),
        ],
    )


def variants() -> dict[str, Any]:
    """Which variant, on which device: what the report says, live."""
    return board(
        "variants",
        "Assay variant comparison",
        "Variants on devices: latency with its interval, memory, energy, accuracy, size, ratios "
        "to the baseline. Figures come from VALID results only, whatever the verdict variable "
        "says; it filters the counts.",
        (*_CELL_VARIABLES, "verdict"),
        [
            rows(
                "Variants and devices",
                "p50 with the range or 95 % interval over restarts.",
                {
                    "p50": (_P50, "s"),
                    "low": (f'assay_latency_range_low_seconds{{quantile="0.5",{CELL}}}', "s"),
                    "high": (f'assay_latency_range_high_seconds{{quantile="0.5",{CELL}}}', "s"),
                    "× baseline": (f"assay_latency_ratio{{{CELL}}}", "none"),
                    "accuracy": (f"assay_accuracy_ratio{{{CELL}}}", "percentunit"),
                    "peak memory": (
                        f'sum without (part) (assay_memory_bytes{{part="process_peak",{CELL}}})',
                        "bytes",
                    ),
                    "restarts": (f"assay_latency_restarts{{{CELL}}}", "none"),
                },
                hidden=("quantile",),
                linked={"device": TO_DEVICE, "variant": TO_VARIANT},
            ),
            scatter(
                "Accuracy against latency",
                "Up and to the left is better. A point is a cell "
                "with VALID results; the report draws the noise around it.",
                (_P50, "p50", "s"),
                (f"assay_accuracy_ratio{{{CELL}}}", "accuracy", "percentunit"),
            ),
            bars(
                "Latency, × baseline",
                "p50 over the baseline's on the same device.",
                "none",
                [Query(f"sort(assay_latency_ratio{{{CELL}}})", _NAMES)],
            ),
            bars("p50", "Median latency of the middle run.", "s", [Query(f"sort({_P50})", _NAMES)]),
            bars(
                "p99",
                "Tail latency of the middle run.",
                "s",
                [Query(f'sort(assay_latency_seconds{{quantile="0.99",{CELL}}})', _NAMES)],
            ),
            bars(
                "Peak memory",
                "Of the worker process.",
                "bytes",
                [Query(f'sort(assay_memory_bytes{{part="process_peak",{CELL}}})', _NAMES)],
            ),
            bars(
                "Accuracy",
                "Top-1, on the device, with the same artifact.",
                "percentunit",
                [Query(f"sort_desc(assay_accuracy_ratio{{{CELL}}})", _NAMES)],
            ),
            bars(
                "File size",
                "Of the model file that was measured.",
                "bytes",
                [
                    Query(
                        'sort(assay_artifact_size_bytes{model=~"$model",runtime=~"$runtime"})',
                        "{{variant}} {{runtime}}",
                    )
                ],
            ),
            bars(
                "Size, × fp32 of the same runtime",
                "Needs a variant named fp32.",
                "none",
                [
                    Query(
                        'assay_artifact_size_bytes{model=~"$model",runtime=~"$runtime"} / '
                        "on (model, runtime) group_left () max by (model, runtime) "
                        '(assay_artifact_size_bytes{variant="fp32"})',
                        "{{variant}} {{runtime}}",
                    )
                ],
            ),
            rows(
                "What the paired rounds say",
                "Candidate over baseline, Hodges-Lehmann, with the "
                "bounds of the decision. Only a confirmed one has a winner.",
                {
                    "ratio": (f"assay_comparison_ratio{{{CELL}}}", "none"),
                    "low": (f"assay_comparison_low_ratio{{{CELL}}}", "none"),
                    "high": (f"assay_comparison_high_ratio{{{CELL}}}", "none"),
                    "said": (f"assay_comparison_finding{{{CELL}}}", "none"),
                },
                hidden=("said",),
                linked={"device": TO_DEVICE},
            ),
            rows(
                "Results by verdict",
                "Counts of the newest sweep of each cell.",
                {"results": (f'assay_cell_results{{verdict=~"$verdict",{CELL}}}', "none")},
            ),
            bars(
                "Multiply-accumulates",
                "Multiply-accumulates of one inference.",
                "none",
                [Query('sort(assay_macs{model=~"$model"})', "{{variant}}")],
            ),
        ],
    )


def device() -> dict[str, Any]:
    """One board: its clocks, temperature and power beside the latency it gave."""
    return board(
        "device",
        "Assay device drill-down",
        "A run's clocks, temperature and power beside its latency; burst beside sustained.",
        _CELL_VARIABLES,
        [
            lines("Latency", "p50 of the newest VALID results.", "s", [Query(_P50, _NAMES)]),
            lines(
                "Canary",
                "A fixed small model: its movement is the device's own.",
                "s",
                [
                    Query(
                        f'assay_canary_latency_seconds{{quantile="0.5",{DEVICE}}}',
                        "{{device}} {{runtime}}",
                    )
                ],
            ),
            lines(
                "Canary's movement",
                "Its p50 over its own average of a day: away from 1 the device has changed, "
                "not the variants.",
                "none",
                [
                    Query(
                        f"assay:canary_movement:ratio{{{DEVICE}}}",
                        "{{device}} {{runtime}}",
                    )
                ],
            ),
            lines(
                "Clock in the run",
                "Median clock of the measuring cores.",
                "hertz",
                [Query(f"assay_run_clock_hertz{{{CELL}}}", _NAMES)],
            ),
            lines(
                "Temperature in the run",
                "Highest of the newest VALID run.",
                "celsius",
                [Query(f"assay_run_temperature_celsius{{{CELL}}}", _NAMES)],
            ),
            lines(
                "Temperature now",
                "As of each Sync.",
                "celsius",
                [Query(f"assay_device_temperature_celsius{{{DEVICE}}}", "{{device}}")],
            ),
            states(
                "Held back",
                "Under-voltage or heat, as the board reports it.",
                Query(f"assay_device_throttled{{{DEVICE}}}", "{{device}}"),
                HALF,
            ),
            lines(
                "Burst and sustained",
                "p50 by scenario: sustained load shows what heat costs.",
                "s",
                [Query(f"avg by (variant, scenario) ({_P50})", "{{variant}} {{scenario}}")],
            ),
            lines(
                "Tail",
                "p99 over p50 of the same run.",
                "none",
                [
                    Query(
                        f"assay:latency_tail:ratio{{{CELL}}}",
                        _NAMES,
                    )
                ],
            ),
            lines(
                "Spread over restarts",
                "Width of the range or interval over p50.",
                "percentunit",
                [
                    Query(
                        f"assay:latency_spread:ratio{{{CELL}}}",
                        _NAMES,
                    )
                ],
            ),
            lines(
                "Memory available",
                "What a new process could get.",
                "bytes",
                [Query(f"assay_device_memory_available_bytes{{{DEVICE}}}", "{{device}}")],
            ),
            bars(
                "Memory by part",
                "Runtime, model and inference of each cell.",
                "bytes",
                [Query(f"assay_memory_bytes{{{CELL}}}", "{{variant}} {{part}}")],
            ),
            bars(
                "Cold start",
                "Session creation, then the first inference.",
                "s",
                [
                    Query(f"assay_model_load_seconds{{{CELL}}}", "{{variant}} load"),
                    Query(f"assay_first_inference_seconds{{{CELL}}}", "{{variant}} first"),
                ],
            ),
        ],
    )


def power() -> dict[str, Any]:
    """Rails, energy of an inference with its uncertainty, and how it was known."""
    energy = f"assay_energy_joules{{{CELL}}}"
    return board(
        "power",
        "Assay power",
        "Energy of one inference with its uncertainty, idle and active power, and the tier of "
        "every reading. Boards without a sensor are absent here, never zero.",
        _CELL_VARIABLES,
        [
            bars(
                "Energy of an inference",
                "Idle included.",
                "joule",
                [Query(f"sort({energy})", _NAMES)],
            ),
            bars(
                "Two standard uncertainties",
                "Of the energy of an inference.",
                "joule",
                [Query(f"assay_energy_uncertainty_joules{{{CELL}}}", _NAMES)],
            ),
            lines(
                "Power by rail",
                "Idle before the run and mean while it ran.",
                "watt",
                [
                    Query(
                        f"assay_run_power_watts{{{CELL}}}",
                        "{{device}} {{scope}} {{variant}} {{state}}",
                    )
                ],
                WIDE,
            ),
            bars(
                "Inferences per joule",
                "More is better.",
                "none",
                [Query(f"sort_desc(1 / {energy})", _NAMES)],
            ),
            bars(
                "Relative uncertainty",
                "Above a fifth, differences are hard to tell.",
                "percentunit",
                [Query(f"assay_energy_uncertainty_joules{{{CELL}}} / {energy}", _NAMES)],
            ),
            scatter(
                "Energy against latency",
                "Down and to the left is better.",
                (_P50, "p50", "s"),
                (f"sum without (tier, scope) ({energy})", "energy", "joule"),
            ),
            rows(
                "Tiers",
                "How many cells each source of readings covers.",
                {"cells": (f"count by (tier, scope) ({energy})", "none")},
                HALF,
            ),
        ],
    )


def plane() -> dict[str, Any]:
    """The controller itself."""
    return board(
        "plane",
        "Assay plane",
        "Sync, leases, commits and the page itself: is the controller well?",
        _DEVICE_VARIABLES,
        [
            number(
                "Controller answers",
                "1 where Prometheus can scrape it.",
                "bool",
                Query('min(up{job="assay"})'),
            ),
            number(
                "Page is fresh",
                "0 where the store could not be read.",
                "bool",
                Query("min(assay_exporter_render_success)"),
            ),
            number(
                "Age of the page",
                "It is rendered when something changes.",
                "s",
                Query("time() - max(assay_exporter_render_timestamp_seconds)"),
            ),
            number(
                "Series left out",
                "Over the budget the device label goes first.",
                "none",
                Query("sum(assay_series_dropped)"),
                bad_above=1,
            ),
            lines(
                "CPU of the newest rendering",
                "At the full budget it stays below a second.",
                "s",
                [Query("assay_exporter_render_cpu_seconds", "{{instance}}")],
            ),
            lines(
                "Results committed",
                "A minute, by verdict.",
                "none",
                [
                    Query(
                        "60 * sum by (verdict) (rate(assay_results_total[$__rate_interval]))",
                        "{{verdict}}",
                    )
                ],
            ),
            lines(
                "Since each device's last Sync",
                "Long polls make up to half a minute normal.",
                "s",
                [
                    Query(
                        f"time() - assay_device_last_seen_timestamp_seconds{{{DEVICE}}}",
                        "{{device}}",
                    )
                ],
            ),
            lines(
                "Leases",
                "Rounds granted and not yet returned.",
                "none",
                [
                    Query('sum(assay_device_rounds{state="leased"})', "leased"),
                    Query('sum(assay_device_rounds{state="queued"})', "queued"),
                ],
            ),
            lines(
                "Rows in the store",
                "How many rows each table of the store has.",
                "none",
                [Query("assay_store_rows", "{{table}}")],
            ),
            lines(
                "Scrape",
                "How long a scrape takes.",
                "s",
                [Query('scrape_duration_seconds{job="assay"}', "{{instance}}")],
                THIRD,
            ),
            lines(
                "Samples",
                "How many samples one scrape brings.",
                "none",
                [Query('scrape_samples_scraped{job="assay"}', "{{instance}}")],
                THIRD,
            ),
            rows(
                "Build",
                "Version of the controller.",
                {"build": ("assay_build_info", "none")},
                THIRD,
                hidden=("build",),
            ),
            lines(
                "Certificates",
                "How long each certificate is still good.",
                "s",
                [
                    Query(
                        f"assay:certificate_left:seconds{{{DEVICE}}}",
                        "{{device}}",
                    )
                ],
                WIDE,
            ),
        ],
    )
