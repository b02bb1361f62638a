"""Published tables: the specs that make each, whether these have changed, and whether its numbers are reproduced."""
