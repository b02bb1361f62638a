"""A trained model's answers: to questions, for windows, for one file."""
