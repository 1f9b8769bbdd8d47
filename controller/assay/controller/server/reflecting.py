"""What an operator's tools may ask this server about itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from grpc_reflection.v1alpha import reflection

from assay.controller.records import Role
from assay.controller.server.door import Door
from assay.controller.server.guard import refuse
from assay.controller.server.peer import names_of
from assay.core.errors import AssayError, PermissionDenied


class OperatorsReflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """gRPC server reflection, for operators."""

    def __init__(self, service_names: list[str], door: Door, threads: ThreadPoolExecutor) -> None:
        super().__init__(service_names)
        self._door = door
        self._threads = threads

    async def ServerReflectionInfo(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        """What the library answers, once the caller is known to be an operator."""
        peer, names = context.peer(), names_of(context)
        loop = asyncio.get_running_loop()
        try:
            caller = await loop.run_in_executor(
                self._threads, lambda: self._door.caller(peer, names)
            )
            if caller.role is not Role.OPERATOR:
                raise PermissionDenied(f"{caller.name} is a viewer; reflection is for operators")
        except AssayError as error:
            await refuse(context, error)
        async for answer in super().ServerReflectionInfo(request_iterator, context):
            yield answer
