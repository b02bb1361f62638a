"""``e2llm cluster``: a Ray cluster on this host, or on several."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from cluster.start import hosts, local
from cluster.start.local import DEFAULT_DIRECTORY, STOP_WAIT_SECONDS, ClusterInfo
from cluster.start.own_ray import OF_A_CLUSTER
from cluster.start.ports import WORKERS, PortRange
from jobs.console import disciplined
from storage.errors import InputError

cluster_app = typer.Typer(help="Your own Ray cluster, on one or several hosts.", no_args_is_help=True)

Directory = Annotated[Path, typer.Option("--dir", help="State folder of this host.")]
Cpus = Annotated[int | None, typer.Option(min=1, help="Default: all.")]
Gpus = Annotated[int | None, typer.Option(min=0, help="Default: those that Ray finds.")]
Ports = Annotated[
    str | None, typer.Option(metavar="FIRST-LAST", help="Ports open in the firewall. Default: free ports.")
]


@cluster_app.command("up")
@disciplined
def up(
    directory: Directory = DEFAULT_DIRECTORY,
    num_cpus: Cpus = None,
    num_gpus: Gpus = None,
    host: Annotated[str, typer.Option(help="Address to listen on, at which other hosts can join.")] = "127.0.0.1",
    ports: Ports = None,
    stop_wait_seconds: Annotated[
        int, typer.Option(min=1, help="Seconds after which `ray job stop` kills a job that still runs.")
    ] = STOP_WAIT_SECONDS,
) -> None:
    """Start a cluster and print the variables that a shell needs to submit jobs."""
    allowed = PortRange.parse(ports) if ports else None
    _show(local.up(directory, num_cpus, host, num_gpus=num_gpus, ports=allowed, stop_wait_seconds=stop_wait_seconds))


@cluster_app.command("join")
@disciplined
def join(
    head: Annotated[str, typer.Argument(metavar="HOST:PORT", help="As `e2llm cluster up` printed it.")],
    token: Annotated[Path, typer.Option(help="Copy of the cluster's token, mode 0600.", show_default=False)],
    directory: Directory = DEFAULT_DIRECTORY,
    num_cpus: Cpus = None,
    num_gpus: Gpus = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: the one that reaches the head.")
    ] = None,
    ports: Ports = None,
) -> None:
    """Make this host a node of a cluster that was started on another one."""
    allowed = PortRange.parse(ports) if ports else None
    _show(hosts.join(head, token, directory, host=host, num_cpus=num_cpus, num_gpus=num_gpus, ports=allowed))


@cluster_app.command("status")
@disciplined
def status(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Show whether a cluster is running, its hosts and ports, and how to reach it."""
    found = local.status(directory)
    if found is None:
        raise InputError(str(directory), "no cluster is running", "Start one with `e2llm cluster up`.")
    _show(found)


@cluster_app.command("down")
@disciplined
def down(directory: Directory = DEFAULT_DIRECTORY) -> None:
    """Stop what was started on this host, and clean up after it."""
    print(f"{local.down(directory)} processes ended")
    token = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if token and not Path(token).exists():
        print(f"# this shell still names a cluster that has ended:\nunset {' '.join(OF_A_CLUSTER)}")


def _show(cluster: ClusterInfo) -> None:
    """Print the cluster's state as comments, and the exports for a shell."""
    if not cluster.is_head:
        print(f"# this host is a node of {cluster.address}: {cluster.num_cpus} CPUs; submit jobs from the head")
        _show_ports(cluster)
        return
    print(f"# running: {cluster.num_cpus} CPUs, dashboard {cluster.dashboard_url}; jobs start in {cluster.root}")
    for host in hosts.hosts(cluster):
        role, state = "head" if host.is_head else "node", "" if host.is_alive else ", lost"
        print(f"# {role} {host.address}: {host.cpus:g} CPUs, {host.gpus:g} GPUs{state}")
    _show_ports(cluster)
    if not cluster.is_loopback:
        print("# another host joins from a clone of this repository at the same commit:")
        print(f"#   scp {cluster.host}:{shlex.quote(str(cluster.token_path))} e2llm.token")
        print(f"#   e2llm cluster join {cluster.address} --token e2llm.token")
    for name, value in cluster.client_variables().items():
        print(f"export {name}={shlex.quote(value)}")


def _show_ports(cluster: ClusterInfo) -> None:
    workers = cluster.worker_ports or WORKERS
    print(f"# ports: {', '.join(f'{name} {port}' for name, port in cluster.ports.items())}, workers {workers}")
