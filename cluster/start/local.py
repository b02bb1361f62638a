"""A private Ray cluster on this machine, as real as a remote one: head, dashboard, job server, token.

Everything listens on one address, the loopback one unless another is asked for; every port is a free one, and the
token, the logs and the sockets belong to this cluster alone, so several clusters can live side by side and ending
one cannot touch another (``ray stop`` ends every Ray of the user; it is never called).
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.start import ports as port_table
from cluster.start.ports import PortRange
from cluster.start.ray_start import (
    RAY_FOLDER,
    cluster_variables,
    is_running,
    make_temp_dir,
    ray_environment,
    start_command,
    write_private,
)
from storage.errors import InputError

DEFAULT_DIRECTORY = Path("runs/.cluster")
ROOT = Path(__file__).resolve().parents[2]
_MARK = "E2LLM_CLUSTER_ID"
_STATE, _TOKEN = "cluster.json", "token"
_START_ATTEMPTS = 3
_KILLS = 20
STOP_WAIT_SECONDS = 600


class ProcessId(BaseModel):
    """A process, safe against a reused number.

    Attributes
    ----------
    pid : int
        Process number.
    created : float
        Start time in seconds since 1970, as the system reports it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    created: float


class ClusterInfo(BaseModel):
    """Record of a cluster started by :func:`up`.

    Attributes
    ----------
    identity : str
        Random mark carried in the environment of all its processes.
    address : str
        ``host:port`` of the cluster's control service.
    dashboard_url : str
        Where jobs are submitted.
    token_path : Path
        The file (mode 0600) that holds the authentication token.
    temp_dir : Path
        Logs and sockets, in a folder of Ray's that it opens to everybody, below this one that is the user's alone.
    root : Path
        Folder in which jobs start.
    num_cpus : int
        CPUs of this machine that the cluster may use.
    ports : dict of str to int
        Where its services on this machine listen.
    worker_ports : PortRange, optional
        Ports of the workers; default: Ray's own choice.
    hostname : str
        Name of this machine: several may share the folder of the record.
    processes : tuple of ProcessId
        Processes of the cluster shortly after the start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str
    address: str
    dashboard_url: str
    token_path: Path
    temp_dir: Path
    root: Path
    num_cpus: int
    ports: dict[str, int] = {}
    worker_ports: PortRange | None = None
    hostname: str = Field(default_factory=socket.gethostname)
    processes: tuple[ProcessId, ...] = ()

    @property
    def host(self) -> str:
        """Address of the cluster's control service."""
        return self.address.rpartition(":")[0]

    @property
    def is_loopback(self) -> bool:
        """Whether the cluster can only be reached from its own host."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def is_head(self) -> bool:
        """Whether the cluster's control service is on this machine."""
        return "port" in self.ports

    def env(self) -> dict[str, str]:
        """Return the environment with which a client reaches this cluster and no other."""
        return ray_environment() | self.client_variables()

    def client_variables(self) -> dict[str, str]:
        """Return the variables that :meth:`env` adds to name this cluster, for a shell's ``export``."""
        return {
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.dashboard_url,
            **cluster_variables(self.host, self.token_path),
        }


class Node(BaseModel):
    """Resources that one machine offers to a cluster.

    Attributes
    ----------
    host : str
        This host's address, on which its services listen.
    num_cpus : int, optional
        CPUs the cluster may use; default: all of this machine.
    num_gpus : int, optional
        GPUs the cluster may use; default: those that Ray finds.
    ports : PortRange, optional
        Ports of its services and workers; default: free ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    num_cpus: int | None = None
    num_gpus: int | None = None
    ports: PortRange | None = None


def up(
    directory: Path = DEFAULT_DIRECTORY,
    num_cpus: int | None = None,
    host: str = "127.0.0.1",
    root: Path = ROOT,
    *,
    num_gpus: int | None = None,
    ports: PortRange | None = None,
    stop_wait_seconds: int = STOP_WAIT_SECONDS,
) -> ClusterInfo:
    """Start a cluster and wait until it accepts jobs.

    Parameters
    ----------
    directory : Path
        State folder (token and ``cluster.json``, readable by the user only).
    num_cpus, host, num_gpus, ports
        See :class:`Node`.
    root : Path
        Folder in which jobs start; paths in ``ray job submit`` are relative to it.
    stop_wait_seconds : int
        How long a job that is stopped may take, for a checkpoint.

    Returns
    -------
    ClusterInfo

    Raises
    ------
    InputError
        If a cluster of this folder is already running, or Ray does not start.
    """
    node = Node(host=host, num_cpus=num_cpus, num_gpus=num_gpus, ports=ports)
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(stop_wait_seconds)}
    return start(directory, node, secrets.token_hex(32), root, variables=variables)


def start(
    directory: Path,
    node: Node,
    token: str,
    root: Path = ROOT,
    *,
    head: str = "",
    variables: Mapping[str, str] | None = None,
) -> ClusterInfo:
    """Start Ray on this machine: a new cluster, or another node of the one whose control service is at `head`.

    Raises
    ------
    InputError
        If Ray already runs for this folder, or does not start.
    """
    directory = directory.resolve()
    require_address("--host", node.host)
    if any(_alive(info) for info in _read_states(directory)):
        remedy = f"Use it, or end it with `e2llm cluster down --dir {directory}`."
        raise InputError(str(directory), "a cluster of this folder is already running", remedy)
    down(directory)
    problem = ""
    for _ in range(_START_ATTEMPTS):
        info = _plan(directory, node, token, root.resolve(), head)
        try:
            problem = _start(info, node, variables or {})
            if not problem:
                info = info.model_copy(update={"processes": tuple(map(_identify, processes(info)))})
                write_private(directory / _STATE, info.model_dump_json(indent=2))
                return info
        except BaseException:
            down(directory)
            raise
        down(directory)
    raise InputError("ray start", f"the cluster did not start: {problem}", "See the lines above.")


def require_address(place: str, host: str) -> None:
    """Refuse what is not the IPv4 address of one machine."""
    try:
        usable = not ipaddress.IPv4Address(host).is_unspecified
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"{place} {host}", "is not an IPv4 address of a machine", "Name one, such as 127.0.0.1.")


def status(directory: Path = DEFAULT_DIRECTORY) -> ClusterInfo | None:
    """Return the running cluster of a state folder, or None."""
    return next((info for info in _read_states(directory.resolve()) if _alive(info)), None)


def down(directory: Path = DEFAULT_DIRECTORY, grace_seconds: float = 3.0) -> int:
    """End the cluster of a state folder, whatever its state, and clean up after it.

    Parameters
    ----------
    directory : Path
        State folder.
    grace_seconds : float
        Time between asking the processes to end and ending them.

    Returns
    -------
    int
        How many processes were ended.
    """
    directory = directory.resolve()
    ended = 0
    for info in _read_states(directory):
        ended += _end(info, grace_seconds)
        shutil.rmtree(info.temp_dir, ignore_errors=True)
    for name in (_STATE, _TOKEN):
        (directory / name).unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()
    return ended


def _plan(directory: Path, node: Node, token: str, root: Path, head: str) -> ClusterInfo:
    """Choose ports and folders, and record them and the token before anything starts."""
    num_cpus = node.num_cpus or os.cpu_count() or 1
    names = port_table.NODE_NAMES if head else port_table.HEAD_NAMES
    try:
        ports, worker_ports = port_table.assign(names, node.host, node.ports, num_cpus)
    except OSError as error:
        problem = f"cannot be listened on: {error.strerror}"
        raise InputError(f"--host {node.host}", problem, "Name an address of this machine.") from None
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    temp_dir = make_temp_dir()
    write_private(directory / _TOKEN, token)
    info = ClusterInfo(
        identity=secrets.token_hex(16),
        address=head or f"{node.host}:{ports['port']}",
        dashboard_url="" if head else f"http://{node.host}:{ports['dashboard-port']}",
        token_path=directory / _TOKEN,
        temp_dir=temp_dir,
        root=root,
        num_cpus=num_cpus,
        ports=ports,
        worker_ports=worker_ports,
    )
    write_private(directory / _STATE, info.model_dump_json(indent=2))
    return info


def _start(info: ClusterInfo, node: Node, variables: Mapping[str, str]) -> str:
    """Run ``ray start``; return an empty string, or why it failed."""
    options: dict[str, object] = {
        name: port for name, port in info.ports.items() if name not in port_table.HEAD_VARIABLES
    }
    options |= {"node-ip-address": node.host, "num-cpus": info.num_cpus, "temp-dir": info.temp_dir / RAY_FOLDER}
    if info.is_head:
        options |= {"dashboard-host": node.host}
    else:
        options |= {"address": info.address}
    if node.num_gpus is not None:
        options |= {"num-gpus": node.num_gpus}
    if info.worker_ports is not None:
        options |= {"min-worker-port": info.worker_ports.first, "max-worker-port": info.worker_ports.last}
    metrics = {name: str(info.ports[name]) for name in port_table.HEAD_VARIABLES if name in info.ports}
    env = ray_environment(keep_settings=True) | cluster_variables(node.host, info.token_path)
    with tempfile.TemporaryFile("w+") as output:  # a pipe would stay open in Ray's daemons
        status = subprocess.run(
            start_command(options, *["--head"] * info.is_head),
            cwd=info.root,
            env=env | metrics | {**variables, _MARK: info.identity},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
        if status == 0:
            return ""
        output.seek(0)
        print(output.read(), file=sys.stderr)
    return f"exit status {status}"


def _read_states(directory: Path) -> list[ClusterInfo]:
    """Return the recorded cluster as a list of none or one."""
    path = directory / _STATE
    try:
        info = ClusterInfo.model_validate_json(path.read_text())
    except FileNotFoundError:
        return []
    except ValidationError:
        raise InputError(str(path), "is not a cluster record of this version", "Remove the file.") from None
    if info.hostname != socket.gethostname():
        remedy = f"Give this host a folder of its own: --dir {directory}-{socket.gethostname()}"
        raise InputError(str(directory), f"is the state folder of host {info.hostname}", remedy)
    return [info]


def _alive(info: ClusterInfo) -> bool:
    """Tell whether the cluster's control service answers on its port."""
    port = int(info.address.rpartition(":")[2])
    with suppress(OSError), socket.create_connection((info.host, port), timeout=2):
        return bool(processes(info))
    return False


def _identify(process: psutil.Process) -> ProcessId:
    return ProcessId(pid=process.pid, created=process.create_time())


def processes(info: ClusterInfo) -> list[psutil.Process]:
    """Find all living processes of a cluster: by record, by mark, by folder, and their descendants."""
    recorded = {process.pid: process.created for process in info.processes}
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            known = abs(recorded.get(process.pid, -1.0) - process.create_time()) < 0.01
            if known or _belongs(process, info):
                for member in (process, *process.children(recursive=True)):
                    found[member.pid] = member
    found.pop(os.getpid(), None)
    return [process for process in found.values() if is_running(process)]


def _belongs(process: psutil.Process, info: ClusterInfo) -> bool:
    if str(info.temp_dir) in " ".join(process.cmdline()):
        return True
    with suppress(psutil.Error):
        return bool(process.environ().get(_MARK) == info.identity)
    return False


def _end(info: ClusterInfo, grace_seconds: float) -> int:
    """Ask all processes of a cluster to end, then end those that remain."""
    deadline, kills = time.monotonic() + grace_seconds, 0
    asked: set[int] = set()
    while members := processes(info):
        overdue = time.monotonic() > deadline
        if kills == _KILLS:
            raise InputError(str(info.temp_dir), f"{len(members)} processes did not end", "Kill them manually.")
        kills += overdue
        _signal(members if overdue else [m for m in members if m.pid not in asked], kill=overdue)
        asked |= {member.pid for member in members}
        psutil.wait_procs(members, timeout=0.3)
    return len(asked)


def _signal(members: Iterable[psutil.Process], *, kill: bool) -> None:
    for member in members:
        with suppress(psutil.Error):
            if kill:
                member.kill()
            else:
                member.terminate()
