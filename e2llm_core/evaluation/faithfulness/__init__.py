"""Checks of faithfulness: whether a rationale is true of the signal, suffices for the answer, and carries it."""
