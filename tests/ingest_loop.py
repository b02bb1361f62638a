"""An ingest without Ray that a test can kill: ``python ingest_loop.py SOURCE STORE SFREQ_HZ [by-permit]``.

By permit it says that it has written a recording, and goes on when a line comes in. Recordings are .npy files,
(n_chans, n_times) in µV at 100 Hz, so that a process is quick to start.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from storage.errors import InputError
from storage.ingest import ingest_recording
from storage.labels import LabelSet
from storage.places.lock import only_ingest, writing
from storage.readers.base import RawRecording, RecordingRef, Source, TrialSpan
from storage.signal import SignalConfig
from storage.store import Store, create_store
from storage.upkeep import prepare_writing, remove_leftovers

BEGIN, WROTE, BY_PERMIT = "begin", "wrote", "by-permit"
CHANNELS = ("FP1", "FP2", "C3", "C4", "O1", "O2")
SOURCE_HZ = 100.0


class ArraySource(Source):
    """A folder of .npy files."""

    format: Literal["arrays"] = "arrays"
    root: Path

    @property
    def label_set(self) -> LabelSet:
        return LabelSet(name="two", names=("rest", "task"))

    def list_recordings(self) -> list[RecordingRef]:
        return [RecordingRef(path.stem, path.stem, "1", path) for path in sorted(self.root.glob("*.npy"))]

    def read(self, ref: RecordingRef) -> RawRecording:
        signal = np.load(ref.path)
        span = TrialSpan(piece=0, start=0, stop=signal.shape[1], trial=1, position=1, clip=1, label="rest")
        return RawRecording(CHANNELS, SOURCE_HZ, [signal], [span])


def write_sources(root: Path, count: int, seconds: int) -> None:
    """Write recordings of noise."""
    root.mkdir(exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng(number).normal(0, 20, (len(CHANNELS), int(seconds * SOURCE_HZ)))
        np.save(root / f"r{number}.npy", noise)


def ingest(root: Path, place: str, sfreq_hz: float, wrote: Callable[[], object] | None = None) -> Store:
    """Bring every recording into a store, one after the other."""
    source = ArraySource(root=root)
    store = create_store(place, dataset="made up", label_set=source.label_set)
    refs = source.list_recordings()
    with only_ingest(store.root) as token:
        prepare_writing(store)
        print(BEGIN, flush=True)
        for ref in refs:
            with writing(store.root, token) as confirm:
                written = ingest_recording(store, source, ref, SignalConfig(sfreq_hz=sfreq_hz), confirm=confirm)
            if written and wrote:
                wrote()
        remove_leftovers(store, [ref.recording_id for ref in refs])
        with store.root.writing("the index"):
            store.write_index()
    return store


def wait_for_permit() -> None:
    """Say that a recording was written, and wait for a line."""
    print(WROTE, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    import mne.filter  # noqa: F401  (what an ingest imports when it needs it, so that a kill meets it at work)
    import zarr  # noqa: F401

    try:
        by_permit = sys.argv[4:] == [BY_PERMIT]
        ingest(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), wait_for_permit if by_permit else None)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
