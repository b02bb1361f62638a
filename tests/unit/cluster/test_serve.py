"""Names of what a job hosts on Ray Serve: its own, and what killed jobs of the same run left."""

from types import SimpleNamespace

import pytest

from cluster.resources import Resources
from cluster.serve import deployment
from cluster.serve.deployment import deployed
from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.stages.config import DataConfig

PLAN = EvaluationPlan(data=DataConfig(store="store.zarr"), model="model")
ONE = Resources(workers=1)


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Applications that Ray Serve hosts."""
    from ray import serve

    applications: dict[str, object] = {}
    monkeypatch.setattr(serve, "start", lambda **_: None)
    monkeypatch.setattr(serve, "run", lambda application, name, route_prefix: applications.update({name: application}))
    monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications=dict(applications)))
    monkeypatch.setattr(serve, "delete", lambda name: applications.pop(name, None))
    monkeypatch.setattr(serve, "shutdown", applications.clear)
    return applications


def test_a_job_that_ends_late_leaves_the_replicas_of_its_successor(hosted: dict[str, object]) -> None:
    hosted["service"] = None
    late = deployed(PLAN, "runs/a", ONE)
    late.__enter__()
    (killed,) = set(hosted) - {"service"}
    with deployed(PLAN, "runs/b", ONE):
        pass
    assert killed in hosted, "another run's replicas stay"
    with deployed(PLAN, "runs/a", ONE):
        (successor,) = set(hosted) - {"service"}
        assert successor != killed, "what was left is replaced"
        late.__exit__(None, None, None)
        assert successor in hosted
    assert set(hosted) == {"service"}


@pytest.mark.parametrize("times", [1, 3])
def test_another_job_may_start_ray_serve_at_the_same_moment(
    hosted: dict[str, object], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Two evaluations of a cross-validation began within a second, and one was lost."""
    from ray import serve
    from ray.exceptions import ActorAlreadyExistsError

    left = [ActorAlreadyExistsError("The name SERVE_CONTROLLER_ACTOR is already taken.")] * times

    def start(**_: object) -> None:
        if left:
            raise left.pop()

    monkeypatch.setattr(serve, "start", start)
    monkeypatch.setattr(deployment, "_AGAIN_SECONDS", 0.0)
    if times == 3:
        with pytest.raises(ActorAlreadyExistsError), deployed(PLAN, "runs/a", ONE):
            pass
        return
    with deployed(PLAN, "runs/a", ONE):
        assert len(hosted) == 1
