"""The process that measures: one run, then it ends.

``python -m assay.agent.worker ORDER.pb`` reads a :class:`assay.core.model.WorkerOrder`, does what
:mod:`assay.agent.worker.conduct` says in that order, and leaves ``report.pb`` and ``trace.npz`` in
the run's directory. It opens no connection and imports no grpc.
"""
