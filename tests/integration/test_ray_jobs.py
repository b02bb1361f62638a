"""Jobs on a cluster of two nodes; the second one starts elsewhere and has no code of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from cluster.start import local
from cluster.start.local import ClusterInfo
from e2llm_core.training.meter import MEASURED
from e2llm_core.training.metrics import PROGRESS, read_metrics
from tests import ranks
from tests.training_faults import make_store
from tests.training_faults import stage1 as stage1_plan

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
START_ON_LOOPBACK = """
import types
from ray.scripts import scripts
scripts.ray_constants = types.SimpleNamespace(**vars(scripts.ray_constants) | {"ENABLE_RAY_CLUSTER": True})
scripts.main()
"""
"""`ray start`, without its refusal to join a cluster that listens on the loopback address only."""
WORKER = "RayTrainWorker"
TRAIN = {"global_batch": 8, "micro_batch": 4, "log_every": 1, "checkpoint_every": 4, "validate_every": 40}
STEPS = 60


@pytest.fixture(scope="module", name="folder")
def shared_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    state = tmp_path_factory.mktemp("state") / "cluster"
    info = local.up(state, num_cpus=1, root=REPOSITORY)
    node = None
    try:
        node = start_second_node(info, tmp_path_factory.mktemp("elsewhere"))
        yield info
    finally:
        if node is not None:
            node.terminate()
            node.wait(60)
        local.down(state)


def start_second_node(info: ClusterInfo, folder: Path) -> subprocess.Popen[bytes]:
    environment = info.env() | {"E2LLM_CLUSTER_ID": info.identity}
    environment.pop("PYTHONPATH", None)
    options = [f"--address={info.address}", "--node-ip-address=127.0.0.1", "--num-cpus=1", "--block"]
    command = [sys.executable, "-c", START_ON_LOOPBACK, "start", *options]
    with (folder / "log").open("wb") as log:
        node = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while "Ray runtime started" not in (folder / "log").read_text():
        assert node.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.3)
    return node


def submit(cluster: ClusterInfo, spec: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [*RAY, "job", "submit", "--", str(spec), *overrides]
    return subprocess.Popen(
        command, env=cluster.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=REPOSITORY
    )


def finish(job: subprocess.Popen[str]) -> str:
    """Output of a job that must succeed."""
    output, _ = job.communicate()
    assert job.returncode == 0, output
    return output


def refusal(job: subprocess.Popen[str]) -> str:
    """The one line with which a job refused."""
    output, _ = job.communicate()
    assert job.returncode != 0, output
    assert "exit code 2" in output, output
    assert "Traceback" not in output, output
    lines = {line for line in output.splitlines() if line.startswith("error:")}  # Ray repeats the end of the log
    assert len(lines) == 1, output
    return lines.pop()


@pytest.fixture(scope="module")
def spec(folder):
    def write(name: str, **content) -> Path:
        path = folder / f"{name}.yaml"
        text = yaml.safe_dump({"run": str(folder / name), **content})
        path.write_text("#!/usr/bin/env -S python -m jobs\n" + text)
        path.chmod(0o755)
        return path

    return write


@pytest.fixture(scope="module")
def plan(folder) -> dict:
    """Of stage 1."""
    make_store(folder / "store.zarr")
    settings = stage1_plan(folder / "store.zarr").model_dump(mode="json")
    return settings | {"train": {**TRAIN, "max_steps": STEPS}}


@pytest.fixture(scope="module")
def stage1(spec, plan):
    return lambda name: spec(name, **plan, resources={"workers": 2})


@pytest.fixture(scope="module")
def undisturbed(folder, plan) -> Path:
    """A run that knows nothing of Ray."""
    ranks.train({folder / "undisturbed": plan})
    return folder / "undisturbed"


@pytest.fixture(scope="module")
def killed(cluster, folder, stage1) -> Path:
    """A job that has finished, although the worker on the second node was killed."""
    run = folder / "killed"
    job = submit(cluster, stage1("killed"))
    wait_for(run, "checkpoints/*", job)
    workers = train_workers(cluster)
    wait_for(run, "checkpoints/*/COMPLETE", job)
    raylets = {worker.ppid() for worker in workers}
    environments = [worker.environ() for worker in workers]
    workers[-1].kill()
    assert len(workers) == len(raylets) == 2, "the second node had no worker"
    assert all("_ray_pkg_" in environment["PYTHONPATH"] for environment in environments)
    assert all(str(REPOSITORY) not in environment["PYTHONPATH"].split(os.pathsep) for environment in environments)
    assert f"[stage1] {STEPS}/{STEPS}" in finish(job)
    return run


def train_workers(cluster: ClusterInfo) -> list[psutil.Process]:
    found = []
    for process in local.processes(cluster):
        try:
            if WORKER in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(run: Path, pattern: str, job: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 150
    while not list(run.glob(pattern)):
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.02)


def curve(run: Path) -> list[dict]:
    return [
        {key: value for key, value in row.items() if key not in MEASURED} for row in read_metrics(run / "metrics.jsonl")
    ]


def test_a_killed_worker_costs_no_step(killed, undisturbed):
    assert "resumed at step" in (killed / PROGRESS).read_text()
    assert curve(killed) == curve(undisturbed)
    assert (killed / "model/tower.safetensors").read_bytes() == (undisturbed / "model/tower.safetensors").read_bytes()


def test_a_job_that_is_too_large_is_refused_by_the_cluster(cluster, stage1, folder):
    line = refusal(submit(cluster, stage1("too-large"), "resources.workers=99"))
    assert "resources.workers" in line
    assert "99 CPUs, the cluster has 2" in line
    assert not (folder / "too-large/DONE.json").exists()
