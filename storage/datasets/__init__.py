"""Published facts of the data sets that readers know."""
