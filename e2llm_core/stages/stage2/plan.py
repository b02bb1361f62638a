"""Settings of stage 2. Light to import."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from e2llm_core.inputs import CorpusInput, FeaturesInput, Fit, LabelledWindows, LLMInput, ModelInput, StoreLabels
from e2llm_core.llm.families.table import family_names
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.plan import Input
from e2llm_core.sizes.llm import llm_size
from e2llm_core.sizes.workload import Workload, language_workload, tower_of
from e2llm_core.stages.config import FolderOrHub, LanguageStagePlan
from e2llm_core.tasks.circumplex import affects_of
from e2llm_core.tasks.registry import READINGS, ReadingName
from storage.places.base import Place, checked_url

if TYPE_CHECKING:
    from e2llm_core.training.stage import Stage


class AlignedModel(BaseModel):
    """Models that stage 2 connects."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tower: Place = Field(description="model directory of stage 1")
    llm: Annotated[str, FolderOrHub, AfterValidator(checked_url)] = Field(
        description=f"{family_names()}: a folder, s3://bucket/prefix, or a hub id"
    )
    projector: ProjectorConfig = Field(default_factory=ProjectorConfig)


class Stage2Plan(LanguageStagePlan):
    """Stage 2: cross-modal alignment of the projector."""

    kind: Literal["stage2"] = "stage2"
    model: AlignedModel
    readings: tuple[ReadingName, ...] = Field(tuple(READINGS), min_length=1)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("projector",)

    @property
    def shares(self) -> tuple[str, ...]:
        """`readings`."""
        return self.readings

    @property
    def drawn_with(self) -> dict[str, Any]:
        """The settings that its dialogues depend on: also what the projector tells."""
        return super().drawn_with | {
            "projector": {"kind": self.model.projector.kind, "strongest": self.model.projector.strongest}
        }

    def inputs(self) -> tuple[Input, ...]:
        """Stage 1's model, labelled windows, a language model, and features if any."""
        store = self.data.store
        return (
            ModelInput("model.tower", self.model.tower),
            LabelledWindows("data.store", self.data),
            *([StoreLabels("train.claims.affect", store, affects_of)] if self.train.claims.affect else []),
            LLMInput("model.llm", self.model.llm),
            Fit("model.tower", self.model.tower, self.data),
            FeaturesInput("data.features", self.data, self.model.tower),
            CorpusInput("data.corpus", self.data, self.model.tower, self.kind, self.drawn_with),
        )

    def workload(self) -> Workload:
        """A new projector between a frozen tower and a frozen language model."""
        tower, notes = tower_of(self.model.tower)
        llm, projector = llm_size(self.model.llm), self.model.projector
        forms = [READINGS[name] for name in self.readings]
        return language_workload(self.kind, self.train, self.data.windows, llm, tower, projector, forms, notes)

    def stage(self) -> "Stage":
        """Build the stage."""
        from e2llm_core.stages.data import EEGData
        from e2llm_core.stages.stage2.stage import Stage2
        from storage.places.fetching import fetched

        tower = fetched(self.model.tower)
        data = EEGData.open(self.data, tower)
        return Stage2(data, tower, self.model.llm, self.model.projector, self.train, self.readings)
