"""Environment, token and folder shared by every ``ray start`` of this project.

Each cluster has its own ports, token, logs and sockets, so several can live side by side on one machine. ``ray stop``
ends every Ray of the user; it is never called.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil

from storage.errors import InputError

RAY_FOLDER = "ray"
"""Below the folder of :func:`make_temp_dir`, which is the user's alone: Ray opens its own to everybody."""
_LONGEST_SOCKET_SUFFIX = len(f"/{RAY_FOLDER}/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store.lock")
_LONGEST_SOCKET_PATH = 107
_ANY_RAY = re.compile("RAY_")
_ANOTHER_CLUSTER = re.compile(r"RAY_(?!TRAIN_|DATA_|[a-z])")
"""Ray's own settings are in lower case, but for those of its libraries; the rest says where a cluster is."""


def start_command(options: Mapping[str, object], *flags: str) -> list[str]:
    """Command line of ``ray start`` in this interpreter.

    Parameters
    ----------
    options : mapping
        Name, without dashes, to value.
    flags : str
        Such as ``--head``.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--disable-usage-stats", *flags]
    return command + [f"--{name}={value}" for name, value in options.items()]


def cluster_variables(host: str, token_path: Path) -> dict[str, str]:
    """Return the settings that a cluster and its clients must share."""
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_path)}
    if ipaddress.ip_address(host).is_loopback:
        # By its documentation for Windows and macOS; everywhere, it keeps Ray from replacing a
        # loopback address by a public one and from listening on all interfaces.
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return variables


def ray_environment(*, keep_settings: bool = False) -> dict[str, str]:
    """Return this process's environment as jobs need it, free of the address and the token of another cluster.

    Parameters
    ----------
    keep_settings : bool
        Keep variables that say how Ray works, such as ``RAY_health_check_period_ms``.
    """
    foreign = _ANOTHER_CLUSTER if keep_settings else _ANY_RAY
    env = {name: value for name, value in os.environ.items() if not foreign.match(name)}
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


def make_temp_dir() -> Path:
    """Create a folder on this machine's own disk for logs and sockets, which are in its `RAY_FOLDER`.

    Raises
    ------
    InputError
        When its path is too long for a socket.
    """
    temp_dir = Path(tempfile.mkdtemp(prefix="e2-"))
    if len(str(temp_dir)) + _LONGEST_SOCKET_SUFFIX > _LONGEST_SOCKET_PATH:
        temp_dir.rmdir()
        remedy = "Set TMPDIR to a shorter one, such as /tmp."
        raise InputError(tempfile.gettempdir(), "the path is too long for Ray's sockets", remedy)
    return temp_dir


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(name).replace(path)


def is_running(process: psutil.Process) -> bool:
    """Whether a process lives."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
