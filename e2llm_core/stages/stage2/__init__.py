"""Stage 2, cross-modal alignment of the projector: its plan and its stage."""
