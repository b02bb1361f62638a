"""Published tables: what makes each, whether it has changed since, and whether the numbers come out again."""
