"""Faults of a training run under Ray Train, each once; `make test` has them on forked ranks and with a made-up Ray."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from e2llm_core.stages.stage1.plan import Stage1Plan
from storage.errors import InputError
from tests import ranks
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

pytestmark = [pytest.mark.integration, pytest.mark.slow]
LONG = 100
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
    ranks.train({run: content(plan), run.with_name("long"): content(longer(plan))})
    assert len(curve(run)) == STEPS
    return run


def content(plan: Stage1Plan) -> dict:
    return plan.model_dump(mode="json")


def longer(plan: Stage1Plan) -> Stage1Plan:
    return stage1(plan.data.store, max_steps=LONG, validate_every=LONG)


def test_out_of_memory_and_a_hang_cost_a_start_each_and_not_the_curve(nodes, plan, undisturbed, tmp_path):
    """With half of the micro-batch a step takes two forward passes: the hang is in the seventh step."""
    run = nodes.trained(tmp_path / "run", plan, fault="out-of-memory:2,hang:14", hang_seconds=15, max_failures=1)
    said = (run / "progress.log").read_text()
    assert "out of memory; goes on with train.micro_batch=2" in said
    assert said.count("lost its workers") == 1
    stacks = "".join(path.read_text() for path in run.glob("stacks/*.txt"))
    assert "sitecustomize.py" in stacks
    assert resumptions(run) in ([3], [6]), "the checkpoint of step 6 may still be being written"
    np.testing.assert_allclose(curve(run), curve(undisturbed), atol=1e-5)


def test_a_loss_that_is_no_number_is_refused_and_the_checkpoint_before_stays(nodes, plan, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(InputError, match=r"step 8: the loss is nan.*train\.learning_rate"):
        nodes.trained(run, plan, fault="nan:8")
    assert checkpoints(run)[-1] == "step-000006"
    assert not resumptions(run)


def test_a_full_disk_leaves_the_checkpoint_before_it(nodes, plan, undisturbed, tmp_path):
    run = tmp_path / "disk/run"
    with small_disk(tmp_path / "disk", "8m") as fill:
        with nodes.training(run, plan, fault="slow:0.1,hold:10") as ended:
            wait(lambda: checkpoints(run), ended)
            fill()
            nodes.let_go()
        with pytest.raises(InputError, match=r"No space left.*Free space.*goes on from") as caught:
            ended.result()
        assert str(run) in str(caught.value)
        (tmp_path / "disk/filling").unlink()
        kept = int(checkpoints(run)[-1].removeprefix("step-"))
        ranks.train({run: content(plan)})
        assert resumptions(run) == [kept]
        assert curve(run) == curve(undisturbed)


@pytest.mark.timeout(1200)
def test_an_elastic_run_shrinks_grows_and_leaves_a_node_in_good_time(nodes, plan, undisturbed, tmp_path):
    """A node is lost and comes back, hangs and comes back; then its loss is announced, as spot instances do."""
    run = tmp_path / "run"
    elastic = {"min": 1, "max": 2, "check_seconds": 3}
    with nodes.training(run, longer(plan), "slow:0.7", workers=elastic) as ended:
        for number, take in enumerate((nodes.lose, nodes.hang, nodes.drain)):
            seen = len(rows(run))
            wait(lambda: checkpoints(run) and len(rows(run)) > seen + 1, ended)  # noqa: B023
            take()
            wait(lambda: len(resumptions(run)) == 2 * number + 1, ended)  # noqa: B023
            nodes.lose()
            if take != nodes.drain:
                nodes.repair()
                wait(lambda: len(resumptions(run)) == 2 * number + 2, ended)  # noqa: B023
        nodes.let_go()
    ended.result()
    assert worlds(run) == [2, 1, 2, 1, 2, 1]
    sudden, grown, hung, regrown, announced = steps_lost(run)
    assert max(sudden, hung) <= 2 * TRAIN["checkpoint_every"], "a checkpoint that is being written does not count yet"
    assert [grown, regrown, announced] == [0, 0, 0], "growth, and a loss that is announced, cost no step"
    np.testing.assert_allclose(curve(run), curve(undisturbed.with_name("long")), atol=1e-5)
