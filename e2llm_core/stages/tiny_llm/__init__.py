"""The `tiny-llm` job: its plan and its stage."""
