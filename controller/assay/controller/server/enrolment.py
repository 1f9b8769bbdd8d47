"""Enrolment: the one service without a client certificate."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from assay.controller.identity.enrol import Enrolled, Enroller
from assay.v1 import enrolment_pb2, enrolment_pb2_grpc


class EnrolmentServicer(enrolment_pb2_grpc.EnrolmentServicer):
    """The wire's side of enrolling; thin."""

    def __init__(
        self,
        enroller: Enroller,
        threads: ThreadPoolExecutor,
        *,
        fleet_address: str,
        blobs_address: str,
    ) -> None:
        self._enroller = enroller
        self._threads = threads
        self._fleet_address = fleet_address
        self._blobs_address = blobs_address

    async def Enrol(
        self, request: enrolment_pb2.EnrolRequest, context: Any
    ) -> enrolment_pb2.EnrolResponse:
        """A token and a certificate request buy a certificate."""
        return self._response(
            await self._blocking(self._enroller.enrol, request.token, request.csr_pem, request.name)
        )

    async def Renew(
        self, request: enrolment_pb2.RenewRequest, context: Any
    ) -> enrolment_pb2.EnrolResponse:
        """An old certificate and a request by its key buy a new certificate."""
        return self._response(
            await self._blocking(
                self._enroller.renew_expired, request.certificate_pem, request.csr_pem
            )
        )

    async def _blocking(self, action: Callable[..., Enrolled], *arguments: Any) -> Enrolled:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, action, *arguments)

    def _response(self, enrolled: Enrolled) -> enrolment_pb2.EnrolResponse:
        return enrolment_pb2.EnrolResponse(
            device_id=enrolled.device_id,
            name=enrolled.name,
            certificate_pem=enrolled.certificate_pem,
            ca_bundle_pem=enrolled.ca_bundle_pem,
            fleet_address=self._fleet_address,
            blobs_address=self._blobs_address,
        )
