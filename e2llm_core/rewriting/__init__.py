"""Rationales in other words, by a larger language model, with every claim kept."""
