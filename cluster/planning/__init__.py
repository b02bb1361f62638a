"""What a training job needs of a cluster, computed before it starts."""
