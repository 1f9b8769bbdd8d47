"""Detection and sensors against what real boards answered; the recordings lie beside the repo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from assay.agent.devices.cores import core_name
from assay.agent.devices.cpu import parse_cpuinfo, read_cpu_facts
from assay.agent.devices.detect import detect
from assay.agent.devices.throttling import parse_throttled
from assay.agent.samplers import Sampler, all_samplers
from assay.agent.samplers.battery import discharge_w, find_gauge
from assay.agent.samplers.ina2xx import SIGN_VARIABLE, Ina2xx
from assay.agent.samplers.memory import parse_meminfo
from assay.agent.samplers.rpi_pmic import input_voltage_problem
from assay.core.errors import SamplerError
from assay.core.model import Absent
from tests.conftest import SHARED_DATA, need

BOARDS = SHARED_DATA / "boards"

# By folder: the class of every recording in it that tells which board it is.
CLASSES = {
    "arm-dgx-gb10": "aarch64",
    "jetson-agx-orin": "jetson_agx_orin",
    "jetson-agx-xavier": "jetson_agx_xavier",
    "jetson-nano": "jetson_nano",
    "jetson-nano-2gb": "jetson_nano",
    "jetson-orin-nano": "jetson_orin_nano",
    # Its maker's log guesses Orin NX; the module's part number is the 8 GB Orin Nano's.
    "jetson-orin-nx-aaeon": "jetson_orin_nano",
    "jetson-tx1": "jetson_tx1",
    "jetson-xavier-nx": "jetson_xavier_nx",
    "phone-galaxy-a8-2018": "android",
    "phone-galaxy-s5-us": "android",
    "phone-galaxy-s7-global": "android",
    "phone-galaxy-s8-us": "android",
    "phone-huawei-mate-9": "android",
    "phone-meizu-pro-7-plus": "android",
    "phone-nexus5x": "android",
    "phone-oppo-r9": "android",
    "phone-pixel": "android",
    "phone-xiaomi-redmi-note-3": "android",
    "rpi-cm5": "rpi5",
    "rpi-zero": "rpizero",
    "rpi-zero-w": "rpizero",
    "rpi-zero2w": "rpizero2",
    "rpi1b": "rpi1",
    "rpi2b": "rpi2",
    "rpi3b": "rpi3",
    "rpi4": "rpi4",
    "rpi400": "rpi4",
    "rpi5": "rpi5",
    "sbc-qcs6490": "aarch64",
    "sbc-rk3588": "aarch64",
    "x86-cgroup2-32amd64": "x86_64",
    "x86-hybrid-alderlake": "x86_64",
    "x86-server-node_exporter": "x86_64",
}

CLUSTERS = {
    "arm-dgx-gb10": [10, 10],
    "jetson-tx2": [4, 2],
    "phone-exynos9820": [2, 2, 4],
    "phone-kirin9000s": [1, 3, 4],
    "phone-pixel6-tensor-g1": [2, 2, 4],
    "phone-pixel8-tensor-g3": [1, 4, 4],
    "phone-sd8gen1": [1, 3, 4],
    "phone-sd8gen3": [1, 5, 2],
    "phone-sm8750": [2, 6],
    "sbc-rk3588": [4, 4],
    # Favoured cores of 5.2 and 5.0 GHz are one cluster, the 3.9 GHz ones another.
    "x86-hybrid-alderlake": [12, 8],
    "rpi5": [4],
}

DOT_PRODUCT = {"rpi5", "sbc-rk3588", "phone-sd8gen1", "phone-pixel6-tensor-g1", "jetson-orin-nx"}
NO_DOT_PRODUCT = {"rpi3b", "rpi4", "jetson-nano", "jetson-tx2", "phone-pixel", "rpi-zero"}


def sources(board: str) -> list[Path]:
    need(path=BOARDS)
    return [folder for folder in sorted((BOARDS / board).iterdir()) if folder.is_dir()]


def identifies(source: Path) -> bool:
    """Whether a recording holds anything that names its board."""
    cpuinfo = source / "proc/cpuinfo"
    text = cpuinfo.read_text(errors="replace") if cpuinfo.exists() else ""
    named = re.search(r"^(Model\s*: Ras|Revision\s*: |Hardware\s*: jetson|vendor_id)", text, re.M)
    plain_arm = source.parent.name.startswith(("sbc-", "arm-")) and cpuinfo.exists()
    tree = (source / "proc/device-tree/model").exists()
    return bool(named) or plain_arm or tree or (source / "system/build.prop").exists()


@pytest.mark.parametrize("board", sorted(CLASSES))
def test_class_of_every_recording_that_names_its_board(board: str) -> None:
    identifying = [source for source in sources(board) if identifies(source)]
    assert identifying
    found = {source.name: detect(source, samplers=()).device_class for source in identifying}
    assert set(found.values()) == {CLASSES[board]}, found


@pytest.mark.parametrize("board", sorted(CLUSTERS))
def test_clusters_run_from_fast_to_slow(board: str) -> None:
    found = [
        [len(cluster.cpus) for cluster in read_cpu_facts(source).clusters]
        for source in sources(board)
        if (source / "proc/cpuinfo").exists()
    ]
    assert found and all(sizes == CLUSTERS[board] for sizes in found), found


@pytest.mark.parametrize("board", sorted(DOT_PRODUCT | NO_DOT_PRODUCT))
def test_dot_product_is_told_where_the_processor_has_it(board: str) -> None:
    with_cpuinfo = [s for s in sources(board) if (s / "proc/cpuinfo").exists()]
    assert with_cpuinfo
    for source in with_cpuinfo:
        words = detect(source, samplers=()).capabilities
        assert ("dotprod" in words) is (board in DOT_PRODUCT), source.name


def test_vnni_of_a_hybrid_pc_is_told() -> None:
    (source,) = sources("x86-hybrid-alderlake")
    assert {"avx2", "avx_vnni"} <= set(detect(source, samplers=()).capabilities)


def test_cpuinfo_alone_identifies_no_phone() -> None:
    for board in ("phone-sd8gen1", "phone-kirin9000s", "phone-huawei-p20-pro"):
        for source in sources(board):
            assert detect(source, samplers=()).device_class == "aarch64"


def test_every_arm_core_of_the_recordings_has_a_name() -> None:
    need(path=BOARDS)
    nameless = set()
    for path in BOARDS.glob("*/*/proc/cpuinfo"):
        for fields in parse_cpuinfo(path.read_text(errors="replace")).cpus.values():
            if "CPU part" in fields:
                implementer, part = (int(fields[k], 16) for k in ("CPU implementer", "CPU part"))
                name = core_name(implementer, part, int(fields["CPU variant"], 16))
                nameless |= {name} if name.startswith("implementer") else set()
    # HiSilicon publishes no name for the middle cores of the Kirin 9000S.
    assert nameless == {"implementer 0x48 part 0xd42"}


def test_every_cpu_of_a_recording_is_in_exactly_one_cluster() -> None:
    need(path=BOARDS)
    for path in BOARDS.glob("*/*/proc/cpuinfo"):
        facts = read_cpu_facts(path.parents[1])
        cpus = [cpu for cluster in facts.clusters for cpu in cluster.cpus]
        assert len(cpus) == len(set(cpus)) > 0, path


def test_every_sampler_survives_every_recording() -> None:
    need(path=BOARDS)
    answered: set[str] = set()
    for source in sorted(BOARDS.glob("*/*")):
        for name, kind in all_samplers().items():
            found = kind.probe(source)
            if isinstance(found, Absent):
                assert found.reason, (source, name)
            else:
                answered.add(name)
                assert found.read(), (source, name)
                found.close()
    assert {
        "cpufreq",
        "memory",
        "hwmon_temp",
        "hwmon_power",
        "battery",
        "rapl",
        "ina2xx",
    } <= answered


def values(found: Sampler | Absent) -> dict[str, float]:
    assert not isinstance(found, Absent), found
    return {reading.channel.name: reading.value for reading in found.read()}


def test_a_ups_boards_ina219_reads_backwards_and_gives_watts_only_when_told() -> None:
    (source,) = (s for s in sources("rpi4") if s.name == "nut-2960-ina219")
    assert values(Ina2xx.probe(source, {})) == pytest.approx({"volts": 4.228, "amperes": -0.04})
    turned = values(Ina2xx.probe(source, {SIGN_VARIABLE: "-1"}))
    assert turned["watts"] == pytest.approx(4.228 * 0.04)


def test_a_disabled_rapl_zone_with_an_implausible_counter_is_refused() -> None:
    (source,) = sources("x86-rapl-odd")
    found = all_samplers()["rapl"].probe(source)
    assert isinstance(found, Absent) and "60293987000000" in found.reason


def test_rapl_of_a_server_counts_its_package_only() -> None:
    (source,) = sources("x86-server-node_exporter")
    found = values(all_samplers()["rapl"].probe(source))
    assert set(found) == {"packages", "package-0"}


@pytest.mark.parametrize(
    ("board", "watts"),
    [
        ("x86-amd-phoenix-apu", {"amdgpu/PPT": 3.103}),
        ("x86-amd-rx6900xt", {"amdgpu/PPT": 36.0}),
        ("x86-amd-vangogh-apu", {"amdgpu/slowPPT": 3.218, "amdgpu/fastPPT": 3.04}),
        ("x86-intel-a380-i915", {"i915/energy1": 25637.161804}),
    ],
)
def test_graphics_power_by_average_or_counter(board: str, watts: dict[str, float]) -> None:
    (source,) = sources(board)
    assert values(all_samplers()["hwmon_power"].probe(source)) == pytest.approx(watts)


@pytest.mark.parametrize("board", ["phone-pixel3a", "phone-xiaomi-mi8"])
def test_no_phone_gauge_gives_watts_uncalibrated(board: str) -> None:
    (source,) = sources(board)
    gauge = find_gauge(source)
    assert gauge is not None and gauge.android
    assert discharge_w(gauge.folder) is None
    assert "watts" not in values(all_samplers()["battery"].probe(source))


def test_throttling_of_real_pis_is_parsed() -> None:
    (folder,) = (s for s in sources("rpi3b") if s.name == "raspberrypi-firmware-615")
    bits = [
        parse_throttled((folder / f"commands/vcgencmd-{which}.txt").read_text())
        for which in ("a", "b")
    ]
    assert bits == [0x50000, 0x50005]


def test_a_real_answer_about_the_temperature_is_not_taken_for_bits() -> None:
    (folder,) = (s for s in sources("rpi3b") if s.name == "raspberrypi-firmware-615")
    text = (folder / "commands/vcgencmd-a.txt").read_text().replace("throttled", "throtled")
    with pytest.raises(SamplerError):
        parse_throttled(text)


def test_the_supplies_of_real_pi_5s_are_not_complained_of() -> None:
    volts = [
        float(told)
        for board in ("rpi5", "rpi-cm5")
        for source in sources(board)
        for log in source.glob("commands/sbc-bench.txt")
        for told in re.findall(r"\s\d+\.\dW\s+(\d\.\d\d)V\s", log.read_text(errors="replace"))
    ]
    assert len(volts) > 250 and min(volts) == 5.07
    assert not any(input_voltage_problem(value) for value in volts)


def test_meminfo_of_a_pc() -> None:
    (source,) = sources("x86-server-telegraf")
    found = parse_meminfo((source / "proc/meminfo").read_text())
    assert 0 < found["MemAvailable"] < found["MemTotal"]
