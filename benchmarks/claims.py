"""Reliability of the quantities that claims are about, by kind, and what measuring them costs.

python benchmarks/claims.py [STORE] [--subjects N] [--channels NAMES] [--adaptation RULE]

A row is a kind and a band: smallest, mean and largest reliability (`e2llm_core.stages.reliability`) over regions in
windows of 4 s of the store's first subjects, and how many quantities reach the recommended 0.5. The cost is the median
CPU time of measuring 64 windows of white noise: all kinds, and power and bursts alone. Without a store, two subjects of
the synthetic twin are written and read.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from e2llm_core.claims.measures import SignalMeasures
from e2llm_core.claims.table import CLAIM_KINDS, DEFAULT_KINDS
from e2llm_core.stages.measured import MeasuredWindows, as_measured
from storage.ingest import ingest_recording
from storage.readers import SeedVIISource
from storage.signal import SignalConfig
from storage.store import create_store, open_store
from storage.twin import TwinConfig, write_subject, write_tables
from storage.windows import WindowConfig, Windows

CHANNELS = "FP1,FP2,F7,F3,FZ,F4,F8,FC5,FC1,FC2,FC6,T7,C3,CZ,C4,T8,TP7,CP5,CP1,CP2,CP6,TP8,P7,P3,PZ,P4,P8,O1,OZ,O2"
RELIABLE = 0.5
"""What docs/claims.md recommends as `train.claims.reliability`."""
REPEATS = 15


def rows(store: str, subjects: int, channels: tuple[str, ...], adaptation: str) -> list[str]:
    """One line for each kind and band."""
    opened = open_store(store)
    names = sorted(opened.trials["subject"].unique())[:subjects]
    config = WindowConfig.model_validate({"channels": channels, "adaptation": adaptation})
    measured = MeasuredWindows(
        as_measured(Windows(opened, config, opened.trials[opened.trials["subject"].isin(names)])),
        kinds=tuple(CLAIM_KINDS),
    )
    found = defaultdict(list)
    for quantity, reliability in zip(measured.measures.quantities, measured.scaler().reliability, strict=True):
        found[quantity.kind, quantity.band].append(float(reliability))
    lines = [
        f"| `{kind}` | {band} | {min(each):.2f} | {np.mean(each):.2f} | {max(each):.2f} "
        f"| {sum(one >= RELIABLE for one in each)} of {len(each)} |"
        for (kind, band), each in found.items()
    ]
    return [*lines, f"{len(measured.windows)} windows of {len(names)} subjects, {adaptation}"]


def twin_store(folder: Path) -> str:
    """Write two subjects of the synthetic twin, and ingest them."""
    twin = TwinConfig(num_subjects=2)
    write_tables(folder / "source", twin)
    for subject in twin.subjects:
        write_subject(folder / "source", twin, subject)
    source = SeedVIISource(root=folder / "source")
    store = create_store(folder / "store.zarr", dataset="twin", label_set=source.label_set)
    for recording in source.list_recordings():
        ingest_recording(store, source, recording, SignalConfig())
    return str(store.root)


def seconds(channels: tuple[str, ...], kinds: tuple[str, ...]) -> float:
    """Median CPU seconds of measuring 64 windows of 1,024 samples."""
    noise = np.random.default_rng(0).normal(size=(64, len(channels), 1024)).astype(np.float32)
    measures, taken = SignalMeasures(channels, 256.0, 1024, kinds), []
    for _ in range(REPEATS):
        started = time.process_time()
        measures(noise)
        taken.append(time.process_time() - started)
    return float(np.median(taken))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?")
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--channels", default=CHANNELS)
    parser.add_argument("--adaptation", default="transductive-unlabelled")
    given = parser.parse_args()
    wanted = tuple(given.channels.split(","))
    with tempfile.TemporaryDirectory() as folder:
        read = given.store or twin_store(Path(folder))
        print("\n".join(rows(read, given.subjects, wanted, given.adaptation)))
    print(f"{seconds(wanted, tuple(CLAIM_KINDS)):.3f} s for 64 windows, all kinds")
    print(f"{seconds(wanted, DEFAULT_KINDS):.3f} s for 64 windows, power and bursts alone")
