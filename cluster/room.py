"""Which jobs fit on a cluster side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.resources import Resources, TrainingResources

_SLACK = 1e-6


@dataclass(frozen=True)
class Taken:
    """What a job reserves on each node: (node's number, CPUs, GPUs)."""

    parts: tuple[tuple[int, float, float], ...]


class Room:
    """What is left of a cluster's nodes beside the jobs that were let in.

    Parameters
    ----------
    nodes : sequence of mappings
        Amounts of ``CPU`` and ``GPU`` of each node.
    """

    def __init__(self, nodes: Sequence[Mapping[str, float]]) -> None:
        self._free = [[node.get("CPU", 0.0), node.get("GPU", 0.0)] for node in nodes]

    def take(self, resources: Resources | TrainingResources) -> Taken | None:
        """Reserve what a job's fewest workers ask for, each on one node; None, and nothing reserved, without room."""
        asked = (resources.cpus_per_worker, resources.gpus_per_worker)
        parts: list[tuple[int, float, float]] = []
        for _ in range(resources.fewest_workers):
            node = next((n for n, free in enumerate(self._free) if self._fits(free, asked)), None)
            if node is None:
                self.give_back(Taken(tuple(parts)))
                return None
            self._add(node, -asked[0], -asked[1])
            parts.append((node, *asked))
        return Taken(tuple(parts))

    def give_back(self, taken: Taken) -> None:
        """Free what a job had."""
        for node, cpus, gpus in taken.parts:
            self._add(node, cpus, gpus)

    def _add(self, node: int, cpus: float, gpus: float) -> None:
        self._free[node][0] += cpus
        self._free[node][1] += gpus

    @staticmethod
    def _fits(free: Sequence[float], asked: Sequence[float]) -> bool:
        return all(there + _SLACK >= wanted for there, wanted in zip(free, asked, strict=True))
