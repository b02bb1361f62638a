"""All of Ray that this project uses without Ray's promise to keep it, each with why; checked with Ray 2.60.

`pyproject.toml` keeps Ray below the next minor version. To raise that bound, run
``tests/unit/cluster/test_ray_private.py``, which names what has moved and what of this project depends on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any


def available_resources_per_node() -> dict[str, dict[str, float]]:
    """Free amounts of each node by its id; Ray's public call adds up all nodes, and a worker has to fit on one."""
    from ray._private import state

    return dict(state.available_resources_per_node())


def data_parallel_trainer() -> type[Any]:
    """Ray Train's trainer without a framework; the public ones import torch in the controller, once per start."""
    from ray.train.v2.api import data_parallel_trainer

    return data_parallel_trainer.DataParallelTrainer


def is_node_to_be_taken() -> Callable[[], bool]:
    """In a training worker: what tells whether its node's end was announced; the public call is a barrier of all."""
    from ray.train.v2._internal.execution import context

    preemption = context.get_train_context().preemption_context
    return lambda: preemption.preemption_info is not None


def is_placement_timeout(error: BaseException) -> bool:
    """Whether workers were not placed in time; Ray Train exports no class for it, only a text."""
    from ray.train.v2._internal import exceptions

    return isinstance(error, exceptions.WorkerGroupStartupTimeoutError)


def walk_shipped(root: Path, visit: Callable[[Path], None]) -> None:
    """Visit what Ray would copy of a folder; it tells nobody before it uploads, and then refuses by size alone."""
    from ray._private import ray_constants
    from ray._private.runtime_env import packaging

    default = packaging._get_excludes(root, ray_constants.get_runtime_env_default_excludes())
    packaging._dir_travel(root, [default], visit, include_gitignore=True, logger=logging.getLogger(__name__))


def replicas_listen_on(address: str) -> None:
    """In a replica, before it serves: bind its own server to one address; Ray Serve binds it to all, by no setting."""
    from ray.serve._private import replica

    plain = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, _: plain(server, f"{address}:0")


def private_init(address: str, folder: Path) -> dict[str, Any]:
    """Arguments of `ray.init` that put a Ray of one's own on one address and in one folder; it has no public ones."""
    return {"address": "local", "_node_ip_address": address, "_temp_dir": str(folder)}


def replaces_loopback(does: bool) -> bool:
    """Say whether Ray takes this machine's public address for a loopback one; returns what held before.

    Ray reads ``RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER`` when it is imported, which may be before the variable is set.
    """
    from ray._private import ray_constants

    before: bool = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = does
    return before


def errors_go_to_stderr() -> None:
    """Make Ray report failed tasks on standard error; by default it mixes them with the job's output."""
    from ray._private import worker

    plain = worker.print_to_stdstream
    worker.print_to_stdstream = lambda data, ignore_prefix: plain({**data, "is_err": True}, ignore_prefix)


def read_token_again() -> None:
    """Have Ray notice another token and other settings: it reads the environment once in a process."""
    from ray import _raylet

    _raylet.Config.initialize("")  # type: ignore[attr-defined]
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


def control_service(address: str) -> Any:
    """Client of a cluster's control service that joins no cluster; `ray.init` needs a node on the same machine."""
    from ray import _raylet

    return _raylet.GcsClient(address=address)  # type: ignore[attr-defined]
