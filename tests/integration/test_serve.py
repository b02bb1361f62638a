"""Models of several runs behind one Ray Serve: none answers for another, and none ends another."""

import numpy as np
import pytest

from cluster.resources import Resources
from cluster.serve.deployment import ServeClient, deployed, listen_on_this_node
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.evaluation.items import Request
from e2llm_core.stages.config import DataConfig
from e2llm_core.tasks.items import EEG
from e2llm_core.tasks.question import Question

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.usefixtures("private_ray")]
HALF = Resources(workers=1, cpus_per_worker=0.5)


class NamedReplica:
    """Answers each item with the length of its model's name."""

    def __init__(self, plan: EvaluationPlan) -> None:
        listen_on_this_node()
        self._answer = len(plan.model)

    def likelihood(self, question: Question, request: Request) -> np.ndarray:
        return np.full((len(request.items), 1), self._answer)


def plan(model: str) -> EvaluationPlan:
    return EvaluationPlan(data=DataConfig(store="store.zarr"), model=model)


def answers(client: ServeClient) -> list[int]:
    requests = [Request(EEG, np.arange(size), np.zeros((size, 2), int)) for size in (2, 1)]
    found = np.concatenate(list(client.likelihood("test", Question("Same?", ("same", "different"), 2), requests)))
    return [int(each) for each in found[:, 0]]


def test_runs_have_models_of_their_own(monkeypatch: pytest.MonkeyPatch):
    from ray import serve

    monkeypatch.setattr("cluster.serve.deployment.Replica", NamedReplica)
    with deployed(plan("a"), "runs/first", HALF) as first:
        with deployed(plan("bb"), "runs/second", HALF) as second:
            assert answers(first) == [1, 1, 1]
            assert answers(second) == [2, 2, 2]
        assert answers(first) == [1, 1, 1], "another run's end is not this one's"
        with deployed(plan("ccc"), "runs/first", HALF) as again:
            assert answers(again) == [3, 3, 3], "what a killed job has left is replaced"
            assert len(serve.status().applications) == 1
