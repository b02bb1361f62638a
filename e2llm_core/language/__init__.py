"""What is said about EEG: measurable quantities, claims, dialogues, and the project's own text corpus."""
