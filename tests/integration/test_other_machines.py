"""The same spec and seed on another machine: how far the curves part, and where.

Other machines are emulated: threads and workers, and libraries that are told to use an older processor's instructions.
The table that is printed is that of docs/training.md.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from e2llm_core.training.metrics import read_metrics
from tests import ranks
from tests.integration.test_engine import folder, losses, plans  # noqa: F401  a fixture

pytestmark = [pytest.mark.integration, pytest.mark.slow]

STEPS = 30
OLDER = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
}
"""Kernels of torch and of the libraries below it and below NumPy, as on a processor without AVX."""
STAGES = ("stage1", "stage3")
FIRST, TENTH, LAST = 1e-6, 1e-5, 1e-3
"""The most by which a loss may differ, relative to it, at the first, the tenth and the last step."""
_PROGRAM = """
import sys
from tests.one_rank import main
main(0, sys.argv[1], {"WORLD_SIZE": "1", "E2LLM_TEST_FAULT": ""}, "tests.one_rank:train", sys.argv[1])
"""


CAN_BE_OLDER = platform.machine() in {"x86_64", "AMD64"} and torch.backends.cpu.get_cpu_capability() != "DEFAULT"
"""Whether this processor has instructions that an older one lacks: x86 with AVX."""


def train_on_older(runs: dict[Path, dict], job: Path) -> None:
    """Train plans in a process whose libraries take this for an older processor."""
    options = {"kill_after": None, "stop_after": None, "hang_seconds": None, "threads": 1}
    job.write_text(json.dumps({"plans": {str(run): plan for run, plan in runs.items()}, **options}))
    environment = os.environ | ranks._ENVIRONMENT | OLDER
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(job)], env=environment, check=False, timeout=600)
    said = Path(f"{job}.0.stderr")
    assert done.returncode == 0, said.read_text(errors="replace")[-4000:] if said.exists() else "it did not start"


def longer(plan: dict) -> dict:
    return plan | {"train": plan["train"] | {"max_steps": STEPS, "validate_every": STEPS, "checkpoint_every": STEPS}}


@pytest.fixture(scope="module")
def machines(folder) -> Path:  # noqa: F811
    """Stages 1 and 3 on each machine; all start stage 3 from one model."""
    stages = {name: longer(plan) for name, plan in plans(folder).items()}
    ranks.train({folder / name: plan for name, plan in stages.items()}, workers=1)
    compared = {name: stages[name] for name in STAGES}

    def runs(machine: str) -> dict[Path, dict]:
        return {folder / machine / name: plan for name, plan in compared.items()}

    ranks.train(runs("again"), workers=1)
    ranks.train(runs("two threads"), workers=1, threads=2)
    ranks.train(runs("two workers"), workers=2)
    if CAN_BE_OLDER:
        train_on_older(runs("older processor"), folder / "older.json")
    return folder


def parted(run: Path, reference: Path) -> tuple[int | None, list[float], float]:
    """First step whose losses differ; relative difference at steps 1, 10 and the last; difference of the score."""
    pairs = list(zip(losses(run), losses(reference), strict=True))
    first = next((step for step, (one, other) in enumerate(pairs, 1) if one != other), None)
    apart = [abs(one - other) / abs(other) for one, other in (pairs[0], pairs[9], pairs[-1])]
    scores = [read_metrics(each / "metrics.jsonl")[-1]["score"] for each in (run, reference)]
    return first, apart, abs(scores[0] - scores[1])


@pytest.mark.parametrize("stage", STAGES)
def test_another_machine_gives_the_same_curve_to_rounding_which_grows(machines, stage, capsys):
    names = ("again", "two threads", "two workers", *(["older processor"] if CAN_BE_OLDER else []))
    found = {machine: parted(machines / machine / stage, machines / stage) for machine in names}
    with capsys.disabled():
        for machine, (first, apart, score) in found.items():
            cells = [stage, machine, first or "none", *(f"{each:.0e}" for each in apart), f"{score:.0e}"]
            print("\n| " + " | ".join(map(str, cells)) + " |", end="")
    assert found["again"] == (None, [0.0, 0.0, 0.0], 0.0), "one machine gives the same digits twice"
    for machine in names[1:]:
        _, apart, _ = found[machine]
        assert all(each <= bound for each, bound in zip(apart, (FIRST, TENTH, LAST), strict=True)), machine
    assert not CAN_BE_OLDER or found["older processor"][0] is not None, "the older processor was not emulated"
