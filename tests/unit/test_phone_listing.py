"""``adb devices -l`` as it is printed in the field."""

from __future__ import annotations

import pytest

from assay.agent.phones.listing import parse_devices, usable

LISTED = """* daemon not running; starting now at tcp:5838
* daemon started successfully
List of devices attached
29281JEGR07234         device usb:1-1 product:oriole model:Pixel_6 device:oriole transport_id:1
adb-29281JEGR07234-abcdef._adb-tls-connect._tcp device product:oriole model:Pixel_6 transport_id:4
emulator-5554          offline transport_id:2
R58M20ABCDE            unauthorized usb:1-2 transport_id:3
0123456789ABCDEF       no permissions (missing udev rules? user is in the plugdev group); see [http://developer.android.com/tools/device.html] usb:1-3 transport_id:5
(no serial number)     no permissions; see [http://developer.android.com/tools/device.html] usb:1-4
my phone               device usb:1-5 product:x model:Odd device:x transport_id:6
10.0.0.7:5555          device product:y model:Net device:y transport_id:7

"""  # noqa: E501


def test_rows_are_read_whatever_stands_around_them() -> None:
    rows = {row.serial: row for row in parse_devices(LISTED)}
    assert len(rows) == 8
    assert rows["29281JEGR07234"].fields["model"] == "Pixel_6"
    assert rows["my phone"].state == "device"
    assert rows["10.0.0.7:5555"].problem == ""


@pytest.mark.parametrize(
    ("serial", "told"),
    [
        ("R58M20ABCDE", "allow this computer's key"),
        ("0123456789ABCDEF", "udev rules"),
        ("(no serial number)", "udev rules"),
        ("emulator-5554", "offline"),
    ],
)
def test_what_keeps_a_phone_from_being_used_is_said(serial: str, told: str) -> None:
    (row,) = [row for row in parse_devices(LISTED) if row.serial == serial]
    assert told in row.problem


def test_a_phone_on_usb_and_on_the_network_is_one_phone() -> None:
    assert [row.serial for row in usable(parse_devices(LISTED))] == [
        "29281JEGR07234",
        "my phone",
        "10.0.0.7:5555",
    ]
    turned = LISTED.replace(
        "29281JEGR07234         device usb:1-1", "29281JEGR07234  offline usb:1-1"
    )
    assert "adb-29281JEGR07234-abcdef._adb-tls-connect._tcp" in [
        row.serial for row in usable(parse_devices(turned))
    ]


ALIKE = """List of devices attached
0123456789ABCDEF device usb:1-1 product:a model:A device:a transport_id:1
0123456789ABCDEF device usb:1-2 product:{0} model:{1} device:x transport_id:2
"""


def test_two_phones_of_one_serial_are_told_apart_by_their_place() -> None:
    rows = usable(parse_devices(ALIKE.format("b", "B")))
    assert [(row.fields["model"], row.target) for row in rows] == [
        ("A", "usb:1-1"),
        ("B", "usb:1-2"),
    ]
    assert [row.target for row in usable(parse_devices(LISTED))][1:] == [
        "my phone",
        "10.0.0.7:5555",
    ]


def test_two_of_one_serial_and_one_model_are_not_used_and_say_so() -> None:
    rows = parse_devices(ALIKE.format("a", "A"))
    assert usable(rows) == ()
    assert all("another phone here has the serial 0123456789ABCDEF" in r.problem for r in rows)


def test_one_whose_twin_is_not_allowed_yet_is_meant_by_its_place() -> None:
    text = ALIKE.format("a", "A").splitlines()
    text[2] = "0123456789ABCDEF unauthorized usb:1-2 transport_id:2"
    one, other = parse_devices("\n".join(text))
    assert (one.target, one.problem) == ("usb:1-1", "")
    assert "allow this computer's key" in other.problem


def test_a_cable_is_told_from_the_network() -> None:
    rows = {row.serial: row.on_usb for row in parse_devices(LISTED)}
    assert rows["29281JEGR07234"] and not rows["10.0.0.7:5555"]
    assert not rows["adb-29281JEGR07234-abcdef._adb-tls-connect._tcp"]


@pytest.mark.parametrize("text", ["", "error: protocol fault", "List of devices attached\n\n"])
def test_no_list_is_no_phone(text: str) -> None:
    assert parse_devices(text) == ()
