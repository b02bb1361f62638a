"""What can be run: executable YAML specs, their typed schema, and the entry points."""
