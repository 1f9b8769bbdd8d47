"""No reason code without a test that provokes it."""

from __future__ import annotations

import ast
from functools import cache

from assay.agent.measuring.reasons import CATALOGUE
from tests.conftest import REPOSITORY

GUARD = "unit/test_guard.py", "test_a_code_is_provoked_alone"
BLAME = "integration/test_measure.py", "test_who_is_to_blame_is_told_and_never_raised"
WORKER = "integration/test_measure.py", "test_how_a_worker_ends_is_the_reason"
ENERGY = "unit/test_run_energy.py", "test_a_doubt_about_energy_reaches_the_verdict"
PROVOKED_BY = {
    "emulated": ("unit/test_emulation.py", "test_an_emulated_devices_numbers_do_not_hold"),
    "worker_crashed": WORKER,
    "worker_oom": WORKER,
    "worker_timeout": WORKER,
    "fetch_timeout": (
        "unit/test_jobs.py",
        "test_files_that_do_not_come_in_time_fail_their_runs_alone",
    ),
    "start_timeout": (
        "unit/test_jobs.py",
        "test_a_worker_that_does_not_begin_fails_its_run_alone",
    ),
    "internal": ("unit/test_jobs.py", "test_the_window_ends_where_a_run_dies"),
    "model_hash_mismatch": (
        "integration/test_measure.py",
        "test_another_file_than_asked_for_is_not_measured",
    ),
    "unsigned_artifact": (
        "integration/test_signatures.py",
        "test_what_its_publisher_signed_is_run_and_nothing_else_is",
    ),
    "signatures_unchecked": (
        "unit/test_signatures.py",
        "test_a_check_that_never_runs_is_trouble_of_the_device_and_not_of_the_file",
    ),
    "runtime_absent": BLAME,
    "runtime_rejected": BLAME,
    "bad_inputs": BLAME,
    "usage": BLAME,
    "bad_spec": BLAME,
    "scraped": ("unit/test_jobs.py", "test_a_scrape_inside_a_block_makes_the_result_suspect"),
    "usb_powered": (
        "unit/test_phone_conditions.py",
        "test_heat_makes_a_run_invalid_and_a_cable_suspect",
    ),
    "power_uncalibrated": ENERGY,
    "energy_aliased": ENERGY,
    "energy_inconclusive": ENERGY,
    "baseline_drift": ENERGY,
}


@cache
def source(name: str) -> str:
    return (REPOSITORY / "tests" / name).read_text()


@cache
def names_in(name: str) -> frozenset[str]:
    tree = ast.parse(source(name))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_code_has_a_test_that_provokes_it() -> None:
    provoked = {one.code: GUARD for one in CATALOGUE if one.seen_by == "guard"} | PROVOKED_BY
    assert provoked.keys() == {one.code for one in CATALOGUE}
    for code, (file, test) in provoked.items():
        assert test in names_in(file), f"{file} has no {test}"
        assert f'"{code}"' in source(file), f"{file} does not name {code}"
