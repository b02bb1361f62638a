"""Which rank of how many: one value object instead of reads of the environment."""

import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

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
        """The world of a process started by `torchrun`, or a world of one."""
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
        """Device of this rank."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    def sum(self, values: Iterable[float], computed: Tensor | None = None) -> list[float]:
        """Sum float64 values over all ranks; waits for the device, once. A collective call.

        Parameters
        ----------
        values : iterable of float
            Values of this rank.
        computed : Tensor, optional
            (n,) what its device computes; comes before `values` in the result.
        """
        total = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        if computed is not None:
            total = torch.cat([computed.detach().double(), total])
        if self.size > 1:
            dist.all_reduce(total)
        return total.tolist()

    def sum_beside(self, values: Iterable[float]) -> list[float]:
        """Sum float64 values over all ranks, over the CPU.

        A collective call, as all that say `beside`, for the one thread that prepares batches.
        """
        total = torch.tensor(list(values), dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(total, group=host_group())
        return total.tolist()

    def gather_beside(self, numbers: np.ndarray) -> np.ndarray:
        """The (n,) int64 numbers of all ranks, (ranks, n), over the CPU; a collective call, beside."""
        if self.size == 1:
            return numbers[None]
        found = [torch.empty(len(numbers), dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(found, torch.from_numpy(numbers), group=host_group())
        return torch.stack(found).numpy()

    def deal_beside(self, parcels: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Send to each rank its own int32 numbers, (any length,), and to nobody else; return what each rank sent here.

        Over the CPU; a collective call, beside.
        """
        if self.size == 1:
            return list(parcels)
        sizes = self.gather_beside(np.array([len(parcel) for parcel in parcels]))[:, self.rank].tolist()
        found = torch.empty(sum(sizes), dtype=torch.int32)
        sent = torch.from_numpy(np.concatenate(parcels))
        dist.all_to_all_single(found, sent, sizes, [len(parcel) for parcel in parcels], group=host_group())
        return [part.numpy() for part in found.split(sizes)]

    def exchange(self, item: T) -> list[T]:
        """The items of all ranks, over the CPU; a collective call."""
        if self.size == 1:
            return [item]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, item, group=host_group())
        return found

    def number(self) -> int:
        """Draw a number, the same on all ranks; a collective call."""
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
