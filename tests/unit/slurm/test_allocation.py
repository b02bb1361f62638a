"""What a job reads of SLURM's variables, and how an array's job is called."""

import math
from datetime import datetime

import pytest

from cluster.slurm import allocation
from cluster.slurm.allocation import Allocation, node_address, with_task
from storage.errors import InputError

VARIABLES = {"SLURM_JOB_ID": "1207", "SLURM_JOB_NODELIST": "n[1-2]", "SLURMD_NODENAME": "n1"}
ARRAY = {"SLURM_ARRAY_JOB_ID": "1200", "SLURM_ARRAY_TASK_ID": "7"}
JOB = Allocation(job_id=1207, name="1207", nodes=("n1", "n2"), head="n1")


@pytest.fixture(autouse=True)
def said(monkeypatch):
    """What SLURM's commands were asked, and what they answer."""
    answers = {
        "hostnames": "n1\nn2",
        "node": "NodeName=n2 Arch=x86_64 NodeAddr=10.0.0.2 State=IDLE",
        "--format=%T": "RUNNING",
    }
    asked: list[tuple[str, ...]] = []

    def ask(*command: str) -> str:
        asked.append(command)
        return next((answer for word, answer in answers.items() if word in command), "")

    monkeypatch.setattr(allocation, "ask", ask)
    return asked


def test_a_job_of_its_own():
    assert Allocation.of_this_process(VARIABLES) == JOB
    assert JOB.cluster == "slurm"
    assert Allocation.of_this_process(VARIABLES | {"SLURM_CLUSTER_NAME": "north"}).cluster == "north"


def test_a_job_of_an_array_is_asked_for_by_its_number_in_the_array(said):
    """`scontrol requeue` of a plain number would hit the whole array when it is the array's own."""
    found = Allocation.of_this_process(VARIABLES | ARRAY | {"SLURM_RESTART_COUNT": "2"})
    assert (found.job_id, found.task, found.restarts) == (1207, "7", 2)
    assert found.is_running()
    found.requeue()
    assert said[-2][-1] == "--jobs=1200_7"
    assert said[-1] == ("scontrol", "requeue", "1200_7")


def test_outside_of_slurm_it_is_refused():
    with pytest.raises(InputError, match=r"runs within a SLURM job\. Submit it: sbatch"):
        Allocation.of_this_process({})


def test_the_address_of_a_node():
    assert node_address("n2") == "10.0.0.2"


def test_the_number_in_an_array_is_put_into_overrides():
    assert with_task(["run=runs/{task}/fold-{task}", "train.seed=1"], "7") == ["run=runs/7/fold-7", "train.seed=1"]
    assert with_task(["train.seed=1"], None) == ["train.seed=1"]
    with pytest.raises(InputError, match=r"override 'run=runs/{task}': {task} is the number .* there is no array"):
        with_task(["run=runs/{task}"], None)


@pytest.mark.parametrize(
    ("end", "expected"),
    [("2026-03-01T12:10:00", 600), ("2026-03-01T11:59:58", -2), ("NONE", math.inf), ("N/A", math.inf), ("", math.inf)],
)
def test_seconds_until_slurm_ends_the_job(monkeypatch, end, expected):
    now = datetime(2026, 3, 1, 12).timestamp()
    monkeypatch.setattr(allocation, "ask", lambda *command: end if "--format=%e" in command else "")
    monkeypatch.setattr(allocation.time, "time", lambda: now)
    assert JOB.seconds_left() == expected
