"""A small training run on a two-node cluster in this process, and what can happen to it."""

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import pytest

from cluster.resources import TrainingResources
from cluster.train.training import train
from e2llm_core.stages.config import StagePlan
from e2llm_core.stages.stage1.plan import Stage1Plan
from e2llm_core.stages.tiny_llm.plan import TinyLLMPlan
from e2llm_core.training.metrics import METRICS, PROGRESS, parse_metrics
from storage.labels import LabelSet
from storage.places.location import locate
from storage.store import RecordingInfo, Trial, create_store

Place = TypeVar("Place", Path, str)
ROOT = Path(__file__).resolve().parents[1]
FAULTY = Path(__file__).parent / "faulty"
PATIENCE_SECONDS = 240
"""What a busy machine may take to start nodes and workers."""
STEPS = 12
TRAIN = {"max_steps": STEPS, "global_batch": 8, "micro_batch": 4, "log_every": 1, "checkpoint_every": 3}
SPEC = {
    "labels": {"name": "two", "names": ["sad", "happy"]},
    "model": {"vocab_size": 400, "hidden_size": 16, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate": 32},
}
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
}
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 4,
}
"""A node that does not answer is given up after seconds; Ray's own patience is half a minute."""


def tiny(**train_settings: Any) -> TinyLLMPlan:
    return TinyLLMPlan.model_validate(
        {**SPEC, "train": {**TRAIN, "validate_every": STEPS, **train_settings}},
    )


class TwoNodes:
    """A head and a second node with a CPU each; the second one can be lost, and comes back when it is asked for.

    Each has a scratch folder of its own below `scratch`, where one is given.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        from ray.cluster_utils import Cluster

        self._settings = pytest.MonkeyPatch()
        for name, value in SETTINGS.items():
            self._settings.setenv(name, value)
        self._scratch = scratch
        self._marks = tempfile.TemporaryDirectory()
        self._mark = Path()
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": HEALTH, **self._own_scratch("head")}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._second: Any = None
        self.repair()

    def repair(self) -> None:
        """Have two nodes."""
        if self._second is None:
            self._second = self._cluster.add_node(num_cpus=1, **self._own_scratch("second"))

    def _own_scratch(self, node: str) -> dict[str, Any]:
        return {} if self._scratch is None else {"env_vars": {"E2LLM_SCRATCH": str(self._scratch / node)}}

    @property
    def raylet(self) -> psutil.Process:
        """Of the second node."""
        return _raylet(self._second)

    def kill_workers(self) -> None:
        """Kill all that trains, on both nodes."""
        for raylet in (_raylet(self._cluster.head_node), self.raylet):
            for worker in _workers(raylet):
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()

    def lose(self) -> None:
        """Kill the second node and all that ran on it, if it is there."""
        if self._second is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*self.raylet.children(recursive=True), self.raylet]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = None

    def hang(self) -> None:
        """Have the second node answer no more."""
        self.raylet.suspend()

    def drain(self, seconds: float = 60) -> None:
        """Announce that the second node will be taken."""
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline_ms = int((time.time() + seconds) * 1000)
        GcsClient(self._cluster.address).drain_node(self._second.node_id, reason, "made up", deadline_ms)

    def workers(self) -> list[psutil.Process]:
        """Processes that train, on the second node."""
        return _workers(self.raylet)

    def shutdown(self) -> None:
        self._cluster.shutdown()
        self._marks.cleanup()
        self._settings.undo()

    def let_go(self) -> None:
        """End the fault `slow` or `hold` of the training in progress."""
        self._mark.with_suffix(".go").touch()

    @contextlib.contextmanager
    def connected(self, env: dict[str, str] | None = None) -> Iterator[None]:
        """Have this process connected while the block runs, with variables for all that works for it."""
        import ray

        variables = {"PYTHONPATH": f"{ROOT}:{FAULTY}", "OMP_NUM_THREADS": "1", **(env or {})}
        ray.init(self._cluster.address, log_to_driver=False, runtime_env={"env_vars": variables})
        wait(lambda: ray.cluster_resources().get("CPU") == 2)
        try:
            yield
        finally:
            ray.shutdown()

    @contextlib.contextmanager
    def training(
        self,
        run: Path | str,
        plan: StagePlan | None = None,
        fault: str = "",
        env: dict[str, str] | None = None,
        **resources: Any,
    ) -> Iterator[Future[None]]:
        """Train in a thread while the block runs; waits for its end, which is left in the future."""
        self._mark = Path(self._marks.name, secrets.token_hex(4))
        faults = {"E2LLM_TEST_FAULT": fault, "E2LLM_TEST_MARK": str(self._mark)}
        asked = TrainingResources.model_validate({"workers": 2, **resources})
        with self.connected(faults | (env or {})), ThreadPoolExecutor(1) as thread:
            ended = thread.submit(train, plan or tiny(), run, asked)
            try:
                yield ended
            except BaseException:
                self.let_go()  # or the thread would be waited for without end
                raise

    def trained(self, run: Place, plan: StagePlan | None = None, fault: str = "", **settings: Any) -> Place:
        """Train to the end."""
        with self.training(run, plan, fault, **settings) as ended:
            ended.result()
        return run


def _raylet(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def _workers(raylet: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in raylet.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "RayTrainWorker" in " ".join(child.cmdline()):
                found.append(child)
    return found


def text(run: Path | str, name: str) -> str:
    """A file of a run in a folder or a bucket; empty when it is not there."""
    place = locate(run)
    return place.read(name).decode() if place.exists(name) else ""


def rows(run: Path | str) -> list[dict[str, Any]]:
    return [row for row in parse_metrics(text(run, METRICS)) if row["split"] == "train"]


def curve(run: Path | str) -> list[float]:
    """Loss of every step, each step once."""
    found = rows(run)
    assert [row["step"] for row in found] == list(range(1, len(found) + 1))
    return [row["loss"] for row in found]


def checkpoints(run: Path | str) -> list[str]:
    return [key.split("/")[1] for key in locate(run).files("checkpoints") if key.endswith("/COMPLETE")]


def resumptions(run: Path | str) -> list[int]:
    """Steps from which the run went on."""
    lines = text(run, PROGRESS).splitlines()
    return [int(line.rsplit(" ", 1)[1]) for line in lines if "resumed at step" in line]


def steps_lost(run: Path) -> list[int]:
    """How many steps were computed again after each resumption."""
    step, found = 0, []
    for line in (run / PROGRESS).read_text().splitlines():
        if "resumed at step" in line:
            found.append(step - int(line.rsplit(" ", 1)[1]))
        elif "train" in line and (seen := re.search(r"\] (\d+)/", line)):
            step = int(seen[1])
    return found


def worlds(run: Path | str) -> list[int]:
    """How many workers each attempt had."""
    found = re.findall(r"on (\d+) workers?", text(run, PROGRESS))
    return [int(size) for size in found]


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Callable[[], None]]:
    """Mount a file system of its own while the block runs; yields what fills it."""
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place]).returncode:
        pytest.skip("needs to be root, to mount a small file system")

    def fill() -> None:
        with (place / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 12))

    try:
        yield fill
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@contextlib.contextmanager
def s3_process(bucket: str) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """Run an object store with an empty bucket as a process; yields it and the environment in which it is found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_REGION": "us-east-1",
    }

    def made() -> bool:
        with contextlib.suppress(OSError):
            request = urllib.request.Request(f"{url}/{bucket}", method="PUT")
            urllib.request.urlopen(request, timeout=10).close()
            return True
        return False

    try:
        wait(made)
        yield psutil.Process(server.pid), environment
    finally:
        server.kill()
        server.wait()


def make_store(
    place: str | Path,
    labels: tuple[str, ...] = ("rest", "task"),
    channels: tuple[str, ...] = ("FP1", "FP2", "C3", "C4"),
    trials: int = 8,
    clip: int = 512,
) -> None:
    """Write noise of four subjects; each label is that of two trials in a row, then the next one's turn comes."""
    store = create_store(place, dataset="noise", label_set=LabelSet(name="some", names=labels))
    spans = tuple(
        Trial(trial=n, position=n, clip=n, start=(n - 1) * clip, stop=n * clip, label=labels[n // 2 % len(labels)])
        for n in range(1, trials + 1)
    )
    for subject in range(4):
        info = RecordingInfo(
            recording_id=f"sub-{subject}",
            subject=f"s{subject}",
            session="1",
            channels=channels,
            sfreq_hz=256.0,
            n_times=trials * clip,
            source_sha256="0" * 64,
            ingest_digest=f"{subject}" * 64,
            provenance={},
            trials=spans,
        )
        store.write_recording(info, np.random.default_rng(subject).normal(0, 20, (len(channels), trials * clip)))
    store.write_index()


def stage1(store: str | Path, **train_settings: Any) -> Stage1Plan:
    """A plan that reads a store at every step; its curve does not depend on the micro-batch."""
    content = {
        "data": {
            "store": str(store),
            "windows": {"window_seconds": 1.0, "stride_seconds": 1.0},
            "split": {"train": 2, "validation": 1, "test": 1},
        },
        "model": {"dim": 16, "depth": 1, "num_heads": 2, "temporal_dim": 16, "temporal_depth": 1, "temporal_heads": 2},
        "losses": {"contrastive": 0},
        "train": {**TRAIN, "validate_every": STEPS, **train_settings},
    }
    return Stage1Plan.model_validate(content)


def wait(until: Callable[[], object], ended: Future[None] | None = None, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is true, while the run goes on."""
    deadline = time.monotonic() + seconds
    while not until():
        if ended is not None and ended.done():
            ended.result()
            assert until(), "the run ended first"
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)
