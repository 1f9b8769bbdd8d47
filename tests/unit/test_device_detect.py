"""What a board is, on the boards composed for this repository."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from assay.agent.devices.classes import DEVICE_CLASSES, class_of_architecture, start_limit_c
from assay.agent.devices.cpu import cpu_capabilities, parse_cpuinfo, read_cpu_facts
from assay.agent.devices.detect import detect
from assay.agent.devices.jetson import parse_power_mode
from assay.core.model import CpuCluster, RuntimeFacts
from assay.core.version import __version__
from tests.boards import break_with_eio, composed, copy_of, names, write

CLASSES = {
    "bare": "other",
    "jetson_agx_orin": "jetson_agx_orin",
    "jetson_nano": "jetson_nano",
    "jetson_orin_nano": "jetson_orin_nano",
    "jetson_thor": "jetson_thor",
    "jetson_xavier_nx": "jetson_xavier_nx",
    "phone_milliamp": "android",
    "phone_odpm": "android",
    "phone_reversed_sign": "android",
    "rpi3bplus": "rpi3",
    "rpi4": "rpi4",
    "rpi4_ina219": "rpi4",
    "rpi5": "rpi5",
    "rpizero2": "rpizero2",
    "x86_laptop": "x86_64",
    "x86_server": "x86_64",
}


@pytest.mark.parametrize("board", names())
def test_every_board_has_the_class_it_is_of(board: str) -> None:
    found = detect(composed(board), samplers=()).device_class
    assert found == CLASSES[board]
    assert found in DEVICE_CLASSES


def test_a_pi_5_in_full() -> None:
    runtime = RuntimeFacts("litert", "2.1.0", ("xnnpack",))
    found = detect(composed("rpi5"), (runtime,))
    assert found.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.cpu.model == "4x Cortex-A76"
    assert found.cpu.architecture == "aarch64"
    assert found.cpu.clusters == (CpuCluster((0, 1, 2, 3), 2_400_000_000),)
    assert found.memory_total_bytes == 8_244_000 * 1024
    assert found.os == "Debian GNU/Linux 12 (bookworm)"
    assert found.kernel == "6.6.31+rpt-rpi-2712"
    assert found.governor == "ondemand"
    assert found.boot_id == "11111111-2222-4333-8444-555555555505"
    assert found.agent_version == __version__
    assert found.runtimes == (runtime,)
    assert found.capabilities == ("neon", "dotprod", "fp16")
    by_name = {sampler.name: sampler for sampler in found.samplers}
    assert by_name["rpi_pmic"].absent_reason == "" and by_name["rpi_pmic"].unit == "W"
    assert "intel-rapl" in by_name["rapl"].absent_reason


def test_a_super_orin_nano_is_told_by_its_modules_part_number() -> None:
    found = detect(composed("jetson_orin_nano"), samplers=())
    assert found.device_class == "jetson_orin_nano"
    assert found.power_mode == "MAXN_SUPER"
    assert {"gpu:nvidia", "l4t:36.4.3", "dotprod"} <= set(found.capabilities)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MODE_15W_6CORE\n2\n", "15W_6CORE"),
        ("NV Fan Mode:quiet\nNV Power Mode: MAXN\n0\n", "MAXN"),
        ("NVPM ERROR: Error opening /sys/kernel/nvpmodel: 13\n", None),
        ("", None),
    ],
)
def test_power_modes_come_in_several_shapes(text: str, mode: str | None) -> None:
    assert parse_power_mode(text) == mode


def test_the_name_in_nv_tegra_release_is_no_identity(tmp_path: Path) -> None:
    root = copy_of("jetson_nano", tmp_path)
    for file in ("model", "compatible"):
        (root / "proc/device-tree" / file).unlink()
    # BOARD: t210ref still stands there.
    assert detect(root, samplers=()).device_class == "aarch64"


@pytest.mark.parametrize(
    ("revision", "name", "device_class"),
    [
        ("000e", "Raspberry Pi Model B", "rpi1"),
        ("1000002", "Raspberry Pi Model B", "rpi1"),  # with the warranty bit set
        ("a02082", "Raspberry Pi 3 Model B", "rpi3"),
        ("902120", "Raspberry Pi Zero 2 W", "rpizero2"),
        ("1a02082", "Raspberry Pi 3 Model B", "rpi3"),  # with the warranty bit set
        ("d04170", "Raspberry Pi 5 Model B", "rpi5"),
    ],
)
def test_old_kernels_give_only_a_revision_code(
    revision: str, name: str, device_class: str, tmp_path: Path
) -> None:
    # They also call the chip BCM2835 whatever it is.
    text = f"processor\t: 0\n\nHardware\t: BCM2835\nRevision\t: {revision}\n"
    found = detect(write(tmp_path, {"proc/cpuinfo": text}), samplers=())
    assert (found.board, found.device_class) == (name, device_class)


@pytest.mark.parametrize(
    ("compatible", "name", "device_class"),
    [
        ("raspberrypi,5-model-b", "Raspberry Pi 5 Model B", "rpi5"),
        ("raspberrypi,5-compute-module", "Raspberry Pi 5 Compute Module", "rpi5"),
        ("raspberrypi,400", "Raspberry Pi 400", "rpi4"),
        ("raspberrypi,4-compute-module", "Raspberry Pi 4 Compute Module", "rpi4"),
        ("raspberrypi,3-model-b-plus", "Raspberry Pi 3 Model B Plus", "rpi3"),
        ("raspberrypi,model-zero-2-w", "Raspberry Pi Model Zero 2 W", "rpizero2"),
        ("raspberrypi,model-zero-w", "Raspberry Pi Model Zero W", "rpizero"),
        ("raspberrypi,model-b", "Raspberry Pi Model B", "rpi1"),
    ],
)
def test_a_pi_is_told_by_what_it_is_compatible_with(
    compatible: str, name: str, device_class: str, tmp_path: Path
) -> None:
    tree = f"{compatible}\0brcm,bcm2712\0".encode()
    found = detect(write(tmp_path, {"proc/device-tree/compatible": tree}), samplers=())
    assert (found.board, found.device_class) == (name, device_class)


def test_android_is_told_by_properties_of_either_spelling(tmp_path: Path) -> None:
    phone = detect(composed("phone_reversed_sign"), samplers=())
    assert phone.board == "Xiaomi Mi 8 (sdm845)"
    assert phone.os == "Android 10"
    assert "abi:arm64-v8a" in phone.capabilities
    asked = "[ro.product.model]: [Pixel 8]\n[ro.product.manufacturer]: [Google]\n"
    asked += "[ro.build.version.release]: [15]\n[ro.soc.model]: [Tensor G3]\n"
    termux = write(tmp_path, {"commands/getprop.txt": asked})
    assert detect(termux, samplers=()).board == "Google Pixel 8 (Tensor G3)"


def test_a_phones_battery_is_no_power_sensor_and_a_laptops_is() -> None:
    phone = {one.name: one for one in detect(composed("phone_milliamp")).samplers}
    assert (phone["battery"].unit, phone["battery"].absent_reason) == ("V", "")
    laptop = {one.name: one for one in detect(composed("x86_laptop")).samplers}
    assert laptop["battery"].unit == "W" and laptop["rapl"].unit == "J"


def test_filler_of_a_pcs_firmware_is_no_name() -> None:
    assert detect(composed("x86_server"), samplers=()).board == "X11DPi-N"
    assert detect(composed("x86_laptop"), samplers=()).board == "LENOVO 21CBCTO1WW"
    assert detect(composed("x86_laptop"), samplers=()).power_mode == "balanced"


def test_performance_and_efficiency_cores_are_two_clusters() -> None:
    facts = read_cpu_facts(composed("x86_laptop"))
    assert [cluster.cpus for cluster in facts.clusters] == [(0, 1), (2, 3)]


def test_a_phones_prime_core_of_the_same_kind_is_a_cluster_of_its_own() -> None:
    facts = read_cpu_facts(composed("phone_milliamp"))
    assert [cluster.cpus for cluster in facts.clusters] == [(7,), (4, 5, 6), (0, 1, 2, 3)]
    assert facts.clusters[0].max_hz == 2_841_600_000


def test_flags_are_what_every_core_can_do(tmp_path: Path) -> None:
    text = "processor : 0\nFeatures : fp asimd sve\n\nprocessor : 1\nFeatures : fp asimd i8mm\n"
    facts = read_cpu_facts(write(tmp_path, {"proc/cpuinfo": text}))
    assert facts.flags == ("fp", "asimd")


def test_features_that_speed_up_int8_are_named_alike_on_both_families() -> None:
    assert cpu_capabilities(["asimddp", "i8mm", "evtstrm"]) == ("dotprod", "i8mm")
    assert cpu_capabilities(["avx512_vnni", "avx2", "amx_int8"]) == (
        "avx2",
        "avx512_vnni",
        "amx_int8",
    )


def test_offline_cpus_are_in_no_cluster(tmp_path: Path) -> None:
    root = copy_of("rpi5", tmp_path)
    (root / "sys/devices/system/cpu/online").write_text("0,2-3\n")
    assert read_cpu_facts(root).clusters[0].cpus == (0, 2, 3)


def test_an_empty_board_is_detected_without_a_word() -> None:
    found = detect(composed("bare"))
    assert found.board == "unknown" and found.memory_total_bytes == 0
    assert all(sampler.absent_reason for sampler in found.samplers)


@pytest.mark.parametrize("board", ["rpi5", "jetson_orin_nano", "x86_laptop"])
def test_a_board_whose_every_file_fails_is_detected_all_the_same(
    board: str, tmp_path: Path
) -> None:
    root = copy_of(board, tmp_path)
    for path in [path for path in root.rglob("*") if path.is_file()]:
        break_with_eio(path)
    assert detect(root).device_class in DEVICE_CLASSES


def test_this_machine_is_detected() -> None:
    found = detect(samplers=())
    assert found.memory_total_bytes > 0 and found.boot_id and found.cpu.clusters
    assert found.device_class in DEVICE_CLASSES


def test_coral_and_hailo_are_capabilities(tmp_path: Path) -> None:
    write(tmp_path, {"dev/hailo0": "", "dev/apex_0": ""})
    write(tmp_path / "sys/bus/usb/devices/1-1", {"idVendor": "18d1", "idProduct": "9302"})
    assert detect(tmp_path, samplers=()).capabilities == ("npu:hailo", "tpu:coral")


def test_every_class_has_a_start_limit_below_what_throttles() -> None:
    assert all(30 <= start_limit_c(name) <= 70 for name in DEVICE_CLASSES)
    assert start_limit_c("a board of next year") == start_limit_c("other")


@pytest.mark.parametrize(
    ("machine", "device_class"),
    [("amd64", "x86_64"), ("arm64", "aarch64"), ("armv8l", "armv7l"), ("riscv64", "other")],
)
def test_architectures_map_to_classes(machine: str, device_class: str) -> None:
    assert class_of_architecture(machine) == device_class


def test_the_shapes_of_old_arm_cpuinfo() -> None:
    shared = "Processor : ARMv7\nprocessor : 0\nBogoMIPS : 38\n\nprocessor : 1\nBogoMIPS : 38\n\n"
    info = parse_cpuinfo(shared + "Features : neon\nCPU implementer : 0x51\nCPU part : 0x06f\n")
    assert set(info.cpus) == {0, 1} and info.value("Features") == "neon"
    assert parse_cpuinfo("").cpus == {}
    assert list(itertools.chain(parse_cpuinfo("garbage\n:\n: :\n").cpus)) == []
