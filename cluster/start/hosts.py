"""A cluster of several hosts: joining it from another one, and what its head knows of all of them."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import stat
import urllib.request
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cluster.start.local import DEFAULT_DIRECTORY, ClusterInfo, Node, require_address, start
from cluster.start.ports import PortRange
from storage.errors import InputError

_ANSWER_SECONDS = 10.0
_LIST_SECONDS = 60.0
"""The dashboard of a cluster that has just started is busy."""


class Host(BaseModel):
    """One host of a cluster, as the head sees it.

    Attributes
    ----------
    address : str
        On which it listens.
    cpus, gpus : float
        Resources that the host offers.
    is_head : bool
        Whether the control service is there.
    is_alive : bool
        Whether it answers; lost hosts stay listed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    cpus: float
    gpus: float
    is_head: bool
    is_alive: bool


def join(
    head: str,
    token_path: Path,
    directory: Path = DEFAULT_DIRECTORY,
    *,
    host: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    ports: PortRange | None = None,
) -> ClusterInfo:
    """Make this machine a node of a cluster that :func:`cluster.start.local.up` started elsewhere.

    Parameters
    ----------
    head : str
        ``HOST:PORT`` of the cluster's control service.
    token_path : Path
        The cluster's token, a file that only this user can read; a copy of it is kept in `directory`.
    directory : Path
        State folder of this machine.
    host : str, optional
        Own address to listen on; default: the one from which this machine reaches the head.
    num_cpus, num_gpus, ports
        See :class:`cluster.start.local.Node`.

    Returns
    -------
    ClusterInfo
        State of the processes on this machine.

    Raises
    ------
    InputError
        When the head does not answer, the token can be read by others, or Ray does not start.
    """
    address, _, port = head.rpartition(":")
    require_address("head", address)
    if not port.isdecimal():
        raise InputError(f"head {head}", "names no port", "Write HOST:PORT, as `e2llm cluster up` printed it.")
    if ipaddress.ip_address(address).is_loopback:
        raise InputError(
            f"head {head}", "can only be reached from its own host", "Start it with `--host` and its address."
        )
    token = read_token(token_path)
    own = own_address(address, int(port))
    require_token(head, token)
    node = Node(host=host or own, num_cpus=num_cpus, num_gpus=num_gpus, ports=ports)
    return start(directory, node, token, head=head)


def own_address(host: str, port: int) -> str:
    """Return the address of this machine from which it reaches a port of another one.

    Raises
    ------
    InputError
        When it does not.
    """
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_SECONDS) as connection:
            return str(connection.getsockname()[0])
    except OSError as error:
        problem = f"does not answer: {error.strerror or 'timed out'}"
        raise InputError(f"head {host}:{port}", problem, "Check its address, and the firewall in between.") from None


def read_token(path: Path) -> str:
    """Read a token from a file that nobody else can read.

    Raises
    ------
    InputError
        When it is not there, empty, or open to others.
    """
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read().strip()
    except OSError as error:
        raise InputError(f"--token {path}", f"cannot be read: {error.strerror}", "Copy it from the head.") from None
    if stat.S_IMODE(mode) & 0o077:
        raise InputError(f"--token {path}", "can be read by others", f"chmod 600 {path}")
    if not token:
        raise InputError(f"--token {path}", "is empty", "Copy it from the head again.")
    return token


def require_token(head: str, token: str) -> None:
    """Query the control service directly; Ray itself would try for a minute.

    Raises
    ------
    InputError
        When it does not take the token.
    """
    import grpc

    with grpc.insecure_channel(head, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        try:
            ask(b"", timeout=_ANSWER_SECONDS, metadata=[("authorization", f"Bearer {token}")])
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise InputError("--token", f"is not the token of {head}", "Copy it from the head again.") from None
            raise InputError(f"head {head}", f"is not a cluster: {error.details()}", "Look at its address.") from None


def hosts(cluster: ClusterInfo) -> list[Host]:
    """List the hosts of a cluster that was started on this machine, the head first.

    Raises
    ------
    InputError
        When its dashboard does not answer.
    """
    request = urllib.request.Request(
        f"{cluster.dashboard_url}/api/v0/nodes",
        headers={"Authorization": f"Bearer {cluster.token_path.read_text().strip()}"},
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=_LIST_SECONDS) as response:
            listed = json.load(response)["data"]["result"]["result"]
    except OSError as error:
        problem = f"does not answer: {error}"
        raise InputError(cluster.dashboard_url, problem, "Start the cluster again if this lasts.") from None
    found = [
        Host(
            address=node["node_ip"],
            cpus=node["resources_total"].get("CPU", 0),
            gpus=node["resources_total"].get("GPU", 0),
            is_head=node["is_head_node"],
            is_alive=node["state"] == "ALIVE",
        )
        for node in listed
    ]
    return sorted(found, key=lambda host: (not host.is_head, not host.is_alive, ipaddress.ip_address(host.address)))
