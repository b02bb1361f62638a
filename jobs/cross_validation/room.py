"""Resources that a step requests from the cluster."""

from collections.abc import Mapping

from cluster.resources import Resources, TrainingResources
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.inputs import speaks
from e2llm_core.stages.stage1.plan import Stage1Plan
from jobs.cross_validation.places import holder
from jobs.job import Job, absolute
from jobs.paths import root_folder
from storage.places.base import Place

_OWN_PROCESS = Resources(workers=1, cpus_per_worker=1, gpus_per_worker=0)


def asked_by(job: Job, before: Mapping[str, Job]) -> Resources | TrainingResources:
    """Resources that a step's workers request; one CPU for a job without workers, which runs in its own process.

    The workers of an evaluation host language models, so an evaluation without any has no workers, whatever its
    `resources` are.

    Parameters
    ----------
    job : Job
        Job of the step.
    before : mapping of str to Job
        Jobs of earlier steps by their runs; they determine the kind of models that do not exist yet.
    """
    if isinstance(job, EvaluationPlan) and not any(_speaks(model, before) for model in job.named_models.values()):
        return _OWN_PROCESS
    resources: Resources | TrainingResources = getattr(job, "resources", _OWN_PROCESS)
    return resources


def _speaks(model: Place, before: Mapping[str, Job]) -> bool:
    if (run := holder(str(model), before)) is not None:
        return not isinstance(before[run], Stage1Plan)
    return speaks(str(absolute(model, root_folder())))
