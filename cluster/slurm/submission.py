"""The ``sbatch`` command of a job, and the numbers of an array."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cluster.slurm.commands import ask
from storage.errors import InputError

SCRIPT = Path("cluster/slurm/job.sbatch")
SITE = Path("cluster/slurm/site.sh")
"""Both relative to the root of the repository."""
_ARRAY_PART = re.compile(r"(\d+)(?:-(\d+)(?::([1-9]\d*))?)?")


class Request(BaseModel):
    """Allocation requested from SLURM.

    Attributes
    ----------
    nodes, gpus_per_node : int
        How many; 0 GPUs are none.
    time : str or None
        Limit, in one of SLURM's forms, such as ``12:00:00``; None for the partition's.
    array : str or None
        Numbers of an array's jobs, such as ``1-4`` or ``0,2,7%2``.
    no_kill : bool
        Whether the job stays when it loses a node.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int
    gpus_per_node: int = 0
    time: str | None = None
    array: str | None = None
    no_kill: bool = False

    def command(self, spec: Path, overrides: Sequence[str]) -> list[str]:
        """Command line that submits a spec, for the root of the repository."""
        options = {
            "nodes": self.nodes,
            "gpus-per-node": self.gpus_per_node or None,
            "time": self.time,
            "array": self.array,
        }
        given = [f"--{name}={value}" for name, value in options.items() if value is not None]
        given += ["--no-kill"] if self.no_kill else []
        return ["sbatch", *given, str(SCRIPT), str(spec), *overrides]

    def tasks(self) -> list[str | None]:
        """Number of each job of the array; a single None without one.

        Raises
        ------
        InputError
            When the array is not of SLURM's form.
        """
        if self.array is None:
            return [None]
        numbers: list[str | None] = []
        for part in self.array.partition("%")[0].split(","):
            found = _ARRAY_PART.fullmatch(part)
            if found is None:
                raise InputError(f"--array {self.array}", f"'{part}' is not a number or range", "Name 1-4, or 0,2,7%2.")
            first, last, step = found.groups()
            numbers += map(str, range(int(first), int(last or first) + 1, int(step or 1)))
        return numbers


def submit(command: Sequence[str]) -> str:
    """Run an ``sbatch`` command with the settings of the site, in the root of the repository; return the job's number.

    Raises
    ------
    InputError
        When SLURM is not here, or refuses.
    """
    script = f'if [ -f {SITE} ]; then source {SITE}; fi; exec "$@"'
    sbatch, *arguments = command
    said = ask("bash", "-c", script, "bash", sbatch, "--parsable", *arguments, name="sbatch")
    return said.split()[-1].partition(";")[0]  # a site of several clusters adds the name of one
