"""Everyday scenarios and the states that people are in: what text may teach, and what is kept for evaluation."""
