"""Joining a Ray cluster, or starting a private one, with the code shipped to every node."""

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cluster.ray_private import errors_go_to_stderr
from cluster.start.own_ray import OF_A_CLUSTER, own_ray
from cluster.upload import announce
from storage.errors import InputError

_ANOTHER_CLUSTER = f"Start one with `e2llm cluster up`, or `unset {' '.join(OF_A_CLUSTER)}`."
_CONNECT_SECONDS = 10.0
_SUBMITTED, _SUBMISSION = "RAY_JOB_CONFIG_JSON_ENV_VAR", "job_submission_id"


@contextmanager
def ray_session(root: Path, *, local: bool) -> Iterator[None]:
    """Connect to the job's cluster, or start a private one on this machine.

    Parameters
    ----------
    root : Path
        Folder of the code; shipped to the nodes unless the job was submitted with a working directory.
    local : bool
        Start a private cluster on the loopback address instead of joining one.

    Raises
    ------
    InputError
        When the folder is too large to be shipped, or no cluster is where this process was told.
    """
    given = _submitted_runtime_env()
    environment = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "TQDM_DISABLE": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who reserves no GPU sees none
    }
    environment = {name: value for name, value in environment.items() if name not in given.get("env_vars", {})}
    runtime_env: dict[str, object] = {"env_vars": environment}
    with ExitStack() as stack:
        if local:
            settings = stack.enter_context(own_ray()) | {"include_dashboard": False}
            environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        else:
            settings = {"address": "auto", "logging_level": logging.WARNING}
            _require_cluster()
            announce(root)
            if not given.get("working_dir"):
                runtime_env["working_dir"] = str(root)
        import ray

        errors_go_to_stderr()
        with own_sigterm():
            ray.init(log_to_driver=False, runtime_env=runtime_env, **settings)
        stack.callback(ray.shutdown, wait_for_processes=local)
        yield


def session_address() -> str:
    """Where another process of this machine finds the Ray that this one is connected to, as ``RAY_ADDRESS``."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def step_environment() -> dict[str, str]:
    """Variables of a process that works on this one's Ray as a driver of its own, beside others.

    Ray takes the newest driver that carries a submission's number for the submission's own; that is this process, and
    it stays so. Sums of floating-point numbers depend on the number of threads, so each has one unless told otherwise.
    """
    found = {"OMP_NUM_THREADS": "1"} | os.environ | {"RAY_ADDRESS": session_address()}
    if _SUBMITTED in found:
        content = json.loads(found[_SUBMITTED])
        metadata = {key: value for key, value in (content.get("metadata") or {}).items() if key != _SUBMISSION}
        found[_SUBMITTED] = json.dumps(content | {"metadata": metadata})
    return found


def ray_stops_children() -> bool:
    """Whether ``ray job stop`` signals this process's children itself, as it does for a submitted job."""
    return _SUBMITTED in os.environ


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Keep this process's SIGTERM handler, which `ray.init` would replace."""
    own = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, own)


def _require_cluster() -> None:
    """Refuse an address at which nothing listens, for which Ray would wait for minutes, and a token that is gone."""
    token = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if token and not Path(token).exists():
        raise InputError(f"RAY_AUTH_TOKEN_PATH {token}", "no such file: the cluster has ended", _ANOTHER_CLUSTER)
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            raise InputError(f"RAY_ADDRESS {address}", f"no cluster answers ({error})", _ANOTHER_CLUSTER) from None


def _submitted_runtime_env() -> dict[str, Any]:
    """Runtime environment that `ray job submit` already set; Ray refuses to have it set again."""
    submitted = json.loads(os.environ.get(_SUBMITTED, "{}"))
    return dict(submitted.get("runtime_env") or {})
