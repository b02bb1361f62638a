"""What a training run does when memory, numbers, disks, nodes, or its time run out (docs/faults.md)."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from e2llm_core.stages.config import Stage1Plan
from storage.errors import InputError
from tests import torchrun
from tests.training_faults import (
    STEPS,
    TRAIN,
    TwoNodes,
    checkpoints,
    curve,
    make_store,
    resumptions,
    rows,
    small_disk,
    stage1,
    steps_lost,
    wait,
    worlds,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(240)]
LONG = 24
"""Steps, where several things happen to one run."""


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
def plan(tmp_path_factory: pytest.TempPathFactory) -> Stage1Plan:
    store = tmp_path_factory.mktemp("data") / "store"
    make_store(store)
    return stage1(store)


@pytest.fixture(scope="module")
def undisturbed(plan: Stage1Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows nothing of Ray, and beside it, in `long`, one of more steps."""
    run = tmp_path_factory.mktemp("faults") / "undisturbed"
    torchrun.train({run: content(plan), run.with_name("long"): content(longer(plan))})
    assert len(curve(run)) == STEPS
    return run


def content(plan: Stage1Plan) -> dict:
    return plan.model_dump(mode="json")


def longer(plan: Stage1Plan) -> Stage1Plan:
    return stage1(plan.data.store, max_steps=LONG, validate_every=LONG)


def test_out_of_memory_halves_the_micro_batch_and_not_the_curve(nodes, plan, undisturbed, tmp_path):
    run = nodes.trained(tmp_path / "run", plan, fault="out-of-memory:2", max_failures=0)
    assert "out of memory; goes on with train.micro_batch=2" in (run / "progress.log").read_text()
    np.testing.assert_allclose(curve(run), curve(undisturbed), atol=1e-5)


def test_a_loss_that_is_no_number_is_refused_and_the_checkpoint_before_stays(nodes, plan, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(InputError, match=r"step 8: the loss is nan.*train\.learning_rate"):
        nodes.trained(run, plan, fault="nan:8")
    assert checkpoints(run)[-1] == "step-000006"
    assert not resumptions(run)


def test_gradients_that_are_no_numbers_are_refused(plan, tmp_path):
    """DeepSpeed would skip the step without a word."""
    ended = torchrun.train({tmp_path / "run": content(plan)}, fault="infinite:8")
    assert ended.returncode != 0
    assert re.search(r"step 8: the loss is \d.*gradients are not finite.*train\.learning_rate", ended.stderr)
    assert checkpoints(tmp_path / "run")[-1] == "step-000006"


def test_a_rank_that_hangs_leaves_its_stack_and_the_run_goes_on(nodes, plan, undisturbed, tmp_path):
    run = nodes.trained(tmp_path / "run", plan, fault="hang:8", hang_seconds=10)
    stacks = "".join(path.read_text() for path in run.glob("stacks/*.txt"))
    assert "sitecustomize.py" in stacks
    assert resumptions(run) == [6]
    assert curve(run) == curve(undisturbed)


def test_a_full_disk_leaves_the_checkpoint_before_it(nodes, plan, undisturbed, tmp_path):
    run = tmp_path / "disk/run"
    with small_disk(tmp_path / "disk", "8m") as fill:
        with nodes.training(run, plan, fault="slow:0.2") as ended:
            wait(lambda: checkpoints(run), ended)
            fill()
        with pytest.raises(InputError, match=r"No space left.*Free space.*goes on from") as caught:
            ended.result()
        assert str(run) in str(caught.value)
        (tmp_path / "disk/filling").unlink()
        kept = int(checkpoints(run)[-1].removeprefix("step-"))
        torchrun.train({run: content(plan)})
        assert resumptions(run) == [kept]
        assert curve(run) == curve(undisturbed)


@pytest.mark.timeout(600)
def test_an_elastic_run_shrinks_grows_and_leaves_a_node_in_good_time(nodes, plan, undisturbed, tmp_path):
    """A node is lost, and comes back; then its loss is announced, as spot instances and autoscalers do."""
    run = tmp_path / "run"
    elastic = {"min": 1, "max": 2, "check_seconds": 3}
    with nodes.training(run, longer(plan), "slow:0.3", workers=elastic) as ended:
        wait(lambda: len(rows(run)) >= 4, ended)
        nodes.lose()
        wait(lambda: resumptions(run), ended)
        nodes.repair()
        wait(lambda: worlds(run) == [2, 1, 2] and len(resumptions(run)) == 2, ended)
        before = len(rows(run))
        wait(lambda: len(rows(run)) > before, ended)
        nodes.drain()
        wait(lambda: len(resumptions(run)) == 3, ended)
        nodes.lose()
    ended.result()
    assert worlds(run) == [2, 1, 2, 1]
    sudden, *announced = steps_lost(run)
    assert sudden <= TRAIN["checkpoint_every"] + 1, "a checkpoint that is being written does not count yet"
    assert announced == [0, 0], "growth, and a loss that is announced, cost no step"
    np.testing.assert_allclose(curve(run), curve(undisturbed.with_name("long")), atol=1e-5)


def test_a_raylet_that_hangs_is_given_up_like_a_lost_node(nodes, plan, undisturbed, tmp_path):
    run = tmp_path / "run"
    with nodes.training(run, plan, "slow:1.5", workers={"min": 1, "max": 2}) as ended:
        wait(lambda: len(rows(run)) >= 4, ended)
        nodes.raylet.suspend()
        wait(lambda: resumptions(run), ended)
    nodes.lose()
    ended.result()
    assert worlds(run) == [2, 1]
    np.testing.assert_allclose(curve(run), curve(undisturbed), atol=1e-5)
