"""Features of single windows, for classifiers."""
