"""Settings of an evaluation."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from e2llm_core.inputs import FileInput, Fit, LabelledWindows, ModelInput, RunInput
from e2llm_core.plan import Input, Plan
from e2llm_core.stages.config import DataConfig
from e2llm_core.tasks.question import Readout
from e2llm_core.tasks.registry import DEFAULT_TASKS, LABELLING, TASKS, MetricName, TaskName
from storage.places.base import Place


class PrimaryEndpoint(BaseModel):
    """The one number that was declared before training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: TaskName = LABELLING.name
    metric: MetricName = LABELLING.metrics[0].name
    readout: Readout = "generation"

    @model_validator(mode="after")
    def _metric_of_task(self) -> "PrimaryEndpoint":
        known = [metric.name for metric in TASKS[self.task].metrics]
        if self.metric not in known:
            raise ValueError(f"metric {self.metric} is none of {self.task}, which has {', '.join(known)}")
        return self


class EvaluationPlan(Plan):
    """What is evaluated, on whom, and against what."""

    data: DataConfig
    model: Place = Field(description="model directory of stage 3")
    tasks: tuple[TaskName, ...] = Field(DEFAULT_TASKS, min_length=1)
    primary: PrimaryEndpoint = Field(default_factory=PrimaryEndpoint)
    num_pairs: int = Field(600, ge=10, description="items of a task that draws them: pairs of test windows")
    stages: dict[str, Place] = Field(default_factory=dict, description="training runs whose curves are shown")
    twin: Path | None = Field(None, description="folder of a synthetic twin: adds its oracle and the notice")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _primary_is_asked(self) -> "EvaluationPlan":
        if self.primary.task not in self.tasks:
            raise ValueError(f"primary.task {self.primary.task} is not among tasks {list(self.tasks)}")
        return self

    def inputs(self) -> tuple[Input, ...]:
        """The runs whose curves are shown, stage 3's model, labelled windows, and a twin if any."""
        inputs: list[Input] = [RunInput(f"stages.{name}", run) for name, run in self.stages.items()]
        inputs += [
            ModelInput("model", self.model),
            LabelledWindows("data.store", self.data),
            Fit("model", self.model, self.data),
        ]
        if self.twin is not None:
            remedy = "Name the folder of the twin, or leave it out."
            inputs.append(FileInput("twin", self.twin, "no twin.json here", remedy, name="twin.json"))
        return tuple(inputs)
