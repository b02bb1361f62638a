"""Ingest with two workers against one; or, with `--against`, this code against another checkout of it.

python benchmarks/ingest.py [--full] [--against CHECKOUT]

Both checkouts run at the same time, each with a Ray of its own, and take turns on the same files.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._ingest_files import write_files
from benchmarks._report import ROOT, Row, compare, rounds, seconds, write
from cluster.batch.ingest import IngestPlan, ingest
from cluster.resources import Resources
from cluster.session import ray_session
from storage.layout import LayoutConfig
from storage.readers import SeedVIISource
from storage.signal import SignalConfig
from storage.twin import TwinConfig, write_subject, write_tables

_ROUNDS = 5
_SEED_VII = "SEED-VII .mat"


def two_workers(root: Path, source: SeedVIISource) -> Row:
    """Compare two workers with one."""
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
        times = rounds({"two workers": with_workers(2), "one worker": with_workers(1)}, _ROUNDS)
    return compare(f"ingest of {_SEED_VII}", "wall time", times, "two workers", "one worker", unit="s", better="lower")


@contextlib.contextmanager
def ingests_of(checkout: Path) -> Iterator[Callable[[Mapping[str, Any], Path], float]]:
    """Start a checkout's Ray; a call ingests a source into a new folder with one worker and returns seconds."""
    command = [sys.executable, "-P", str(ROOT / "benchmarks" / "_ingest_of.py"), str(checkout)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    with subprocess.Popen(
        command, cwd=checkout, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        asks, answers = process.stdin, process.stdout
        assert asks is not None
        assert answers is not None

        def measure(source: Mapping[str, Any], place: Path) -> float:
            print(json.dumps({"source": source, "place": str(place), "workers": 1}), file=asks, flush=True)
            for line in answers:
                if line.startswith("seconds "):
                    return float(line.split()[1])
            raise RuntimeError(f"the ingest of {checkout} ended")

        try:
            yield measure
        finally:
            asks.close()


def against(root: Path, sources: Mapping[str, Mapping[str, Any]], checkout: Path) -> list[Row]:
    """Compare this checkout with another one on each source."""
    said = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True
    )
    name, turn, rows = said.stdout.strip(), iter(range(10**6)), []
    with ingests_of(ROOT) as ours, ingests_of(checkout) as other:
        for case, source in sources.items():

            def timed(
                run: Callable[[Mapping[str, Any], Path], float], source: Mapping[str, Any] = source
            ) -> Callable[[], float]:
                return lambda: run(source, root / f"against-{next(turn)}")

            times = rounds({"now": timed(ours), name: timed(other)}, _ROUNDS)
            rows.append(
                compare(f"ingest of {case}, one worker", "wall time", times, "now", name, unit="s", better="lower")
            )
    return rows


def main() -> None:
    """Write the files, ingest them again and again into new stores, print and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="clips of 60 s instead of 15 s, files four times as long")
    parser.add_argument("--against", type=Path, help="another checkout of this project, to compare with")
    arguments = parser.parse_args()
    times = 4 if arguments.full else 1
    twin = TwinConfig(num_subjects=2, clip_seconds=15 * times)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_tables(root / "source", twin)
        for subject in range(1, twin.num_subjects + 1):
            write_subject(root / "source", twin, subject)
        source = SeedVIISource(root=root / "source")
        what = f"{twin.num_subjects} subjects x 80 clips x {twin.clip_seconds} s, 200 -> 256 Hz"
        if arguments.against is None:
            write("ingest", [two_workers(root, source)], {"what": what})
            return
        sources = {_SEED_VII: source.model_dump(mode="json"), **write_files(root, 4, 240 * times)}
        rows = against(root, sources, arguments.against.resolve())
    what += f"; of the other formats 4 recordings x 18 channels x {240 * times} s, 250 -> 256 Hz"
    write("ingest_against", rows, {"what": what})


if __name__ == "__main__":
    main()
