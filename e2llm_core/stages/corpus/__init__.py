"""Corpora of dialogues for stages 2 and 3: drawn beforehand and written, or read in the place of drawing."""
