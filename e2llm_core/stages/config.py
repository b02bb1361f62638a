"""Typed settings of the stages. Light to import: specs are validated from here before anything heavy is loaded."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from e2llm_core.training.config import TrainConfig
from storage.labels import LabelSet
from storage.places.location import Place, StoreURL, checked_url
from storage.sampling.strata import Balance
from storage.splits import BySubject, SplitConfig
from storage.windows import WindowConfig

Task = Literal["IED", "EPC"]
Attention = Literal["auto", "flash_attention_2", "sdpa"]


class FolderOrHub:
    """Marks a string that names a local folder, a URL or, where there is none, a model on the hub."""


class DataConfig(BaseModel):
    """Where the EEG is, how it is cut, and the split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: StoreURL = Field(description="folder, or s3://bucket/prefix")
    windows: WindowConfig = Field(default_factory=WindowConfig)
    split: SplitConfig = Field(default_factory=BySubject)


class CachedDataConfig(DataConfig):
    """The same for stages with a frozen tower, whose outputs may have been computed beforehand."""

    features: Place | None = Field(
        None, description="folder of a `features` run's output; null: the tower runs in every step"
    )


class TowerConfig(BaseModel):
    """Size and start of the EEG tower. The defaults are EEGPT large with its published checkpoint's layout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["eegpt"] = "eegpt"
    weights: Place | None = Field(None, description="published EEGPT checkpoint, .safetensors or .ckpt")
    start: Literal["random", "fourier"] = Field("random", description="without weights: how a new encoder starts")
    dim: int = Field(512, ge=1)
    depth: int = Field(8, ge=1)
    num_heads: int = Field(8, ge=1)
    n_summary: int = Field(4, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    init_std: float = Field(0.02, gt=0)
    temporal_dim: int = Field(512, ge=1)
    temporal_depth: int = Field(4, ge=1)
    temporal_heads: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "TowerConfig":
        for width, heads in (("dim", "num_heads"), ("temporal_dim", "temporal_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(f"{heads} {getattr(self, heads)} does not divide {width} {getattr(self, width)}")
        return self


class Stage1Config(BaseModel):
    """Weights of stage 1's loss terms; 0 switches a term off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_smoothing: float = Field(0.1, ge=0, lt=1)
    contrastive: float = Field(0.1, ge=0, description="supervised contrastive loss on the summary of a window")
    measures: float = Field(0.5, ge=0, description="regression of the window's band powers and bursts by region")
    patch_powers: float = Field(0.5, ge=0, description="regression of every patch's band powers by region")
    temperature: float = Field(0.2, gt=0)
    augment: bool = Field(True, description="random polarity and circular shift in time")


class ProjectorConfig(BaseModel):
    """The map from tower tokens to the language model's embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mlp", "resampler"] = "mlp"
    hidden: int | None = Field(None, ge=8, description="width of the MLP; None for the language model's")
    num_queries: int | None = Field(None, ge=1, description="tokens per segment of the resampler")

    def settings(self) -> dict[str, object]:
        """The projector's own settings."""
        return self.model_dump(exclude_none=True)


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


class TinyLLMConfig(BaseModel):
    """Size of the stand-in for a pretrained Qwen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(640, ge=300)
    hidden_size: int = Field(128, ge=16)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(2, ge=1)
    intermediate: int = Field(384, ge=16)
    corpus_size: int = Field(20_000, ge=100)
    prompt_weight: float = Field(0.1, ge=0, le=1, description="weight of a prompt's tokens beside an answer's")


class EEGTrainConfig(TrainConfig):
    """Training settings of the stages that read EEG."""

    balance: Balance = Field("none", description="what is drawn equally often, besides every window once per epoch")


class LanguageTrainConfig(EEGTrainConfig):
    """Training settings of the stages with a language model."""

    attention: Attention = Field("auto", description="auto: FlashAttention 2 where it can run, else SDPA")


class Stage3TrainConfig(LanguageTrainConfig):
    """Training settings of stage 3."""

    lora: LoraSettings | None = Field(default_factory=LoraSettings, description="null trains the whole model")


class AlignedModel(BaseModel):
    """What stage 2 joins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tower: Place = Field(description="model directory of stage 1")
    llm: Annotated[str, FolderOrHub, AfterValidator(checked_url)] = Field(
        description="Qwen2.5 or Qwen3: a folder, s3://bucket/prefix, or a hub id"
    )
    projector: ProjectorConfig = Field(default_factory=ProjectorConfig)


class TunedModel(BaseModel):
    """What stage 3 tunes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Place = Field(description="model directory of stage 2")
    llm: Annotated[Annotated[str, AfterValidator(checked_url)] | None, FolderOrHub] = Field(
        None, description="must be the language model that stage 2 aligned; null to take it"
    )


class StagePlan(BaseModel):
    """What every stage's plan holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: TrainConfig = Field(default_factory=TrainConfig)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the parameter groups that may have a learning rate of their own."""
        return ()

    @model_validator(mode="after")
    def _rates_of_known_groups(self) -> Self:
        if unknown := sorted(set(self.train.learning_rates) - set(self.groups)):
            raise ValueError(f"train.learning_rates: no group {', '.join(unknown)}; it has {', '.join(self.groups)}")
        return self


class TinyLLMPlan(StagePlan):
    """The `tiny-llm` job."""

    labels: LabelSet
    model: TinyLLMConfig = Field(default_factory=TinyLLMConfig)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("llm",)


class Stage1Plan(StagePlan):
    """Stage 1, emotion-discriminative pretraining."""

    data: DataConfig
    train: EEGTrainConfig = Field(default_factory=EEGTrainConfig)
    model: TowerConfig = Field(default_factory=TowerConfig)
    losses: Stage1Config = Field(default_factory=Stage1Config)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("encoder", "heads")


class Stage2Plan(StagePlan):
    """Stage 2, cross-modal alignment."""

    data: CachedDataConfig
    train: LanguageTrainConfig = Field(default_factory=LanguageTrainConfig)
    model: AlignedModel

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("projector",)


class Stage3Plan(StagePlan):
    """Stage 3, instruction tuning."""

    data: CachedDataConfig
    model: TunedModel
    tasks: tuple[Task, ...] = Field(("IED", "EPC"), min_length=1)
    train: Stage3TrainConfig = Field(default_factory=Stage3TrainConfig)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its parameter groups."""
        return ("projector", "lora" if self.train.lora is not None else "llm")


Plan = TinyLLMPlan | Stage1Plan | Stage2Plan | Stage3Plan
