"""Split a global batch so that all ranks run the same number of micro-batches."""

from dataclasses import dataclass

import numpy as np

from e2llm_core.training.world import World


@dataclass(frozen=True)
class MicroBatch:
    """Samples of one forward pass: `ids`, their `positions` in the global order, and `weights` 1 or 0 (filler)."""

    ids: np.ndarray
    positions: np.ndarray
    weights: np.ndarray


def num_micro_steps(global_batch: int, micro_batch: int, world_size: int) -> int:
    """Forward passes per optimizer step on every rank."""
    per_rank = -(-global_batch // world_size)
    return -(-per_rank // micro_batch)


def samples_per_micro_step(global_batch: int, micro_batch: int, world_size: int) -> int:
    """Samples of one forward pass on every rank, fillers included; at most `micro_batch`."""
    per_rank = -(-global_batch // world_size)
    return -(-per_rank // num_micro_steps(global_batch, micro_batch, world_size))


def shard(ids: np.ndarray, first_position: int, micro_batch: int, world: World) -> list[MicroBatch]:
    """Split one global batch: rank r takes places r, r + W, r + 2W, ...; zero-weight samples fill up.

    Parameters
    ----------
    ids : np.ndarray
        (global_batch,) sample ids of the step.
    first_position : int
        Place of ``ids[0]`` in the global order of training.
    micro_batch : int
        Samples per forward pass.
    world : World
        This rank's place.
    """
    steps = num_micro_steps(len(ids), micro_batch, world.size)
    per_step = samples_per_micro_step(len(ids), micro_batch, world.size)
    mine = np.arange(world.rank, len(ids), world.size)
    filler = steps * per_step - len(mine)
    places = np.concatenate([mine, np.zeros(filler, dtype=np.int64)])
    weights = np.concatenate([np.ones(len(mine)), np.zeros(filler)]).astype(np.float32)
    parts = zip(np.split(places, steps), np.split(weights, steps), strict=True)
    return [MicroBatch(ids[place], first_position + place, weight) for place, weight in parts]
