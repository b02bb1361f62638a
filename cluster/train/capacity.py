"""How many workers a run has, now and when the cluster grows."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cluster.ray_private import available_resources_per_node
from cluster.resources import TrainingResources, WorkerRange, fitting

_NODE_SECONDS, _PING_SECONDS, _LOOK_SECONDS = 300.0, 0.5, 1.0


def room(resources: TrainingResources, *, free: bool) -> int:
    """Count the workers that the living nodes have room for, in all or besides what already runs there."""
    import ray

    living = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    if free:
        living = {name: there for name, there in available_resources_per_node().items() if name in living}
    return fitting(resources, living.values())


def number_of_workers(resources: TrainingResources, is_asked_to_stop: Callable[[], bool]) -> int:
    """Choose as many workers as fit; waits until the minimum fits."""
    workers = resources.workers
    if isinstance(workers, int):
        return workers
    while (free := room(resources, free=True)) < workers.min and not is_asked_to_stop():
        time.sleep(_LOOK_SECONDS)
    return min(max(free, workers.min), workers.max)


@contextmanager
def looking_for_room(resources: TrainingResources, running: int, found: Callable[[], None]) -> Iterator[None]:
    """While the block runs, call `found` once when an elastic run of `running` workers could be larger."""
    workers, ended = resources.workers, threading.Event()
    if isinstance(workers, int) or running >= workers.max:
        yield
        return

    def look(workers: WorkerRange) -> None:
        while not ended.wait(workers.check_seconds):
            free = room(resources, free=True)
            if free and running + free <= room(resources, free=False):  # else this run's workers are not placed yet
                found()
                return

    thread = threading.Thread(target=look, args=(workers,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def wait_for_listed_nodes(seconds: float = _NODE_SECONDS) -> None:
    """Wait until every listed node has run a task: Ray lists lost, hung and leaving nodes for a while.

    Parameters
    ----------
    seconds : float
        The longest wait.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ping = ray.remote(num_cpus=0, max_retries=0)(_answer)
    asked: dict[str, Any] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        listed = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        for name in listed - asked.keys():
            asked[name] = ping.options(scheduling_strategy=NodeAffinitySchedulingStrategy(name, soft=False)).remote()
        answered = set()
        for name in listed:
            try:
                ray.get(asked[name], timeout=_PING_SECONDS)
                answered.add(name)
            except GetTimeoutError:
                continue
            except RayError:
                del asked[name]
        if answered == listed:
            return
        time.sleep(_PING_SECONDS)


def _answer() -> None:
    """Do nothing: that it runs is the answer."""
