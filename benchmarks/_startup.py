"""From `ray job submit` to the first step: how long each part takes, seen from outside."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks._report import ROOT
from cluster.start import local
from cluster.start.local import ClusterInfo
from e2llm_core.training.metrics import PROGRESS

WORKERS = 2
EMPTY_JOB = """
import sys
from pathlib import Path
from ray.train import ScalingConfig, RunConfig
from ray.train.torch import TorchTrainer

def work(settings):
    import deepspeed, peft, torch, transformers
    from ray.train import get_context
    torch.distributed.barrier()
    if get_context().get_world_rank() == 0:
        Path(settings["mark"]).touch()

mark = sys.argv[1]
config = RunConfig(name="empty", storage_path=str(Path(mark).with_suffix(".ray")))
TorchTrainer(work, train_loop_config={"mark": mark}, run_config=config,
             scaling_config=ScalingConfig(num_workers=WORKERS)).fit()
"""
_POLL_SECONDS, _LOOK_SECONDS, _MOST_SECONDS = 0.02, 2.0, 300.0


Marks = dict[str, Callable[[], object]]
"""Name of a moment, and what tells that it has come; in order."""


def submitted(cluster: ClusterInfo, command: list[str], marks: Marks) -> dict[str, float]:
    """Submit a job; seconds from mark to mark, in order, and in all."""
    ray = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--"]
    begun = time.perf_counter()
    job = subprocess.Popen([*ray, *command], env=cluster.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert job.stdout is not None
    took = between(marks, begun, lambda: (job.poll() or 0) != 0)
    job.communicate()
    return took


def between(marks: Marks, begun: float, has_failed: Callable[[], bool]) -> dict[str, float]:
    """Wait for each mark; seconds from one to the next, and in all."""
    last = looked = begun
    took: dict[str, float] = {}
    for name, is_reached in marks.items():
        while not is_reached():
            time.sleep(_POLL_SECONDS)
            if time.perf_counter() - looked > _LOOK_SECONDS:
                looked = time.perf_counter()
                if looked - begun > _MOST_SECONDS or has_failed():
                    raise RuntimeError(f"{name}: not reached")
        now = time.perf_counter()
        took[name], last = now - last, now
    return took | {"in all": last - begun}


def marks_of(run: Path) -> Marks:
    """What the folder of a run of stage 1 to 3 shows until its first step."""
    return {
        "spec and inputs checked": (run / "spec.yaml").exists,
        "workers placed, libraries imported": lambda: len(list(run.glob("stacks/*.txt"))) == WORKERS,
        "model loaded, ZeRO-3 initialised": lambda: f"on {WORKERS} workers" in text(run / PROGRESS),
        "first step": lambda: bool(text(run / "metrics.jsonl")),
    }


def first_step(cluster: ClusterInfo, kind: str, plan: dict[str, Any], run: Path) -> dict[str, float]:
    """Of a stage, submitted as a user does."""
    spec = run.with_suffix(".yaml")
    content = {"kind": kind, "run": str(run), **plan, "resources": {"workers": WORKERS}}
    spec.write_text("#!/usr/bin/env -S python -m jobs\n" + yaml.safe_dump(content))
    spec.chmod(0o755)
    marks: Marks = {"Ray starts the job": lambda: _is_running(spec), **marks_of(run)}
    return submitted(cluster, [str(spec)], marks)


def empty_job(cluster: ClusterInfo, mark: Path) -> dict[str, float]:
    """Of a Ray Train job that imports the same libraries and does nothing."""
    script = mark.with_suffix(".py")
    script.write_text(EMPTY_JOB.replace("WORKERS", str(WORKERS)))
    return submitted(cluster, [sys.executable, str(script), str(mark)], {"barrier passed": mark.exists})


def started(plan: dict[str, Any], folder: Path, number: int) -> tuple[list[dict[str, float]], list[float]]:
    """Ours and the empty job in turn, on one cluster."""
    folder.mkdir()
    ours, empty = [], []
    try:
        cluster = local.up(folder / "cluster", num_cpus=WORKERS, root=ROOT)
        for turn in range(number):
            ours.append(first_step(cluster, "stage3", plan, folder / f"run-{turn}"))
            empty.append(empty_job(cluster, folder / f"empty-{turn}")["in all"])
    finally:
        local.down(folder / "cluster")
    return ours, empty


def _is_running(spec: Path) -> bool:
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if words[1:3] == ["-m", "jobs"] and str(spec) in words:
            return True
    return False


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
