"""The order of training samples, and their loading ahead of use."""
