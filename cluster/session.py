"""Joining a Ray cluster, or starting a private one, with the code shipped to every node."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from storage.errors import InputError

_EXCLUDED = ["/runs", "/data", "/.git", "/.venv", "/tests", "/docs", "/benchmarks", "**/*.zarr", "**/__pycache__"]


class Resources(BaseModel):
    """What a job asks of the cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(1, ge=1, description="processes that work side by side")
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0)
    max_failures: int = Field(3, ge=0, description="restarts from the last checkpoint after a lost worker")


@contextmanager
def ray_session(root: Path, *, local: bool) -> Iterator[None]:
    """Connect to the job's cluster, or start a private one on this machine.

    Parameters
    ----------
    root : Path
        Folder of the code; shipped to the nodes unless the job was submitted with a working directory.
    local : bool
        Start a private cluster on the loopback address instead of joining one.
    """
    import ray

    environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "TQDM_DISABLE": "1"}
    runtime_env: dict[str, object] = {"env_vars": environment}
    if local:
        environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        ray.init("local", include_dashboard=False, log_to_driver=False, runtime_env=runtime_env)
    else:
        if not _has_working_dir():
            runtime_env |= {"working_dir": str(root), "excludes": _EXCLUDED}
        ray.init("auto", log_to_driver=False, logging_level=logging.WARNING, runtime_env=runtime_env)
    try:
        yield
    finally:
        ray.shutdown()


def _has_working_dir() -> bool:
    """Whether `ray job submit --working-dir` already gave the nodes the code."""
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return bool(submitted.get("runtime_env", {}).get("working_dir"))


def require_resources(resources: Resources) -> None:
    """Refuse a request that the cluster can never satisfy.

    Raises
    ------
    InputError
        Naming what is asked for and what there is.
    """
    import ray

    there = ray.cluster_resources()
    asked = {
        "CPU": resources.workers * resources.cpus_per_worker,
        "GPU": resources.workers * resources.gpus_per_worker,
    }
    for name, amount in asked.items():
        if amount > there.get(name, 0):
            raise InputError(
                "resources",
                f"asks for {amount:g} {name}s, the cluster has {there.get(name, 0):g}",
                f"Lower resources.workers or resources.{name.lower()}s_per_worker, or add nodes.",
            )
