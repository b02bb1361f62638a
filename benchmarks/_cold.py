"""Reading when nothing is in the page cache, which is how a store larger than memory is read."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks._formats import BATCH, Corpus
from benchmarks._report import rounds, seconds
from storage.signal import SEED_CHANNELS


def forget(folder: Path) -> None:
    """Write back and drop a folder's files from the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def cold_rates(corpus: Corpus, turns: int, number: int = 4 * BATCH) -> dict[str, list[float]]:
    """Delivered int16 megabytes per second of ours, and of plain reads of as long stretches from the raw disk."""
    turn = iter(range(10**6))
    delivered = number * corpus.window * len(SEED_CHANNELS) * 2 / 1e6

    def ours(codec: str) -> Callable[[], float]:
        def measure() -> float:
            pairs = corpus.unaligned(number, next(turn))
            read = corpus.ours(codec)
            forget(corpus.folder / f"{codec}.zarr")
            batches = [pairs[start : start + BATCH] for start in range(0, number, BATCH)]
            return delivered / seconds(lambda: [read(batch) for batch in batches])

        return measure

    def disk() -> float:
        length = corpus.window * len(SEED_CHANNELS) * 2
        handles = [os.open(corpus.folder / f"{n}.int16", os.O_RDONLY) for n in range(corpus.num_recordings)]
        size = corpus.plain_bytes // corpus.num_recordings
        rng = np.random.default_rng(next(turn))
        places = [(handles[rng.integers(len(handles))], int(rng.integers(0, size - length))) for _ in range(number)]
        forget(corpus.folder)
        taken = seconds(lambda: [os.pread(handle, length, place) for handle, place in places])
        for handle in handles:
            os.close(handle)
        return delivered / taken

    return rounds({"ours, lz4": ours("lz4"), "ours, uncompressed": ours("none"), "raw disk, read by read": disk}, turns)
