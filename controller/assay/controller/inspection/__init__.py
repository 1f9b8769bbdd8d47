"""What a model file holds, and what it answers in the reference run."""
