"""Settings of the `tiny-llm` job. Light to import."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.stages.config import StagePlan
from storage.labels import LabelSet

if TYPE_CHECKING:
    from e2llm_core.training.stage import Stage


class TinyLLMConfig(BaseModel):
    """Size of the stand-in for a pretrained language model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(640, ge=300)
    hidden_size: int = Field(128, ge=16)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(2, ge=1)
    intermediate: int = Field(384, ge=16)
    corpus_size: int = Field(20_000, ge=100)
    prompt_weight: float = Field(0.1, ge=0, le=1, description="weight of a prompt's tokens beside an answer's")


class TinyLLMPlan(StagePlan):
    """The `tiny-llm` job."""

    labels: LabelSet
    model: TinyLLMConfig = Field(default_factory=TinyLLMConfig)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("llm",)

    def stage(self) -> "Stage":
        """Make the stage."""
        from e2llm_core.stages.tiny_llm.stage import TextPretraining

        return TextPretraining(self.model, self.labels.names, self.train.seed)
