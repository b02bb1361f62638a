"""The training engine: one loop, one class that touches DeepSpeed, checkpoints that survive kills."""
