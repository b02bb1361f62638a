"""References and controls that the model is compared with."""
