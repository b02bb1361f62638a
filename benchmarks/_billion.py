"""Opens 10^9 windows over a synthetic trial table of 50,000 recordings; prints seconds and memory as JSON."""

import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from storage import index
from storage.labels import SEED_VII
from storage.sampling.order import SampleOrder
from storage.signal import SEED_CHANNELS
from storage.store import create_store, open_store
from storage.windows import WindowConfig, Windows

_RECORDINGS, _TRIALS, _TRIAL_SECONDS, _SFREQ_HZ = 50_000, 20, 180, 256
_WINDOWS = 10**9


def _tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    names = np.array([f"sub-{number // 4:05d}_ses-{number % 4 + 1}" for number in range(_RECORDINGS)])
    n_times = _TRIALS * _TRIAL_SECONDS * _SFREQ_HZ
    catalogue = pd.DataFrame(
        {
            "recording_id": names,
            "subject": [name[4:9] for name in names],
            "session": [name[-1] for name in names],
            "sfreq_hz": float(_SFREQ_HZ),
            "n_times": n_times,
            "channels": ",".join(SEED_CHANNELS),
            "signal": "signal-0",
            "ingest_digest": "0" * 64,
        }
    )
    row, trial = np.divmod(np.arange(_RECORDINGS * _TRIALS), _TRIALS)
    label = trial % len(SEED_VII)
    trials = catalogue.iloc[row][["recording_id", "subject", "session"]].reset_index(drop=True)
    start = trial * _TRIAL_SECONDS * _SFREQ_HZ
    trials = trials.assign(
        trial=trial + 1,
        position=trial + 1,
        clip=trial + 1,
        start=start,
        stop=start + _TRIAL_SECONDS * _SFREQ_HZ,
        label=np.array(SEED_VII.names)[label],
        label_id=label,
    )
    return catalogue, trials


def _write(folder: str) -> None:
    store = create_store(folder, dataset="synthetic", label_set=SEED_VII)
    catalogue, trials = _tables()
    for name in catalogue["recording_id"]:
        (Path(folder) / "recordings" / name).mkdir()
    index.write(store.root, catalogue, trials)


def main() -> None:
    """Write the tables in one process, open them in this one."""
    with tempfile.TemporaryDirectory() as folder:
        writer = multiprocessing.get_context("spawn").Process(target=_write, args=(f"{folder}/store.zarr",))
        writer.start()
        writer.join()
        before = psutil.Process().memory_info().rss
        started = time.perf_counter()
        config = WindowConfig(window_seconds=4, stride_seconds=0.176)
        windows = Windows(open_store(f"{folder}/store.zarr"), config)
        opened = time.perf_counter() - started
        assert len(windows) >= _WINDOWS, len(windows)
        started = time.perf_counter()
        order = SampleOrder(len(windows), 0)
        batches = [windows.locate(order.batch(step, 64)) for step in range(100)]
        drawn = (time.perf_counter() - started) / len(batches)
        added = psutil.Process().memory_info().rss - before
    result = {
        "windows": len(windows),
        "recordings": _RECORDINGS,
        "trials": _RECORDINGS * _TRIALS,
        "open_seconds": round(opened, 2),
        "seconds_to_draw_and_locate_a_batch_of_64": round(drawn, 5),
        "memory_added_mb": round(added / 2**20),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
