"""A Ray cluster for the life of a SLURM allocation, started and ended by one ``srun``."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster.ray_private import control_service
from cluster.slurm.allocation import Allocation, jobs_with_nodes, node_address
from cluster.slurm.node import END, ENDED, accepts, address_towards
from cluster.slurm.ports import head_block
from cluster.start.ray_start import cluster_variables, ray_environment, write_private
from storage.errors import InputError

Nodes = dict[str, dict[str, float]]
"""Name of each node of Ray that lives, and its amounts of ``CPU`` and ``GPU``."""
_JOIN_SECONDS = 600.0
_END_SECONDS = 30.0
_POLL_SECONDS = 0.3
_ANSWER_SECONDS = 5.0


class RayOnNodes:
    """Ray on every node of an allocation; the head is on the node of this process.

    Parameters
    ----------
    allocation : Allocation
        Allocation of this process.
    state : Path
        Folder that all nodes see.
    token : Path
        File of the cluster's token.
    """

    def __init__(self, allocation: Allocation, state: Path, token: Path) -> None:
        self._allocation, self._state = allocation, state
        others = [name for name in allocation.nodes if name != allocation.head]
        host = address_towards(node_address(others[0])) if others else "127.0.0.1"
        self._port = head_block(allocation.job_id)[0]
        self.address = f"{host}:{self._port}"
        settings = ray_environment(keep_settings=True) | cluster_variables(host, token) | {"RAY_ADDRESS": self.address}
        os.environ.clear()  # Ray's own code reads it, in this process as well
        os.environ.update(settings)
        options = {"head": allocation.head, "host": host, "port": self._port, "launcher": os.getpid()}
        number = len(allocation.nodes)
        # Lost nodes end neither the step nor, by themselves, what runs on the others.
        step = [f"--nodes={number}", f"--ntasks={number}", "--ntasks-per-node=1", "--no-kill", "--wait=0"]
        step += ["--kill-on-bad-exit=0", "--cpu-bind=none", "--export=ALL", "--unbuffered", "--quiet"]
        self._srun = subprocess.Popen(
            ["srun", *step, sys.executable, "-m", "cluster.slurm.node", str(state)]
            + [f"--{name}={value}" for name, value in options.items()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # SIGTERM to this process's group would have srun kill its tasks
        )

    def wait(self, is_asked_to_end: Callable[[], bool]) -> Nodes:
        """Wait until all nodes have joined, or a stop is requested.

        Raises
        ------
        InputError
            Naming those that have not.
        """
        deadline = time.monotonic() + _JOIN_SECONDS
        while (absent := set(self._allocation.nodes) - (there := self.nodes() or {}).keys()) and not is_asked_to_end():
            if (ended := self._ended()) or self._srun.poll() is not None:
                raise InputError(listed(ended or absent), "Ray did not start there", "The lines above say why.")
            if time.monotonic() > deadline:
                remedy = f"The nodes must reach {self.address}, and each other at ports {self._port} and above."
                raise InputError(listed(absent), f"did not join within {_JOIN_SECONDS:g} s", remedy)
            time.sleep(_POLL_SECONDS)
        return there

    def nodes(self) -> Nodes | None:
        """Live nodes as known to the head; None if it does not answer."""
        from ray.exceptions import RpcError

        ended = self._ended()
        if self._allocation.head in ended:
            return {}
        host, _, port = self.address.rpartition(":")
        if not accepts(host, int(port)):
            return None
        try:
            found = self._client.get_all_node_info(timeout=_ANSWER_SECONDS).values()
        except RpcError:
            return None
        living = {info.node_name: dict(info.resources_total) for info in found if info.state == info.ALIVE}
        return {name: amounts for name, amounts in living.items() if name not in ended}

    @cached_property
    def _client(self) -> Any:
        return control_service(self.address)

    def _ended(self) -> set[str]:
        """Nodes whose Ray ended unexpectedly."""
        return {path.stem for path in self._state.glob(f"*{ENDED}")}

    def end(self) -> None:
        """End Ray on all nodes."""
        self._srun.send_signal(END)
        try:
            self._srun.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._srun.kill()
            self._srun.wait()


@contextmanager
def ray_on_nodes(allocation: Allocation, folder: Path) -> Iterator[RayOnNodes]:
    """Run Ray on the nodes of an allocation while the block runs; this process becomes its client, and its children.

    Parameters
    ----------
    allocation : Allocation
        Allocation of this process.
    folder : Path
        For state, on storage that all nodes see; what jobs that this SLURM killed left there is removed.
    """
    own = folder / allocation.cluster
    _sweep(own, jobs_with_nodes() - {allocation.job_id})
    state = own / f"{allocation.job_id}-{allocation.restarts}"
    state.mkdir(parents=True, mode=0o700)
    token = state / "token"
    write_private(token, secrets.token_hex(32))
    try:
        cluster = RayOnNodes(allocation, state, token)
        try:
            yield cluster
        finally:
            cluster.end()
    finally:
        shutil.rmtree(state, ignore_errors=True)  # the next job's sweep tries again


def _sweep(folder: Path, active: Collection[int]) -> None:
    """Remove the state of all other jobs."""
    for state in folder.glob("*-*"):
        if int(state.name.partition("-")[0]) not in active:
            shutil.rmtree(state, ignore_errors=True)  # somebody else's stays


def listed(names: Iterable[str]) -> str:
    """Node names as one text."""
    return ", ".join(sorted(names))
