"""A private Ray cluster on this machine, as real as a remote one: head, dashboard, job server, token.

Everything listens on the loopback address, every port is a free one, and the token, the logs and the
sockets belong to this cluster alone, so several clusters can live side by side and ending one
cannot touch another (``ray stop`` ends every Ray of the user; it is never called).
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
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from storage.errors import InputError

DEFAULT_DIRECTORY = Path("runs/.cluster")
ROOT = Path(__file__).resolve().parents[1]
_MARK = "E2LLM_CLUSTER_ID"
_STATE, _TOKEN = "cluster.json", "token"
_LONGEST_SOCKET_SUFFIX = len("/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store.lock")
_LONGEST_SOCKET_PATH = 107
_START_ATTEMPTS = 3
_PORT_OPTIONS = (
    "port",
    "dashboard-port",
    "node-manager-port",
    "object-manager-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "metrics-export-port",
    "ray-client-server-port",
)
_PORT_VARIABLES = ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT")


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
    """What is known about a cluster started by :func:`up`.

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
        Logs and sockets.
    root : Path
        Folder in which jobs start.
    num_cpus : int
        CPUs the cluster may use.
    processes : tuple of ProcessId
        Its processes shortly after the start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str
    address: str
    dashboard_url: str
    token_path: Path
    temp_dir: Path
    root: Path
    num_cpus: int
    processes: tuple[ProcessId, ...] = ()

    def env(self) -> dict[str, str]:
        """Return the environment with which a client reaches this cluster and no other."""
        return _environment() | self.client_variables()

    def client_variables(self) -> dict[str, str]:
        """Return the variables that :meth:`env` adds to name this cluster, for a shell's ``export``."""
        return {
            "RAY_ADDRESS": self.address,
            "RAY_API_SERVER_ADDRESS": self.dashboard_url,
            **_ray_variables(self.address.rpartition(":")[0], self.token_path),
        }


def up(
    directory: Path = DEFAULT_DIRECTORY,
    num_cpus: int | None = None,
    host: str = "127.0.0.1",
    root: Path = ROOT,
) -> ClusterInfo:
    """Start a cluster and wait until it accepts jobs.

    Parameters
    ----------
    directory : Path
        State folder (token and ``cluster.json``, readable by the user only).
    num_cpus : int, optional
        CPUs the cluster may use; default: all of this machine.
    host : str
        Address to listen on.
    root : Path
        Folder in which jobs start; paths in ``ray job submit`` are relative to it.

    Returns
    -------
    ClusterInfo

    Raises
    ------
    InputError
        If a cluster of this folder is already running, or Ray does not start.
    """
    directory = directory.resolve()
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise InputError(f"--host {host}", "is not an IP address", "Name one, such as 127.0.0.1.") from None
    if any(_alive(info) for info in _read_states(directory)):
        remedy = f"Use it, or end it with `e2llm cluster down --dir {directory}`."
        raise InputError(str(directory), "a cluster of this folder is already running", remedy)
    down(directory)
    cpus = num_cpus or os.cpu_count() or 1
    problem = ""
    for _ in range(_START_ATTEMPTS):
        info, ports = _plan(directory, cpus, host, root.resolve())
        try:
            problem = _start(info, ports, host)
            if not problem:
                info = info.model_copy(update={"processes": tuple(map(_identify, processes(info)))})
                _write_private(directory / _STATE, info.model_dump_json(indent=2))
                return info
        except BaseException:
            down(directory)
            raise
        down(directory)
    raise InputError("ray start", f"the cluster did not start: {problem}", "See the lines above.")


def status(directory: Path = DEFAULT_DIRECTORY) -> ClusterInfo | None:
    """Return the running cluster of a state folder, or None."""
    return next((info for info in _read_states(directory.resolve()) if _alive(info)), None)


def down(directory: Path = DEFAULT_DIRECTORY, grace_seconds: float = 3.0) -> int:
    """End the cluster of a state folder, whatever state it is in, and remove what it left behind.

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


def _ray_variables(host: str, token_path: Path) -> dict[str, str]:
    """Return the settings that a cluster and its clients must share."""
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_path)}
    if ipaddress.ip_address(host).is_loopback:
        # By its documentation for Windows and macOS; everywhere, it keeps Ray from replacing a
        # loopback address by a public one and from listening on all interfaces.
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return variables


def _environment() -> dict[str, str]:
    """Return this process's environment as jobs need it, free of settings for another cluster."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), env.get("PATH", os.defpath))),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    env.setdefault("OMP_NUM_THREADS", "1")
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/kfd").exists():
        env.setdefault("DS_ACCELERATOR", "cpu")
    return env


def _plan(directory: Path, num_cpus: int, host: str, root: Path) -> tuple[ClusterInfo, list[int]]:
    """Choose ports, folders and a token, and record them before anything starts."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    temp_dir = Path(tempfile.mkdtemp(prefix="e2-"))
    if len(str(temp_dir)) + _LONGEST_SOCKET_SUFFIX > _LONGEST_SOCKET_PATH:
        temp_dir.rmdir()
        remedy = "Set TMPDIR to a shorter one, such as /tmp."
        raise InputError(tempfile.gettempdir(), "the path is too long for Ray's sockets", remedy)
    ports = _free_ports(host, len(_PORT_OPTIONS) + len(_PORT_VARIABLES))
    _write_private(directory / _TOKEN, secrets.token_hex(32))
    info = ClusterInfo(
        identity=secrets.token_hex(16),
        address=f"{host}:{ports[0]}",
        dashboard_url=f"http://{host}:{ports[1]}",
        token_path=directory / _TOKEN,
        temp_dir=temp_dir,
        root=root,
        num_cpus=num_cpus,
    )
    _write_private(directory / _STATE, info.model_dump_json(indent=2))
    return info, ports


def _start(info: ClusterInfo, ports: list[int], host: str) -> str:
    """Run ``ray start``; return an empty string, or why it failed."""
    options = {name: str(port) for name, port in zip(_PORT_OPTIONS, ports, strict=False)}
    options |= {
        "node-ip-address": host,
        "dashboard-host": host,
        "num-cpus": str(info.num_cpus),
        "temp-dir": str(info.temp_dir),
    }
    variables = zip(_PORT_VARIABLES, map(str, ports[len(_PORT_OPTIONS) :]), strict=True)
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with tempfile.TemporaryFile("w+") as output:  # a pipe would stay open in Ray's daemons
        status = subprocess.run(
            command,
            cwd=info.root,
            env=_environment() | _ray_variables(host, info.token_path) | dict(variables) | {_MARK: info.identity},
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


def _free_ports(host: str, count: int) -> list[int]:
    """Return distinct ports that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((host, 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def _write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(name).replace(path)


def _read_states(directory: Path) -> list[ClusterInfo]:
    """Return the recorded cluster as a list of none or one."""
    path = directory / _STATE
    try:
        return [ClusterInfo.model_validate_json(path.read_text())]
    except FileNotFoundError:
        return []
    except ValidationError:
        raise InputError(str(path), "is not a cluster record of this version", "Remove the file.") from None


def _alive(info: ClusterInfo) -> bool:
    """Tell whether the cluster's control service answers on its port."""
    host, _, port = info.address.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=2):
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
    return [process for process in found.values() if _running(process)]


def _belongs(process: psutil.Process, info: ClusterInfo) -> bool:
    if str(info.temp_dir) in " ".join(process.cmdline()):
        return True
    with suppress(psutil.Error):
        return bool(process.environ().get(_MARK) == info.identity)
    return False


def _running(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _end(info: ClusterInfo, grace_seconds: float) -> int:
    """Ask all processes of a cluster to end, then end those that remain."""
    ended: set[int] = set()
    deadline = time.monotonic() + grace_seconds
    asked: set[int] = set()
    while members := processes(info):
        overdue = time.monotonic() > deadline
        _signal(members if overdue else [m for m in members if m.pid not in asked], kill=overdue)
        asked |= {member.pid for member in members}
        ended |= asked
        psutil.wait_procs(members, timeout=0.3)
        if time.monotonic() > deadline + grace_seconds:
            raise InputError(str(info.temp_dir), f"{len(members)} processes do not end", "End them by hand.")
    return len(ended)


def _signal(members: Iterable[psutil.Process], *, kill: bool) -> None:
    for member in members:
        with suppress(psutil.Error):
            if kill:
                member.kill()
            else:
                member.terminate()
