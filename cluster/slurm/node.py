"""What ``srun`` runs on each node of an allocation: Ray, until the launcher sends SIGUSR2.

SIGTERM comes from SLURM: a warning before pre-emption, or the end. The launcher hears of it, and decides.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from cluster.slurm.allocation import Allocation
from cluster.slurm.ports import free_or_other
from cluster.start.ports import HEAD_NAMES, HEAD_OPTIONS, HEAD_VARIABLES, NODE_OPTIONS
from cluster.start.ray_start import RAY_FOLDER, make_temp_dir, start_command
from storage.errors import InputError

END = signal.SIGUSR2
ENDED = ".ended"
_POLL_SECONDS = 0.3
_GRACE_SECONDS = 5.0
_ATTEMPTS = 3
_STARTED = "Ray runtime started"
_HEAD_SECONDS = 900.0
_LINES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run Ray on this node; return status 1 if it ended unexpectedly."""
    parser = argparse.ArgumentParser(prog="python -m cluster.slurm.node", description="Run Ray on a node.")
    parser.add_argument("state", type=Path, help="folder of the cluster's state, which all nodes see")
    parser.add_argument("--head", required=True, help="name of the node of the head")
    parser.add_argument("--host", required=True, help="its address")
    parser.add_argument("--port", type=int, required=True, help="first port of the cluster")
    parser.add_argument("--launcher", type=int, required=True, help="process on the head's node")
    options = parser.parse_args(arguments)
    name = os.environ["SLURMD_NODENAME"]
    is_head = name == options.head
    ended = threading.Event()
    signal.signal(END, lambda *_: ended.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _tell(options.launcher) if is_head else None)
    try:
        if is_head or _listens(options.host, options.port, ended):
            for _ in range(_ATTEMPTS):
                settings = {"node-name": name, **resources(os.environ)}
                command, variables = _ray_start(settings, options.host, options.port, is_head=is_head)
                if _run(command, variables, name, ended) or ended.is_set():
                    break
    except InputError as error:
        print(f"error: {name}: {error}", file=sys.stderr, flush=True)
    if ended.is_set():
        return 0
    (options.state / f"{name}{ENDED}").touch()
    if not is_head and not accepts(options.host, options.port):
        _requeue(options.head)
    return 1


def resources(variables: Mapping[str, str]) -> dict[str, object]:
    """CPUs and GPUs that SLURM gave the step on this node, as options of ``ray start``."""
    return {"num-cpus": variables["SLURM_CPUS_ON_NODE"], "num-gpus": variables.get("SLURM_GPUS_ON_NODE") or 0}


def address_towards(host: str) -> str:
    """Address of this machine on the network that leads to another one.

    Raises
    ------
    InputError
        When no network does.
    """
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        try:
            datagrams.connect((host, 1))  # chooses a route, sends nothing
        except OSError as error:
            raise InputError(
                host, f"cannot be reached: {error.strerror}", "Nodes must be able to resolve each other's names."
            ) from None
        return str(datagrams.getsockname()[0])


def _ray_start(
    settings: Mapping[str, object], host: str, port: int, *, is_head: bool
) -> tuple[list[str], dict[str, str]]:
    """Command line and variables of this node's ``ray start``, without its folder."""
    ports = dict(zip(HEAD_NAMES, free_or_other(range(port, port + len(HEAD_NAMES))), strict=True))
    any_free = {"min-worker-port": 0, "max-worker-port": 0}
    if is_head:
        own: dict[str, object] = {name: ports[name] for name in HEAD_OPTIONS + NODE_OPTIONS}
        own |= {"port": port, "node-ip-address": host, "dashboard-host": "127.0.0.1"}
        variables = {name: str(ports[name]) for name in HEAD_VARIABLES}
        return start_command({**settings, **any_free, **own}, "--head", "--block"), variables
    own = {name: ports[name] for name in NODE_OPTIONS}
    own |= {"address": f"{host}:{port}", "node-ip-address": address_towards(host)}
    return start_command({**settings, **any_free, **own}, "--block"), {}


def _run(command: Sequence[str], variables: Mapping[str, str], name: str, ended: threading.Event) -> bool:
    """Run Ray until it is asked to end; return whether it started, and print why it ended early."""
    temp_dir = make_temp_dir()
    log = temp_dir / "start.log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, f"--temp-dir={temp_dir / RAY_FOLDER}"],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # SLURM signals a task's process group
            )
        while process.poll() is None and not ended.wait(_POLL_SECONDS):
            pass
        status = process.poll()
        _end(process)
        said = log.read_text(errors="replace")
        if status is not None:
            last = said.splitlines()[-_LINES:]
            print(f"[slurm] {name}: Ray ended with status {status}", *last, sep="\n", flush=True)
        return _STARTED in said
    finally:
        shutil.rmtree(temp_dir, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its descendants."""
    with suppress(psutil.NoSuchProcess):
        ray = psutil.Process(process.pid)
        members = [ray, *ray.children(recursive=True)]
        process.terminate()
        _, remaining = psutil.wait_procs(members, timeout=_GRACE_SECONDS)
        for member in remaining:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(remaining, timeout=_GRACE_SECONDS)
    process.wait()


def _listens(host: str, port: int, ended: threading.Event) -> bool:
    """Wait for the head, longer than the launcher would; return whether it came up."""
    deadline = time.monotonic() + _HEAD_SECONDS
    while not (there := accepts(host, port)) and time.monotonic() < deadline and not ended.wait(_POLL_SECONDS):
        pass
    return there


def accepts(host: str, port: int) -> bool:
    """Whether something listens at an address."""
    with suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


def _requeue(head: str) -> None:
    """Requeue the job in place of the launcher, whose node is gone: with --no-kill SLURM would wait for ever."""
    allocation = Allocation.of_this_process()
    with suppress(InputError):  # unknown: it is tried
        if not allocation.is_running():
            return
    print(f"[slurm] lost {head}, the node of the head: back to the queue", flush=True)
    with suppress(InputError):  # another node was first
        allocation.requeue()


def _tell(launcher: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(launcher, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
