"""What a pod does before Kubernetes ends it: the work in it gets the time for a checkpoint.

``python -m cluster.kubernetes.pod_stop head|worker --grace-seconds 570`` is the ``preStop`` hook of the manifests
here. KubeRay sets none of its own, and a raylet that gets SIGTERM ends without waiting for what runs on it.
"""

import argparse
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from cluster.start.ray_start import is_running

_DASHBOARD = "http://127.0.0.1:8265"
_POLL_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask the pod's work to end, and wait at most for the grace period."""
    parser = argparse.ArgumentParser(prog="python -m cluster.kubernetes.pod_stop", description="End a pod's work well.")
    parser.add_argument("role", choices=("head", "worker"))
    parser.add_argument("--grace-seconds", type=float, required=True, help="less than terminationGracePeriodSeconds")
    parser.add_argument("--dashboard", default=_DASHBOARD, help="where the head's jobs are listed")
    options = parser.parse_args(arguments)
    if options.role == "head":
        signalled = end_jobs(options.dashboard)
        _wait(lambda: not any(map(is_running, signalled)), options.grace_seconds)
    else:
        drain(int(options.grace_seconds))
        _wait(lambda: not busy_workers(), options.grace_seconds)


def end_jobs(dashboard: str) -> list[psutil.Process]:
    """Send SIGTERM to the job processes of this pod.

    A signal, and not a stop by Ray's job server: the job then ends with a status other than 0, which tells KubeRay that
    it is to be tried again.

    Parameters
    ----------
    dashboard : str
        Ray's job server.

    Returns
    -------
    list of psutil.Process
        Processes that were signalled.
    """
    from ray.job_submission import JobStatus, JobSubmissionClient

    own = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    signalled = []
    for job in JobSubmissionClient(dashboard).list_jobs():
        driver = job.driver_info
        if job.status == JobStatus.RUNNING and driver is not None and driver.node_ip_address in own:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(driver.pid))
                process.send_signal(signal.SIGTERM)
                signalled.append(process)
    return signalled


def drain(grace_seconds: int) -> None:
    """Tell Ray that this node will be removed; a training run saves a checkpoint and continues without it."""
    command = ["ray", "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the pod ends"]
    subprocess.run([*command, "--deadline-remaining-seconds", str(grace_seconds)], check=True, env=os.environ)


def busy_workers() -> list[psutil.Process]:
    """Ray's workers in this pod that run something; they are named after it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if title.startswith("ray::") and not title.startswith("ray::IDLE"):
                found.append(process)
    return found


def _wait(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
