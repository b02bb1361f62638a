"""Settings of the projector. Light to import."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ProjectorConfig(BaseModel):
    """The map from tower tokens to the language model's embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mlp", "resampler", "worded"] = "worded"
    hidden: int | None = Field(None, ge=8, description="width of the MLP; None for the language model's")
    strongest: int | None = Field(
        None, ge=1, le=8, description="quantities that the worded projector tells of a segment"
    )
    num_queries: int | None = Field(None, ge=1, description="tokens per segment of the resampler")

    def settings(self) -> dict[str, object]:
        """The projector's own settings."""
        return self.model_dump(exclude_none=True)
