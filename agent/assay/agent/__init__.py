"""Everything that runs on a device."""

import sys

from assay.agent.platform import python_problem

# Here, because everything below needs a newer Python to be imported at all.
if python_problem():
    sys.exit("error: " + python_problem())
