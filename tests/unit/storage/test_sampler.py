import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2llm_core.training.sharding import shard
from e2llm_core.training.world import World
from storage.sampler import Permutation, SampleOrder

FROZEN = [2, 6, 0, 1, 9, 3, 5, 7, 8, 4]
sizes = st.integers(1, 700)
seeds = st.integers(0, 2**63)


@given(sizes, seeds)
def test_bijection(size: int, seed: int) -> None:
    places = Permutation(size, seed)(np.arange(size))
    assert np.array_equal(np.sort(places), np.arange(size))


@given(st.integers(1, 2**62), seeds, st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_huge_sizes_stay_in_range_and_do_not_collide(size: int, seed: int, where: list[float]) -> None:
    positions = np.unique([min(size - 1, int(place * size)) for place in where])
    places = Permutation(size, seed)(positions)
    assert places.min() >= 0
    assert places.max() < size
    assert len(np.unique(places)) == len(positions)


@given(sizes, st.integers(0, 2**32), st.integers(1, 50))
def test_every_epoch_shows_every_sample_once(size: int, seed: int, batch: int) -> None:
    order = SampleOrder(size, seed)
    stream = np.concatenate([order.batch(step, batch) for step in range(-(-2 * size // batch))])
    for epoch in range(2):
        assert np.array_equal(np.sort(stream[epoch * size : (epoch + 1) * size]), np.arange(size))


@given(sizes, st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_ranks_share_a_batch_without_overlap(size: int, seed: int, batch: int, ranks: int, micro: int) -> None:
    """The samples that count are the same, and each counts once, whatever the world size."""
    ids = SampleOrder(size, seed).batch(3, batch)
    positions, number_of_parts = [], set()
    for rank in range(ranks):
        parts = shard(ids, 3 * batch, micro, World(rank=rank, size=ranks))
        number_of_parts.add(len(parts))
        for part in parts:
            assert len(part.ids) <= micro
            assert np.array_equal(part.ids, ids[part.positions - 3 * batch])
            positions += part.positions[part.weights > 0].tolist()
    assert sorted(positions) == list(range(3 * batch, 4 * batch))
    assert len(number_of_parts) == 1


@given(sizes, st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 30))
def test_the_step_alone_resumes(size: int, seed: int, batch: int, step: int) -> None:
    whole = np.concatenate([SampleOrder(size, seed).batch(number, batch) for number in range(step + 2)])
    assert np.array_equal(SampleOrder(size, seed).batch(step, batch), whole[step * batch : (step + 1) * batch])
    rebatched = np.concatenate([SampleOrder(size, seed).batch(number, 1) for number in range(batch)])
    assert np.array_equal(rebatched, SampleOrder(size, seed).batch(0, batch))


def test_epochs_and_seeds_differ_and_places_are_spread() -> None:
    first, second = (SampleOrder(1000, 1).batch(step, 1000) for step in (0, 1))
    assert (first == second).mean() < 0.02
    assert (first == SampleOrder(1000, 2).batch(0, 1000)).mean() < 0.02
    assert abs(np.corrcoef(np.arange(1000), first)[0, 1]) < 0.1
    counts = np.zeros((8, 8))
    for seed in range(2000):
        counts[np.arange(8), Permutation(8, seed)(np.arange(8))] += 1
    assert np.abs(counts / 250 - 1).max() < 0.35


def test_the_order_is_frozen() -> None:
    """A resumed run must meet the order it began with, also under a later version."""
    assert SampleOrder(10, 0).batch(0, 10).tolist() == FROZEN


def test_refusals() -> None:
    with pytest.raises(ValueError, match="size must lie in"):
        Permutation(0, 0)
    with pytest.raises(ValueError, match="size must lie in"):
        SampleOrder(0, 0).batch(0, 1)
    with pytest.raises(ValueError, match=r"0\.\.4"):
        Permutation(5, 0)(np.array([5]))
