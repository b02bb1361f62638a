"""Settings of stage 1. Light to import."""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from e2llm_core.inputs import FileInput, LabelledWindows
from e2llm_core.plan import Input
from e2llm_core.sizes.llm import Tensors
from e2llm_core.sizes.tower import patches, tower_tensors
from e2llm_core.sizes.workload import Part, Sample, Workload, num_channels, number_bytes
from e2llm_core.stages.config import DataConfig, EEGTrainConfig, StagePlan
from e2llm_core.tower.config import TowerConfig

if TYPE_CHECKING:
    from e2llm_core.training.stage import Stage


class Stage1Config(BaseModel):
    """Weights of stage 1's loss terms; 0 switches a term off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    contrastive: float = Field(0.1, ge=0, description="supervised contrastive loss on the summary of a window")
    measures: float = Field(0.5, ge=0, description="regression of the window's band powers and bursts by region")
    patch_powers: float = Field(0.5, ge=0, description="regression of every patch's band powers by region")
    temperature: float = Field(0.2, gt=0)
    augment: bool = Field(True, description="random polarity and circular shift in time")


class Stage1Plan(StagePlan):
    """Stage 1: emotion-discriminative pretraining of the EEG tower."""

    kind: Literal["stage1"] = "stage1"
    data: DataConfig
    train: EEGTrainConfig = Field(default_factory=EEGTrainConfig)
    model: TowerConfig = Field(default_factory=TowerConfig)
    losses: Stage1Config = Field(default_factory=Stage1Config)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("encoder", "heads")

    def inputs(self) -> tuple[Input, ...]:
        """The encoder's published weights, if any, and labelled windows."""
        data = LabelledWindows("data.store", self.data)
        if self.model.weights is None:
            return (data,)
        weights = FileInput(
            "model.weights",
            self.model.weights,
            "no EEGPT checkpoint here",
            "Download the published one, or set model.weights=null to start from scratch.",
        )
        return weights, data

    def workload(self) -> Workload:
        """The tower with its heads, all of which train."""
        width, windows = number_bytes(self.train), self.data.windows
        heads = [Tensors(name="heads", numel=self.model.temporal_dim * 128)]
        return Workload(
            stage=self.kind,
            llm=None,
            tower=self.model,
            parts=(
                Part.of("tower", tower_tensors(self.model), trains=True, bytes_each=width),
                Part.of("heads", heads, trains=True, bytes_each=width),
            ),
            sample=Sample(tokens=0, supervised=0, segments=1),
            patches=patches(windows.window_seconds),
            channels=num_channels(windows),
            lora_modules=None,
            train=self.train,
            assumptions=("stage 1's heads have 128 outputs in all",),
        )

    def stage(self) -> "Stage":
        """Make the stage, which reads a sample of the training windows to fit its targets."""
        from e2llm_core.stages.data import EEGData
        from e2llm_core.stages.stage1.stage import Stage1

        return Stage1(EEGData.open(self.data), self.model, self.losses, self.train.seed, self.train.balance)
