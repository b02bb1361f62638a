"""Settings of stage 2. Light to import."""

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from e2llm_core.llm.families.table import family_names
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.stages.config import CachedDataConfig, FolderOrHub, LanguageTrainConfig, StagePlan
from storage.places.base import Place, checked_url

if TYPE_CHECKING:
    from e2llm_core.training.stage import Stage


class AlignedModel(BaseModel):
    """What stage 2 joins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tower: Place = Field(description="model directory of stage 1")
    llm: Annotated[str, FolderOrHub, AfterValidator(checked_url)] = Field(
        description=f"{family_names()}: a folder, s3://bucket/prefix, or a hub id"
    )
    projector: ProjectorConfig = Field(default_factory=ProjectorConfig)


class Stage2Plan(StagePlan):
    """Stage 2, cross-modal alignment."""

    data: CachedDataConfig
    train: LanguageTrainConfig = Field(default_factory=LanguageTrainConfig)
    model: AlignedModel

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("projector",)

    def stage(self) -> "Stage":
        """Make the stage."""
        from e2llm_core.stages.data import EEGData
        from e2llm_core.stages.stage2.stage import Stage2
        from storage.places.fetching import fetched

        tower = fetched(self.model.tower)
        data = EEGData.open(self.data, tower)
        return Stage2(data, tower, self.model.llm, self.model.projector, self.train)
