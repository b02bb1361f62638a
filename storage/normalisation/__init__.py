"""Normalisation of windows under a named rule of what may be known of a session."""
