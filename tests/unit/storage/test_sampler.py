import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.training.sharding import shard
from e2llm_core.training.world import World
from storage.sampling.order import Order, Permutation, SampleOrder, permuted
from storage.sampling.strata import Balance, BalancedOrder, Strata, sample_of_strata, training_order

FROZEN = [2, 6, 0, 1, 9, 3, 5, 7, 8, 4]
BALANCED = [6, 1, 2, 7, 0, 5, 2, 4, 8, 0]
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


def strata_of(data: st.DataObject) -> tuple[Strata, np.ndarray, np.ndarray]:
    """Strata, and the code of every window: trials of 0..6 windows."""
    counts = np.array(data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=25).filter(any)))
    codes = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(counts), max_size=len(counts))))
    return Strata(codes, counts), np.repeat(codes, counts), counts


@given(st.data())
def test_strata_number_their_windows_without_a_gap(data: st.DataObject) -> None:
    strata, code_of, counts = strata_of(data)
    found = [strata.windows(np.full(size, place), np.arange(size)) for place, size in enumerate(strata.sizes)]
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(counts.sum()))
    assert [set(code_of[windows]) for windows in found] == [{code} for code in np.unique(code_of)]


@given(st.data(), st.integers(1, 80), st.integers(0, 5), seeds)
def test_a_sample_of_strata_has_its_share_of_each(data: st.DataObject, most: int, least: int, seed: int) -> None:
    strata, code_of, counts = strata_of(data)
    sample = sample_of_strata(strata, most, least, seed)
    assert np.array_equal(sample, np.unique(sample))
    assert np.array_equal(sample, sample_of_strata(strata, most, least, seed))
    for code, size in zip(np.unique(code_of), strata.sizes, strict=True):
        drawn = int((code_of[sample] == code).sum())
        share = max(least, most * size / counts.sum())
        assert min(size, share) <= drawn <= min(size, share + 1)


def test_a_sample_of_strata_follows_its_seed() -> None:
    strata = Strata(np.array([0, 1]), np.array([1000, 3000]))
    samples = [sample_of_strata(strata, 40, 1, seed) for seed in range(200)]
    assert {(len(sample), int((sample < 1000).sum())) for sample in samples} == {(40, 10)}
    drawn = np.bincount(np.concatenate(samples) // 500, minlength=8)
    assert np.abs(drawn - 1000).max() < 150, "8,000 draws from eight parts of equal size"


@given(st.data(), st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 50))
def test_strata_take_turns_and_show_all_they_have(data: st.DataObject, seed: int, repeats: int, batch: int) -> None:
    strata, code_of, counts = strata_of(data)
    order = BalancedOrder(strata, seed, repeats)
    total = counts.sum()
    assert total * repeats <= order.size < total * repeats + len(strata)
    longest = int(strata.sizes.max()) * repeats
    stream = np.concatenate([order.batch(step, batch) for step in range(-(-2 * longest * len(strata) // batch))])
    for epoch in (0, 1):
        shown = code_of[stream[epoch * order.size : (epoch + 1) * order.size] % total]
        if len(shown) == order.size:
            assert len(set(np.unique(shown, return_counts=True)[1])) == 1, "equally often in a whole epoch"
    cut = data.draw(st.integers(1, len(stream)))
    often = np.unique(code_of[stream[:cut] % total], return_counts=True)[1]
    assert often.max() - (often.min() if len(often) == len(strata) else 0) <= 1
    for code, size in zip(np.unique(code_of), strata.sizes * repeats, strict=True):
        own = stream[code_of[stream % total] == code]
        for start in range(0, len(own) - size + 1, size):
            assert len(set(own[start : start + size])) == size, "all of a stratum before any of it again"


@given(st.data(), st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 30))
def test_the_step_alone_resumes_a_balanced_order(data: st.DataObject, seed: int, batch: int, step: int) -> None:
    strata = strata_of(data)[0]
    whole = np.concatenate([BalancedOrder(strata, seed).batch(number, batch) for number in range(step + 2)])
    again = BalancedOrder(strata, seed).batch(step, batch)
    assert np.array_equal(again, whole[step * batch : (step + 1) * batch])
    singly = np.concatenate([BalancedOrder(strata, seed).batch(number, 1) for number in range(batch)])
    assert np.array_equal(singly, whole[:batch])


def orders() -> list[Order]:
    strata = Strata(np.arange(30) % 7, np.arange(30) % 5)
    return [SampleOrder(997, 5), BalancedOrder(strata, 5), BalancedOrder(strata, 5, repeats=2)]


@pytest.mark.parametrize("order", orders(), ids=["none", "balanced", "repeated"])
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=3, max_size=5), st.integers(1, 40), st.integers(1, 6))
def test_workers_come_and_go_mid_epoch_and_no_sample_changes(
    order: Order, worlds: list[int], batch: int, micro: int
) -> None:
    """8 -> 2 -> 5 workers, or any others: each position of the order is trained once, on the same sample."""
    for sizes in ([8, 2, 5], worlds):
        trained: dict[int, int] = {}
        for step in range(3 * len(sizes)):
            world_size, ids = sizes[step // 3], order.batch(step, batch)
            for rank in range(world_size):
                for part in shard(ids, step * batch, micro, World(rank=rank, size=world_size)):
                    for sample, position in zip(
                        part.ids[part.weights > 0], part.positions[part.weights > 0], strict=True
                    ):
                        assert position not in trained
                        trained[int(position)] = int(sample)
        stream = np.concatenate([order.batch(step, batch) for step in range(3 * len(sizes))])
        assert [trained[position] for position in range(len(stream))] == stream.tolist()


def test_sizes_up_to_a_trillion_cost_no_memory() -> None:
    counts = np.full(10_000, 10**8)
    tracemalloc.start()
    for order in (SampleOrder(10**12, 3), BalancedOrder(Strata(np.arange(10_000) % 140, counts), 3, repeats=1)):
        for step in (0, 10**9 // 7, 3 * 10**9):
            ids = order.batch(step, 1024)
            assert ids.min() >= 0
            assert ids.max() < 10**12
            assert len(np.unique(ids)) == len(ids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_rounds_differ_and_strata_are_not_in_step() -> None:
    order = BalancedOrder(Strata(np.arange(8), np.full(8, 100)), 1)
    ids = order.batch(0, 800).reshape(100, 8)
    turns = ids // 100
    assert (np.sort(turns, axis=1) == np.arange(8)).all()
    assert len({tuple(row) for row in turns}) > 95
    first = {tuple(ids[turns == code] % 100) for code in range(8)}
    assert len(first) == 8
    assert order.batch(0, 800).tolist() != BalancedOrder(order.strata, 2).batch(0, 800).tolist()
    places = np.concatenate([permuted(np.arange(5), np.full(5, 5), np.uint64([key])) for key in range(2000)])
    share = np.bincount(places.reshape(-1, 5)[:, 0]) / 2000
    assert np.abs(share - 0.2).max() < 0.04


@given(st.integers(1, 2**62), st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20), seeds)
def test_many_permutations_at_once(size: int, where: list[float], key: int) -> None:
    positions = np.unique([min(size - 1, int(place * size)) for place in where])
    sizes = np.full(len(positions), size)
    places = permuted(positions, sizes, np.array([key], dtype=np.uint64))
    assert places.min() >= 0
    assert places.max() < size
    assert len(np.unique(places)) == len(positions)
    mixed = permuted(np.append(positions, 0), np.append(sizes, 1), np.full(len(positions) + 1, key, dtype=np.uint64))
    assert np.array_equal(mixed, np.append(places, 0))


@pytest.mark.parametrize("balance", ["none", "class", "subject", "class-and-subject"])
def test_orders_by_name(balance: Balance) -> None:
    trials = pd.DataFrame({"subject": ["a", "a", "b", "b", "b"], "label_id": [0, 1, 0, 0, 1]})
    counts = np.array([10, 1, 3, 0, 5])
    order = training_order(balance, trials, counts, 0, repeats=2)
    epoch = order.batch(0, order.size) % 19
    trial = np.searchsorted(np.cumsum(counts), epoch, side="right")
    columns = {"none": [], "class": ["label_id"], "subject": ["subject"], "class-and-subject": ["subject", "label_id"]}
    shown = trials.iloc[trial]
    if balance == "none":
        assert (np.bincount(epoch) == 2).all()
    else:
        assert shown.groupby(columns[balance]).size().nunique() == 1


def test_the_balanced_order_is_frozen() -> None:
    assert BalancedOrder(Strata(np.array([0, 1, 1]), np.array([3, 2, 4])), 0).batch(0, 10).tolist() == BALANCED


def test_strata_refuse_what_they_cannot_number() -> None:
    with pytest.raises(ValueError, match="no window"):
        Strata(np.array([0, 1]), np.array([0, 0]))
    with pytest.raises(ValueError, match="codes for"):
        Strata(np.array([0, 1]), np.array([1]))
