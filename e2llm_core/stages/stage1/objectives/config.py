"""What a spec sets of stage 1's objectives. Light to import."""

from pydantic import BaseModel, ConfigDict, Field


class Stage1Losses(BaseModel):
    """Weights of stage 1's objectives, and their settings.

    An objective of weight 0 is switched off: it has no head, reads no target and makes no collective call. That of
    classification is 1, since stage 1 hands its head on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    contrastive: float = Field(0.1, ge=0, description="supervised contrastive loss on the summary of a window")
    measures: float = Field(0.5, ge=0, description="regression of the window's measures (docs/claims.md)")
    patch_powers: float = Field(0.5, ge=0, description="regression of every patch's band powers by region")
    temperature: float = Field(0.2, gt=0)
    augment: bool = Field(True, description="random polarity and circular shift in time")
