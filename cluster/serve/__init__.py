"""A model behind Ray Serve."""
