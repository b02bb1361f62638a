import json
import os
import signal
import socket
from pathlib import Path

import pytest

from cluster import session
from cluster.resources import Resources, require_resources
from storage.errors import InputError


@pytest.fixture
def previous():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_job_keeps_its_answer_to_sigterm_when_ray_sets_its_own(previous):
    def own(number, frame):
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, own)
    with session.own_sigterm():
        signal.signal(signal.SIGTERM, lambda number, frame: None)
    assert signal.getsignal(signal.SIGTERM) is own


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What Ray would be started with, in place of starting it."""
    asked: dict[str, object] = {}
    monkeypatch.setattr("ray.init", lambda **settings: asked.update(settings))
    monkeypatch.setattr("ray.shutdown", lambda **settings: None)
    monkeypatch.setattr(session, "announce", lambda root: None)
    return asked


def test_a_ray_of_its_own_asks_nothing_of_a_cluster_that_may_have_ended(started, monkeypatch, tmp_path):
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, str(tmp_path / "gone"))
    with session.ray_session(tmp_path, local=True):
        assert (started["address"], started["_node_ip_address"]) == ("local", "127.0.0.1")
        assert not os.environ.keys() & {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"}
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert token.stat().st_mode & 0o777 == 0o600
        assert len(token.read_text()) == 64
    assert not token.parent.exists()
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "gone")


def test_what_the_submission_set_is_not_told_to_ray_again(started, monkeypatch, tmp_path):
    """Ray refuses a variable that both name, even with the same value."""
    submitted = {"working_dir": "gcs://x", "env_vars": {"OMP_NUM_THREADS": "8", "E2LLM_ROOT": "/shared"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": submitted}))
    with session.ray_session(tmp_path, local=False):
        given = started["runtime_env"]
    assert not given.keys() & {"working_dir"}
    assert not given["env_vars"].keys() & submitted["env_vars"].keys()
    assert given["env_vars"]["TQDM_DISABLE"] == "1"


def test_a_step_is_not_taken_for_the_submission_that_started_it(monkeypatch):
    """Ray lists the newest driver with a submission's number as that submission's."""
    monkeypatch.setattr(session, "session_address", lambda: "10.0.0.1:6379")
    submitted = {"runtime_env": {"working_dir": "gcs://x"}, "metadata": {"job_submission_id": "s1", "job_name": "all"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(submitted))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    given = session.step_environment()
    assert json.loads(given["RAY_JOB_CONFIG_JSON_ENV_VAR"]) == submitted | {"metadata": {"job_name": "all"}}
    assert (given["RAY_ADDRESS"], given["OMP_NUM_THREADS"]) == ("10.0.0.1:6379", "1")
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    given = session.step_environment()
    assert "RAY_JOB_CONFIG_JSON_ENV_VAR" not in given
    assert given["OMP_NUM_THREADS"] == "4"


@pytest.mark.parametrize(
    ("resources", "problem"),
    [
        ({"workers": 8, "cpus_per_worker": 4, "gpus_per_worker": 1}, "8 workers of 4 CPUs and 1 GPUs.* room for 4"),
        ({"workers": 4, "cpus_per_worker": 4, "gpus_per_worker": 1}, None),
        ({"workers": 1, "cpus_per_worker": 70}, "1 workers of 70 CPUs.* room for 0"),
    ],
)
def test_workers_must_fit_on_nodes_and_not_only_in_the_sum(monkeypatch, resources, problem):
    nodes = [{"CPU": 64.0}, {"CPU": 16.0, "GPU": 8.0}]
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 80.0, "GPU": 8.0})
    if problem is None:
        require_resources(Resources(**resources))
        return
    with pytest.raises(InputError, match=problem):
        require_resources(Resources(**resources))


def test_a_cluster_that_has_ended_is_named_before_ray_waits_for_it(started, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(InputError, match=f"RAY_ADDRESS {address}: no cluster answers"),
        session.ray_session(tmp_path, local=False),
    ):
        pytest.fail("there is none")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "gone"))
    with pytest.raises(InputError, match="the cluster has ended"), session.ray_session(tmp_path, local=False):
        pytest.fail("there is none")
    assert not started
