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
from cluster import local
from cluster.local import ClusterInfo
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
_POLL_SECONDS, _MOST_SECONDS = 0.02, 300.0


def submitted(cluster: ClusterInfo, command: list[str], marks: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Submit a job; seconds from mark to mark, in order, and in all."""
    ray = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--"]
    started = last = time.perf_counter()
    job = subprocess.Popen([*ray, *command], env=cluster.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    took: dict[str, float] = {}
    for name, is_reached in marks.items():
        while not is_reached():
            if time.perf_counter() - started > _MOST_SECONDS or (job.poll() or 0) != 0:
                raise RuntimeError(f"{name}: not reached\n{job.stdout.read().decode() if job.poll() else ''}")  # type: ignore[union-attr]
            time.sleep(_POLL_SECONDS)
        now = time.perf_counter()
        took[name], last = now - last, now
    job.communicate()
    return took | {"in all": last - started}


def first_step(cluster: ClusterInfo, plan: dict[str, Any], run: Path) -> dict[str, float]:
    """Of a stage, submitted as a user does."""
    spec = run.with_suffix(".yaml")
    content = {"kind": "stage3", "run": str(run), **plan, "resources": {"workers": WORKERS}}
    spec.write_text("#!/usr/bin/env -S python -m jobs\n" + yaml.safe_dump(content))
    spec.chmod(0o755)
    marks = {
        "Ray starts the job": lambda: _is_running(spec),
        "spec and inputs checked": (run / "spec.yaml").exists,
        "workers placed, libraries imported": lambda: len(list(run.glob("stacks/*.txt"))) == WORKERS,
        "model loaded, ZeRO-3 initialised": lambda: f"on {WORKERS} workers" in _text(run / PROGRESS),
        "first step": lambda: bool(_text(run / "metrics.jsonl")),
    }
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
            ours.append(first_step(cluster, plan, folder / f"run-{turn}"))
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


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
