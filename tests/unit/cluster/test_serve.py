"""Names of what a job hosts on Ray Serve: its own, and what killed jobs of the same run left."""

from types import SimpleNamespace

import pytest
from ray.exceptions import ActorAlreadyExistsError, RayActorError

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


@pytest.fixture
def taken(hosted: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What starting Ray Serve raises, one after another, before it succeeds."""
    from ray import serve

    left: list[Exception] = []

    def start(**_: object) -> None:
        if left:
            raise left.pop()

    monkeypatch.setattr(serve, "start", start)
    monkeypatch.setattr(deployment, "_AGAIN_SECONDS", 0.0)
    return left


def test_another_job_may_start_ray_serve_at_the_same_moment(hosted: dict[str, object], taken: list[Exception]) -> None:
    """Two evaluations of a cross-validation began within a second, and one was lost."""
    taken.append(ActorAlreadyExistsError("The name SERVE_CONTROLLER_ACTOR is already taken."))
    with deployed(PLAN, "runs/a", ONE):
        assert len(hosted) == 1
    assert not taken


def test_a_name_that_stays_taken_is_an_error(taken: list[Exception]) -> None:
    taken += [ActorAlreadyExistsError("The name SERVE_CONTROLLER_ACTOR is already taken.")] * 3
    with pytest.raises(ActorAlreadyExistsError), deployed(PLAN, "runs/a", ONE):
        pass


def test_another_job_may_end_ray_serve_at_the_same_moment(
    hosted: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two evaluations of a cross-validation ended within a second, and one was lost with all answers in hand."""
    from ray import serve

    def delete(name: str) -> None:
        hosted.clear()
        raise RayActorError(error_msg="The actor is dead because it was killed by `ray.kill`.")

    with deployed(PLAN, "runs/a", ONE):
        monkeypatch.setattr(serve, "delete", delete)
    assert not hosted
