"""The stages: what trains, on what, with which loss, and what each hands on."""
