"""What a training run does when memory, numbers, disks, nodes, or its time run out (docs/faults.md)."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from storage.errors import InputError
from tests.training_faults import (
    FAULTY,
    ROOT,
    SPEC,
    STEPS,
    TRAIN,
    TwoNodes,
    checkpoints,
    curve,
    resumptions,
    rows,
    small_disk,
    tiny,
    wait,
    worlds,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]
TWO_WORKERS = {"resources": {"workers": 2, "cpus_per_worker": 0.5}}


@pytest.fixture(scope="module", name="nodes")
def two_nodes() -> Iterator[TwoNodes]:
    nodes = TwoNodes()
    try:
        yield nodes
    finally:
        nodes.shutdown()


@pytest.fixture(autouse=True)
def both_nodes_live(nodes: TwoNodes) -> None:
    nodes.repair()


@pytest.fixture(scope="module")
def undisturbed(nodes: TwoNodes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = nodes.trained(tmp_path_factory.mktemp("faults") / "undisturbed")
    assert len(curve(run)) == STEPS
    return run


def test_out_of_memory_halves_the_micro_batch_and_not_the_curve(nodes, undisturbed, tmp_path):
    run = nodes.trained(tmp_path / "run", fault="out-of-memory:2", max_failures=0)
    assert "out of memory; goes on with train.micro_batch=2" in (run / "progress.log").read_text()
    np.testing.assert_allclose(curve(run), curve(undisturbed), atol=1e-5)


@pytest.mark.parametrize(
    ("fault", "message"), [("nan:8", "the loss is nan"), ("infinite:8", r"the loss is \d.*gradients are not finite")]
)
def test_numbers_that_are_none_are_refused_and_the_checkpoint_before_stays(nodes, tmp_path, fault, message):
    run = tmp_path / "run"
    with pytest.raises(InputError, match=rf"step 8: {message}.*train\.learning_rate"):
        nodes.trained(run, fault=fault)
    assert checkpoints(run)[-1] == "step-000006"
    assert not resumptions(run)


def test_a_rank_that_hangs_leaves_its_stack_and_the_run_goes_on(nodes, undisturbed, tmp_path):
    run = nodes.trained(tmp_path / "run", fault="hang:8", hang_seconds=10)
    stacks = "".join(path.read_text() for path in run.glob("stacks/*.txt"))
    assert "sitecustomize.py" in stacks
    assert resumptions(run) == [6]
    assert curve(run) == curve(undisturbed)


def test_a_run_that_is_asked_to_stop_writes_a_checkpoint_and_goes_on_later(nodes, undisturbed, tmp_path):
    run, spec = tmp_path / "run", tmp_path / "spec.yaml"
    settings = {**TRAIN, "validate_every": STEPS}
    spec.write_text(yaml.safe_dump({"kind": "tiny-llm", "run": str(run), **SPEC, "train": settings, **TWO_WORKERS}))
    job = subprocess.Popen(
        [sys.executable, "-m", "jobs", str(spec), "--local"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(FAULTY), "E2LLM_TEST_FAULT": "slow:0.2", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait(lambda: len(rows(run)) >= 4 or job.poll() is not None)
    job.send_signal(signal.SIGTERM)
    output, _ = job.communicate(timeout=60)
    assert job.returncode == os.EX_TEMPFAIL, output
    assert "start the job again" in output
    assert not (run / "DONE.json").exists()
    last = rows(run)[-1]["step"]
    assert last < STEPS
    assert checkpoints(run)[-1] == f"step-{last:06d}", "a stop loses no step"

    nodes.trained(run)
    assert resumptions(run) == [last]
    assert curve(run) == curve(undisturbed)


def test_a_node_that_is_to_go_is_left_with_a_checkpoint(nodes, undisturbed, tmp_path):
    """Spot instances and autoscalers drain a node before they take it."""
    run = tmp_path / "run"
    plan = tiny(checkpoint_every=STEPS)
    with nodes.training(run, plan, "slow:0.2", workers={"min": 1, "max": 2}) as ended:
        wait(lambda: len(rows(run)) >= 4, ended)
        nodes.drain()
        wait(lambda: checkpoints(run), ended)
        kept = checkpoints(run)
        nodes.lose()
    ended.result()
    assert [f"step-{step:06d}" for step in resumptions(run)] == kept
    assert worlds(run) == [2, 1]
    np.testing.assert_allclose(curve(run), curve(undisturbed), atol=1e-5)


def test_a_full_disk_leaves_the_checkpoint_before_it(nodes, undisturbed, tmp_path):
    run = tmp_path / "disk/run"
    with small_disk(tmp_path / "disk", "8m") as fill:
        with nodes.training(run, fault="slow:0.2") as ended:
            wait(lambda: checkpoints(run), ended)
            fill()
        with pytest.raises(InputError, match=r"No space left.*Free space.*goes on from") as caught:
            ended.result()
        assert str(run) in str(caught.value)
        (tmp_path / "disk/filling").unlink()
        kept = int(checkpoints(run)[-1].removeprefix("step-"))
        nodes.trained(run)
        assert resumptions(run) == [kept]
        assert curve(run) == curve(undisturbed)


def test_an_elastic_run_shrinks_when_a_node_is_lost_and_grows_when_it_is_back(nodes, undisturbed, tmp_path):
    run = tmp_path / "run"
    with nodes.training(run, fault="slow:0.4", workers={"min": 1, "max": 2, "check_seconds": 3}) as ended:
        wait(lambda: len(rows(run)) >= 4, ended)
        nodes.lose()
        wait(lambda: resumptions(run), ended)
        nodes.repair()
    ended.result()
    assert worlds(run) == [2, 1, 2]
    np.testing.assert_allclose(curve(run), curve(undisturbed), atol=1e-5)


def test_a_raylet_that_hangs_is_given_up_like_a_lost_node(nodes, undisturbed, tmp_path):
    run = tmp_path / "run"
    with nodes.training(run, fault="slow:1.5", workers={"min": 1, "max": 2}) as ended:
        wait(lambda: len(rows(run)) >= 4, ended)
        raylet = nodes.raylet
        raylet.suspend()
        wait(lambda: resumptions(run), ended)
    nodes.lose()
    ended.result()
    assert worlds(run) == [2, 1]
    np.testing.assert_allclose(curve(run), curve(undisturbed), atol=1e-5)
