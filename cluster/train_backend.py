"""How Ray Train starts PyTorch's process group here: on the nodes' own addresses (:mod:`cluster.process_group`)."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ray.train import get_context
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

from cluster.process_group import join_group, open_store


@dataclass
class NodeAddressConfig(TorchConfig):
    """Ray Train's settings of PyTorch, with this way of starting it."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """What starts and ends the process group."""
        return _NodeAddressBackend


class _NodeAddressBackend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Start the group on all workers."""
        gpus = worker_group.get_resources_per_worker().get("GPU", 0)
        store = worker_group.execute_single(0, open_store)
        worker_group.execute(_set_torch_distributed_env_vars)
        worker_group.execute(_join, store, "nccl" if gpus else "gloo", backend_config.timeout_s)


def _join(store: tuple[str, int], backend: str, seconds: float) -> None:
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")  # as Ray Train does: a hung sum ends its worker
    context = get_context()
    join_group(store, backend, context.get_world_rank(), context.get_world_size(), timedelta(seconds=seconds))
