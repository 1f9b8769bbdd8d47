"""The live page: fleet, sweeps and results as they are now, read-only, for a viewer's browser."""
