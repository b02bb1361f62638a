"""What ails a node or a cluster, before a long run finds it."""
