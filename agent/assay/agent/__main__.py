"""``python -m assay.agent``: the same as ``assay-agent``."""

from assay.agent.cli import main

main()
