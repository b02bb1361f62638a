"""What a training run does when numbers, disks or its time run out (docs/faults.md).

What the launcher makes of it is in tests/unit/cluster/test_training.py; drills do the same under Ray Train.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from cluster.train.recovery import refusal
from tests import ranks
from tests.training_faults import STEPS, checkpoints, curve, make_store, resumptions, small_disk, stage1

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict:
    store = tmp_path_factory.mktemp("data") / "store"
    make_store(store)
    return stage1(store).model_dump(mode="json")


@pytest.fixture(scope="module")
def undisturbed(plan: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("faults") / "undisturbed"
    ranks.train({run: plan})
    assert len(curve(run)) == STEPS
    return run


def test_a_hang_ends_the_ranks_and_costs_no_more_than_a_checkpoint(plan, undisturbed, tmp_path):
    run = tmp_path / "run"
    ended = ranks.train({run: plan}, fault="hang:8", hang_seconds=10)
    assert ended.failure
    stacks = "".join(path.read_text() for path in run.glob("stacks/*.txt"))
    assert "sitecustomize.py" in stacks
    ranks.train({run: plan})
    assert resumptions(run) in ([3], [6]), "the checkpoint of step 6 may still be being written"
    assert curve(run) == curve(undisturbed)


def test_half_of_the_micro_batch_gives_the_same_curve(plan, undisturbed, tmp_path):
    """What the launcher goes on with when memory is short."""
    run = tmp_path / "run"
    ended = ranks.train({run: plan}, fault="out-of-memory:2")
    assert "OutOfMemoryError" in ended.failure
    assert not checkpoints(run)
    ranks.train({run: plan | {"train": plan["train"] | {"micro_batch": 2}}}, fault="out-of-memory:2")
    np.testing.assert_allclose(curve(run), curve(undisturbed), atol=1e-5)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("nan:8", r"step 8: the loss is nan.*train\.learning_rate"),
        ("infinite:8", r"step 8: the loss is \d.*gradients are not finite.*train\.learning_rate"),
    ],
)
def test_numbers_that_are_none_are_refused_and_the_checkpoint_before_stays(plan, tmp_path, fault, said):
    """DeepSpeed would skip a step of infinite gradients without a word."""
    run = tmp_path / "run"
    assert re.search(said, ranks.train({run: plan}, fault=fault).failure)
    assert checkpoints(run)[-1] == "step-000006"


def test_a_full_disk_leaves_the_checkpoint_before_it(plan, undisturbed, tmp_path):
    run = tmp_path / "disk/run"
    with small_disk(tmp_path / "disk", "8m") as fill:
        ranks.train({run: plan}, stop_after=7)
        fill()
        ended = ranks.train({run: plan}, may_fail=True)
        assert ended.failure
        refused = refusal(RuntimeError(ended.failure), run)
        assert re.search(r"No space left.*Free space.*goes on from step-000007", str(refused))
        assert str(run) in str(refused)
        (tmp_path / "disk/filling").unlink()
        ranks.train({run: plan})
        assert resumptions(run)[-1] == 7
        assert curve(run) == curve(undisturbed)
