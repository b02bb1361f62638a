"""Training under faults at random moments, again and again; logs go to runs/drills/training-*.log."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from storage.errors import InputError
from tests.training_faults import (
    FAULTY,
    ROOT,
    SPEC,
    TRAIN,
    TwoNodes,
    checkpoints,
    curve,
    make_store,
    resumptions,
    rows,
    s3_process,
    small_disk,
    stage1,
    tiny,
    wait,
    worlds,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]
FAULTS, EVERY = int(os.environ.get("DRILL_FAULTS", 20)), 10
STEPS = 400 * FAULTS
SETTINGS = {"max_steps": STEPS, "checkpoint_every": EVERY, "validate_every": STEPS}
ELASTIC = {"workers": {"min": 1, "max": 2, "check_seconds": 2}, "max_failures": 3}


def write_log(name: str, lines: list[str]) -> None:
    folder = ROOT / "runs/drills"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"training-{name}.log").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module", name="nodes")
def two_nodes() -> Iterator[TwoNodes]:
    nodes = TwoNodes()
    try:
        yield nodes
    finally:
        nodes.shutdown()


@pytest.fixture(scope="module")
def undisturbed(nodes: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nodes.trained(tmp_path_factory.mktemp("faults") / "undisturbed", tiny(**SETTINGS))


def step_of(run: Path) -> int:
    found = rows(run)
    return int(found[-1]["step"]) if found else 0


def announce_loss(nodes: TwoNodes) -> None:
    nodes.drain()
    time.sleep(5)
    nodes.lose()


def kill_worker(nodes: TwoNodes) -> None:
    for worker in nodes.workers():
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


@pytest.mark.long
@pytest.mark.parametrize("fault", [kill_worker, TwoNodes.lose, announce_loss, TwoNodes.hang])
def test_the_second_node(fault: Callable[[TwoNodes], None], nodes: TwoNodes, undisturbed: Path, tmp_path: Path) -> None:
    run, rng, log = tmp_path / "run", random.Random(7), list[str]()
    nodes.repair()
    with nodes.training(run, tiny(**SETTINGS), fault="slow:0.05", **ELASTIC) as ended:
        for _ in range(FAULTS):
            before = step_of(run)
            wait(lambda: checkpoints(run) and worlds(run)[-1:] == [2] and step_of(run) > before, ended, 300)  # noqa: B023
            time.sleep(rng.uniform(0, 3))
            step, seen, started = step_of(run), len(resumptions(run)), time.monotonic()
            fault(nodes)
            wait(lambda: len(resumptions(run)) > seen, ended, 300)  # noqa: B023
            found = resumptions(run)[seen]
            log.append(f"at step {step}: went on from {found}, {time.monotonic() - started:.1f} s later")
            assert step - found <= 2 * EVERY  # a checkpoint that is being written is not complete yet
            if fault is TwoNodes.hang:
                nodes.lose()
            nodes.repair()
    ended.result()
    np.testing.assert_allclose(curve(run), curve(undisturbed), atol=1e-3)
    write_log(fault.__name__, [*log, "at the end: the undisturbed curve"])


def test_stops(nodes: TwoNodes, undisturbed: Path, tmp_path: Path) -> None:
    run, spec, rng, log = tmp_path / "run", tmp_path / "spec.yaml", random.Random(8), list[str]()
    resources = {"workers": 2, "cpus_per_worker": 0.5}
    spec.write_text(
        yaml.safe_dump({"kind": "tiny-llm", "run": str(run), **SPEC, "train": TRAIN | SETTINGS, "resources": resources})
    )
    environment = os.environ | {"PYTHONPATH": str(FAULTY), "E2LLM_TEST_FAULT": "slow:0.05", "OMP_NUM_THREADS": "1"}
    environment["E2LLM_TEST_MARK"] = str(tmp_path / "mark")
    for _ in range(FAULTS):
        before = step_of(run)
        job = subprocess.Popen([sys.executable, "-m", "jobs", str(spec), "--local"], cwd=ROOT, env=environment)
        wait(lambda: step_of(run) > before)  # noqa: B023
        time.sleep(rng.uniform(0, 3))
        started = time.monotonic()
        job.send_signal(rng.choice([signal.SIGTERM, signal.SIGUSR1]))
        assert job.wait(120) == os.EX_TEMPFAIL
        last = step_of(run)
        log.append(f"stopped at step {last}, {time.monotonic() - started:.1f} s after the signal")
        assert checkpoints(run)[-1] == f"step-{last:06d}"
    nodes.repair()
    nodes.trained(run, tiny(**SETTINGS))
    assert curve(run) == curve(undisturbed)
    write_log("stops", [*log, "at the end: the undisturbed curve"])


@pytest.mark.long
def test_full_disks(nodes: TwoNodes, undisturbed: Path, tmp_path: Path) -> None:
    run, rng, log = tmp_path / "disk/run", random.Random(9), list[str]()
    nodes.repair()
    with small_disk(tmp_path / "disk", "16m") as fill:
        for _ in range(FAULTS):
            before = step_of(run)
            with nodes.training(run, tiny(**SETTINGS), fault="slow:0.02") as ended:
                wait(lambda: step_of(run) > before, ended)  # noqa: B023
                time.sleep(rng.uniform(0, 2))
                step = step_of(run)
                fill()
            with pytest.raises(InputError, match="No space left"):
                ended.result()
            (tmp_path / "disk/filling").unlink()
            log.append(f"full at step {step}: {checkpoints(run)[-1:]} is whole")
        nodes.trained(run, tiny(**SETTINGS))
        assert curve(run) == curve(undisturbed)
    write_log("full-disks", [*log, "at the end: the undisturbed curve"])


@pytest.fixture(name="served")
def store_in_a_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """The process of the object store that holds `s3://eeg/store`, and what finds it."""
    with s3_process("eeg") as (server, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        make_store("s3://eeg/store")
        yield server, environment


def test_a_store_silent_for_a_minute(
    nodes: TwoNodes, served: tuple[psutil.Process, dict[str, str]], tmp_path: Path
) -> None:
    server, environment = served
    nodes.repair()
    with nodes.training(tmp_path / "run", stage1("s3://eeg/store"), "slow:0.1", environment) as ended:
        wait(lambda: rows(tmp_path / "run"), ended)
        server.suspend()
        time.sleep(60)
        server.resume()
    ended.result()
    waits = [row.get("loader_wait", 0.0) for row in rows(tmp_path / "run")]  # a step that is timed otherwise has none
    assert max(waits) > 50
    assert len(worlds(tmp_path / "run")) == 1
    write_log("silent-store", [f"step {number}: waited {wait:.1f} s" for number, wait in enumerate(waits, 1)])


def test_a_store_that_stays_silent_is_named(
    nodes: TwoNodes, served: tuple[psutil.Process, dict[str, str]], tmp_path: Path
) -> None:
    server, environment = served
    nodes.repair()
    patience = {"E2LLM_S3_STALLED_SECONDS": "1", "E2LLM_S3_PATIENCE_SECONDS": "3"}
    with nodes.training(tmp_path / "run", stage1("s3://eeg/store"), "slow:0.1", environment | patience) as ended:
        wait(lambda: rows(tmp_path / "run"), ended)
        server.suspend()
    with pytest.raises(InputError, match=r"s3://eeg/store.*no answer for 3 s.*Check the object store"):
        ended.result()


def test_a_bucket_that_stays_silent_ends_its_run(
    nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.repair()
    run = "s3://eeg/runs/silent"
    patience = {"E2LLM_S3_STALLED_SECONDS": "1", "E2LLM_S3_PATIENCE_SECONDS": "2", "E2LLM_SCRATCH": str(tmp_path)}
    with s3_process("eeg") as (server, environment):
        for name, value in (environment | patience).items():
            monkeypatch.setenv(name, value)
        with nodes.training(run, tiny(), "slow:0.3", environment | patience) as ended:
            wait(lambda: checkpoints(run), ended)
            monkeypatch.setenv("E2LLM_S3_PATIENCE_SECONDS", "4")
            server.suspend()
            try:
                assert isinstance(ended.exception(), InputError)
            finally:
                server.resume()
        assert "a request to the object store failed" in str(ended.exception())
