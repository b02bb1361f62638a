"""Settings of an evaluation."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from e2llm_core.stages.config import DataConfig, Task
from storage.places.base import Place


class PrimaryEndpoint(BaseModel):
    """The one number that was declared before training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task = "IED"
    metric: Literal["balanced_accuracy", "accuracy", "cohen_kappa", "weighted_f1"] = "balanced_accuracy"
    readout: Literal["likelihood", "generation"] = "generation"


class EvaluationPlan(BaseModel):
    """What is evaluated, on whom, and against what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: DataConfig
    model: Place = Field(description="model directory of stage 3")
    tasks: tuple[Task, ...] = Field(("IED", "EPC"), min_length=1)
    primary: PrimaryEndpoint = Field(default_factory=PrimaryEndpoint)
    num_pairs: int = Field(600, ge=10, description="pairs of test windows for EPC")
    stages: dict[str, Place] = Field(default_factory=dict, description="training runs whose curves are shown")
    twin: Path | None = Field(None, description="folder of a synthetic twin: adds its oracle and the notice")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _primary_is_asked(self) -> "EvaluationPlan":
        if self.primary.task not in self.tasks:
            raise ValueError(f"primary.task {self.primary.task} is not among tasks {list(self.tasks)}")
        return self
