"""What a sweep asks for and what comes next: the sweep file, its plan, leases and progress."""
