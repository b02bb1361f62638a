"""Where tests submit jobs to a SLURM of their own, and what they see of them."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.slurm_daemons import SlurmCluster, obstacle, wait
from tests.training_faults import FAULTY, ROOT, make_store, rows, stage1

SCRIPT = "cluster/slurm/job.sbatch"
SECONDS = 400.0
ONE_EACH = ("--nodes=2", "--oversubscribe", "--cpus-per-task=1")
"""Half of each node, where one worker has room."""


@dataclass(frozen=True)
class Desk:
    """Where a person submits jobs: the login node, in the repository, with a folder for data and runs."""

    slurm: SlurmCluster
    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def mark(self) -> Path:
        """Begin of the names of the files by which tests and faults speak."""
        return self.folder / "mark"

    def submit(self, *arguments: str, cwd: Path = ROOT, fault: str = "", script: str = SCRIPT) -> "Job":
        """Submit with options for sbatch, then the spec and its overrides; the log goes to the folder."""
        options = [word for word in arguments if word.startswith("--")]
        words = [word for word in arguments if not word.startswith("--")]
        variables = {
            "PATH": f"{Path(sys.executable).parent}:{self.slurm.environment['PATH']}",
            "PYTHONPATH": str(FAULTY),
            "E2LLM_TEST_FAULT": fault,
            "E2LLM_TEST_MARK": str(self.mark),
            "E2LLM_ROOT": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "RAY_health_check_initial_delay_ms": "0",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "4000",
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "120",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        }
        command = ["sbatch", "--parsable", f"--output={self.folder}/%j.log", *options, script, *words]
        return Job(self.slurm, self.slurm.output(*command, cwd=cwd, env=variables), self.folder)


@dataclass(frozen=True)
class Job:
    """A job that was submitted."""

    slurm: SlurmCluster
    number: str
    folder: Path

    @property
    def state(self) -> str:
        return self.slurm.job(self.number)["JobState"]

    @property
    def restarts(self) -> int:
        return int(self.slurm.job(self.number)["Restarts"])

    @property
    def log(self) -> str:
        path = self.folder / f"{self.slurm.job(self.number)['JobId']}.log"
        return path.read_text() if path.exists() else ""

    def wait_for(self, state: str) -> None:
        final = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}
        wait(lambda: self.state in final | {state}, SECONDS, lambda: self.log)
        assert self.state == state, self.log

    def wait_for_rows(self, run: Path, number: int) -> None:
        """Wait until so many steps are in the metrics of the run."""
        wait(lambda: len(rows(run)) >= number or self.state == "FAILED", SECONDS, lambda: self.log)
        assert len(rows(run)) >= number, self.log

    def wait_until_requeued(self) -> None:
        wait(lambda: self.restarts == 1 or self.state == "FAILED", SECONDS, lambda: self.log)
        assert self.restarts == 1, self.log

    def skip_the_hold(self) -> None:
        """Start soon: SLURM holds a requeued job for two minutes, and needs a second to forget its former start."""
        wait(lambda: self.state == "PENDING", SECONDS, lambda: self.log)
        self.slurm.output("scontrol", "update", f"jobid={self.number}", "starttime=now+3")

    @property
    def exit_status(self) -> int:
        return int(self.slurm.job(self.number)["ExitCode"].partition(":")[0])


@contextlib.contextmanager
def desk_at_slurm(folder: Path) -> Iterator[Desk]:
    """Give a desk at a SLURM of two nodes, with a small stage 1; skips, under CI fails, where none can run."""
    if problem := obstacle():
        reason = f"no SLURM can be started here: {problem}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    work = folder / "desk"
    make_store(work / "store")
    settings = stage1(work / "store").model_dump(mode="json")
    (work / "stage1.yaml").write_text(yaml.safe_dump({"kind": "stage1", "run": "runs/plain", **settings}))
    slurm = SlurmCluster(folder / "slurm")
    try:
        slurm.start()
        yield Desk(slurm, work)
    finally:
        slurm.stop()
