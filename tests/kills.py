"""Killing an ingest at random moments, and what has to be true of the store after each."""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from storage.damage import verify
from storage.store import Store, open_store
from tests import ingest_loop

ROOT = Path(__file__).resolve().parents[1]


def samples(store: Store) -> dict[str, np.ndarray]:
    """Every recording's stored steps, read by plain zarr."""
    import zarr

    return {
        name: np.asarray(zarr.open_array(store.root.zarr(store.signal_key(info)), mode="r")[:])
        for name, info in store.recordings.items()
    }


class References:
    """What every recording must be equal to: by (recording, digest of its ingest), from undisturbed ingests."""

    def __init__(self, stores: Mapping[float, Store]) -> None:
        self.names = {rate: set(store.recordings) for rate, store in stores.items()}
        self.samples = {
            (name, store.recordings[name].ingest_digest): array
            for store in stores.values()
            for name, array in samples(store).items()
        }
        self.digests = {rate: store.digest for rate, store in stores.items()}

    def check(self, place: str, *, complete: bool) -> Counter[float]:
        """Open a store and compare all that is visible; returns how many recordings have which sampling rate."""
        store = open_store(place)
        assert [found for _, found in verify(store)] == [[]] * len(store.recordings)
        found = samples(store)
        for name, array in found.items():
            assert np.array_equal(array, self.samples[name, store.recordings[name].ingest_digest]), name
        if complete:
            assert set(found) == next(iter(self.names.values()))
        return Counter(info.sfreq_hz for info in store.recordings.values())

    def check_finished(self, folder: Path, sfreq_hz: float) -> None:
        """Exactly the expected recordings, nothing twice, nothing left over."""
        rates = self.check(str(folder), complete=True)
        assert rates == {sfreq_hz: len(self.names[sfreq_hz])}
        assert open_store(folder).digest == self.digests[sfreq_hz]
        assert not list(folder.rglob("*.partial*"))
        names = {path.name for path in (folder / "recordings").iterdir()} - {"zarr.json"}
        assert names == self.names[sfreq_hz]
        for name in names:
            info = open_store(folder).recordings[name]
            assert {path.name for path in (folder / "recordings" / name).iterdir()} == {"zarr.json", info.signal}


def start(source: Path, place: str, sfreq_hz: float) -> subprocess.Popen[str]:
    """Start an ingest; returns once it has begun to write."""
    command = [sys.executable, "-m", "tests.ingest_loop", str(source), place, str(sfreq_hz)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == ingest_loop.BEGIN
    return process


def kill_at_random_moments(
    begin: Callable[[], subprocess.Popen[str]],
    check: Callable[[], object],
    kills: int,
    seed: int,
    longest: float,
    shortest: float = 0.0,
) -> list[str]:
    """Start, wait, kill, check, until an ingest was killed `kills` times; one line per start."""
    rng, log = random.Random(seed), list[str]()
    killed = 0
    while killed < kills:
        process = begin()
        moment = rng.uniform(0, longest)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        killed += process.returncode < 0
        log.append(f"{'killed' if process.returncode < 0 else 'finished'} after {moment:.3f} s: {check()}")
        assert process.returncode in (0, -9)
        if process.stdout:
            process.stdout.close()
    return log


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    started = time.monotonic()
    action()
    return time.monotonic() - started
