"""Run one job in a SLURM allocation: start Ray, run the job, handle SLURM's signals, stop Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.resources import Resources, TrainingResources, fitting
from cluster.slurm.allocation import Allocation
from cluster.slurm.ray_cluster import Nodes, RayOnNodes, listed, ray_on_nodes
from storage.errors import InputError

_LOOK_SECONDS = 2.0
_CHECKPOINT_SECONDS, _WITHOUT_ROOM_SECONDS, _END_SECONDS = 900.0, 15.0, 30.0
_NOTICE_SECONDS = 600.0
"""Before the time limit, as job.sbatch asks for."""
_REQUEUE_SECONDS = 90.0
"""For the end of Ray and for the requeue, after the job and before SLURM ends everything."""
_FINAL = (0, 2)
"""Exit statuses that starting again does not change: done, and refused."""


@dataclass(frozen=True)
class Work:
    """The job to run on the cluster.

    Parameters
    ----------
    command : tuple of str
        Command line of the job's process.
    resources : Resources or TrainingResources
        Resources that the job requests from the cluster.
    fills : bool
        Whether it takes as many workers as there is room for, in place of the number in `resources`.
    """

    command: tuple[str, ...]
    resources: Resources | TrainingResources
    fills: bool

    def sized(self, nodes: Nodes) -> Work:
        """The same job with a definite number of workers.

        Raises
        ------
        InputError
            When no node has room for one.
        """
        if not self.fills:
            return self
        workers = fitting(self.resources, nodes.values())
        if workers == 0:
            asked = _amounts({"CPU": self.resources.cpus_per_worker, "GPU": self.resources.gpus_per_worker})
            there = ", ".join(f"{name} has {_amounts(each)}" for name, each in nodes.items())
            remedy = "Ask SLURM for more (--gpus-per-node, --cpus-per-task), or lower resources.*_per_worker."
            raise InputError("resources", f"one worker asks for {asked}; {there}", remedy)
        print(f"[slurm] resources.workers={workers}: all that the allocation has room for", flush=True)
        resources = self.resources.model_copy(update={"workers": workers})
        command = (*self.command, f"resources.workers={workers}")
        return replace(self, command=command, resources=resources, fills=False)


def launch(allocation: Allocation, work: Work, folder: Path) -> int:
    """Run a job on a Ray cluster of the allocation's nodes.

    The job ends with a checkpoint on SIGUSR1 or SIGTERM, which SLURM sends before a time limit or pre-emption, and
    after losing nodes that it cannot do without. It is then requeued, unless it has been cancelled in SLURM.

    Parameters
    ----------
    allocation : Allocation
        Allocation of this process, the batch script's.
    work : Work
        The job.
    folder : Path
        For the cluster's state, on storage that all nodes see.

    Returns
    -------
    int
        The job's exit status.

    Raises
    ------
    InputError
        When nodes do not join, or have no room.
    """
    warned = threading.Event()
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda *_: warned.set())
    started = time.monotonic()
    with ray_on_nodes(allocation, folder) as cluster:
        nodes = cluster.wait(warned.is_set)
        if warned.is_set():
            status, interrupted = os.EX_TEMPFAIL, True
        else:
            seconds = time.monotonic() - started
            print(f"[slurm] job {allocation.name}: Ray on {listed(nodes)} after {seconds:.1f} s", flush=True)
            status, interrupted = _drive(work.sized(nodes), allocation, cluster, nodes, warned)
    if interrupted and status not in _FINAL:
        _put_back(allocation)
    return status


def _put_back(allocation: Allocation) -> None:
    """Requeue a job unless SLURM says that it was cancelled."""
    with suppress(InputError):
        if not allocation.is_running():
            return
    print("[slurm] requeued; the job will resume where it was", flush=True)
    try:
        allocation.requeue()
    except InputError as error:
        print(f"[slurm] the job could not be requeued, submit it again: {error}", flush=True)


def _drive(
    work: Work, allocation: Allocation, cluster: RayOnNodes, nodes: Nodes, warned: threading.Event
) -> tuple[int, bool]:
    """Run the job's process to its end; return its exit status, and whether SLURM or a lost node interrupted it."""
    driver = subprocess.Popen(work.command, start_new_session=True)  # it hears of signals from here alone
    lost: set[str] = set()
    looked = time.monotonic()
    while not _ended(driver):
        if warned.is_set():
            _ask_to_end(driver, "SLURM wants the nodes back")
            _end_within(driver, _checkpoint_seconds(allocation))
        elif time.monotonic() > looked + _LOOK_SECONDS:
            there, looked = cluster.nodes(), time.monotonic()
            if there is None:
                continue
            if gone := nodes.keys() - there.keys() - lost:
                lost |= gone
                print(f"[slurm] lost {listed(gone)}", flush=True)
            if lost and fitting(work.resources, there.values()) < work.resources.fewest_workers:
                _ask_to_end(driver, "the job's workers have no room any more")
                _end_within(driver, _WITHOUT_ROOM_SECONDS)
    status = driver.returncode
    return (128 - status if status < 0 else status), warned.is_set() or bool(lost)


def _ask_to_end(driver: subprocess.Popen[bytes], why: str) -> None:
    """Ask the job to write a checkpoint and end."""
    print(f"[slurm] {why}: the job is asked to end", flush=True)
    driver.terminate()


def _checkpoint_seconds(allocation: Allocation) -> float:
    """Return how long the job may take for its checkpoint, leaving time to requeue it before SLURM ends everything."""
    asked = time.monotonic()
    try:
        left = allocation.seconds_left()
    except InputError:
        left = _NOTICE_SECONDS - (time.monotonic() - asked)
    if left <= 0:  # SLURM is ending it, and starts it again itself if at all
        return _CHECKPOINT_SECONDS
    return min(_CHECKPOINT_SECONDS, max(left - _REQUEUE_SECONDS, left / 2))


def _end_within(driver: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for the job's end; after `seconds` a second signal ends it without a checkpoint, later a third kills it."""
    if not _ended(driver, seconds):
        driver.terminate()
    if not _ended(driver, _END_SECONDS):
        driver.kill()
        driver.wait()


def _ended(driver: subprocess.Popen[bytes], seconds: float = 0.2) -> bool:
    """Wait for a process for at most so many seconds."""
    with suppress(subprocess.TimeoutExpired):
        driver.wait(seconds)
    return driver.returncode is not None


def _amounts(node: Mapping[str, float]) -> str:
    return " and ".join(f"{node.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
