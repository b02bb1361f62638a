"""What one GPU does, beside the plan: kernels, EEGPT large, stage 3 with Qwen3-8B under ZeRO-3, closed-set scoring.

The project's own stages, `Trainer`, packed attention and `Predictor` run in the environment that `torchrun` gives one
rank. Weights are random and the EEG is a synthetic twin's: nothing is downloaded. At most 8 minutes on one H200::

    python benchmarks/gpu.py --budget 480

Every row is in ``results/gpu.json`` as soon as it is known. Every case is a process of its own; what raises is under
``failed`` and the next goes on; what the budget did not reach is under ``skipped``. ``--size tiny`` shows on a CPU, in
half a minute, that all of it works: its numbers mean nothing, so it needs an ``--output``.

**Where the project cannot be installed.** Ray, Zarr-writing to object stores and the EEG file readers are not needed.
An image with torch >= 2.11, transformers >= 5.17, peft, tensorstore, tensorboard, pandas, pyarrow, scipy, scikit-learn,
psutil, PyYAML, rich, einops, msgpack, ninja and py-cpuinfo lacks these wheels, 22 MB, for Python 3.12 on x86-64::

    get="python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp -d wheels
         --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64"
    $get pydantic==2.14.3 pydantic-core==2.50.4 annotated-types==0.8.0 hjson==3.1.0 zarr==3.1.6 numcodecs==0.16.6 \
         donfig==0.8.1.post1 google-crc32c==1.9.0 mne==1.13.2 decorator==5.3.1 pooch==1.9.0 lazy-loader==0.6
    DS_BUILD_OPS=0 python -m pip wheel --no-deps --no-build-isolation -w wheels deepspeed==0.19.8   # has no wheel there

and runs, from the root of the repository, with nothing to be reached (a warm-up at tiny size costs half a minute and
tells whether the full run will get through)::

    python3 -m pip install -q --no-index --no-deps --no-compile --target site wheels/*.whl
    export PYTHONPATH=$PWD/site
    python3 benchmarks/gpu.py --budget 480 --output gpu.json

**To correct the plan by it**, where a row's ratio to "plan" is far from 1. Of ``tokens/s`` and ``windows/s``: multiply
`COMPUTE_SHARE` in ``cluster/planning/step_time.py`` by it, or `MEMORY_SHARE` where ``details`` says that memory is the
plan's ``bound``. Of peak memory: go through the items in ``details`` with ``cluster/planning/memory.py``. Then
``docs/plan.md`` says what was measured, and on which GPU, where it says "assumption" now.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks._report import RESULTS, ROOT, Row, show
from cluster.environment import PACKAGES, environment
from storage.errors import InputError

CASES = ("inputs", "kernels", "stage1", "stage3", "scoring")
"""In this order; all but the kernels need the inputs."""
RANK = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "GROUP_RANK": "0"}
"""What torchrun tells the only rank."""
FULL_BYTES = 40e9
"""Twice what the language model takes on disk, and the rest."""
_TAIL = 30


@dataclass(frozen=True)
class Results:
    """The file of results, whole at any moment; one process writes it at a time.

    Parameters
    ----------
    path : Path
        JSON, as every benchmark's, with ``details``, ``failed`` and ``skipped`` beside ``rows``.
    """

    path: Path

    def begin(self, size: str) -> None:
        """Start anew."""
        packages = [name for name in PACKAGES if name != "ray"]
        self._write(
            {
                "environment": environment(ROOT, packages),
                "size": size,
                "details": {},
                "rows": [],
                "failed": [],
                "skipped": [],
            }
        )

    def read(self) -> dict[str, Any]:
        """All of it."""
        content: dict[str, Any] = json.loads(self.path.read_text())
        return content

    def rows(self) -> list[Row]:
        """The rows so far."""
        return [Row(**row) for row in self.read()["rows"]]

    def add(self, row: Row) -> None:
        """Keep a row."""
        self._append("rows", asdict(row))

    def fail(self, case: str, problem: str) -> None:
        """Keep what went wrong instead of a row."""
        self._append("failed", {"case": case, "problem": problem})

    def skip(self, case: str) -> None:
        """Keep the name of what the budget did not reach."""
        self._append("skipped", case)

    def note(self, **details: object) -> None:
        """Keep what is no comparison."""
        content = self.read()
        content["details"] |= details
        self._write(content)

    def _append(self, key: str, item: object) -> None:
        content = self.read()
        content[key].append(item)
        self._write(content)

    def _write(self, content: dict[str, Any]) -> None:
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(self.path)


Command = Callable[[str], Sequence[str]]
"""The command line of a case."""


def measure(results: Results, cases: Sequence[str], command: Command, budget: float) -> None:
    """Run the cases one after the other, each in a process of its own, within `budget` seconds together."""
    end = time.monotonic() + budget
    for case in cases:
        begun = time.monotonic()
        if begun >= end:
            results.skip(case)
            continue
        problem = _run(command(case), end - begun)
        if problem is not None:
            results.fail(case, problem)
        took = round(time.monotonic() - begun, 1)
        results.note(seconds=results.read()["details"].get("seconds", {}) | {case: took})


def _run(command: Sequence[str], seconds: float) -> str | None:
    """Run a command; say what ended it, unless it ended well."""
    try:
        done = subprocess.run(
            command, env=os.environ | RANK, stderr=subprocess.PIPE, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        said = error.stderr or b""
        sys.stderr.write(said.decode(errors="replace") if isinstance(said, bytes) else said)
        return f"stopped after {seconds:.0f} s, when the budget was spent"
    lines = done.stderr.strip().splitlines()
    if done.returncode == 0:
        return None
    print(*lines[-_TAIL:], sep="\n", file=sys.stderr)
    return f"exit status {done.returncode}: {lines[-1] if lines else 'nothing was said'}"


def roomy(needed: float) -> str:
    """Folder for temporary files with room for `needed` bytes; memory before disk, as it is faster.

    Raises
    ------
    InputError
        If there is none.
    """
    import psutil

    places = [place for place in ("/dev/shm", tempfile.gettempdir()) if Path(place).is_dir()]
    for place in places:
        if psutil.disk_usage(place).free >= needed:
            return place
    raise InputError(
        " and ".join(places), f"have less than {needed / 1e9:.0f} GB free", "Set TMPDIR to a larger folder."
    )


def command(size: str, work: str | Path, results: Path, *cases: str) -> list[str]:
    """Command that measures cases in one process."""
    return [sys.executable, str(ROOT / "benchmarks" / "_gpu.py"), size, str(work), str(results), *cases]


def main() -> int:
    """Measure, print and write all of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--budget", type=float, default=480, help="seconds")
    parser.add_argument("--output", type=Path, help="default: results/gpu.json")
    given = parser.parse_args()
    if given.size == "full" and not environment(ROOT, [])["gpus"]:
        print("gpu: there is no GPU here, nothing is measured. --size tiny --output FILE shows that it works.")
        return 0
    if given.size == "tiny" and given.output is None:
        parser.error("--size tiny needs an --output: its numbers mean nothing")
    results = Results(given.output or RESULTS / "gpu.json")
    results.path.parent.mkdir(parents=True, exist_ok=True)
    results.begin(given.size)
    place = roomy(FULL_BYTES) if given.size == "full" else None
    with tempfile.TemporaryDirectory(dir=place) as work:
        measure(results, CASES, lambda case: command(given.size, work, results.path, case), given.budget)
    content = results.read()
    show("gpu", results.rows())
    for failed in content["failed"]:
        print(f"failed: {failed['case']}: {failed['problem']}")
    for name in content["skipped"]:
        print(f"skipped: {name}")
    return 1 if content["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
