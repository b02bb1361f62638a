"""Faults of a training process that its launcher can do something about."""

import faulthandler
import os
from pathlib import Path
from types import TracebackType

import torch

STACKS = "stacks"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device or the host ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)


class Watchdog:
    """Ends a process that hangs, with the stacks of its threads in `<run>/stacks/rank-<n>.txt`.

    The timer is :mod:`faulthandler`'s own thread in C: it fires also while a collective call holds Python's lock.

    Parameters
    ----------
    run : Path
        The run's folder.
    rank : int
        Number of this process's rank.
    seconds : float
        The longest time between two calls of `feed`, or of `feed` and `rest`. Before the first one, while extensions
        are compiled and weights are read, nothing is timed: ending a compiler would leave its lock behind.
    """

    def __init__(self, run: Path, rank: int, seconds: float) -> None:
        folder = run / STACKS
        folder.mkdir(parents=True, exist_ok=True)
        self._seconds = seconds
        self._path = folder / f"rank-{rank}.txt"
        self._file = self._path.open("a")

    def feed(self) -> None:
        """Restart the timer."""
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._file)

    def rest(self) -> None:
        """Stop the timer until it is fed again."""
        faulthandler.cancel_dump_traceback_later()

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest()
        with self._file:
            is_empty = not os.fstat(self._file.fileno()).st_size
        if is_empty:
            self._path.unlink(missing_ok=True)
