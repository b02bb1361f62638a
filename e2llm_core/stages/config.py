"""Settings that stages share. Light to import: specs are validated from here before anything heavy is loaded."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from e2llm_core.claims.table import DEFAULT_KINDS, ClaimKindName
from e2llm_core.plan import Plan
from e2llm_core.tasks.facts import ClaimChoice
from e2llm_core.training.config import TrainConfig
from storage.places.base import Place, StoreURL
from storage.sampling.strata import Balance
from storage.splits import BySubject, SplitConfig
from storage.windows import WindowConfig

if TYPE_CHECKING:
    from e2llm_core.sizes.workload import Workload
    from e2llm_core.training.stage import Stage

Attention = Literal["auto", "flash_attention_2", "sdpa"]


class FolderOrHub:
    """Marks a string that names a local folder, a URL or, where there is none, a model on the hub."""


class DataConfig(BaseModel):
    """Where the EEG is, how it is cut, and the split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: StoreURL = Field(description="folder, or s3://bucket/prefix")
    windows: WindowConfig = Field(default_factory=WindowConfig)
    split: SplitConfig = Field(default_factory=BySubject)
    claims: tuple[ClaimKindName, ...] = Field(
        DEFAULT_KINDS, min_length=1, description="kinds of claim that are measured, regressed by stage 1 and claimed"
    )


class CachedDataConfig(DataConfig):
    """The same for stages with a frozen tower: its outputs, and the dialogues, may have been made beforehand."""

    features: Place | None = Field(
        None, description="folder of a `features` run's output; null: the tower runs in every step"
    )
    corpus: Place | None = Field(
        None, description="folder of a `corpus` run's output; null: dialogues are drawn while training"
    )


class EEGTrainConfig(TrainConfig):
    """Training settings of the stages that read EEG."""

    balance: Balance = Field("none", description="what is drawn equally often, besides every window once per epoch")


class LanguageTrainConfig(EEGTrainConfig):
    """Training settings of the stages with a language model."""

    attention: Attention = Field("auto", description="auto: FlashAttention 2 where it can run, else SDPA")
    counts: Literal["tokens", "answers"] = Field(
        "answers",
        description="what counts the same in the loss: every supervised token, or every sample, by the mean "
        "negative log-likelihood of its answers",
    )
    claims: ClaimChoice = Field(default_factory=ClaimChoice, description="which claims a rationale makes")


class StagePlan(Plan):
    """What every stage's plan holds, and what it knows of the stage: `kind` is its name."""

    kind: str
    train: TrainConfig = Field(default_factory=TrainConfig)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the parameter groups that may have a learning rate of their own."""
        return ()

    @abstractmethod
    def stage(self) -> "Stage":
        """Make the stage that the trainer runs."""

    @abstractmethod
    def workload(self) -> "Workload":
        """What is trained and how, for the planner. Nothing that the plan names has to exist.

        Raises
        ------
        InputError
            When the language model's size is not known.
        """

    @model_validator(mode="after")
    def _rates_of_known_groups(self) -> Self:
        if unknown := sorted(set(self.train.learning_rates) - set(self.groups)):
            raise ValueError(f"train.learning_rates: no group {', '.join(unknown)}; it has {', '.join(self.groups)}")
        return self


class LanguageStagePlan(StagePlan):
    """What the plans of the stages with a language model hold."""

    data: CachedDataConfig
    train: LanguageTrainConfig = Field(default_factory=LanguageTrainConfig)

    @property
    @abstractmethod
    def shares(self) -> tuple[str, ...]:
        """Tasks, or forms of question, that it trains, in equal shares."""

    @property
    def drawn_with(self) -> dict[str, Any]:
        """The settings that its dialogues depend on, beside the inputs."""
        settings = {"train": {"seed", "balance", "claims"}, "data": {"claims"}}
        return self.model_dump(mode="json", include=settings) | {"shares": list(self.shares)}


def build_stage(plan: StagePlan) -> "Stage":
    """Make the stage that a plan describes.

    Raises
    ------
    InputError
        If this machine lacks what the plan needs; before anything is read.
    """
    from e2llm_core.training.offload import check_offload

    check_offload(plan.train)
    return plan.stage()
