"""Settings of stage 3. Light to import."""

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from e2llm_core.stages.config import CachedDataConfig, FolderOrHub, LanguageTrainConfig, StagePlan
from e2llm_core.tasks.registry import DEFAULT_TASKS, TaskName
from storage.places.base import Place, checked_url

if TYPE_CHECKING:
    from e2llm_core.training.stage import Stage


class LoraSettings(BaseModel):
    """Low-rank adapters on the language model's linear layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


class Stage3TrainConfig(LanguageTrainConfig):
    """Training settings of stage 3."""

    lora: LoraSettings | None = Field(default_factory=LoraSettings, description="null trains the whole model")


class TunedModel(BaseModel):
    """What stage 3 tunes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Place = Field(description="model directory of stage 2")
    llm: Annotated[Annotated[str, AfterValidator(checked_url)] | None, FolderOrHub] = Field(
        None, description="must be the language model that stage 2 aligned; null to take it"
    )


class Stage3Plan(StagePlan):
    """Stage 3, instruction tuning."""

    data: CachedDataConfig
    model: TunedModel
    tasks: tuple[TaskName, ...] = Field(DEFAULT_TASKS, min_length=1)
    train: Stage3TrainConfig = Field(default_factory=Stage3TrainConfig)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("projector", "lora" if self.train.lora is not None else "llm")

    def stage(self) -> "Stage":
        """Make the stage."""
        from e2llm_core.stages.data import EEGData
        from e2llm_core.stages.stage3.stage import Stage3
        from storage.places.fetching import fetched

        data = EEGData.open(self.data, fetched(self.model.start))
        return Stage3(data, self.model.start, self.train.lora, self.tasks, self.train)
