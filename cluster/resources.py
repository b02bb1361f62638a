"""What a job asks of the cluster. Light to import."""

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from storage.errors import InputError


class WorkerResources(BaseModel):
    """Resources of one worker, and how often workers are restarted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0)
    max_failures: int = Field(3, ge=0, description="restarts in a row without a new checkpoint between them")


class Resources(WorkerResources):
    """What a job asks of the cluster."""

    workers: int = Field(1, ge=1, description="processes that work side by side")

    @property
    def fewest_workers(self) -> int:
        """Smallest number of workers that the job can start with."""
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
    """Resources that a training run requests."""

    workers: Workers = Field(1, description="a number, or a range for an elastic run")
    hang_seconds: float = Field(1800, gt=0, description="a training step that takes longer ends its process")

    @property
    def fewest_workers(self) -> int:
        """Smallest number of workers that the run can start with."""
        return self.workers if isinstance(self.workers, int) else self.workers.min


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
    room = fitting(resources, alive_nodes())
    if room < resources.fewest_workers:
        raise InputError(
            "resources",
            f"asks for {resources.fewest_workers} workers of {resources.cpus_per_worker:g} CPUs and "
            f"{resources.gpus_per_worker:g} GPUs; the cluster's nodes have room for {room}",
            "Each worker is on one node: lower resources.workers or what each asks for, or add nodes.",
        )


def alive_nodes() -> list[dict[str, float]]:
    """Amounts of ``CPU`` and ``GPU`` of each node of the connected cluster."""
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def fitting(resources: WorkerResources, nodes: Iterable[Mapping[str, float]]) -> int:
    """Count the workers that fit on nodes, each given by its amounts of ``CPU`` and ``GPU``; none is on two nodes."""
    asked = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    return sum(
        min(int((there.get(name, 0) + 1e-6) // amount) for name, amount in asked.items() if amount) for there in nodes
    )
