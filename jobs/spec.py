"""The job specs: one typed model per kind, composed of the settings that live next to the code they configure.

Relative paths are relative to the repository (or to ``E2LLM_ROOT``). Nothing heavy is imported here.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cluster.batch.plans import FeaturesPlan
from cluster.session import Resources, TrainingResources
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.inference.config import ScoringPlan
from e2llm_core.stages.stage1.plan import Stage1Plan
from e2llm_core.stages.stage2.plan import Stage2Plan
from e2llm_core.stages.stage3.plan import Stage3Plan
from e2llm_core.stages.tiny_llm.plan import TinyLLMPlan
from storage.layout import LayoutConfig
from storage.places.base import Place, StoreURL
from storage.readers import AnySource
from storage.signal import SignalConfig
from storage.twin import TwinConfig


class Job(BaseModel):
    """What every spec holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Place = Field(description="of the run: spec, metrics, checkpoints, model, results")


class ClusterJob(Job):
    """What the spec of a job holds that is spread over a fixed number of workers."""

    resources: Resources = Field(default_factory=Resources)


class TrainingJob(Job):
    """What the spec of a training run holds."""

    resources: TrainingResources = Field(default_factory=TrainingResources)


class IngestSpec(ClusterJob):
    """EEG recordings into a Zarr store."""

    kind: Literal["ingest"]
    dataset: str = Field(min_length=1, description="name that results carry")
    store: StoreURL = Field(description="folder, or s3://bucket/prefix")
    source: AnySource
    signal: SignalConfig = Field(default_factory=SignalConfig)
    layout: LayoutConfig = Field(default_factory=LayoutConfig)
    prune: bool = Field(False, description="remove recordings from the store that the source no longer has")
    twin: TwinConfig | None = Field(None, description="first write a synthetic twin of SEED-VII to source.root")

    @model_validator(mode="after")
    def _twin_is_seed_vii(self) -> "IngestSpec":
        if self.twin is not None and self.source.format != "seed-vii":
            raise ValueError("twin writes SEED-VII's layout, so source.format must be seed-vii")
        return self


class TinyLLMSpec(TrainingJob, TinyLLMPlan):
    """A small language model and its tokenizer from scratch, the demo's stand-in for a pretrained one."""

    kind: Literal["tiny-llm"]


class Stage1Spec(TrainingJob, Stage1Plan):
    """Stage 1: emotion-discriminative pretraining of the EEG tower."""

    kind: Literal["stage1"]


class FeaturesSpec(ClusterJob, FeaturesPlan):
    """Outputs of a frozen tower for every window of a store, computed once for stages 2 and 3."""

    kind: Literal["features"]


class Stage2Spec(TrainingJob, Stage2Plan):
    """Stage 2: cross-modal alignment of the projector."""

    kind: Literal["stage2"]


class Stage3Spec(TrainingJob, Stage3Plan):
    """Stage 3: instruction tuning with chain of thought."""

    kind: Literal["stage3"]


class EvaluateSpec(ClusterJob, EvaluationPlan):
    """Evaluation of a served model on held-out subjects, with baselines, controls and a report."""

    kind: Literal["evaluate"]


class ScoreSpec(ClusterJob, ScoringPlan):
    """Batch scoring of a store into Parquet."""

    kind: Literal["score"]


SPECS: dict[str, type[Job]] = {
    "ingest": IngestSpec,
    "tiny-llm": TinyLLMSpec,
    "stage1": Stage1Spec,
    "features": FeaturesSpec,
    "stage2": Stage2Spec,
    "stage3": Stage3Spec,
    "evaluate": EvaluateSpec,
    "score": ScoreSpec,
}
"""Kind -> model of its spec."""
