"""From power readings to joules, and how well a sensor reads."""
