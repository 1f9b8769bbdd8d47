"""Tethered phones: each one behind adb is a device of its own, presented by its host's agent."""
