"""Joining a Ray cluster, or starting a private one, with the code shipped to every node."""

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from cluster.ray_private import errors_go_to_stderr
from cluster.start.own_ray import OF_A_CLUSTER, own_ray
from cluster.upload import announce
from storage.errors import InputError

_ANOTHER_CLUSTER = f"Start one with `e2llm cluster up`, or `unset {' '.join(OF_A_CLUSTER)}`."
_CONNECT_SECONDS = 10.0


class WorkerResources(BaseModel):
    """What one worker asks of the cluster, and how often workers are started again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0)
    max_failures: int = Field(3, ge=0, description="restarts in a row without a new checkpoint between them")


class Resources(WorkerResources):
    """What a job asks of the cluster."""

    workers: int = Field(1, ge=1, description="processes that work side by side")

    @property
    def fewest_workers(self) -> int:
        """Without which the job does not start."""
        return self.workers


class WorkerRange(BaseModel):
    """As many workers as the cluster has room for, between two bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int = Field(ge=1, description="below it the run waits")
    max: int = Field(ge=1)
    check_seconds: float = Field(60, gt=0, description="how often a run that could be larger looks for room")

    @model_validator(mode="after")
    def _in_order(self) -> "WorkerRange":
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self


Workers = Annotated[
    Annotated[int, Field(ge=1), Tag("number")] | Annotated[WorkerRange, Tag("range")],
    Discriminator(lambda given: "range" if isinstance(given, dict | WorkerRange) else "number"),
]


class TrainingResources(WorkerResources):
    """What a training run asks of the cluster."""

    workers: Workers = Field(1, description="a number, or a range for an elastic run")
    hang_seconds: float = Field(1800, gt=0, description="a training step that takes longer ends its process")

    @property
    def fewest_workers(self) -> int:
        """Without which the run does not start."""
        return self.workers if isinstance(self.workers, int) else self.workers.min


@contextmanager
def ray_session(root: Path, *, local: bool) -> Iterator[None]:
    """Connect to the job's cluster, or start a private one on this machine.

    Parameters
    ----------
    root : Path
        Folder of the code; shipped to the nodes unless the job was submitted with a working directory.
    local : bool
        Start a private cluster on the loopback address instead of joining one.

    Raises
    ------
    InputError
        When the folder is too large to be shipped, or no cluster is where this process was told.
    """
    given = _submitted_runtime_env()
    environment = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "TQDM_DISABLE": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who reserves no GPU sees none
    }
    environment = {name: value for name, value in environment.items() if name not in given.get("env_vars", {})}
    runtime_env: dict[str, object] = {"env_vars": environment}
    with ExitStack() as stack:
        if local:
            settings = stack.enter_context(own_ray()) | {"include_dashboard": False}
            environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        else:
            settings = {"address": "auto", "logging_level": logging.WARNING}
            _require_cluster()
            announce(root)
            if not given.get("working_dir"):
                runtime_env["working_dir"] = str(root)
        import ray

        errors_go_to_stderr()
        with own_sigterm():
            ray.init(log_to_driver=False, runtime_env=runtime_env, **settings)
        stack.callback(ray.shutdown, wait_for_processes=local)
        yield


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Keep this process's answer to SIGTERM, which `ray.init` replaces by its own."""
    own = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, own)


def _require_cluster() -> None:
    """Refuse an address at which nothing listens, for which Ray would wait for minutes, and a token that is gone."""
    token = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if token and not Path(token).exists():
        raise InputError(f"RAY_AUTH_TOKEN_PATH {token}", "no such file: the cluster has ended", _ANOTHER_CLUSTER)
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            raise InputError(f"RAY_ADDRESS {address}", f"no cluster answers ({error})", _ANOTHER_CLUSTER) from None


def _submitted_runtime_env() -> dict[str, Any]:
    """What `ray job submit` already gave the job's workers: Ray refuses to be told the same again."""
    submitted = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return dict(submitted.get("runtime_env") or {})


def fitting(resources: WorkerResources, nodes: Iterable[Mapping[str, float]]) -> int:
    """Count the workers that fit on nodes, each given by its amounts of ``CPU`` and ``GPU``; none is on two nodes."""
    asked = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    return sum(
        min(int((there.get(name, 0) + 1e-6) // amount) for name, amount in asked.items() if amount) for there in nodes
    )


def require_resources(resources: Resources | TrainingResources) -> None:
    """Refuse a request that the cluster can never satisfy.

    Raises
    ------
    InputError
        Naming what is asked for and what there is.
    """
    import ray

    there = ray.cluster_resources()
    asked = {
        "CPU": resources.fewest_workers * resources.cpus_per_worker,
        "GPU": resources.fewest_workers * resources.gpus_per_worker,
    }
    for name, amount in asked.items():
        if amount > there.get(name, 0):
            raise InputError(
                "resources",
                f"asks for {amount:g} {name}s, the cluster has {there.get(name, 0):g}",
                f"Lower resources.workers or resources.{name.lower()}s_per_worker, or add nodes.",
            )
    room = fitting(resources, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    if room < resources.fewest_workers:
        raise InputError(
            "resources",
            f"asks for {resources.fewest_workers} workers of {resources.cpus_per_worker:g} CPUs and "
            f"{resources.gpus_per_worker:g} GPUs; the cluster's nodes have room for {room}",
            "Each worker is on one node: lower resources.workers or what each asks for, or add nodes.",
        )
