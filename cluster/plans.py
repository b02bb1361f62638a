"""Typed settings of cluster jobs that are not a stage. Light to import."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from storage.features import Precision
from storage.location import Place, StoreURL
from storage.splits import SplitConfig
from storage.windows import WindowConfig


class ScoringPlan(BaseModel):
    """What is scored by which model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: StoreURL = Field(description="folder, or s3://bucket/prefix")
    model: Place = Field(description="model directory of stage 3")
    split: SplitConfig | None = Field(None, description="with `side`: score one side of a split only")
    side: Literal["train", "validation", "test"] | None = Field(None, description="of the split")
    stride_seconds: float = Field(4.0, gt=0)

    @model_validator(mode="after")
    def _both_or_none(self) -> "ScoringPlan":
        if (self.split is None) != (self.side is None):
            raise ValueError("split and side go together; leave both out to score every trial")
        return self


class FeaturesPlan(BaseModel):
    """Which tower's outputs are computed for which windows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: StoreURL = Field(description="folder, or s3://bucket/prefix")
    windows: WindowConfig = Field(default_factory=WindowConfig)
    model: Place = Field(description="model directory of any stage: its tower")
    variants: int = Field(1, ge=1, description="versions of each window: as it is, and so many less one augmented")
    seed: int = Field(0, ge=0, description="of the augmentation")
    precision: Precision = Field("fp32", description="of the numbers on disk; they are computed in the tower's own")
    block: int = Field(256, ge=1, description="windows that are computed and written together")
