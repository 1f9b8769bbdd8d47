"""Tethered phones through a real adbd: files, exit codes, breaks of the link, full storage."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from assay.agent.config import AgentConfig
from assay.agent.measuring.observe import RunPaths
from assay.agent.phones import rails
from assay.agent.phones.adb import AdbServer, Phone, Said
from assay.agent.phones.budget import DailyBudget
from assay.agent.phones.facts import read_handset
from assay.agent.phones.invoke import FIXED, HEAT, OUTPUT, STATUS, UNPINNED, detached
from assay.agent.phones.listing import parse_devices, usable
from assay.agent.phones.measure import Bench as Measuring
from assay.agent.phones.measure import measure_on_phone
from assay.agent.phones.present import binaries_as_runtimes, phone_config
from assay.agent.phones.store import ROOT, PhoneFiles
from assay.core import digest
from assay.core.errors import Cancelled, DiskFull, Unreachable
from assay.core.model import Absent, Fidelity, RunSpec, RuntimeSpec, VerdictKind
from tests.conftest import need
from tests.system.hosts import processes
from tests.system.tethered import BENCHMARK, PORT, PROGRAMS, Bench, Tethered
from tests.tinymodels import run_of, save_samples

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    need(root=True)
    for program in PROGRAMS:
        need(program=program)
    made = Bench(tmp_path_factory.mktemp("phones"))
    try:
        made.phone("A1", 21)
        made.phone("B2", 22, data_bytes=4 << 20)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def server(bench: Bench) -> AdbServer:
    found = AdbServer(PORT, str(bench.adb))
    found.start()
    return found


def connected(bench: Bench, server: AdbServer, index: int = 0) -> Phone:
    one: Tethered = bench.phones[index]
    bench.lan.plug(one.number, connected=True)
    server.reconnect(one.address)
    return Phone(server, one.address)


def file_of(path: Path, size: int, seed: int = 0) -> Path:
    path.write_bytes(bytes((i * 7 + seed) % 251 for i in range(1024)) * (size // 1024))
    return path


def benchmark(folder: Path, seconds: int = 1, busy: str = "", fill: str = "") -> Path:
    path = folder / "benchmark_model"
    text = BENCHMARK.replace("${ASSAY_TEST_SECONDS:-1}", str(seconds))
    if busy:
        text = text.replace("sleep", f"touch {busy}; sleep") + f"rm {busy}\n"
    if fill:
        text = text.replace("sleep", f"cat /dev/zero > {fill} 2>/dev/null; sleep")
    path.write_text(text)
    return path


def the_run(folder: Path) -> tuple[RunSpec, RunPaths]:
    model = file_of(folder / "model.tflite", 8192)
    inputs = save_samples(folder / "inputs.npz")
    run = run_of(model, inputs, runtime=RuntimeSpec("litert"), media_type="model/tflite")
    return run, RunPaths(model, inputs, None)


def measured(
    phone: Phone,
    folder: Path,
    seconds: int,
    cancel: threading.Event | None = None,
    on: object = None,
    busy: str = "",
    fill: str = "",
) -> object:
    binaries = {"litert": benchmark(folder, seconds, busy, fill)}
    device = read_handset(phone, folder / "mirror", binaries_as_runtimes(binaries)).facts
    run, paths = the_run(folder)
    heard = on if callable(on) else (lambda _: None)
    return measure_on_phone(
        Measuring(phone, PhoneFiles(phone), binaries, on_usb=bool(busy)),
        run, paths, device, "phone-a", folder, heard, cancel or threading.Event(),
    )  # fmt: skip


def test_two_phones_are_listed_and_are_two(bench: Bench, server: AdbServer, tmp_path: Path) -> None:
    phones = [connected(bench, server, i) for i in (0, 1)]
    rows = usable(parse_devices(server.devices()))
    assert {row.serial for row in rows} == {phone.serial for phone in phones}
    assert not any(row.on_usb for row in rows)
    sets = [read_handset(p, tmp_path / p.serial) for p in phones]
    assert [one.serial_number for one in sets] == ["A1", "B2"]
    for one in sets:
        assert one.facts.device_class == "android" and one.abis[0] == "arm64-v8a"
        assert "tethered" in one.facts.capabilities and one.facts.cpu.clusters
        assert one.facts.os == "Android 14" and "EX9000" in one.facts.board
        assert one.facts.memory_total_bytes > 0


def test_the_serial_number_stays_off_the_mirror(
    bench: Bench, server: AdbServer, tmp_path: Path
) -> None:
    read_handset(connected(bench, server), tmp_path)
    assert "serialno" not in (tmp_path / "commands/getprop.txt").read_text()


def test_exit_codes_and_output_come_through(bench: Bench, server: AdbServer) -> None:
    phone = connected(bench, server)
    said = phone.shell("echo out; echo err >&2; exit 7")
    assert (said.status, said.text.split()) == (7, ["out", "err"])
    assert phone.run(["echo", "a  b", "$HOME;"]).text == "a  b $HOME;\n"


def test_only_what_is_missing_is_sent(bench: Bench, server: AdbServer, tmp_path: Path) -> None:
    phone = connected(bench, server)
    files = PhoneFiles(phone)
    local = file_of(tmp_path / "m.bin", 300 << 10)
    remote = files.put(local)
    assert files.sent_bytes == 300 << 10
    assert files.put(local) == remote and files.sent_bytes == 300 << 10
    phone.shell(f"echo x >> {remote}")
    files.put(local)
    assert files.sent_bytes == 600 << 10
    phone.pull(remote, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == local.read_bytes()


def test_a_days_budget_is_kept(bench: Bench, server: AdbServer, tmp_path: Path) -> None:
    phone = connected(bench, server)
    for seed in (1, 2):
        budget = DailyBudget(tmp_path / "sent.json", limit_bytes=100 << 10)
        local = file_of(tmp_path / f"{seed}", 90 << 10, seed=seed)
        if seed == 1:
            PhoneFiles(phone, budget).put(local)
            assert budget.spent_bytes() == 90 << 10
            continue
        with pytest.raises(DiskFull, match="left of the day's"):
            PhoneFiles(phone, budget).put(local)
        assert budget.spent_bytes() == 90 << 10


class Watched(Phone):
    """Notes where each transfer began, and whether one was cut off."""

    offsets: ClassVar[list[int]] = []
    cut_off: ClassVar[threading.Event] = threading.Event()

    def feed(self, script: str, source: Path, offset: int, *args: Any, **more: Any) -> Said:
        self.offsets.append(offset)
        try:
            return super().feed(script, source, offset, *args, **more)
        except Unreachable:
            self.cut_off.set()
            raise


def sent_over_breaks(
    bench: Bench,
    phone: Phone,
    files: PhoneFiles,
    local: Path,
    breaks: Sequence[Callable[[], object]],
) -> list[int]:
    """Sends a file over a slow link and breaks it each time another megabyte has arrived; returns
    where it went on."""
    Watched.offsets.clear()
    Watched.cut_off.clear()
    files.phone = Watched(phone.server, phone.serial)
    slow = "tc qdisc add dev lan0 root tbf rate 40mbit burst 64kb latency 50ms"
    subprocess.run(bench.lan.outside.command(slow.split()), check=True)
    try:
        with ThreadPoolExecutor(1) as pool:
            put = pool.submit(files.put, local)
            for number, fail in enumerate(breaks, start=1):
                processes.eventually(lambda n=number: arrived(phone) > n << 20, "some of it")
                fail()
            remote = put.result()
    finally:
        end = ["tc", "qdisc", "del", "dev", "lan0", "root"]
        subprocess.run(bench.lan.outside.command(end), check=True)
    assert phone.run(["sha256sum", remote]).text.split()[0] == Path(remote).name
    phone.run(["rm", remote])
    return Watched.offsets


def arrived(phone: Phone) -> int:
    """Bytes of partial files; 0 where nobody answers."""
    try:
        return int(phone.shell(f"cat {ROOT}/*.part 2>/dev/null | wc -c", timeout_s=2).text)
    except Unreachable:
        return 0


def test_a_transfer_goes_on_over_a_link_that_flaps(
    bench: Bench, server: AdbServer, tmp_path: Path
) -> None:
    phone = connected(bench, server)
    files = PhoneFiles(phone, DailyBudget(tmp_path / "sent.json"))
    local = file_of(tmp_path / "flapping", 24 << 20, seed=7)
    drop = partial(server.try_call, "disconnect", phone.serial)
    begun = sent_over_breaks(bench, phone, files, local, [drop, drop, drop])
    assert begun == sorted(begun) and begun[0] == 0 and begun[1] > 1 << 20
    # What was on the way at a break is sent twice, and counted twice.
    assert files.sent_bytes >= 24 << 20
    assert files.budget is not None and files.budget.spent_bytes() == files.sent_bytes


def test_a_transfer_goes_on_after_the_cable_was_out(
    bench: Bench, server: AdbServer, tmp_path: Path
) -> None:
    phone = connected(bench, replace(server, stall_s=1.0))
    number = bench.phones[0].number

    def unplug() -> None:
        bench.lan.plug(number, connected=False)
        assert Watched.cut_off.wait(60)
        bench.lan.plug(number, connected=True)

    files = PhoneFiles(phone)
    local = file_of(tmp_path / "cable", 24 << 20, seed=9)
    begun = sent_over_breaks(bench, phone, files, local, [unplug])
    assert len(begun) == 2 and begun[1] > 1 << 20, begun


def test_a_partial_file_of_another_host_is_gone_on_with_or_found_wrong(
    bench: Bench, server: AdbServer, tmp_path: Path
) -> None:
    phone = connected(bench, server)
    local = file_of(tmp_path / "half", 300 << 10, seed=11)
    name = digest.of_file(local).removeprefix("sha256:")
    for held, sent in ((local.read_bytes()[: 200 << 10], 100 << 10), (bytes(1 << 10), 599 << 10)):
        (tmp_path / "part").write_bytes(held)
        PhoneFiles(phone).put(tmp_path / "part")
        phone.shell(f"cd {ROOT}; mv {digest.of_bytes(held)[7:]} {name}.part; rm -f {name}")
        files = PhoneFiles(phone)
        files.put(local)
        assert files.sent_bytes == sent


def test_full_storage_is_named_and_leaves_no_half_file(
    bench: Bench, server: AdbServer, tmp_path: Path
) -> None:
    phone = connected(bench, server, 1)
    with pytest.raises(DiskFull, match="no room"):
        PhoneFiles(phone).put(file_of(tmp_path / "big", 8 << 20))
    assert phone.shell(f"ls {ROOT} | wc -l").text.strip() == "0"


def test_storage_that_fills_while_the_binary_runs_is_named(
    bench: Bench, server: AdbServer, tmp_path: Path
) -> None:
    phone = connected(bench, server, 1)
    try:
        found = measured(phone, tmp_path, 1, fill="/data/fill")
    finally:
        phone.shell("rm -f /data/fill")
    assert found.failure is not None and found.failure.code == "disk_full"
    assert "no room for what the binary prints" in found.failure.message and not found.latency


def modes(bench: Bench, index: int = 0) -> list[str]:
    """What the phone's power service was told, in order."""
    log = bench.phones[index].root / "cmd.log"
    return [line.split()[-1] for line in log.read_text().splitlines()]


def test_a_run_gives_the_binarys_numbers(bench: Bench, server: AdbServer, tmp_path: Path) -> None:
    found = measured(connected(bench, server), tmp_path, 1)
    assert found.failure is None, found.failure
    assert found.latency.fidelity is Fidelity.EXTERNAL_BINARY and found.latency.n == 150
    assert found.latency.p50_ns == 14_570_000 and found.cold.load_ns == 5_685_000
    assert found.verdict.kind is VerdictKind.SUSPECT
    assert [reason.code for reason in found.verdict.reasons] == ["outputs_unchecked"]
    assert (
        isinstance(found.energy, Absent)
        and "median=14570" in found.conditions.notes["binary_output"]
    )
    assert found.environment["fidelity"] == found.factors["fidelity"] == "external_binary"
    assert found.environment["power_mode"] == "fixed_performance"
    assert modes(bench)[-2:] == ["true", "false"]
    notes = found.conditions.notes
    assert (notes["screen"], notes["airplane"]) == ("Asleep", "true")
    assert notes["thermal_status"] == "0 to 0"
    assert found.environment["isolation"] == "pinned" and found.conditions.measure_cpus == (0,)


def test_a_phone_that_was_hot_only_while_the_binary_ran_is_throttled(
    bench: Bench, server: AdbServer, tmp_path: Path
) -> None:
    phone = connected(bench, server)
    hot = bench.phones[0].root / "busy"
    dumpsys = bench.phones[0].root / "usr/bin/dumpsys"
    usual = dumpsys.read_text()
    # Hot where nobody but the run's own script looks: once after the binary.
    script = '[ "$1 $(ls /busy 2>&1)" = "thermalservice /busy" ] && rm /busy && S=2\n'
    dumpsys.write_text(
        usual.replace("case", f"S=0\n{script}case", 1).replace("Status: 0", "Status: $S")
    )
    try:
        found = measured(phone, tmp_path, 1, on=lambda s: s == "measuring" and hot.touch())
    finally:
        dumpsys.write_text(usual)
    assert found.failure is None and found.conditions.notes["thermal_status"] == "0 to 0"
    assert "throttled" in {reason.code for reason in found.verdict.reasons}


def test_two_phones_are_measured_at_once(bench: Bench, server: AdbServer, tmp_path: Path) -> None:
    phones = [connected(bench, server, index) for index in (0, 1)]
    folders = [tmp_path / str(index) for index in (0, 1)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(measured, phones, folders, (2, 2)))
    for one, folder in zip(found, folders, strict=True):
        assert one.failure is None and one.latency.n == 150, one.failure
        # Each ran its own model, which its own phone holds.
        name = digest.of_file(folder / "model.tflite").removeprefix("sha256:")
        assert name in one.conditions.notes["binary_output"]


def test_rails_that_adb_may_read_give_joules_also_on_a_cable(
    bench: Bench, server: AdbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rails, "IDLE_S", 2)
    phone = connected(bench, server)
    file = bench.phones[0].root / "sys/bus/iio/devices/iio:device0/energy_value"
    file.parent.mkdir(parents=True)
    done = threading.Event()

    def count() -> None:
        """Half a watt, and one and a half more while the binary runs."""
        joules, last = 0.0, time.monotonic()
        while not done.is_set():
            now = time.monotonic()
            joules += (2.0 if (bench.phones[0].root / "busy").exists() else 0.5) * (now - last)
            last = now
            new = file.with_name("new")
            new.write_text(f"t={now * 1e3:.0f}\nCH0(T={now * 1e3:.0f})[CPU], {joules * 1e6:.0f}\n")
            new.rename(file)
            done.wait(0.05)

    counting = threading.Thread(target=count)
    counting.start()
    try:
        processes.eventually(file.exists, "the monitor counts")
        found = measured(phone, tmp_path, 3, busy="/busy")
    finally:
        done.set()
        counting.join()
        shutil.rmtree(file.parent)
    assert found.failure is None, found.failure
    assert not isinstance(found.energy, Absent), found.energy
    assert found.energy.source == "odpm.rails" and found.energy.scope == "rail_sum"
    assert found.energy.idle_w < found.energy.active_w
    assert found.energy.total_j == pytest.approx(found.energy.active_w * 14.5752e-3, rel=0.02)
    assert "power_uncalibrated" in {reason.code for reason in found.verdict.reasons}


def test_a_mask_the_phone_does_not_take_is_told_and_not_fatal(
    bench: Bench, server: AdbServer
) -> None:
    phone = connected(bench, server)
    folder = PhoneFiles(phone).folder()
    phone.shell(detached(["echo", "ran"], 2, folder, 1 << 60))
    status = f"{folder}/{STATUS}"
    processes.eventually(lambda: phone.run(["cat", status]).status == 0, "the run ends")
    output = phone.run(["cat", f"{folder}/{OUTPUT}"]).text.split()
    assert output == [FIXED, UNPINNED, "@@run", "ran", "@@run", "ran"]
    assert phone.run(["cat", f"{folder}/{HEAT}"]).text.count("Thermal Status: 0") == 2


def test_a_call_has_its_own_deadline_when_the_cable_is_out(bench: Bench, server: AdbServer) -> None:
    phone = connected(bench, server)
    bench.lan.plug(bench.phones[0].number, connected=False)
    begin = time.monotonic()
    with pytest.raises(Unreachable, match="no answer within"):
        phone.shell("echo hello", timeout_s=1.5)
    assert time.monotonic() - begin < 6
    assert connected(bench, server).shell("echo hello").text == "hello\n"


def test_a_run_survives_an_unplugged_cable(bench: Bench, server: AdbServer, tmp_path: Path) -> None:
    phone = connected(bench, server)
    number = bench.phones[0].number

    def unplug() -> None:
        bench.lan.plug(number, connected=False)
        time.sleep(4)
        bench.lan.plug(number, connected=True)

    breaks = threading.Timer(2.0, unplug)
    found = measured(phone, tmp_path, 3, on=lambda s: breaks.start() if s == "measuring" else None)
    breaks.join()
    assert found.failure is None, found.failure
    assert found.latency.n == 150


def test_a_cancelled_run_leaves_no_binary_running(
    bench: Bench, server: AdbServer, tmp_path: Path
) -> None:
    phone = connected(bench, server)
    cancel = threading.Event()
    threading.Timer(4.0, cancel.set).start()
    with pytest.raises(Cancelled):
        measured(phone, tmp_path, 600, cancel)
    pid = int(phone.run(["cat", f"{ROOT}/run/pid"]).text)
    processes.eventually(lambda: not Path(f"/proc/{pid}").exists(), "the binary is gone")
    assert modes(bench)[-2:] == ["true", "false"]


def test_a_phone_that_comes_back_elsewhere_is_the_same_device(
    bench: Bench, server: AdbServer, tmp_path: Path
) -> None:
    host = replace(AgentConfig(), home=tmp_path)
    first = phone_config(host, read_handset(connected(bench, server), tmp_path / "m1"))
    moved = bench.phone("A1", 23)
    server.reconnect(moved.address)
    there = Phone(server, moved.address)
    second = phone_config(host, read_handset(there, tmp_path / "m2"))
    assert (second.home, second.device_name) == (first.home, first.device_name)
    other = phone_config(host, read_handset(connected(bench, server, 1), tmp_path / "m3"))
    assert other.home != first.home
