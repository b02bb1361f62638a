"""Jobs on a real SLURM of two nodes: pre-empted, cancelled, in an array, refused, and what a lost node does to them."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.slurm_daemons import SlurmCluster, obstacle, wait
from tests.training_faults import (
    FAULTY,
    ROOT,
    STEPS,
    TRAIN,
    checkpoints,
    curve,
    make_store,
    resumptions,
    rows,
    stage1,
    worlds,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
SCRIPT = "cluster/slurm/job.sbatch"
SECONDS = 400.0
EVERY = TRAIN["checkpoint_every"]
ONE_EACH = ("--nodes=2", "--oversubscribe", "--cpus-per-task=1")
"""Half of each node, where one worker has room."""


@dataclass(frozen=True)
class Desk:
    """Where a person submits jobs: the login node, in the repository, with a folder for data and runs."""

    slurm: SlurmCluster
    folder: Path

    def submit(self, *arguments: str, cwd: Path = ROOT, fault: str = "", script: str = SCRIPT) -> "Job":
        """Submit with options for sbatch, then the spec and its overrides; the log goes to the folder."""
        options = [word for word in arguments if word.startswith("--")]
        words = [word for word in arguments if not word.startswith("--")]
        variables = {
            "PATH": f"{Path(sys.executable).parent}:{self.slurm.environment['PATH']}",
            "PYTHONPATH": str(FAULTY),
            "E2LLM_TEST_FAULT": fault,
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


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    if problem := obstacle():
        reason = f"no SLURM can be started here: {problem}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def desk(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    make_store(folder / "store")
    settings = stage1(folder / "store").model_dump(mode="json")
    (folder / "stage1.yaml").write_text(yaml.safe_dump({"kind": "stage1", "run": "runs/plain", **settings}))
    return Desk(slurm, folder)


@pytest.fixture
def spec(desk: Desk) -> str:
    return str(desk.folder / "stage1.yaml")


@pytest.fixture(scope="module")
def undisturbed(desk: Desk) -> Job:
    """A job that may still be training."""
    return desk.submit(*ONE_EACH, str(desk.folder / "stage1.yaml"), "run=runs/undisturbed")


def test_a_stage_over_two_nodes_is_pre_empted_and_finishes_with_the_same_curve(
    desk: Desk, spec: str, undisturbed: Job
) -> None:
    """It is the third of an array, and on the same two nodes as the undisturbed one, at the same time."""
    job = desk.submit(*ONE_EACH, "--array=3", spec, "run=runs/warned-{task}", fault="slow:0.4")
    run = desk.folder / "runs/warned-3"
    job.wait_for_rows(run, 4)
    desk.slurm.output("scancel", "--signal=USR1", "--batch", job.number)
    job.wait_until_requeued()
    last = rows(run)[-1]["step"]
    assert last < STEPS
    assert checkpoints(run)[-1] == f"step-{last:06d}", "a warning loses no step"
    job.skip_the_hold()
    for each in (undisturbed, job):
        each.wait_for("COMPLETED")
    assert resumptions(run) == [last]
    assert "resources.workers=2" in job.log
    np.testing.assert_allclose(curve(run), curve(desk.folder / "runs/undisturbed"), atol=1e-5)


def test_lost_nodes_and_a_cancelled_job(desk: Desk, spec: str, undisturbed: Job) -> None:
    """An elastic job goes on with the node that is left, and stays away when it is cancelled; another one goes back."""
    undisturbed.wait_for("COMPLETED")
    slurm, run = desk.slurm, desk.folder / "runs/lost"
    range_of_workers = "resources.workers={min: 1, max: 2}"
    elastic = desk.submit(*ONE_EACH, "--no-kill", spec, "run=runs/lost", range_of_workers, fault="slow:0.5")
    elastic.wait_for_rows(run, 4)
    slurm.lose("n2")
    wait(lambda: resumptions(run), SECONDS, lambda: elastic.log)
    elastic.wait_for_rows(run, 5)
    assert worlds(run) == [2, 1]
    slurm.output("scancel", elastic.number)
    elastic.wait_for("CANCELLED")
    assert elastic.restarts == 0
    wait(lambda: not slurm.processes("n1"), SECONDS, lambda: str(slurm.processes("n1")))
    slurm.repair("n2")

    done = len(rows(run))
    job = desk.submit(*ONE_EACH, spec, "run=runs/lost", "resources.workers=2", fault="slow:0.5")
    wait(lambda: len(resumptions(run)) == 2, SECONDS, lambda: job.log)
    states = [state.name for state in (desk.folder / "runs/.slurm").iterdir()]
    assert states == [f"{job.number}-0"], "what a killed launcher left is removed"
    assert resumptions(run)[-1] > done - EVERY, "no more than an interval between checkpoints is computed again"
    job.wait_for_rows(run, done + 1)
    slurm.lose("n2")
    job.wait_until_requeued()
    assert "[slurm] lost n2" in job.log
    slurm.repair("n2")
    job.skip_the_hold()
    job.wait_for("COMPLETED")
    assert worlds(run) == [2, 1, 2, 2]
    np.testing.assert_allclose(curve(run), curve(desk.folder / "runs/undisturbed"), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.max_stepz=3"], "unknown key; did you mean 'max_steps'?"),
        (["run=runs/{task}"], "there is no array"),
        (["resources.cpus_per_worker=64"], "resources: one worker asks for 64 CPUs and 0 GPUs; n1 has 2 CPUs"),
    ],
    ids=["key", "array", "room"],
)
def test_refusals_are_one_line_and_status_2(desk: Desk, spec: str, arguments: list[str], message: str) -> None:
    job = desk.submit("--nodes=1", spec, *arguments)
    job.wait_for("FAILED")
    assert job.exit_status == 2
    (line,) = [line for line in job.log.splitlines() if line.startswith("error:")]
    assert message in line
    assert "Traceback" not in job.log


def test_the_repository_must_be_where_the_job_is_submitted(desk: Desk, spec: str) -> None:
    job = desk.submit("--nodes=1", spec, cwd=desk.folder, script=str(ROOT / SCRIPT))
    job.wait_for("FAILED")
    assert job.exit_status == 2
    assert job.log == f"error: {desk.folder}: is not the root of the repository. Submit the job from there.\n"
