"""Stage 3, instruction tuning: its plan and its stage."""
