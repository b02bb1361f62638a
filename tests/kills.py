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
FIRST_SECONDS = 0.1


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


def start(source: Path, place: str, sfreq_hz: float, *, by_permit: bool = False) -> subprocess.Popen[str]:
    """Start an ingest; returns once it has begun to write."""
    command = [sys.executable, "-m", "tests.ingest_loop", str(source), place, str(sfreq_hz)]
    command += [ingest_loop.BY_PERMIT] * by_permit
    stdin = subprocess.PIPE if by_permit else None
    process = subprocess.Popen(command, cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == ingest_loop.BEGIN
    return process


def kill_at_random_moments(
    begin: Callable[[], subprocess.Popen[str]], check: Callable[[], object], kills: int, seed: int, recordings: int
) -> list[str]:
    """Start by permit, wait, kill, check, until an ingest was killed `kills` times; one line per start.

    Of `recordings` + 1 starts in a row one is killed while, or right after, it writes its first recording, one its
    second, ..., and one while it finishes. It waits for permits rather than run ahead: this holds at any speed.
    """
    rng, log, waiting, killed = random.Random(seed), list[str](), list[int](), 0
    one = 0.0
    while killed < kills:
        waiting = waiting or rng.sample(range(recordings + 1), recordings + 1)
        process, permits, started = begin(), waiting.pop(), time.monotonic()
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            written = 0
            while written < permits and process.stdout.readline().strip() == ingest_loop.WROTE:
                written += 1
                one = (time.monotonic() - started) / written
                process.stdin.write("\n")
                process.stdin.flush()
            moment = rng.uniform(0, 1.5 * (one or FIRST_SECONDS))
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        killed += process.returncode < 0
        how = "killed" if process.returncode < 0 else "finished"
        log.append(f"{how} {moment:.3f} s after {written} of at most {permits} recordings: {check()}")
        assert process.returncode in (0, -9)
    return log
