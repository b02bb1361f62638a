"""The job specs: one typed model per kind, composed of the settings that live next to the code they configure.

Relative paths are relative to the repository (or to ``E2LLM_ROOT``). Nothing heavy is imported here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import Field, create_model, model_validator

from cluster.batch.plans import FeaturesPlan
from cluster.resources import Resources, TrainingResources
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.inference.config import ScoringPlan
from e2llm_core.plan import Input
from e2llm_core.stages.config import StagePlan
from e2llm_core.stages.table import STAGES
from jobs.corpus import CorpusSpec
from jobs.cross_validation.config import CrossValidationPlan
from jobs.job import ClusterJob, Job
from storage.layout import LayoutConfig
from storage.places.base import StoreURL
from storage.places.location import locate
from storage.readers import AnySource
from storage.signal import SignalConfig
from storage.twin import TwinConfig


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


class CrossValidateSpec(Job, CrossValidationPlan):
    """An experiment over folds, seeds and variants: a chain of other specs, with one table and one page at the end."""

    kind: Literal["cross-validate"]

    def inputs(self) -> tuple[Input, ...]:
        """Everything that its steps read and do not make themselves."""
        from jobs.cross_validation.checks import CellsInput

        return (CellsInput("chain", self, self.run, steps()),)

    def preview(self) -> None:
        """Check all steps, and list the cells and how many runs they are."""
        from jobs.cross_validation.checks import show_cells

        show_cells(self, self.run, steps())

    def largest_resources(self) -> Resources | TrainingResources:
        """What the largest step asks of the cluster."""
        from jobs.cross_validation.grid import largest_resources

        largest: Resources | TrainingResources = largest_resources(self, steps())
        return largest

    def work(self, facts: dict[str, Any]) -> None:
        """Run the steps, and write the table and the page."""
        from jobs.cross_validation.work import cross_validate

        print(f"[{self.kind}] report: {cross_validate(self, self.run, steps(), facts)}", flush=True)


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
    "corpus": CorpusSpec,
    "evaluate": EvaluateSpec,
    "score": ScoreSpec,
    "cross-validate": CrossValidateSpec,
}
"""Kind -> model of its spec."""


def steps() -> Mapping[str, type[Job]]:
    """Kinds that can be a step of a cross-validation: all with results in their run's folder that name no spec."""
    return {kind: spec for kind, spec in SPECS.items() if spec not in (IngestSpec, CorpusSpec, CrossValidateSpec)}
