import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from e2llm_core.training.sharding import num_micro_steps, shard
from e2llm_core.training.world import World

sizes = st.integers(1, 40)


def all_ranks(ids, first, micro_batch, size):
    return [shard(ids, first, micro_batch, World(rank=rank, size=size)) for rank in range(size)]


@given(global_batch=sizes, micro_batch=st.integers(1, 12), size=st.integers(1, 9), first=st.integers(0, 10**9))
def test_every_world_trains_the_same_samples_at_the_same_positions(global_batch, micro_batch, size, first):
    ids = np.arange(global_batch) * 7 % 1000
    parts = [part for rank in all_ranks(ids, first, micro_batch, size) for part in rank]
    real = [
        (int(position), int(sample))
        for part in parts
        for position, sample, weight in zip(part.positions, part.ids, part.weights, strict=True)
        if weight
    ]
    assert sorted(real) == [(first + place, int(sample)) for place, sample in enumerate(ids)]
    assert {float(weight) for part in parts for weight in part.weights} <= {0.0, 1.0}


@given(global_batch=sizes, micro_batch=st.integers(1, 12), size=st.integers(1, 9))
def test_every_rank_takes_equally_many_equally_large_steps(global_batch, micro_batch, size):
    ranks = all_ranks(np.arange(global_batch), 0, micro_batch, size)
    assert {len(rank) for rank in ranks} == {num_micro_steps(global_batch, micro_batch, size)}
    lengths = {len(part.ids) for rank in ranks for part in rank}
    assert len(lengths) == 1
    assert max(lengths) <= micro_batch


@given(global_batch=sizes, micro_batch=st.integers(1, 12), size=st.integers(1, 9))
def test_fillers_are_as_few_as_equal_steps_allow(global_batch, micro_batch, size):
    ranks = all_ranks(np.arange(global_batch), 0, micro_batch, size)
    weights = np.concatenate([part.weights for rank in ranks for part in rank])
    steps = len(ranks[0])
    assert weights.sum() == global_batch
    assert len(weights) - global_batch < size * steps
