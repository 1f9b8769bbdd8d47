"""What makes numbers clean on this board: what stands, what would be better, set and put back."""
