"""The EEG tower: an encoder, a temporal transformer, and what is done to the signal before them."""
