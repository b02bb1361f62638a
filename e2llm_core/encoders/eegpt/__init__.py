"""EEGPT (Wang et al., NeurIPS 2024): spatial attention within each 250 ms patch."""
