"""Stopping jobs as a user does, and what has to be true of the cluster afterwards."""

import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from cluster.start import local
from cluster.start.local import ClusterInfo
from e2llm_core.training.meter import MEASURED
from e2llm_core.training.metrics import read_metrics
from tests.tiny_jobs import RAY, submit

PATIENCE_SECONDS = 480
_OF_THE_CLUSTER = (
    "ray::IDLE",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
    "ray::TrainStateActor",
    "ray::_AutoscalingCoordinatorActor",
    "ray::_StatsActor",
    "ray::ActorLocationTracker",
)
"""Without work, or Ray's books over all jobs: once begun they last as long as the cluster, and take no CPU."""


class StoppableJob:
    """A submitted job.

    Parameters
    ----------
    cluster : ClusterInfo
        Where.
    spec : Path
        Which.
    variables : mapping of str to str, optional
        Of the job's processes.
    """

    def __init__(self, cluster: ClusterInfo, spec: Path, variables: Mapping[str, str] | None = None) -> None:
        self._cluster = cluster
        self._name = f"job-{uuid.uuid4().hex[:8]}"
        environment = ("--runtime-env-json", json.dumps({"env_vars": variables})) if variables else ()
        self._process = submit(cluster, "--submission-id", self._name, *environment, "--", spec)

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def wait(self, until: Callable[[], object]) -> None:
        """Wait for something, or for the job's end."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not until() and not self.has_ended:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> str:
        """Type ``ray job stop``; returns how Ray says that the job ended."""
        while "does not exist" in self.ray("stop"):  # yet
            assert not self.has_ended, self._process.communicate()[0]
        self._process.communicate(timeout=PATIENCE_SECONDS)
        found = self.ray("status").lower()
        return next(state for state in ("stopped", "succeeded", "failed") if state in found)

    @property
    def output(self) -> str:
        """What it has printed."""
        return self.ray("logs")

    def ray(self, verb: str) -> str:
        """Type ``ray job`` and a verb for this job."""
        command = [*RAY, "job", verb, self._name]
        done = subprocess.run(
            command, env=self._cluster.env(), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        return done.stdout + done.stderr


def busy_workers(cluster: ClusterInfo) -> list[str]:
    """Names of Ray's processes that do or did something for a job."""
    found = []
    for process in local.processes(cluster):
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if title.startswith("ray::") and not title.startswith(_OF_THE_CLUSTER):
                found.append(title)
    return found


def drivers(folder: Path) -> list[str]:
    """Command lines of processes that run a spec of a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if "jobs" in words and any(word.startswith(str(folder)) for word in words):
                found.append(" ".join(words))
    return found


def wait_until_nothing_runs(cluster: ClusterInfo, folder: Path) -> None:
    """Wait for the end of all processes of jobs; Ray ends a job's workers a moment after it."""
    deadline = time.monotonic() + 60
    while left := busy_workers(cluster) + drivers(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def curve(run: Path) -> list[dict[str, Any]]:
    """All that was computed in each step of a training run, without what was only measured."""
    rows = read_metrics(run / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]
