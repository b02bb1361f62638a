"""What SLURM says of the job that this process is part of, and the little that it is asked."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from cluster.slurm.commands import ask
from storage.errors import InputError

TASK = "{task}"
"""In an override, the number of the job within its array."""


class Allocation(BaseModel):
    """The job of this process.

    Attributes
    ----------
    job_id : int
        Number of this job, unique also within an array.
    name : str
        By which SLURM's commands know it, ``1234`` or ``1200_7``: one job of an array has the array's own number.
    nodes : tuple of str
        Names of its nodes.
    head : str
        The node that runs the batch script.
    task : str or None
        The job's number within an array.
    restarts : int
        How often it was requeued.
    cluster : str
        Name of the SLURM that it is of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: int
    name: str
    nodes: tuple[str, ...]
    head: str
    task: str | None = None
    restarts: int = 0
    cluster: str = "slurm"

    @classmethod
    def of_this_process(cls, variables: Mapping[str, str] = os.environ) -> Allocation:
        """Read the environment that SLURM gives its batch script.

        Raises
        ------
        InputError
            When there is no SLURM around this process.
        """
        if "SLURM_JOB_ID" not in variables:
            remedy = "Submit it: sbatch --nodes=2 cluster/slurm/job.sbatch jobs/stage3.yaml"
            raise InputError("python -m jobs.slurm", "runs within a SLURM job", remedy)
        job_id, task = variables["SLURM_JOB_ID"], variables.get("SLURM_ARRAY_TASK_ID")
        return cls(
            job_id=int(job_id),
            name=job_id if task is None else f"{variables['SLURM_ARRAY_JOB_ID']}_{task}",
            nodes=tuple(ask("scontrol", "show", "hostnames", variables["SLURM_JOB_NODELIST"]).split()),
            head=variables["SLURMD_NODENAME"],
            task=task,
            restarts=int(variables.get("SLURM_RESTART_COUNT", 0)),
            cluster=variables.get("SLURM_CLUSTER_NAME", "slurm"),
        )

    def is_running(self) -> bool:
        """Whether SLURM considers this job running: neither cancelled nor out of time."""
        return self._told("--format=%T") == "RUNNING"

    def seconds_left(self) -> float:
        """Seconds until SLURM ends this job: at its time limit, or when the grace of a pre-emption is over.

        Infinite when there is no end; zero or less once SLURM is ending it.
        """
        return _seconds(self._told("--format=%e"), otherwise=math.inf) - time.time()

    def requeue(self) -> None:
        """Requeue this job: SLURM ends it and starts it again when there is room."""
        ask("scontrol", "requeue", self.name)

    def _told(self, what: str) -> str:
        return ask("squeue", "--noheader", what, f"--jobs={self.name}")


def _seconds(date: str, *, otherwise: float) -> float:
    """One of SLURM's dates, in local time, as seconds since 1970; `otherwise` if it is not a date, such as N/A."""
    try:
        return datetime.fromisoformat(date.strip()).timestamp()
    except ValueError:
        return otherwise


def jobs_with_nodes() -> set[int]:
    """Numbers of all jobs that are running now."""
    return set(map(int, ask("squeue", "--noheader", "--states=running,completing,suspended", "--format=%A").split()))


def node_address(name: str) -> str:
    """Address, or host name, by which SLURM reaches a node."""
    fields = ask("scontrol", "show", "node", "--oneliner", name).split()
    return dict(field.partition("=")[::2] for field in fields)["NodeAddr"]


def with_task(overrides: Sequence[str], task: str | None) -> list[str]:
    """Replace each ``{task}`` by the job's number within its array.

    Raises
    ------
    InputError
        When there is a place for it and no array.
    """
    asking = next((text for text in overrides if TASK in text), None)
    if asking is not None and task is None:
        problem = f"{TASK} is the number of a job in an array, and there is no array"
        raise InputError(f"override '{asking}'", problem, "Submit with --array=1-4, or name the number.")
    return [text.replace(TASK, str(task)) for text in overrides]
