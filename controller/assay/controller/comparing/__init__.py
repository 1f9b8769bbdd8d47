"""From results to verdicts: figures, pairs, intervals and sentences."""
