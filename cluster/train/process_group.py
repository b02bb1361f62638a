"""PyTorch's process group on a node's own address; by default its store listens on all addresses."""

import os
import socket
from datetime import timedelta
from typing import Any

_INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_FIND_SECONDS = 1800.0
_store: Any = None


def open_store() -> tuple[str, int]:
    """Open, in rank 0, the store through which ranks find each other; returns its address."""
    global _store
    from ray.util import get_node_ip_address
    from torch.distributed import TCPStore

    host = get_node_ip_address()
    listener = socket.create_server((host, 0))
    port = int(listener.getsockname()[1])
    _store = TCPStore(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())
    return host, port


def join_group(store: tuple[str, int], backend: str, rank: int, size: int, timeout: timedelta) -> None:
    """Make this process a rank of the group whose store was opened by :func:`open_store`.

    Parameters
    ----------
    store, backend, rank, size
        Where it listens, and the group.
    timeout : timedelta
        How long a rank waits for the others in a collective call; all find each other within half an hour, or not at
        all.
    """
    from ray.util import get_node_ip_address
    from torch.distributed import TCPStore, init_process_group

    host, port = store
    os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": str(port)}  # DeepSpeed names its shared memory by them
    if interface := interface_of(get_node_ip_address()):
        for name in _INTERFACE_VARIABLES:
            os.environ.setdefault(name, interface)
    find = TCPStore(host, port, timeout=min(timeout, timedelta(seconds=_FIND_SECONDS)))
    init_process_group(backend, store=find, rank=rank, world_size=size, timeout=timeout)


def leave_group() -> None:
    """Leave the group, if this process is in it."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def interface_of(address: str) -> str | None:
    """Return the network interface that has an address, if this machine has it."""
    import psutil

    interfaces = psutil.net_if_addrs().items()
    return next((name for name, entries in interfaces if address in {entry.address for entry in entries}), None)
