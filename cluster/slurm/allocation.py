"""What SLURM says of the job that this process is part of, and the little that it is asked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from storage.errors import InputError

TASK = "{task}"
"""In an override, the number of the job within its array."""
_NOT_FOUND = 127


class Allocation(BaseModel):
    """The job of this process.

    Attributes
    ----------
    job_id : int
        Of this job alone, also within an array.
    name : str
        By which SLURM's commands know it, ``1234`` or ``1200_7``: one job of an array has the array's own number.
    nodes : tuple of str
        Names of its nodes.
    head : str
        Of them, the one that runs the batch script.
    task : str or None
        Its number within an array.
    restarts : int
        How often it was requeued.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: int
    name: str
    nodes: tuple[str, ...]
    head: str
    task: str | None = None
    restarts: int = 0

    @classmethod
    def of_this_process(cls, variables: Mapping[str, str] = os.environ) -> Allocation:
        """Read what SLURM left in the environment of its batch script.

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
        )

    def is_running(self) -> bool:
        """Whether SLURM still wants this job to run: neither cancelled nor out of time."""
        return ask("squeue", "--noheader", "--format=%T", f"--jobs={self.name}") == "RUNNING"

    def requeue(self) -> None:
        """Have SLURM end this job and start it again when there is room."""
        ask("scontrol", "requeue", self.name)


def jobs_with_nodes() -> set[int]:
    """Numbers of all jobs that have nodes now."""
    return set(map(int, ask("squeue", "--noheader", "--states=running,completing,suspended", "--format=%A").split()))


def node_address(name: str) -> str:
    """Address, or host name, by which SLURM reaches a node."""
    fields = ask("scontrol", "show", "node", "--oneliner", name).split()
    return dict(field.partition("=")[::2] for field in fields)["NodeAddr"]


def with_task(overrides: Sequence[str], task: str | None) -> list[str]:
    """Put the number of an array's job in the place of each ``{task}``.

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


def ask(*command: str, name: str = "") -> str:
    """Run one of SLURM's commands, called `name` where that is not its first word, and return what it says.

    Raises
    ------
    InputError
        When it is not installed, or refuses.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise _absent(command[0]) from None
    if done.returncode == _NOT_FOUND:
        raise _absent(name)
    if done.returncode:
        problem = done.stderr.strip() or f"exit status {done.returncode}"
        raise InputError(name or command[0], problem, "SLURM refused; correct what it names.")
    return done.stdout.strip()


def _absent(name: str) -> InputError:
    return InputError(name, "not found", "Run this where SLURM's commands are installed.")
