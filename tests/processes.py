"""What the processes of this machine show: command lines, and the ports on which a cluster listens."""

import contextlib
from collections.abc import Iterator

import psutil

from cluster.start import local
from cluster.start.local import ClusterInfo


def command_lines() -> Iterator[str]:
    """Command line of every process that can be looked at."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            yield " ".join(process.cmdline())


def listening(cluster: ClusterInfo) -> dict[tuple[str, int], str]:
    """Every address and port on which a process of the cluster listens, with the process's title."""
    found = {}
    for process in local.processes(cluster):
        with contextlib.suppress(psutil.Error):
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    address = connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port
                    found[address] = " ".join(process.cmdline())
    return found
