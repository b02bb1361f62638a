"""The report of an evaluation: page, figures, verdicts."""
