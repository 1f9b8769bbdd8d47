"""The store and the fleet as a page for Prometheus."""
