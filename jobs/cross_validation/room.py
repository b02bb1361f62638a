"""What a step asks of the cluster."""

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
    """What a step's workers ask for; one CPU for the process of a job that has none.

    An evaluation's workers host language models: without one it has none, whatever its `resources` say.

    Parameters
    ----------
    job : Job
        Of the step.
    before : mapping of str to Job
        Jobs of earlier steps by their runs: what their models will be is known before they are there.
    """
    if isinstance(job, EvaluationPlan) and not any(_speaks(model, before) for model in job.named_models.values()):
        return _OWN_PROCESS
    resources: Resources | TrainingResources = getattr(job, "resources", _OWN_PROCESS)
    return resources


def _speaks(model: Place, before: Mapping[str, Job]) -> bool:
    if (run := holder(str(model), before)) is not None:
        return not isinstance(before[run], Stage1Plan)
    return speaks(str(absolute(model, root_folder())))
