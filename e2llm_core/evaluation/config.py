"""Settings of an evaluation."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from e2llm_core.evaluation.faithfulness.settings import FaithfulnessSettings
from e2llm_core.evaluation.inputs import Heads, TrainedLabels
from e2llm_core.evaluation.references.baselines.table import BASELINES, DEFAULT_BASELINES
from e2llm_core.evaluation.references.fitted_controls import PERMUTED_LABELS
from e2llm_core.inputs import FileInput, Fit, LabelledWindows, ModelInput, RunInput, StoreLabels
from e2llm_core.oneof import OneOf
from e2llm_core.plan import Input, Plan
from e2llm_core.stages.config import DataConfig
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.question import Readout
from e2llm_core.tasks.registry import (
    DEFAULT_TASKS,
    LABELLING,
    TASKS,
    ControlName,
    MetricName,
    TaskName,
    control_names,
    tasks_named,
)
from storage.places.base import Place

SINGLE = "e2llm"
"""Name in the results of a model that is evaluated alone."""
REFERENCES = "references"
"""Name under which the predictions of references and fitted controls are saved."""
LOOKUP = "lookup"
"""Name in the results of answers that are looked up (`e2llm_core.evaluation.lookup`)."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PARTS = ("probe", "tower", "oracle", LOOKUP, REFERENCES)

BaselineName = Annotated[str, OneOf(lambda: BASELINES)]
"""Type of a setting that names a registered baseline."""


class PrimaryEndpoint(BaseModel):
    """The one number of each model that is declared before training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: TaskName = LABELLING.name
    metric: MetricName = LABELLING.metrics[0].name
    readout: Readout = "generation"

    @model_validator(mode="after")
    def _metric_of_task(self) -> "PrimaryEndpoint":
        known = [metric.name for metric in TASKS[self.task].metrics]
        if self.metric not in known:
            raise ValueError(f"{self.metric} is not a metric of {self.task}, which has {', '.join(known)}")
        return self


class EvaluationPlan(Plan):
    """Models to evaluate, test data, and the references and controls to compare with."""

    data: DataConfig
    model: Place | None = Field(None, description="model directory; one of stage 1 answers with its label head only")
    models: dict[str, Place] = Field(
        default_factory=dict, description="several model directories, by their names in the results"
    )
    tasks: tuple[TaskName, ...] = Field(DEFAULT_TASKS, min_length=1)
    primary: PrimaryEndpoint = Field(default_factory=PrimaryEndpoint)
    num_pairs: int = Field(
        600, ge=10, description="number of items of a task that draws them, such as pairs of test windows"
    )
    faithfulness: FaithfulnessSettings = Field(
        default_factory=FaithfulnessSettings, description="size of the checks of rationales that make claims"
    )
    baselines: tuple[BaselineName, ...] = Field(DEFAULT_BASELINES, description="baselines to fit to the same windows")
    controls: tuple[ControlName, ...] | None = Field(
        None, description="controls to run; null: those that need no fitting; see docs/evaluation.md"
    )
    kept_features: Place | None = Field(
        None, description="folder that keeps the baselines' features for other folds and seeds; null: not kept"
    )
    missing_labels: Literal["error", "accept"] = Field(
        "error", description="accept: fit baselines even if a tested class has no training trial"
    )
    stages: dict[str, Place] = Field(default_factory=dict, description="training runs whose learning curves are shown")
    twin: Path | None = Field(None, description="folder of a synthetic twin: adds its oracle and the notice")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _primary_is_asked(self) -> "EvaluationPlan":
        if self.primary.task not in self.tasks:
            raise ValueError(f"primary.task {self.primary.task} is not among tasks {list(self.tasks)}")
        return self

    @model_validator(mode="after")
    def _models_have_names(self) -> "EvaluationPlan":
        if self.model is not None and self.models:
            raise ValueError("name either model or models")
        taken = {*BASELINES, *control_names(), EEG, *_PARTS}
        for name in self.models:
            if not _NAME.fullmatch(name):
                raise ValueError(f"models: {name!r} is not a name: use letters, digits, dots, dashes, underscores")
            if name in taken or name.startswith(tuple(f"{part}-" for part in _PARTS)):
                raise ValueError(f"models: {name} already names something else in the results")
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError("baselines names one of them twice")
        return self

    @model_validator(mode="after")
    def _something_answers(self) -> "EvaluationPlan":
        if not (self.named_models or self.baselines or self.twin or self.controls is None or self.controls):
            raise ValueError("nothing is evaluated: name a model, a baseline or a control")
        return self

    @property
    def named_models(self) -> dict[str, Place]:
        """Model directories by the names of their rows."""
        return dict(self.models) if self.model is None else {SINGLE: self.model}

    def of(self, place: Place) -> "EvaluationPlan":
        """Copy of the plan with the model at `place` alone."""
        return self.model_copy(update={"model": place, "models": {}})

    def runs(self, control: str, fitted: bool = False) -> bool:
        """Whether to run a control; `fitted` says whether something is fitted for it."""
        return not fitted if self.controls is None else control in self.controls

    def inputs(self) -> tuple[Input, ...]:
        """The runs whose curves are shown, the models, labelled windows, and a twin if any."""
        fields = {f"models.{name}" if self.models else "model": place for name, place in self.named_models.items()}
        inputs: list[Input] = [RunInput(f"stages.{name}", run) for name, run in self.stages.items()]
        inputs += [ModelInput(field, place) for field, place in fields.items()]
        inputs.append(LabelledWindows("data.store", self.data))
        inputs += [StoreLabels("tasks", self.data.store, task.check_labels) for task in tasks_named(self.tasks)]
        inputs += [Fit(field, place, self.data) for field, place in fields.items()]
        if self.twin is not None:
            remedy = "Name the folder of the twin, or leave it out."
            inputs.append(FileInput("twin", self.twin, "no twin.json here", remedy, name="twin.json"))
        fitted = [*self.baselines, *(name for name in self.controls or () if name == PERMUTED_LABELS.name)]
        if fitted and self.missing_labels == "error":
            inputs.append(TrainedLabels("data.split", self.data, ", ".join(fitted)))
        inputs += [Heads(field, place) for field, place in fields.items()]
        return tuple(inputs)
