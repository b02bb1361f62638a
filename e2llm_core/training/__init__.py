"""The training engine: one loop, one class that touches DeepSpeed, checkpoints that survive kills."""

import os

# Kineto, which times the collectives, otherwise writes two lines to stderr whenever it starts and stops, and reads
# this once, when torch is loaded.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")
