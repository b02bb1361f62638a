"""Starting a Ray cluster on this machine or on several hosts."""
