"""The control process: Enrolment and Fleet over grpc.aio.

Servicers are thin: :mod:`assay.controller.planning.scheduler` decides, the store remembers, and
what is here moves messages between them. Nothing in it blocks the event loop: the store is called
from a few threads, results are committed by one.
"""
