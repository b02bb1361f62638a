"""Typed settings of cluster jobs that are not a stage. Light to import."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from storage.splits import SplitConfig


class ScoringPlan(BaseModel):
    """What is scored by which model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Path
    model: Path = Field(description="model directory of stage 3")
    split: SplitConfig | None = Field(None, description="with `side`: score one side of a split only")
    side: Literal["train", "validation", "test"] = "test"
    stride_seconds: float = Field(4.0, gt=0)
