"""Stage 2's forms: small questions about a segment whose answers only its EEG decides."""
