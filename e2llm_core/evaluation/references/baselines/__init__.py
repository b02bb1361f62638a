"""Baselines: each one file, listed in `table`."""
