"""The job specs: one typed model per kind, composed of the settings that live next to the code they configure.

Relative paths are relative to the repository (or to ``E2LLM_ROOT``). Nothing heavy is imported here.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, Field, create_model, model_validator

from cluster.batch.plans import FeaturesPlan
from cluster.resources import Resources, TrainingResources
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.inference.config import ScoringPlan
from e2llm_core.plan import Input, Plan
from e2llm_core.stages.config import FolderOrHub, StagePlan
from e2llm_core.stages.table import STAGES
from storage.layout import LayoutConfig
from storage.places.base import Place, StoreURL, is_url
from storage.places.location import locate
from storage.readers import AnySource
from storage.signal import SignalConfig
from storage.twin import TwinConfig


class Job(Plan):
    """What every spec holds, and what its job does. Its paths are absolute before anything but `kind` is asked."""

    kind: str
    run: Place = Field(description="of the run: spec, metrics, checkpoints, model, results")

    @property
    def looks_for_more(self) -> bool:
        """Whether a finished run looks for more to do."""
        return False

    @abstractmethod
    def work(self, facts: dict[str, Any]) -> None:
        """Do the job on the connected cluster.

        Parameters
        ----------
        facts : dict
            The run's environment, for reports.
        """

    def tidy(self) -> None:
        """Remove what nobody needs once the run is marked done."""


class ClusterJob(Job):
    """What the spec of a job holds that is spread over a fixed number of workers."""

    resources: Resources = Field(default_factory=Resources)


class TrainingJob(Job):
    """What the spec of a training run holds."""

    resources: TrainingResources = Field(default_factory=TrainingResources)

    def work(self, facts: dict[str, Any]) -> None:
        """Train the stage."""
        from cluster.train.training import train

        train(self.plan(), self.run, self.resources)

    def plan(self) -> StagePlan:
        """The spec without what belongs to the run."""
        plan = next(base for base in type(self).__bases__ if issubclass(base, StagePlan))
        return plan.model_construct(**{name: getattr(self, name) for name in plan.model_fields})


@dataclass(frozen=True)
class Recordings(Input):
    """What an ingest reads."""

    source: AnySource

    def digest(self) -> None:
        """Refuse a source without recordings. Each recording has a digest of its own."""
        self.source.list_recordings()


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

    def inputs(self) -> tuple[Input, ...]:
        """Recordings, unless it writes them itself."""
        return () if self.twin else (Recordings("source", self.source),)

    @property
    def looks_for_more(self) -> bool:
        """For new and changed recordings; those of a twin are always the same."""
        return self.twin is None or not locate(self.store).exists("zarr.json")

    def work(self, facts: dict[str, Any]) -> None:
        """Write the store."""
        from cluster.batch.ingest import ingest, make_twin
        from cluster.resources import require_resources
        from jobs.ingest import plan_of

        require_resources(self.resources)
        if self.twin is not None:
            make_twin(self.source.root, self.twin)
        ingest(plan_of(self), self.resources, self.run)


class FeaturesSpec(ClusterJob, FeaturesPlan):
    """Outputs of a frozen tower for every window of a store, computed once for stages 2 and 3."""

    kind: Literal["features"]

    def work(self, facts: dict[str, Any]) -> None:
        """Compute the features."""
        from cluster.batch.features import compute_features

        print(f"[features] {compute_features(self, self.run, self.resources)}", flush=True)


class EvaluateSpec(ClusterJob, EvaluationPlan):
    """Evaluation of a served model on held-out subjects, with baselines, controls and a report."""

    kind: Literal["evaluate"]

    def work(self, facts: dict[str, Any]) -> None:
        """Evaluate, and write the report."""
        from cluster.batch.evaluation import evaluate

        print(f"[evaluate] report: {evaluate(self, self.run, self.resources, facts)}", flush=True)

    def tidy(self) -> None:
        """Remove the answers that an interrupted evaluation would go on from."""
        from e2llm_core.evaluation.answers import discard_answers

        discard_answers(self.run)


class ScoreSpec(ClusterJob, ScoringPlan):
    """Batch scoring of a store into Parquet."""

    kind: Literal["score"]

    def work(self, facts: dict[str, Any]) -> None:
        """Score."""
        from cluster.batch.scoring import score

        print(f"[score] rows: {score(self, self.run, self.resources)}", flush=True)


def absolute(value: Any, root: Path) -> Any:
    """A copy of a spec, or a part of one, in which every path is absolute; URLs stay as they are."""
    if isinstance(value, Path):
        return root / value
    if isinstance(value, Place):
        return value if is_url(value) else Place(root / value)
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        changes = {name: absolute(getattr(value, name), root) for name in fields}
        for name in [name for name, field in fields.items() if FolderOrHub in field.metadata]:
            folder = root / (changes[name] or "")
            changes[name] = str(folder) if changes[name] and folder.is_dir() else changes[name]
        return value.model_copy(update=changes)
    if isinstance(value, tuple):
        return tuple(absolute(item, root) for item in value)
    if isinstance(value, Mapping):
        return {key: absolute(item, root) for key, item in value.items()}
    return value


def spec_of(plan: type[StagePlan]) -> type[Job]:
    """Make the spec of a stage: its plan, with a run and workers; named and documented as the plan is."""
    bases: Any = (TrainingJob, plan)
    kind: Any = plan.model_fields["kind"].annotation
    name = f"{plan.__name__.removesuffix('Plan')}Spec"
    made = create_model(name, __base__=bases, __doc__=plan.__doc__, __module__=__name__, kind=(kind, ...))
    return cast(type[Job], made)


SPECS: dict[str, type[Job]] = {
    "ingest": IngestSpec,
    **{kind: spec_of(plan) for kind, plan in STAGES.items()},
    "features": FeaturesSpec,
    "evaluate": EvaluateSpec,
    "score": ScoreSpec,
}
"""Kind -> model of its spec."""
