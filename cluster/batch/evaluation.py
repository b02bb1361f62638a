"""The evaluation on the connected cluster: the model behind Ray Serve, the rest of it in this process."""

from pathlib import Path
from typing import Any

from cluster.resources import Resources, require_resources
from cluster.serve.deployment import deployed
from e2llm_core.evaluation import run as core
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.inputs import speaks


def evaluate(plan: EvaluationPlan, run: str | Path, resources: Resources, environment: dict[str, Any]) -> str:
    """Evaluate models, baselines and controls; see `e2llm_core.evaluation.run.evaluate`.

    Parameters
    ----------
    plan : EvaluationPlan
        Absolute paths, which the replicas see as well.
    run : str or Path
        Folder or URL of the run.
    resources : Resources
        Replicas of each language model in turn, and what each reserves; where there is none, nothing is.
    environment : dict
        Recorded in the summary.

    Returns
    -------
    str
        Path or URL of the report.
    """
    if any(speaks(model) for model in plan.named_models.values()):
        require_resources(resources)
    return core.evaluate(plan, run, lambda one: deployed(one, run, resources), environment)
