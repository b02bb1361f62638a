"""Settings of scoring. Light to import."""

from typing import Literal

from pydantic import Field, model_validator

from e2llm_core.inputs import ModelInput, StoreInput
from e2llm_core.plan import Input, Plan
from storage.places.base import Place, StoreURL
from storage.splits import SplitConfig


class ScoringPlan(Plan):
    """What is scored by which model."""

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

    def inputs(self) -> tuple[Input, ...]:
        """The store, and stage 3's model."""
        return StoreInput("store", self.store, self.split), ModelInput("model", self.model)
