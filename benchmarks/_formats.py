"""The same recordings in every format, and a reader of random windows for each.

Every reader delivers float32 µV (batch, n_chans, n_times). Formats that keep fixed windows (LMDB, torch.save) are
asked for their own, aligned ones: an arbitrary window would cost them two reads and a copy.
"""

import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from storage.labels import LabelSet
from storage.layout import LayoutConfig
from storage.signal import SEED_CHANNELS
from storage.store import RecordingInfo, Trial, create_store, open_store
from storage.windows import WindowConfig, Windows

SFREQ_HZ = 256.0
STEP_UV = 0.1
BATCH = 64
_LABELS = LabelSet(name="two", names=("rest", "task"))

PROFILES = {"lz4": ("lz4", "int16"), "none": ("none", "int16"), "float32": ("none", "float32")}
"""Stores of ours by name: codec and precision."""

Reader = Callable[[np.ndarray], None]
"""Reads one batch of (recording, first sample) pairs, int64 (batch, 2)."""


def synthetic_eeg(seconds: float, seed: int, n_chans: int = len(SEED_CHANNELS)) -> np.ndarray:
    """float64 (n_chans, n_times) in µV: 1/f noise up to 70 Hz, 15 µV, channels mixed as by volume conduction."""
    rng = np.random.default_rng(seed)
    n_times = round(seconds * SFREQ_HZ)
    freqs = np.fft.rfftfreq(n_times, 1 / SFREQ_HZ)
    slope = np.where((freqs > 0.1) & (freqs < 70), np.maximum(freqs, 1.0) ** -0.7, 0.0)
    signal = np.empty((n_chans, n_times))
    for row in range(n_chans):
        signal[row] = np.fft.irfft(np.fft.rfft(rng.standard_normal(n_times)) * slope, n_times)
    signal += 0.8 * signal[rng.permutation(n_chans)]
    return signal * (15 / signal.std(axis=1, keepdims=True))


@dataclass(frozen=True)
class Corpus:
    """Recordings of equal length, once per format, below one folder."""

    folder: Path
    num_recordings: int
    seconds: float
    window_seconds: float = 4.0

    @property
    def n_times(self) -> int:
        """Samples of a recording."""
        return round(self.seconds * SFREQ_HZ)

    @property
    def window(self) -> int:
        """Samples of a window."""
        return round(self.window_seconds * SFREQ_HZ)

    @property
    def plain_bytes(self) -> int:
        """Size as plain int16."""
        return self.num_recordings * self.n_times * len(SEED_CHANNELS) * 2

    def unaligned(self, number: int, seed: int) -> np.ndarray:
        """Random windows that begin at any sample."""
        rng = np.random.default_rng(seed)
        starts = rng.integers(0, self.n_times - self.window, number)
        return np.stack([rng.integers(0, self.num_recordings, number), starts], axis=1)

    def aligned(self, number: int, seed: int) -> np.ndarray:
        """Random windows of the fixed grid."""
        pairs = self.unaligned(number, seed)
        pairs[:, 1] -= pairs[:, 1] % self.window
        return pairs

    def build(self) -> None:
        """Write every format."""
        import h5py
        import lmdb
        import torch

        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        stores = {
            name: create_store(self.folder / f"{name}.zarr", dataset="synthetic", label_set=_LABELS)
            for name in PROFILES
        }
        environment = lmdb.open(str(self.folder / "windows.lmdb"), map_size=2**38)
        (self.folder / "torch").mkdir()
        for number in range(self.num_recordings):
            signal = synthetic_eeg(self.seconds, number)
            for name, store in stores.items():
                store.write_recording(_describe(number, self.n_times, *PROFILES[name]), signal)
            steps = np.rint(signal / STEP_UV).astype(np.int16)
            steps.tofile(self.folder / f"{number}.int16")
            with h5py.File(self.folder / f"{number}.h5", "w") as file:
                file.create_dataset("gzip", data=steps, chunks=(len(steps), round(2 * SFREQ_HZ)), compression="gzip")
                file.create_dataset("plain", data=steps)
            with environment.begin(write=True) as transaction:
                for start in range(0, self.n_times - self.window + 1, self.window):
                    integers = np.ascontiguousarray(steps[:, start : start + self.window])
                    sample = (integers * STEP_UV).astype(np.float32)
                    key = f"{number}-{start}"
                    for kind, content in (("int16", integers), ("float32", sample)):
                        transaction.put(f"{kind}-{key}".encode(), pickle.dumps({"sample": content, "label": 0}))
                    torch.save(torch.from_numpy(sample), self.folder / "torch" / f"{key}.pt")
        for store in stores.values():
            store.write_index()
        environment.close()

    def build_store(self, name: str, signal: np.ndarray) -> None:
        """Write one store of ours alone, every recording with the same signal, without the recordings it has."""
        store = create_store(self.folder / f"{name}.zarr", dataset="synthetic", label_set=_LABELS)
        for number in range(len(store.recordings), self.num_recordings):
            store.write_recording(_describe(number, self.n_times, *PROFILES[name]), signal)
        store.write_index()

    def size(self, name: str) -> float:
        """Bytes on disk relative to plain int16."""
        path = self.folder / name
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return sum(file.stat().st_blocks * 512 for file in files) / self.plain_bytes

    def hdf5_size(self, dataset: str) -> float:
        """Bytes of an HDF5 data set relative to plain int16."""
        import h5py

        paths = [self.folder / f"{number}.h5" for number in range(self.num_recordings)]
        return sum(h5py.File(path, "r")[dataset].id.get_storage_size() for path in paths) / self.plain_bytes

    def ours(self, codec: str, channels: tuple[str, ...] | None = None) -> Reader:
        """Our reader."""
        store = open_store(self.folder / f"{codec}.zarr")
        config = WindowConfig(window_seconds=self.window_seconds, stride_seconds=1 / SFREQ_HZ, channels=channels)
        windows = Windows(store, config)
        per_recording = self.n_times - self.window + 1
        out = np.empty((BATCH, len(windows.channels), self.window), dtype=np.float32)

        def read(pairs: np.ndarray) -> None:
            windows.read(pairs[:, 0] * per_recording + pairs[:, 1], out=out[: len(pairs)])

        return read

    def zarr_python(self, codec: str) -> Reader:
        """zarr-python on our store, slice by slice."""
        import zarr

        store = open_store(self.folder / f"{codec}.zarr")
        arrays = [
            zarr.open_array(str(store.root), path=store.signal_key(info), mode="r")
            for info in store.recordings.values()
        ]
        return self._sliced(arrays)

    def hdf5(self, dataset: str) -> Reader:
        """`h5py`, one file per recording."""
        import h5py

        files = [h5py.File(self.folder / f"{number}.h5", "r") for number in range(self.num_recordings)]
        return self._sliced([file[dataset] for file in files])

    def memory_map(self) -> Reader:
        """The limit: int16 files in memory."""
        shape = (len(SEED_CHANNELS), self.n_times)
        paths = [self.folder / f"{number}.int16" for number in range(self.num_recordings)]
        return self._sliced([np.memmap(path, np.int16, "r", shape=shape) for path in paths])

    def lmdb_pickle(self, kind: str) -> Reader:
        """LMDB with one pickled window per key, as CBraMod keeps its data (float32); aligned windows only."""
        out = self._batch()
        scale = np.float32(STEP_UV)

        def read(pairs: np.ndarray) -> None:
            with self._lmdb.begin() as transaction:
                for row, (number, start) in enumerate(pairs.tolist()):
                    sample = pickle.loads(transaction.get(f"{kind}-{number}-{start}".encode()))["sample"]
                    out[row] = sample
                    if kind == "int16":
                        np.multiply(out[row], scale, out=out[row])

        return read

    @cached_property
    def _lmdb(self) -> Any:
        import lmdb

        return lmdb.open(str(self.folder / "windows.lmdb"), readonly=True, lock=False, readahead=False)

    def torch_files(self) -> Reader:
        """One `torch.save` file per window, as EEGPT keeps its data; aligned windows only."""
        import torch

        out = self._batch()

        def read(pairs: np.ndarray) -> None:
            for row, (number, start) in enumerate(pairs.tolist()):
                out[row] = torch.load(self.folder / "torch" / f"{number}-{start}.pt", weights_only=True)

        return read

    def _batch(self) -> np.ndarray:
        return np.empty((BATCH, len(SEED_CHANNELS), self.window), dtype=np.float32)

    def _sliced(self, arrays: list[Any]) -> Reader:
        out, scale = self._batch(), np.float32(STEP_UV)

        def read(pairs: np.ndarray) -> None:
            for row, (number, start) in enumerate(pairs.tolist()):
                out[row] = arrays[number][:, start : start + self.window]
                np.multiply(out[row], scale, out=out[row])

        return read


def _describe(number: int, n_times: int, codec: str, precision: str) -> RecordingInfo:
    return RecordingInfo(
        recording_id=f"r{number:04d}",
        subject=f"s{number:04d}",
        session="1",
        channels=SEED_CHANNELS,
        sfreq_hz=SFREQ_HZ,
        n_times=n_times,
        layout=LayoutConfig(codec=codec),
        precision=precision,
        source_sha256="0" * 64,
        ingest_digest=f"{number:064d}",
        provenance={},
        trials=(Trial(trial=1, position=1, clip=1, start=0, stop=n_times, label="rest"),),
    )
