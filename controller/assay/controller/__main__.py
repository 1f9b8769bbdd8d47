"""``python -m assay.controller``: the same as ``assay``."""

from assay.controller.cli import main

main()
