"""Training without Ray: plans under `torchrun`, some seconds cheaper than a job and the same to the last bit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

WORKER = Path(__file__).with_name("torchrun_worker.py")
REPOSITORY = WORKER.parents[1]


def train(
    runs: dict[Path, dict[str, Any]],
    workers: int = 2,
    kill_after: int | None = None,
    stop_after: int | None = None,
    fault: str = "",
) -> "subprocess.CompletedProcess[str]":
    """Train plans one after another, each in its run folder, and return how that ended.

    With `kill_after`, the processes kill themselves once that step of the first plan and its checkpoint are written;
    with `stop_after`, every run is asked to stop after that step; `fault` is one of `tests/faulty`.
    """
    jobs = []
    for run, plan in runs.items():
        job = {"plan": plan, "run": str(run), "kill_after": kill_after, "stop_after": stop_after}
        run.parent.mkdir(parents=True, exist_ok=True)
        jobs.append(run.with_suffix(".json"))
        jobs[-1].write_text(json.dumps(job))
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests/faulty'}",
        "E2LLM_TEST_FAULT": fault,
    }
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    command = [*launcher, str(WORKER), *map(str, jobs)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate()
    finally:  # a test that takes too long ends here
        if process.poll() is None:
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                each.kill()
    if kill_after is None and not fault:
        assert process.returncode == 0, errors[-4000:]
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
