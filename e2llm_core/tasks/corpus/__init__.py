"""The project's own text corpus, on which the stand-in language model is trained. It holds no EEG."""
