"""Batches ahead of their use: a thread reads while the caller computes. Threads, never forks."""

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from storage.windows import Windows

T = TypeVar("T")
R = TypeVar("R")
_DONE = object()
_POLL_SECONDS = 0.1


class Prefetcher(Generic[T, R]):
    """Applies a function to items in order, up to `depth` results ahead, in one thread.

    Parameters
    ----------
    function : callable
        Makes a result of an item; its exception is raised where the result would have come.
    items : iterable
        May be endless.
    depth : int
        Results that wait at most; with the one being made and the one in use, `depth + 2` exist at once.

    Attributes
    ----------
    wait_seconds, last_wait_seconds : float
        How long the caller has waited for results, in all and for the last one.
    """

    def __init__(self, function: Callable[[T], R], items: Iterable[T], depth: int = 2) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        self.wait_seconds = self.last_wait_seconds = 0.0
        self._queue: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(depth)
        self._closed = threading.Event()
        work = (function, iter(items), self._queue, self._closed)
        self._thread = threading.Thread(target=_work, args=work, daemon=True)
        self._thread.start()
        weakref.finalize(self, self._closed.set)

    def __iter__(self) -> Iterator[R]:
        while True:
            started = time.perf_counter()
            result, error = self._next()
            self.last_wait_seconds = time.perf_counter() - started
            self.wait_seconds += self.last_wait_seconds
            if error is not None:
                self.close()
                raise error
            if result is _DONE:
                self._queue.put((_DONE, None))
                return
            yield result  # type: ignore[misc]

    def _next(self) -> tuple[object, BaseException | None]:
        while True:
            if self._closed.is_set():
                raise RuntimeError("the prefetcher is closed")
            try:
                return self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue

    def close(self) -> None:
        """End the thread; results that were not taken are dropped."""
        self._closed.set()
        while not self._queue.empty():
            self._queue.get_nowait()
        self._thread.join()

    def __enter__(self) -> "Prefetcher[T, R]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _work(
    function: Callable[[T], R],
    items: Iterator[T],
    results: "queue.Queue[tuple[object, BaseException | None]]",
    closed: threading.Event,
) -> None:
    """Fill the queue. Holds no reference to the Prefetcher, so that an unused one is collected."""

    def put(result: object, error: BaseException | None) -> bool:
        while not closed.is_set():
            try:
                results.put((result, error), timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    try:
        for item in items:
            if not put(function(item), None):
                return
        put(_DONE, None)
    except BaseException as error:
        put(None, error)


class WindowLoader:
    """Reads batches of windows ahead, into a ring of reused buffers: memory is bounded and allocated once.

    A batch may be used until the next one is asked for.

    Parameters
    ----------
    windows : Windows
        Windows to read.
    batches : iterable of np.ndarray
        Window numbers of each batch, for example from a `SampleOrder`; may be endless.
    batch_size : int
        The most windows in a batch.
    depth : int
        Batches that wait at most.
    allocate : callable
        Makes a float32 buffer of a shape; give one that pins memory to copy to a GPU without blocking.
    """

    def __init__(
        self,
        windows: Windows,
        batches: Iterable[np.ndarray],
        batch_size: int,
        depth: int = 2,
        allocate: Callable[[tuple[int, ...]], np.ndarray] | None = None,
    ) -> None:
        shape = (batch_size, len(windows.channels), windows.n_times)
        make = allocate or (lambda shape: np.empty(shape, dtype=np.float32))
        self._buffers = [make(shape) for _ in range(depth + 2)]
        read = partial(_read, windows, self._buffers)
        self._prefetcher = Prefetcher(read, enumerate(batches), depth)

    @property
    def wait_seconds(self) -> float:
        """How long the caller has waited for batches, in all."""
        return self._prefetcher.wait_seconds

    @property
    def buffer_bytes(self) -> int:
        """Memory of all buffers."""
        return sum(buffer.nbytes for buffer in self._buffers)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield window numbers (batch,) and float32 (batch, n_chans, n_times)."""
        return iter(self._prefetcher)

    def close(self) -> None:
        """End the reading thread."""
        self._prefetcher.close()

    def __enter__(self) -> "WindowLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(
    windows: Windows, buffers: Sequence[np.ndarray], item: tuple[int, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    number, ids = item
    return ids, windows.read(ids, out=buffers[number % len(buffers)][: len(ids)])
