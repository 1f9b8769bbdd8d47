"""Artifacts over the wire, in a process of their own.

Moving gigabytes must never delay a Sync, so this is a plain threaded gRPC server beside the
control process; ``base`` is the interface a bucket can implement later.
"""
