"""Which rank of how many: one value object instead of reads of the environment."""

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from e2llm_core.training.config import PATIENCE

T = TypeVar("T")
_NUMBER_BITS = 32


@dataclass(frozen=True)
class World:
    """A process's place among the workers of one training run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    node_rank: int = 0

    @classmethod
    def from_environment(cls) -> "World":
        """The place that `torchrun` gave this process, or a world of one."""
        read = {name: int(os.environ.get(name, default)) for name, default in _TORCHRUN.items()}
        return cls(read["RANK"], read["WORLD_SIZE"], read["LOCAL_RANK"], read["GROUP_RANK"])

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    def is_first_of(self, group: str) -> bool:
        """Whether this rank is the first of those that name the same group; a collective call."""
        return self.exchange(group).index(group) == self.rank

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    def sum(self, values: Iterable[float]) -> list[float]:
        """Sum float64 values over all ranks; a collective call."""
        total = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        if self.size > 1:
            dist.all_reduce(total)
        return total.tolist()

    def exchange(self, item: T) -> list[T]:
        """Everybody's items by rank, over the CPU; a collective call, for the one thread that prepares batches."""
        if self.size == 1:
            return [item]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, item, group=host_group())
        return found

    def number(self) -> int:
        """Make up a number, the same on all ranks; a collective call."""
        (number,) = self.sum([secrets.randbits(_NUMBER_BITS) if self.is_first else 0])
        return int(number)

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


@cache
def host_group() -> Any:
    """A gloo group beside the default one, so that two threads may communicate; the first call is collective."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


_TORCHRUN = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "GROUP_RANK": "0"}
