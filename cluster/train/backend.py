"""How Ray Train makes its workers ranks of PyTorch's process group, on the nodes' own addresses.

Ray's own settings of PyTorch would open a store that listens on all addresses, and import torch in Ray Train's
controller, for which every start and restart waits.
"""

import logging
import os
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.train import get_context
from ray.train.backend import Backend, BackendConfig

from cluster.train.process_group import join_group, leave_group, open_store
from e2llm_core.training.config import PATIENCE

_LOG = logging.getLogger(__name__)
_LEAVE_SECONDS = 30.0
"""After which workers are ended that have not left the group."""


class ProcessGroupConfig(BackendConfig):
    """Settings of Ray Train; there is nothing to set."""

    @property
    def backend_cls(self) -> type[Backend]:
        """Starts and ends the process group."""
        return _ProcessGroup


class _ProcessGroup(Backend):
    share_cuda_visible_devices = True
    """As DeepSpeed and NCCL want it: each worker sees its node's GPUs, and takes that of its local rank."""

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """Start the group on all workers."""
        gpus = worker_group.get_resources_per_worker().get("GPU", 0)
        store = worker_group.execute_single(0, open_store)
        worker_group.execute(_join, store, "nccl" if gpus else "gloo")

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        """End the group, if the workers still answer."""
        try:
            ray.get(worker_group.execute_async(leave_group), timeout=_LEAVE_SECONDS)
        except GetTimeoutError:
            _LOG.warning("workers did not leave the process group within %.0f s", _LEAVE_SECONDS)


def _join(store: tuple[str, int], backend: str) -> None:
    context = get_context()
    rank, size = context.get_world_rank(), context.get_world_size()
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(context.get_local_rank())}
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")  # as Ray Train does: a hung sum ends its worker
    join_group(store, backend, rank, size, PATIENCE)
