"""Administration over a real socket and over mTLS, and what it does to real devices."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from assay.controller.admin.access import load_identity, opened_office
from assay.controller.admin.base import Administration, DeviceChange, DeviceVerb
from assay.controller.admin.rotation import begin, finish_rotation
from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.records import DeviceState, Role
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.channel import call, dial, dial_enrolment
from assay.core.encoding import Encoding, decoded
from assay.core.errors import AlreadyExists, PermissionDenied, Unauthenticated, Unreachable
from assay.core.model import MEDIA_ONNX
from assay.v1 import blobs_pb2, fleet_pb2
from tests.plane import device, facts, queued, sweep
from tests.plane_client import ANY_PORTS, Board, ControllerProcess, Key, controller_process, enrol

_NUMBERS = itertools.count()
ARGUMENTS = (*ANY_PORTS, "--admin-port=0", "--no-metrics", "--no-live")


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    home = Home(tmp_path_factory.mktemp("p") / "home")
    with controller_process(home, arguments=ARGUMENTS) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def store(controller: ControllerProcess) -> Iterator[Store]:
    opened = open_store(controller.home)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def socket_office(controller: ControllerProcess) -> Iterator[Administration]:
    with opened_office(f"unix:{controller.serving().admin_socket}", "") as office:
        yield office


@pytest.fixture
def identity(socket_office: Administration, tmp_path: Path) -> Any:
    def make(name: str, role: Role) -> Path:
        path = tmp_path / f"{name}.pem"
        path.write_bytes(socket_office.add_operator(name, role, 5))
        return path

    return make


def new_board(controller: ControllerProcess, store: Store, **options: Any) -> Board:
    key, name = Key(), f"board-{next(_NUMBERS)}"
    token = create_token(controller.home, store, **options)
    return Board(enrol(controller.serving().enrolment_address, token, name, key), key)


def give_work(store: Store, board: Board, *artifacts: Any) -> None:
    sweep_id = f"s-{board.name}-{next(_NUMBERS)}"
    round_ = queued(f"{sweep_id}-r", sweep_id=sweep_id, device_id=board.device_id)
    if artifacts:
        runs = tuple(replace(round_.runs[0], artifact=artifact) for artifact in artifacts)
        round_ = replace(round_, runs=runs)
    store.add_sweep(sweep(sweep_id), [], [round_])


class TestWhoMayAsk:
    def test_the_socket_is_this_accounts_alone(self, controller: ControllerProcess) -> None:
        path = Path(controller.serving().admin_socket)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_a_viewer_looks_and_an_operator_changes(
        self, controller: ControllerProcess, store: Store, identity: Any
    ) -> None:
        address = controller.serving().admin_address
        with new_board(controller, store) as board:
            with opened_office(address, str(identity("vera", Role.VIEWER))) as viewer:
                assert board.name in [d.name for d in viewer.devices()]
                with pytest.raises(PermissionDenied, match="an operator can"):
                    viewer.change_device(board.name, DeviceChange(DeviceVerb.REVOKE))
                entry = viewer.audit(1)[0]
            assert (entry.actor, entry.action, entry.outcome) == (
                "vera",
                "device revoke",
                "permission_denied",
            )
            with opened_office(address, str(identity("oscar", Role.OPERATOR))) as operator:
                labelled = operator.change_device(
                    board.name, DeviceChange(DeviceVerb.LABEL, labels={"room": "lab"})
                )
                assert labelled.labels == {"room": "lab"}
                assert operator.device(board.name) == store.device(board.name)
                assert [t.note for t in operator.tokens()] == [t.note for t in store.tokens()]
                assert [c.what for c in operator.certificates()] == ["CA", "server"]
                operator.change_device(board.name, DeviceChange(DeviceVerb.REVOKE))
            with pytest.raises(PermissionDenied, match="revoked"):
                board.sync()
            last = store.audit(1)[0]
            assert (last.actor, last.action, last.subject, last.origin) == (
                "oscar",
                "device revoke",
                board.name,
                "127.0.0.1",
            )

    def test_a_revoked_or_replaced_identity_is_refused_at_the_next_call(
        self, controller: ControllerProcess, socket_office: Administration, identity: Any
    ) -> None:
        address = controller.serving().admin_address
        old = identity("rita", Role.OPERATOR)
        with opened_office(address, str(old)) as office:
            office.devices()
            socket_office.add_operator("rita", Role.OPERATOR, 5)
            with pytest.raises(Unauthenticated, match="newer certificate"):
                office.devices()
        new = identity("rita", Role.OPERATOR)
        with opened_office(address, str(new)) as office:
            socket_office.revoke_operator("rita")
            with pytest.raises(Unauthenticated, match="was revoked"):
                office.devices()

    def test_a_device_is_no_operator_and_an_operator_no_device(
        self, controller: ControllerProcess, store: Store, identity: Any, tmp_path: Path
    ) -> None:
        serving = controller.serving()
        with new_board(controller, store) as board:
            pem = tmp_path / "board.pem"
            mine = board.credentials
            pem.write_bytes(mine.key_pem + mine.certificate_pem + mine.ca_bundle_pem)
            with (
                opened_office(serving.admin_address, str(pem)) as office,
                pytest.raises(Unauthenticated, match="names no operator"),
            ):
                office.devices()
        posing = load_identity(identity("olga", Role.OPERATOR))
        with dial(serving.fleet_address, posing) as channel:
            sync = channel.unary_unary(
                "/assay.v1.Fleet/Sync",
                fleet_pb2.SyncRequest.SerializeToString,
                fleet_pb2.SyncResponse.FromString,
            )
            with pytest.raises(Unauthenticated, match="names no device"):
                call(sync, fleet_pb2.SyncRequest(proto_min=1, proto_max=1), timeout_s=10)

    def test_without_a_certificate_nothing_answers(
        self, controller: ControllerProcess, store: Store
    ) -> None:
        with new_board(controller, store) as board:
            ca_pem = board.credentials.ca_bundle_pem
        with dial_enrolment(controller.serving().admin_address, ca_pem) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            with pytest.raises(Unreachable):
                call(check, health_pb2.HealthCheckRequest(), timeout_s=3)

    def test_the_command_line_works_from_elsewhere(
        self, controller: ControllerProcess, identity: Any, tmp_path: Path
    ) -> None:
        environment = {
            **os.environ,
            "ASSAY_HOME": str(tmp_path / "nothing here"),
            "ASSAY_CONTROLLER": controller.serving().admin_address,
            "ASSAY_IDENTITY": str(identity("cleo", Role.OPERATOR)),
        }

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "assay.controller", *arguments]
            return subprocess.run(command, env=environment, capture_output=True, text=True)

        made = run("token", "create", "--note", "from afar")
        assert made.stdout.startswith("assay1."), made.stderr
        listed = json.loads(run("token", "list", "--format", "json").stdout)
        assert "from afar" in [row["note"] for row in listed]
        missing = run("device", "cordon", "ghost")
        assert (missing.returncode, "no device 'ghost'" in missing.stderr) == (2, True)
        assert not (tmp_path / "nothing here").exists()


class TestHealthAndReflection:
    def test_health_is_told_on_the_open_port_and_to_operators(
        self, controller: ControllerProcess, store: Store
    ) -> None:
        with new_board(controller, store) as board:
            ca_pem = board.credentials.ca_bundle_pem
        serving = controller.serving()
        with (
            dial_enrolment(serving.enrolment_address, ca_pem) as door,
            grpc.insecure_channel(f"unix:{serving.admin_socket}") as socket,
        ):
            for channel in (door, socket):
                check = health_pb2_grpc.HealthStub(channel).Check
                answer = call(check, health_pb2.HealthCheckRequest(), timeout_s=5)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
                with pytest.raises(grpc.RpcError) as unknown:
                    check(health_pb2.HealthCheckRequest(service="nope"), timeout=5)
                assert unknown.value.code() is grpc.StatusCode.NOT_FOUND

    def test_reflection_is_for_operators(
        self, controller: ControllerProcess, identity: Any
    ) -> None:
        serving = controller.serving()
        with dial(serving.admin_address, load_identity(identity("otto", Role.OPERATOR))) as channel:
            services = ProtoReflectionDescriptorDatabase(channel).get_services()
            assert "assay.v1.Admin" in services
        viewer = load_identity(identity("vito", Role.VIEWER))
        with (
            dial(serving.admin_address, viewer) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            ProtoReflectionDescriptorDatabase(channel).get_services()
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


class TestDevices:
    def test_a_device_that_waits_for_approval_is_heard_and_gets_nothing(
        self, controller: ControllerProcess, store: Store, socket_office: Administration
    ) -> None:
        with new_board(controller, store, approval=True) as board:
            give_work(store, board)
            assert board.assigned() == []
            assert store.device(board.name).state is DeviceState.PENDING
            assert board.assigned() == []
            socket_office.change_device(board.name, DeviceChange(DeviceVerb.APPROVE))
            assert len(board.assigned()) == 1

    def test_a_drained_device_is_told_so_and_keeps_what_it_holds(
        self, controller: ControllerProcess, store: Store, socket_office: Administration
    ) -> None:
        with new_board(controller, store) as board:
            give_work(store, board)
            (held,) = board.assigned()
            socket_office.change_device(board.name, DeviceChange(DeviceVerb.DRAIN))
            answer = board.sync([held])
            assert (answer.drain, len(answer.assignments)) == (True, 1)
            give_work(store, board)
            store.finish_round(held.round_id, held.fence, store.round(held.round_id).state.DONE, 0)
            assert board.assigned() == []
            socket_office.change_device(board.name, DeviceChange(DeviceVerb.UNCORDON))
            answer = board.sync()
            assert (answer.drain, len(answer.assignments)) == (False, 1)

    def test_devices_on_one_meter_measure_one_after_the_other(
        self, controller: ControllerProcess, store: Store, socket_office: Administration
    ) -> None:
        change = DeviceChange(DeviceVerb.LABEL, labels={"shared.meter": "um25c-1"})
        with new_board(controller, store) as first, new_board(controller, store) as second:
            for board in (first, second):
                socket_office.change_device(board.name, change)
                give_work(store, board)
            (held,) = first.assigned()
            assert second.assigned(wait_s=0.5) == []
            store.finish_round(held.round_id, held.fence, store.round(held.round_id).state.DONE, 0)
            assert len(second.assigned(wait_s=10)) == 1


def test_a_variant_travels_as_a_patch_to_what_the_device_was_leased(
    controller: ControllerProcess, store: Store
) -> None:
    content = ContentStore(controller.home.artifacts)
    data = os.urandom(200_000)
    baseline = content.add_bytes(data, MEDIA_ONNX)
    variant = content.add_bytes(data[:1_000] + os.urandom(500) + data[1_500:], MEDIA_ONNX)
    foreign = content.add_bytes(data[:199_000], MEDIA_ONNX)
    request = blobs_pb2.OfferRequest(
        digest=variant.digest,
        encodings=[1, 2, 3],
        bases=[foreign.digest, baseline.digest],
        memory_bytes=1 << 30,
    )
    with new_board(controller, store) as board:
        with pytest.raises(PermissionDenied, match="no lease"):
            call(board.blobs.Offer, request, timeout_s=10)
        give_work(store, board, baseline, variant)
        board.assigned()
        offer = call(board.blobs.Offer, request, timeout_s=10)
        assert (offer.encoding, offer.base) == (blobs_pb2.ENCODING_ZSTD_PATCH, baseline.digest)
        assert offer.wire_bytes < 2_000
        reading = blobs_pb2.ReadRequest(
            digest=variant.digest, encoding=offer.encoding, base=offer.base
        )
        sent = [message.data for message in board.blobs.Read(reading, timeout=10)]
        base_path = content.path(baseline.digest)
        got = b"".join(decoded(sent, variant.size_bytes, offer.window_log, base_path))
        assert got == content.path(variant.digest).read_bytes()
        assert Encoding.ZSTD_PATCH.name in blobs_pb2.Encoding.Name(offer.encoding)


def test_a_ca_is_replaced_while_devices_stay(tmp_path: Path) -> None:
    """Old devices go on, renew into the new CA, and outlive the former one."""
    home = Home(tmp_path / "h")
    with controller_process(home) as controller:
        address = controller.start().enrolment_address
        store = open_store(home)
        key = Key()
        enrolled = enrol(address, create_token(home, store), "old-timer", key)
        with pytest.raises(AlreadyExists, match="another controller"):
            begin(home, dt.datetime.now(dt.UTC))
        controller.end()
        begin(home, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2))

        controller.start()
        enrolled.fleet_address = controller.serving().fleet_address
        with Board(enrolled, key) as board:
            assert board.sync().proto == 1
            request = fleet_pb2.RenewCertificateRequest(csr_pem=key.request())
            renewed = call(board.fleet.RenewCertificate, request, timeout_s=10)
        address = controller.serving().enrolment_address
        enrol(address, create_token(home, store), "newcomer", Key())
        controller.end()
        finish_rotation(home, store, dt.datetime.now(dt.UTC), force=True)

        enrolled.fleet_address = controller.start().fleet_address
        with Board(enrolled, key) as board, pytest.raises(Unreachable):
            board.sync()
        enrolled.certificate_pem = renewed.certificate_pem
        enrolled.ca_bundle_pem = renewed.ca_bundle_pem
        with Board(enrolled, key) as board:
            assert board.sync().proto == 1
        store.close()


def test_a_list_of_a_large_fleet_arrives(
    controller: ControllerProcess, store: Store, socket_office: Administration, identity: Any
) -> None:
    """More than the 4 MiB that other calls may answer."""
    told = replace(facts(), kernel="x" * 500_000)
    for number in range(12):
        store.add_device(device(f"large-{number}", facts=told))
    with opened_office(controller.serving().admin_address, str(identity("lea", Role.VIEWER))) as it:
        for office in (socket_office, it):
            assert sum(d.facts == told for d in office.devices()) == 12
