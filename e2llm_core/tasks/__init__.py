"""The tasks: what is asked about segments, and what is answered."""
