"""What a plan would train, in numbers: parameters and tokens, counted without making a model."""
