"""Find the problems of a node or a cluster before a long run does."""
