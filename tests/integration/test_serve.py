"""Models of several runs behind one Ray Serve: none answers for another, and none ends another."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cluster.serve import Client, deployed, listen_on_this_node
from cluster.session import Resources, ray_session
from e2llm_core.inference import Question

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
HALF = Resources(workers=1, cpus_per_worker=0.5)


class NamedReplica:
    """Answers each item with the length of its model's name."""

    def __init__(self, model: str) -> None:
        listen_on_this_node()
        self._answer = len(model)

    def likelihood(self, question: Question, segments: np.ndarray) -> np.ndarray:
        return np.full((len(segments), 1), self._answer)


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, ray_session(ROOT, local=True):
        patch.setattr("cluster.serve.Replica", NamedReplica)
        yield


def answers(client: Client) -> list[int]:
    found = client.likelihood("test", Question.pair(), [np.zeros((2, 1, 1, 1)), np.ones((1, 1, 1, 1))])
    return [int(each) for each in found[:, 0]]


def test_runs_have_models_of_their_own():
    from ray import serve

    with deployed("a", "runs/first", HALF) as first:
        with deployed("bb", "runs/second", HALF) as second:
            assert answers(first) == [1, 1, 1]
            assert answers(second) == [2, 2, 2]
        assert answers(first) == [1, 1, 1], "another run's end is not this one's"
        with deployed("ccc", "runs/first", HALF) as again:
            assert answers(again) == [3, 3, 3], "what a killed job has left is replaced"
            assert len(serve.status().applications) == 1
