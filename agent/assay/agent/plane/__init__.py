"""The agent between controller and measurement: leases in, results out, nothing lost."""
