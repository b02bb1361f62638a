"""Baselines, one file each, listed in `table`."""
