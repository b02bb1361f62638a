"""Ports of a host's services: free ones, or a range that the firewall allows."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from pydantic import BaseModel, ConfigDict

from storage.errors import InputError

HEAD_OPTIONS = ("port", "dashboard-port", "ray-client-server-port")
NODE_OPTIONS = (
    "node-manager-port",
    "object-manager-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
)
HEAD_VARIABLES = ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT")
HEAD_NAMES: tuple[str, ...] = HEAD_OPTIONS + NODE_OPTIONS + HEAD_VARIABLES
NODE_NAMES: tuple[str, ...] = NODE_OPTIONS
"""Services of a head, and of another host."""
WORKERS = "10002-19999"
"""Ports of workers by default: Ray's own choice."""
_WORKERS_PER_CPU, _OTHER_WORKERS = 2, 16
_LOWEST, _HIGHEST = 1024, 65535


class PortRange(BaseModel):
    """A contiguous range of ports.

    Attributes
    ----------
    first, last : int
        Both belong to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @classmethod
    def parse(cls, text: str) -> PortRange:
        """Read ``FIRST-LAST``.

        Raises
        ------
        InputError
            When it is no range of ports that a user may open.
        """
        found = re.fullmatch(r"(\d+)-(\d+)", text)
        first, last = map(int, found.groups()) if found else (0, 0)
        if not _LOWEST <= first <= last <= _HIGHEST:
            problem = f"is no range of ports between {_LOWEST} and {_HIGHEST}"
            raise InputError(f"--ports {text}", problem, "Name the first and the last one, such as 20000-20199.")
        return cls(first=first, last=last)


def assign(
    names: Iterable[str], host: str, ports: PortRange | None, num_cpus: int
) -> tuple[dict[str, int], PortRange | None]:
    """Give every service a port that was free a moment ago.

    Parameters
    ----------
    names : iterable of str
        The services.
    host : str
        Address that they listen on.
    ports : PortRange, optional
        Which ports may be used, the first ones for the services; default: any.
    num_cpus : int
        CPUs of this host; each may need a worker.

    Returns
    -------
    dict of str to int
        Port of each service.
    PortRange or None
        The remaining ports, for workers.

    Raises
    ------
    InputError
        When there are fewer ports than services and workers.
    """
    names = list(names)
    if ports is None:
        return dict(zip(names, free_ports(host, len(names)), strict=True)), None
    found = dict(zip(names, _free_in(ports, host), strict=False))
    workers = PortRange(first=max(found.values(), default=ports.last) + 1, last=ports.last)
    needed = num_cpus * _WORKERS_PER_CPU + _OTHER_WORKERS
    if len(found) < len(names) or len(workers) < needed:
        problem = f"too few free ports for {len(names)} services and {needed} workers"
        raise InputError(f"--ports {ports}", problem, f"Name {len(names) + needed} or more.")
    return found, workers


def free_ports(host: str, count: int) -> list[int]:
    """Return distinct ports that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((host, 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def _free_in(ports: PortRange, host: str) -> Iterator[int]:
    for port in range(ports.first, ports.last + 1):
        try:
            socket.create_server((host, port)).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            yield port
