"""Settings of stage 3. Light to import."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from e2llm_core.encoders import default_tower
from e2llm_core.inputs import CorpusInput, FeaturesInput, Fit, LabelledWindows, ModelInput, StoreLabels
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.plan import Input
from e2llm_core.sizes.llm import llm_size, size_from_config
from e2llm_core.sizes.workload import Part, Workload, described, language_workload, read_json, tower_of
from e2llm_core.stages.config import FolderOrHub, LanguageStagePlan, LanguageTrainConfig
from e2llm_core.tasks.circumplex import affects_of
from e2llm_core.tasks.registry import DEFAULT_TASKS, TrainedTaskName, trained_named
from storage.errors import InputError
from storage.places.base import Place, checked_url
from storage.places.fetching import SETTINGS, fetched
from storage.places.location import locate

if TYPE_CHECKING:
    from e2llm_core.training.stage import Stage


DEFAULT_LLM = "Qwen/Qwen3-8B"
"""What the shipped stage 2 aligns: for the planner, where nothing says otherwise."""


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
    """Models that stage 3 tunes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Place = Field(description="model directory of stage 2")
    llm: Annotated[Annotated[str, AfterValidator(checked_url)] | None, FolderOrHub] = Field(
        None, description="must be the language model that stage 2 aligned; null to take it"
    )


@dataclass(frozen=True)
class AlignedLLM(Input):
    """The language model that stage 3 names, which must be the one that stage 2 aligned; no input of its own."""

    model: TunedModel

    def digest(self) -> None:
        """Refuse a model that stage 2 did not align."""
        if self.model.llm is None:
            return
        from e2llm_core.model.model_io import llm_place

        start = fetched(self.model.start, SETTINGS)
        source = json.loads((start / "config.json").read_text()).get("llm_source")
        aligned = "" if source is None else source["name"]
        if self.model.llm.rstrip("/") not in (aligned, llm_place(self.model.start, source)):
            raise InputError(
                f"{self.field}: {self.model.llm}",
                f"stage 2 aligned its projector to {aligned}",
                f"Run stage 2 with model.llm={self.model.llm} and start from its model.",
            )


class Stage3Plan(LanguageStagePlan):
    """Stage 3: instruction tuning with chain of thought."""

    kind: Literal["stage3"] = "stage3"
    model: TunedModel
    tasks: tuple[TrainedTaskName, ...] = Field(DEFAULT_TASKS, min_length=1)
    train: Stage3TrainConfig = Field(default_factory=Stage3TrainConfig)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("projector", "lora" if self.train.lora is not None else "llm")

    @property
    def shares(self) -> tuple[str, ...]:
        """`tasks`."""
        return self.tasks

    def inputs(self) -> tuple[Input, ...]:
        """Stage 2's model with the language model that it names, labelled windows, and features if any."""
        store = self.data.store
        return (
            ModelInput("model.start", self.model.start),
            LabelledWindows("data.store", self.data),
            *([StoreLabels("train.claims.affect", store, affects_of)] if self.train.claims.affect else []),
            *(StoreLabels("tasks", store, task.check_labels) for task in trained_named(dict.fromkeys(self.tasks))),
            AlignedLLM("model.llm", self.model),
            Fit("model.start", self.model.start, self.data),
            FeaturesInput("data.features", self.data, self.model.start),
            CorpusInput("data.corpus", self.data, self.model.start, self.kind, self.drawn_with),
        )

    def workload(self) -> Workload:
        """Projector and adapters, or the whole language model; by the shipped defaults while stage 2 has not run."""
        start, lora, note = self.model.start, self.train.lora, None
        if locate(start).exists("config.json"):
            content = read_json(start, "config.json")
            llm = size_from_config(content["text_config"], start)
            given = {key: content["projector"].get(key) for key in ("kind", "hidden", "num_queries")}
            projector = ProjectorConfig.model_validate({k: value for k, value in given.items() if value is not None})
            tower, notes = tower_of(start)
        else:
            llm, tower, projector = llm_size(self.model.llm or DEFAULT_LLM), default_tower(), ProjectorConfig()
            notes = (f"{start} is not there: an mlp projector and {described(tower)} are assumed",)
            if self.model.llm is None:
                note = f"Assumes {DEFAULT_LLM}, the shipped default (model.llm=... names another): there is no {start}."
        work = language_workload(
            self.kind,
            self.train,
            self.data.windows,
            llm,
            tower,
            projector,
            trained_named(self.tasks),
            notes,
            llm_trains=lora is None,
        )
        changes: dict[str, object] = {"llm_note": note}
        if lora is not None:
            adapters = Part.of("lora", llm.lora_tensors(lora.r, lora.target_modules), trains=True)
            changes |= {"parts": (*work.parts, adapters), "lora_modules": lora.target_modules}
        return work.model_copy(update=changes)

    def stage(self) -> "Stage":
        """Build the stage."""
        from e2llm_core.stages.data import EEGData
        from e2llm_core.stages.stage3.stage import Stage3

        data = EEGData.open(self.data, fetched(self.model.start))
        return Stage3(data, self.model.start, self.train.lora, self.tasks, self.train)
