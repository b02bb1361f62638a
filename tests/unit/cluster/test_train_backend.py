"""How Ray Train's controller starts and ends the process group of the workers."""

import subprocess
import sys

import pytest
import ray
from ray.exceptions import GetTimeoutError

from cluster.train.backend import ProcessGroupConfig, _join
from cluster.train.process_group import leave_group, open_store

STORE = ("127.0.0.1", 4711)


class WorkerGroup:
    """Writes down what workers are told."""

    def __init__(self, gpus: float) -> None:
        self._gpus = gpus
        self.told: list[tuple[object, ...]] = []

    def get_resources_per_worker(self) -> dict[str, float]:
        return {"CPU": 1, "GPU": self._gpus} if self._gpus else {"CPU": 1}

    def execute_single(self, rank: int, function: object) -> tuple[str, int]:
        self.told.append((rank, function))
        return STORE

    def execute(self, function: object, *arguments: object) -> None:
        self.told.append((function, *arguments))

    def execute_async(self, function: object) -> list[str]:
        self.told.append((function,))
        return ["answer"]


@pytest.mark.parametrize(("gpus", "backend"), [(0, "gloo"), (1, "nccl")])
def test_all_join_where_rank_0_listens(gpus, backend):
    workers, config = WorkerGroup(gpus), ProcessGroupConfig()
    config.backend_cls().on_start(workers, config)
    assert workers.told == [(0, open_store), (_join, STORE, backend)]


def test_each_worker_sees_all_gpus_of_its_node():
    """It takes that of its local rank; NCCL wants to see the others."""
    assert ProcessGroupConfig().backend_cls().share_cuda_visible_devices


def test_workers_that_do_not_answer_are_not_waited_for(monkeypatch):
    def get(answers: list[str], timeout: float) -> None:
        assert (answers, 0 < timeout < 60) == (["answer"], True)
        raise GetTimeoutError

    monkeypatch.setattr(ray, "get", get)
    workers, config = WorkerGroup(0), ProcessGroupConfig()
    config.backend_cls().on_shutdown(workers, config)
    assert workers.told == [(leave_group,)]


def test_the_controller_does_without_torch():
    """It imports what it is sent before it starts any worker."""
    modules = "cluster.train.training, cluster.train.backend, ray.train.v2.api.data_parallel_trainer"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
