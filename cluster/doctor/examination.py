"""Every node of a connected Ray cluster examined, and the network between them measured."""

import secrets
import time
from typing import Any

from cluster.doctor.diagnosis import AllReduce, Finding, diagnose
from cluster.doctor.node import NodeFacts, examine
from cluster.train.process_group import join_group, leave_group, open_store
from storage.errors import InputError
from storage.places.location import locate

_NODE_SECONDS, _REDUCE_SECONDS = 120.0, 120.0
_NUMBERS, _REPEATS = 8 << 20, 5


def examine_cluster(place: str) -> list[Finding]:
    """Examine all nodes of the connected cluster.

    Parameters
    ----------
    place : str
        Folder (absolute) or ``s3://bucket/prefix`` for data and runs; a small file is written there and removed.

    Raises
    ------
    InputError
        When a node does not answer, or `place` cannot be written from here.
    """
    import ray

    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    names = {key: f"{node['NodeManagerAddress']} ({key[:6]})" for key, node in nodes.items()}
    location, shared = locate(place), f".doctor-shared-{secrets.token_hex(8)}"
    try:
        location.write(shared, b"seen")
    except OSError as error:
        raise InputError(place, f"cannot be written: {error}", "Name a folder or s3:// place in --storage.") from None
    try:
        facts = [_examined(key, name, place, shared) for key, name in names.items()]
    finally:
        location.remove(shared)
    return diagnose(facts, place, all_reduce(nodes))


def _examined(key: str, name: str, place: str, shared: str) -> NodeFacts:
    import ray
    from ray.exceptions import RayError

    ask = ray.remote(num_cpus=0, max_retries=0)(examine).options(scheduling_strategy=_on(key))
    try:
        ray.get(ask.remote(name, place, shared), timeout=_NODE_SECONDS)  # starts the process and imports
        asked = time.time()
        facts, there = ray.get(ask.remote(name, place, shared), timeout=_NODE_SECONDS)
    except RayError as error:
        remedy = "See `ray status` and that node's Ray logs; it must have this project's environment."
        raise InputError(f"node {name}", f"does not answer: {str(error).strip().splitlines()[-1]}", remedy) from None
    answered = time.time()
    found: NodeFacts = facts
    half = (answered - asked) / 2
    return found.model_copy(update={"clock_offset": there - asked - half, "clock_error": half})


def all_reduce(nodes: dict[str, Any]) -> AllReduce:
    """Measure the sum of 32 MiB over one rank per node, or over two ranks of a single node."""
    import ray
    from ray.exceptions import RayError

    keys = list(nodes) * (2 if len(nodes) == 1 else 1)
    needed = 2 if len(nodes) == 1 else 1
    gpus = int(all(node["Resources"].get("GPU", 0) >= needed for node in nodes.values()))
    settings = {"ranks": len(keys), "nodes": len(nodes), "backend": "nccl" if gpus else "gloo"}
    actor: Any = ray.remote(num_cpus=0, num_gpus=gpus)(Reducer)
    ranks = [actor.options(scheduling_strategy=_on(key)).remote(rank, len(keys)) for rank, key in enumerate(keys)]
    try:
        store = ray.get(ranks[0].open_store.remote(), timeout=_REDUCE_SECONDS)
        rates = ray.get([rank.measure.remote(store, settings["backend"]) for rank in ranks], timeout=_REDUCE_SECONDS)
    except RayError as error:
        return AllReduce(**settings, problem=str(error).strip().splitlines()[-1] or type(error).__name__)
    finally:
        for rank in ranks:
            ray.kill(rank)
    return AllReduce(**settings, rate=min(rates))


class Reducer:
    """One rank of the measured sum.

    Parameters
    ----------
    rank, size : int
        Which of how many.
    """

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size

    def open_store(self) -> tuple[str, int]:
        """Open the store of the group, on rank 0."""
        return open_store()

    def measure(self, store: tuple[str, int], backend: str) -> float:
        """Bus bandwidth in bytes per second."""
        from datetime import timedelta

        import torch
        import torch.distributed as dist

        join_group(store, backend, self._rank, self._size, timedelta(seconds=_REDUCE_SECONDS))
        values = torch.ones(_NUMBERS, device="cuda" if backend == "nccl" else "cpu")
        dist.all_reduce(values)
        self._wait(values)
        started = time.perf_counter()
        for _ in range(_REPEATS):
            dist.all_reduce(values)
        self._wait(values)
        seconds = (time.perf_counter() - started) / _REPEATS
        leave_group()
        return 2 * (self._size - 1) / self._size * values.nbytes / seconds

    @staticmethod
    def _wait(values: Any) -> None:
        """Wait until the device has finished."""
        float(values[0])


def _on(key: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(key, soft=False)
