"""What a device is: its identity, its class, and its state around a run."""
