"""One run from start to verdict: the worker, what is sampled around it, and what may spoil it."""
