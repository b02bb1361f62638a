"""Language models: tokens, loading, attention, packing."""
