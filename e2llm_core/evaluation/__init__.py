"""Scores, intervals, controls, the classical baseline and the report of an evaluation."""
