"""A recorded board answers the doctor as the board itself does, and tells nothing private."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay.agent.cli import agent
from assay.agent.devices.detect import detect
from assay.agent.examine import ABSENT, examine
from assay.agent.recording.archive import MANIFEST, opened, pack, unpack
from assay.agent.recording.collect import collect
from assay.core.errors import BadMessage
from tests.boards import break_with_eio, composed, copy_of, names, write
from tests.conftest import SHARED_DATA

PRIVATE = {
    "proc/cpuinfo": "processor\t: 0\nSerial\t\t: 10000000deadbeef\nModel\t\t: Raspberry Pi 4",
    "proc/sys/kernel/random/boot_id": "7d1e0c0e-aaaa-4bbb-8ccc-1234567890ab",
    "etc/os-release": 'PRETTY_NAME="Debian"\nID=debian\nHOME_URL="https://private.example/me"',
    "etc/hostname": "alices-board",
    "sys/class/net/eth0/address": "dc:a6:32:01:02:03",
    "sys/class/dmi/id/product_serial": "SN-4711",
    "sys/class/power_supply/hid-dc:a6:32:01:02:03-battery/type": "Battery",
    "sys/class/power_supply/hid-dc:a6:32:01:02:03-battery/serial_number": "SN-4711",
    "sys/class/thermal/thermal_zone0/type": "wifi dc:a6:32:01:02:03",
    "sys/class/thermal/thermal_zone0/temp": "41000",
    "commands/getprop.txt": "[ro.serialno]: [SN-4711]\n[ro.product.model]: [Pixel 5]\n"
    "[gsm.sim.operator.alpha]: [alices carrier]\n[ro.build.version.release]: [14]",
}
SECRETS = (b"deadbeef", b"7d1e0c0e", b"private.example", b"alice", b"dc:a6:32", b"4711")


def recorded(root: Path, to: Path) -> Path:
    to.write_bytes(pack(collect(root)))
    return to


def told(root: Path) -> list[object]:
    # Why a thing is absent may differ: a file that answered EIO is missing from the recording.
    found = examine(root, ())
    return [replace(one, detail="") if one.status == ABSENT else one for one in found]


def boards() -> list[Path]:
    found = [composed(name) for name in names()]
    if (SHARED_DATA / "boards").is_dir():
        found += sorted(p for p in (SHARED_DATA / "boards").glob("*/*") if p.is_dir())
    return found


@pytest.mark.parametrize("root", boards(), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_replay_finds_what_the_board_showed(root: Path, tmp_path: Path) -> None:
    with opened(recorded(root, tmp_path / "board.tar.gz")) as replay:
        assert told(replay) == told(root)


def test_nothing_private_is_in_it(tmp_path: Path) -> None:
    root = write(tmp_path / "board", dict(PRIVATE))
    archive = recorded(root, tmp_path / "a.tar.gz")
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        everything = b"\n".join(
            [
                b"\n".join(str(vars_).encode() for vars_ in (m.name, m.uname, m.gname, m.uid)),
                tar.extractfile(m).read(),  # type: ignore[union-attr]
            ][i]
            for m in members
            for i in (0, 1)
        )
    for secret in SECRETS:
        assert secret not in everything, secret
    assert {m.mtime for m in members} == {0}
    assert b"Pixel 5" in everything and b"41000" in everything


def test_a_recording_is_the_same_bytes_twice(tmp_path: Path) -> None:
    assert pack(collect(composed("rpi5"))) == pack(collect(composed("rpi5")))


def test_what_did_not_answer_is_listed_with_its_errno(tmp_path: Path) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    zone = root / "sys/class/thermal/thermal_zone0/temp"
    break_with_eio(zone)
    with opened(recorded(root, tmp_path / "a.tar.gz")) as replay:
        silent = json.loads((replay / MANIFEST).read_text())["silent"]
        assert silent["sys/class/thermal/thermal_zone0/temp"] == "EIO"
        assert "no such program" in silent["commands/vcgencmd-get_throttled.txt"]
        assert not (replay / "sys/class/thermal/thermal_zone0/temp").exists()


def test_this_machine_can_be_recorded_and_is_the_same_board(tmp_path: Path) -> None:
    with opened(recorded(Path("/"), tmp_path / "a.tar.gz")) as replay:
        here, there = detect(Path("/"), (), ()), detect(replay, (), ())
    assert (there.board, there.device_class, there.cpu) == (
        here.board,
        here.device_class,
        here.cpu,
    )


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_an_archive_that_writes_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadMessage, match="plain file"):
        unpack(archive_of(tmp_path, tarfile.TarInfo(name)), tmp_path / "to")


def test_links_in_an_archive_are_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("sys")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    with pytest.raises(BadMessage, match="plain file"):
        unpack(archive_of(tmp_path, link), tmp_path / "to")


def test_a_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bomb = tarfile.TarInfo("proc/stat")
    bomb.size = 65 << 20
    with pytest.raises(BadMessage, match="larger"):
        unpack(archive_of(tmp_path, bomb, bytes(bomb.size)), tmp_path / "to")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08rubbish"])
def test_rubbish_is_no_recording(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(content)
    with pytest.raises(BadMessage, match="not a recording"):
        unpack(path, tmp_path / "to")


def test_record_and_doctor_from_the_command_line(tmp_path: Path) -> None:
    archive = tmp_path / "rpi5.tar.gz"
    run = CliRunner().invoke
    made = run(agent, ["record", str(archive), "--sysroot", str(composed("rpi5"))])
    assert made.exit_code == 0, made.output
    shown = run(agent, ["doctor", "--sysroot", str(archive), "--format", "json"])
    rows = json.loads(shown.stdout)
    model = next(row for row in rows if row["area"] == "board" and row["name"] == "model")
    assert "Raspberry Pi 5" in model["value"]
    again = run(agent, ["record", str(archive), "--sysroot", str(composed("rpi5"))])
    assert again.exception is not None and "--force" in str(again.exception)


def test_doctor_names_a_sysroot_that_is_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(agent, ["doctor", "--sysroot", str(tmp_path / "nothing")])
    assert "neither a folder nor an archive" in str(done.exception)


def archive_of(folder: Path, member: tarfile.TarInfo, content: bytes = b"") -> Path:
    path = folder / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path
