"""Everything that runs on the bench host."""
