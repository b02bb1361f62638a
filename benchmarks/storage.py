"""Reading random EEG windows: ours, what a user would otherwise take, and the raw memory map.

    python benchmarks/storage.py [--full | --larger-than-memory]

All formats hold the same synthetic recordings (62 channels, 256 Hz, int16 steps of 0.1 µV) and deliver float32 µV.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._cold import cold_rates
from benchmarks._formats import BATCH, Corpus, Reader
from benchmarks._larger import larger_than_memory
from benchmarks._object_store import object_store_rates
from benchmarks._plots import frontier
from benchmarks._report import RESULTS, Row, compare, rounds, seconds, write
from storage.signal import SEED_CHANNELS

OURS, OURS_PLAIN, OURS_FLOAT = "ours, lz4", "ours, uncompressed", "ours, uncompressed float32"
ZARR, ZARR_PLAIN = "zarr-python, same lz4 store", "zarr-python, same uncompressed store"
HDF5, HDF5_PLAIN = "HDF5, gzip", "HDF5, uncompressed"
LMDB, LMDB_FLOAT = "LMDB + pickle, int16", "LMDB + pickle, float32"
TORCH, MEMORY_MAP = "torch.save per window", "raw memory map"


def rate(read: Reader, draw: Callable[[int], np.ndarray]) -> Callable[[], float]:
    """Windows per second; other windows every time, so that nobody's cache has seen them."""
    turns = count()

    def measure() -> float:
        pairs = draw(next(turns))
        batches = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]
        return len(pairs) / seconds(lambda: [read(batch) for batch in batches])

    return measure


def warm_rates(corpus: Corpus, number: int, turns: int) -> dict[str, list[float]]:
    """Windows per second of every format, warm."""

    def any_start(seed: int) -> np.ndarray:
        return corpus.unaligned(number, seed)

    def few(seed: int) -> np.ndarray:
        return corpus.unaligned(number // 4, seed)

    def on_the_grid(seed: int) -> np.ndarray:
        return corpus.aligned(number, seed)

    return rounds(
        {
            OURS: rate(corpus.ours("lz4"), any_start),
            OURS_PLAIN: rate(corpus.ours("none"), any_start),
            OURS_FLOAT: rate(corpus.ours("float32"), any_start),
            ZARR: rate(corpus.zarr_python("lz4"), few),
            ZARR_PLAIN: rate(corpus.zarr_python("none"), few),
            HDF5: rate(corpus.hdf5("gzip"), few),
            HDF5_PLAIN: rate(corpus.hdf5("plain"), any_start),
            LMDB: rate(corpus.lmdb_pickle("int16"), on_the_grid),
            LMDB_FLOAT: rate(corpus.lmdb_pickle("float32"), on_the_grid),
            TORCH: rate(corpus.torch_files(), on_the_grid),
            MEMORY_MAP: rate(corpus.memory_map(), any_start),
        },
        turns,
    )


def sizes(corpus: Corpus) -> dict[str, float]:
    """Bytes on disk relative to plain int16."""
    found = {OURS: "lz4.zarr", OURS_PLAIN: "none.zarr", OURS_FLOAT: "float32.zarr", TORCH: "torch"}
    hdf5 = {HDF5: "gzip", HDF5_PLAIN: "plain"}
    whole = corpus.n_times // corpus.window * corpus.window / corpus.n_times
    return (
        {name: round(corpus.size(path), 4) for name, path in found.items()}
        | {name: round(corpus.hdf5_size(dataset), 4) for name, dataset in hdf5.items()}
        | {LMDB: whole, LMDB_FLOAT: 2 * whole, MEMORY_MAP: 1.0}
    )


def against_others(values: dict[str, list[float]]) -> list[Row]:
    """Compare each of ours with what it competes with."""
    opponents = {
        OURS: (ZARR, HDF5, TORCH, LMDB, MEMORY_MAP),
        OURS_PLAIN: (ZARR_PLAIN, HDF5_PLAIN, TORCH, LMDB, MEMORY_MAP),
        OURS_FLOAT: (LMDB_FLOAT, TORCH),
    }
    return [
        compare(f"random 4-s windows, warm: {ours}", "rate", values, ours, other, unit="windows/s")
        for ours, others in opponents.items()
        for other in others
    ]


def curves(corpus: Corpus, number: int) -> dict[str, list[dict[str, float]]]:
    """How throughput changes with window length, number of channels and size of the store."""
    lengths, channels, amounts = [], [], []
    for window_seconds in (1.0, 2.0, 4.0, 8.0, 16.0):
        some = replace(corpus, window_seconds=window_seconds)
        lengths.append({"window_seconds": window_seconds} | _both(some, number))
    for n_chans in (1, 4, 16, 32, 62):
        channels.append({"n_chans": float(n_chans)} | _both(corpus, number, SEED_CHANNELS[:n_chans]))
    for num_recordings in sorted({1, max(1, corpus.num_recordings // 2), corpus.num_recordings}):
        some = replace(corpus, num_recordings=num_recordings)
        amounts.append({"megabytes_as_int16": some.plain_bytes / 1e6} | _both(some, number))
    return {"window_length": lengths, "number_of_channels": channels, "store_size": amounts}


def _both(corpus: Corpus, number: int, channels: tuple[str, ...] | None = None) -> dict[str, float]:
    def draw(seed: int) -> np.ndarray:
        return corpus.unaligned(number, seed)

    cases = {name: rate(corpus.ours(name, channels), draw) for name in ("lz4", "none")}
    return {f"{name}_windows_per_second": round(median(values)) for name, values in rounds(cases, 3).items()}


def open_a_billion() -> dict[str, Any]:
    """Open 10^9 windows over a synthetic trial table, in a process of its own: seconds and peak memory."""
    script = Path(__file__).with_name("_billion.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Run everything and write table, JSON and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="16 recordings of an hour instead of 4 of 20 minutes")
    larger = "stores larger than memory instead, one at a time (E2LLM_BENCHMARK_DIR: where)"
    parser.add_argument("--larger-than-memory", action="store_true", help=larger)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(dir=os.environ.get("E2LLM_BENCHMARK_DIR")) as folder:
        if arguments.larger_than_memory:
            write("storage_larger", *larger_than_memory(Path(folder), 7))
            return
        number, length = (16, 3600.0) if arguments.full else (4, 1200.0)
        corpus = Corpus(Path(folder) / "corpus", number, length)
        print(f"writing {number} recordings of {length / 60:.0f} minutes in every format", flush=True)
        corpus.build()
        values = warm_rates(corpus, 8 * BATCH, 15 if arguments.full else 7)
        rows = against_others(values)
        cold = cold_rates(corpus, 5)
        rows += [
            compare(f"random 4-s windows, cold: {name}", "rate", cold, name, "raw disk, read by read", unit="MB/s")
            for name in cold
            if name != "raw disk, read by read"
        ]
        remote = object_store_rates(corpus, 3)
        rows += [
            compare("random 4-s windows, S3 on loopback", "rate", remote, "ours", name, unit="windows/s")
            for name in remote
            if name != "ours"
        ]
        details = {
            "what": f"{number} recordings x {length:.0f} s x 62 channels x 256 Hz; batches of {BATCH}; float32 µV",
            "bytes_on_disk_relative_to_int16": sizes(corpus),
            "curves": curves(corpus, 4 * BATCH),
            "open_a_billion_windows": open_a_billion(),
        }
        write("storage", rows, details)
        frontier(values, sizes(corpus), RESULTS / "storage.png")


if __name__ == "__main__":
    main()
