"""Ingest with two workers against one: the same Ray tasks on the same SEED-VII files.

python benchmarks/ingest.py [--full]
"""

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import ROOT, compare, rounds, seconds, write
from cluster.batch.ingest import IngestPlan, ingest
from cluster.resources import Resources
from cluster.session import ray_session
from storage.layout import LayoutConfig
from storage.readers import SeedVIISource
from storage.signal import SignalConfig
from storage.twin import TwinConfig, write_subject, write_tables


def main() -> None:
    """Write the files, ingest them again and again into new stores, print and write the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="clips of 60 s instead of 15 s")
    arguments = parser.parse_args()
    twin = TwinConfig(num_subjects=2, clip_seconds=60 if arguments.full else 15)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_tables(root / "source", twin)
        for subject in range(1, twin.num_subjects + 1):
            write_subject(root / "source", twin, subject)
        source = SeedVIISource(root=root / "source")
        turn = iter(range(10**6))

        def with_workers(workers: int) -> Callable[[], float]:
            def measure() -> float:
                place = root / f"run-{next(turn)}"
                place.mkdir()
                plan = IngestPlan(f"{place}/store.zarr", "twin", source, SignalConfig(), LayoutConfig())
                with contextlib.redirect_stdout(io.StringIO()):
                    return seconds(lambda: ingest(plan, Resources(workers=workers), place))

            return measure

        with ray_session(ROOT, local=True):
            times = rounds({"two workers": with_workers(2), "one worker": with_workers(1)}, 5)
    row = compare("ingest of SEED-VII .mat", "wall time", times, "two workers", "one worker", unit="s", better="lower")
    write("ingest", [row], {"what": f"{twin.num_subjects} subjects x 80 clips x {twin.clip_seconds} s, 200 -> 256 Hz"})


if __name__ == "__main__":
    main()
