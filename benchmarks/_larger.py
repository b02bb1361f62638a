"""Reading stores larger than memory, with the page cache as it comes, against the disk that they lie on."""

import math
import mmap
import os
import resource
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from benchmarks._formats import BATCH, Corpus, Reader, synthetic_eeg
from benchmarks._report import Row, compare, rounds, seconds
from storage.signal import SEED_CHANNELS

SHARE = 1.25
"""Size of a store's files, memory = 1."""
RECORDING_SECONDS = 3600.0
OURS = "ours"
THREADS = max(4, os.cpu_count() or 1)
"""As many as TensorStore reads files with; uncompressed stores ask the disk for a whole batch."""


class RawDisk:
    """Plain reads of windows' lengths at random places of a store's own files, through the page cache or past it."""

    def __init__(self, corpus: Corpus, codec: str, *, past_cache: bool) -> None:
        self.length = corpus.window * len(SEED_CHANNELS) * 2
        found = sorted((corpus.folder / f"{codec}.zarr").rglob("c/0/*"))
        paths = [path for path in found if path.stat().st_size > self.length]
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._grain = mmap.PAGESIZE if past_cache else 1
        self._buffer_bytes = -(-self.length // mmap.PAGESIZE) * mmap.PAGESIZE if past_cache else self.length
        flags = os.O_RDONLY | os.O_DIRECT if past_cache else os.O_RDONLY
        self._handles = [os.open(path, flags) for path in paths]
        self._sizes = np.array([path.stat().st_size for path in paths])

    def places(self, number: int, seed: int) -> list[tuple[int, int]]:
        """File and offset of each read, every byte as likely."""
        rng = np.random.default_rng(seed)
        files = rng.choice(len(self._handles), number, p=self._sizes / self._sizes.sum())
        offsets = rng.integers(0, self._sizes[files] - self.length) // self._grain * self._grain
        return [(self._handles[file], offset) for file, offset in zip(files.tolist(), offsets.tolist(), strict=True)]

    def read(self, places: list[tuple[int, int]]) -> None:
        """Read one after the other."""
        buffer = mmap.mmap(-1, self._buffer_bytes)  # begins at a page, which reads past the cache ask for
        for handle, offset in places:
            os.preadv(handle, [buffer], offset)

    def read_at_once(self, places: list[tuple[int, int]], threads: int) -> None:
        """Read `threads` at a time."""
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self.read, [places[first::threads] for first in range(threads)]))

    def close(self) -> None:
        """Let go of the files."""
        for handle in self._handles:
            os.close(handle)


def larger_than_memory(folder: Path, turns: int, number: int = 64 * BATCH) -> tuple[list[Row], dict[str, Any]]:
    """Write a store of each kind, measure it, remove it; rows and what is to be known with them."""
    memory = psutil.virtual_memory().total
    if (free := shutil.disk_usage(folder).free) < 1.1 * SHARE * memory:
        raise SystemExit(
            f"error: {folder}: {free / 1e9:.0f} GB free, {1.1 * SHARE * memory / 1e9:.0f} GB are needed. "
            "Name another place in E2LLM_BENCHMARK_DIR."
        )
    rows: list[Row] = []
    details: dict[str, Any] = {"memory_bytes": memory, "load_before": os.getloadavg()[0], "stores": {}}
    for codec in ("none", "lz4"):
        corpus = _build(folder / codec, codec, int(SHARE * memory))
        values, facts = _measure(corpus, codec, turns, number)
        facts |= {"bytes_of_files": _bytes(corpus.folder), "load_of_the_machine": os.getloadavg()[0]}
        details["stores"][codec] = facts
        case = f"random 4-s windows, files {SHARE} x memory: {codec}"
        rows += [compare(case, "rate", values, OURS, other, unit="MB/s") for other in values if other != OURS]
        shutil.rmtree(corpus.folder)
    return rows, details


def _build(folder: Path, codec: str, wanted: int) -> Corpus:
    signal = synthetic_eeg(RECORDING_SECONDS, 0)
    first = Corpus(folder, 1, RECORDING_SECONDS)
    first.build_store(codec, signal)
    corpus = Corpus(folder, math.ceil(wanted / _bytes(folder)), RECORDING_SECONDS)
    print(f"writing {corpus.num_recordings} recordings of an hour: {codec}", flush=True)
    corpus.build_store(codec, signal)
    return corpus


def _measure(corpus: Corpus, codec: str, turns: int, number: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Delivered int16 megabytes per second, and what it took: bytes from the disk for each delivered one."""
    turn, read = count(), corpus.ours(codec)
    disk, past_cache = RawDisk(corpus, codec, past_cache=False), RawDisk(corpus, codec, past_cache=True)
    delivered = number * disk.length
    from_disk: dict[str, list[float]] = {}

    def ours() -> Callable[[], None]:
        pairs = corpus.unaligned(number, next(turn))
        return lambda: _in_batches(read, pairs)

    def raw(disk: RawDisk, threads: int) -> Callable[[], Callable[[], None]]:
        def begin() -> Callable[[], None]:
            places = disk.places(number, next(turn))
            return lambda: disk.read(places) if threads == 1 else disk.read_at_once(places, threads)

        return begin

    def case(name: str, begin: Callable[[], Callable[[], None]]) -> Callable[[], float]:
        def measure() -> float:
            work, before = begin(), psutil.Process().io_counters().read_bytes
            taken = seconds(work)
            from_disk.setdefault(name, []).append((psutil.Process().io_counters().read_bytes - before) / delivered)
            return delivered / 1e6 / taken

        return measure

    whole = corpus.plain_bytes // disk.length
    print(f"reading as many windows as the store holds, {whole:,}, before measuring", flush=True)
    epoch = seconds(lambda: _in_batches(read, corpus.unaligned(whole, 10**6)))
    begins = {OURS: ours}
    for n in (1, THREADS, BATCH):
        begins[f"plain reads, {n} at once"] = raw(disk, n)
        begins[f"reads past the page cache, {n} at once"] = raw(past_cache, n)
    values = rounds({name: case(name, begin) for name, begin in begins.items()}, turns)
    disk.close()
    past_cache.close()
    return values, {
        "recordings_of_an_hour": corpus.num_recordings,
        "windows_read_before_measuring": whole,
        "windows_per_second_before_measuring": round(whole / epoch),
        "windows_per_round": number,
        "bytes_from_disk_per_delivered_byte": {name: round(median(found[1:]), 3) for name, found in from_disk.items()},
    }


def _in_batches(read: Reader, pairs: np.ndarray) -> None:
    for start in range(0, len(pairs), BATCH):
        read(pairs[start : start + BATCH])


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
