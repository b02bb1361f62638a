import gc
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest

from storage.errors import InputError
from storage.sampling.loader import Prefetcher, WindowLoader
from storage.sampling.order import SampleOrder
from storage.store import Store
from storage.windows import WindowConfig, Windows


@pytest.fixture
def windows(store: Store, describe: Callable, noise: Callable) -> Windows:
    info = describe(lengths=(1000, 700))
    store.write_recording(info, noise(info))
    return Windows(store, WindowConfig(window_seconds=1, stride_seconds=0.25))


def test_results_come_in_order() -> None:
    with Prefetcher(lambda item: item * item, range(100), depth=3) as results:
        assert list(results) == [item * item for item in range(100)]
        assert list(results) == []


@pytest.mark.parametrize("depth", [1, 4])
def test_no_more_than_depth_results_wait(depth: int) -> None:
    made: list[int] = []
    with Prefetcher(made.append, count(), depth) as results:
        for taken, _ in zip(range(5), results, strict=False):
            time.sleep(0.05)
            assert len(made) <= taken + 1 + depth + 1


def test_an_error_arrives_where_its_result_would_have() -> None:
    def function(item: int) -> int:
        if item == 3:
            raise InputError("item 3", "is bad", "Drop it.")
        return item

    results = iter(Prefetcher(function, count()))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="item 3"):
        next(results)


def test_errors_of_the_items_arrive_too() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(Prefetcher(lambda item: item, items()))


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    prefetcher = Prefetcher(lambda item: item, count())
    next(iter(prefetcher))
    prefetcher.close()
    assert threading.active_count() == before


def test_a_closed_prefetcher_says_so() -> None:
    prefetcher = Prefetcher(lambda item: item, count())
    prefetcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(iter(prefetcher))


def test_an_abandoned_loader_ends(windows: Windows) -> None:
    before = threading.active_count()
    for _ in range(5):
        for _ in WindowLoader(windows, ([np.arange(2)] * 1000), batch_size=2):
            break
    gc.collect()
    deadline = time.monotonic() + 30
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_waiting_is_counted() -> None:
    with Prefetcher(lambda item: time.sleep(0.3), range(3), depth=1) as slow:
        list(slow)
        assert slow.wait_seconds > 0.3
    with Prefetcher(lambda item: item, range(3), depth=3) as quick:
        time.sleep(0.05)
        list(quick)
        assert quick.wait_seconds < slow.wait_seconds


def test_depth_is_checked() -> None:
    with pytest.raises(ValueError, match="depth"):
        Prefetcher(lambda item: item, [], depth=0)


def test_loader_gives_what_windows_give(windows: Windows) -> None:
    order = SampleOrder(len(windows), seed=0)
    batches = [order.batch(step, 7) for step in range(12)] + [np.array([1, 2])]
    with WindowLoader(windows, batches, batch_size=7, depth=2) as loader:
        seen = 0
        for (ids, eeg), expected in zip(loader, batches, strict=True):
            assert np.array_equal(ids, expected)
            assert np.array_equal(eeg, windows.read(expected))
            seen += 1
        assert seen == len(batches)


def test_loader_reuses_its_buffers(windows: Windows) -> None:
    made: list[np.ndarray] = []

    def allocate(shape: tuple[int, ...]) -> np.ndarray:
        made.append(np.empty(shape, dtype=np.float32))
        return made[-1]

    with WindowLoader(windows, [np.arange(4)] * 20, batch_size=4, depth=1, allocate=allocate) as loader:
        assert all(any(np.shares_memory(eeg, buffer) for buffer in made) for _, eeg in loader)
        assert len(made) == 3
        assert loader.buffer_bytes == sum(buffer.nbytes for buffer in made)


def test_loader_takes_endless_batches(windows: Windows) -> None:
    order = SampleOrder(len(windows), seed=1)
    with WindowLoader(windows, (order.batch(step, 3) for step in count()), batch_size=3) as loader:
        for (ids, _), step in zip(loader, range(10), strict=False):
            assert np.array_equal(ids, order.batch(step, 3))
