"""A board someone else has: what its samplers would read, in one archive with nothing private."""
