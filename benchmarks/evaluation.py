"""Memory of an evaluation's own process, by the number of windows that are tested.

python benchmarks/evaluation.py [--windows N ...]

The answers are made up and no signal is stored: what is measured is what the process holds while it asks and makes rows
of all answers to one task, in both conditions and both readouts.
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from benchmarks._report import RESULTS, ROOT
from cluster.environment import environment
from e2llm_core.evaluation.answers import KeptAnswers, answer_sets
from e2llm_core.tasks.items import Items
from e2llm_core.tasks.registry import LABELLING
from storage.labels import SEED_VII
from tests.killed_attempts import Death, FakeClient

SIGNAL_BYTES = 58 * 800 * 4
"""Of a window of `jobs/evaluate.yaml`."""


def made_up(count: int) -> Items:
    """Rows of windows that nobody recorded."""
    names = {name: "1" for name in ("recording_id", "subject", "session")}
    segments = [
        [names | {"trial": n // 45, "clip": 1, "start": 800 * n, "stop": 800 * (n + 1), "position": 1}]
        for n in range(count)
    ]
    table = pd.DataFrame({"item_id": [f"sub-01_ses-1/{n // 45}/{800 * n}" for n in range(count)], "label": "sad"})
    return Items(table.assign(subject="1", session="1", segments=segments), np.arange(count)[:, None])


def peak_bytes() -> int:
    """Largest memory that this process has held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def measure(count: int, folder: str) -> None:
    """Ask about so many windows; writes what it took to a file of the folder."""
    os.fsync = lambda handle: None  # the disk is not what is measured
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of whoever started this process
    started, before = time.monotonic(), peak_bytes()
    kept = KeptAnswers(folder, {"model": "made up"})
    sets = answer_sets(LABELLING, made_up(count), SEED_VII.names)
    kept.ask(sets, lambda: nullcontext(FakeClient(Path(folder) / "log", Death(None))))
    predictions = pd.concat([kept.rows(one, 0) for one in sets], ignore_index=True)
    assert len(predictions) == 4 * count
    added = (peak_bytes() - before) / 2**20
    result = {"windows": count, "added_mb": round(added, 1), "seconds": round(time.monotonic() - started, 1)}
    (Path(folder) / "result.json").write_text(json.dumps(result))


def measured(counts: Sequence[int]) -> list[dict[str, float]]:
    """Measure each number of windows in a process of its own."""
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            process = multiprocessing.get_context("spawn").Process(target=measure, args=(count, folder))
            process.start()
            process.join()
            rows.append(json.loads((Path(folder) / "result.json").read_text()))
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    rows = measured(parser.parse_args().windows)
    grown = (rows[-1]["added_mb"] - rows[0]["added_mb"]) * 2**20 / (rows[-1]["windows"] - rows[0]["windows"])
    result = {"rows": rows, "bytes_per_window": round(grown), "signal_bytes_per_window": SIGNAL_BYTES}
    print(f"{result['bytes_per_window']:,} bytes for each window, whose signal has {SIGNAL_BYTES:,}")
    content = {"environment": environment(ROOT), **result}
    (RESULTS / "evaluation.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
