"""Settings of stage 1. Light to import."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from e2llm_core.counts import Tensors
from e2llm_core.encoders import AnyTower, default_tower
from e2llm_core.inputs import FileInput, LabelledWindows
from e2llm_core.plan import Input
from e2llm_core.sizes.tower import tower_tensors
from e2llm_core.sizes.workload import Part, Sample, Workload, num_channels, number_bytes
from e2llm_core.stages.config import DataConfig, EEGTrainConfig, StagePlan
from e2llm_core.stages.stage1.objectives.config import Stage1Losses

if TYPE_CHECKING:
    from e2llm_core.training.stage import Stage


class Stage1Plan(StagePlan):
    """Stage 1: emotion-discriminative pretraining of the EEG tower."""

    kind: Literal["stage1"] = "stage1"
    data: DataConfig
    train: EEGTrainConfig = Field(default_factory=EEGTrainConfig)
    model: AnyTower = Field(default_factory=default_tower)
    losses: Stage1Losses = Field(default_factory=Stage1Losses)

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
            f"no {self.model.title} checkpoint here",
            "Download the published one, or set model.weights=null to start from scratch.",
        )
        return weights, data

    def workload(self) -> Workload:
        """The tower with its heads, all of them trained."""
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
            patches=self.model.contract.num_patches(windows.window_seconds),
            channels=num_channels(windows, self.model),
            lora_modules=None,
            train=self.train,
            assumptions=("stage 1's heads have 128 outputs in all",),
        )

    def stage(self) -> "Stage":
        """Build the stage, which reads a sample of the training windows to fit its targets."""
        from e2llm_core.stages.data import EEGData
        from e2llm_core.stages.stage1.stage import Stage1

        return Stage1(EEGData.open(self.data), self.model, self.losses, self.train.seed, self.train.balance)
