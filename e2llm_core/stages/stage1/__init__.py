"""Stage 1, emotion-discriminative pretraining of the EEG tower: its plan and its stage."""
