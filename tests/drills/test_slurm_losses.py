"""A real SLURM of two nodes that two jobs share, and that loses one of them."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests import ranks
from tests.slurm_daemons import wait
from tests.slurm_desk import ONE_EACH, SECONDS, Desk, desk_at_slurm
from tests.training_faults import TRAIN, checkpoints, curve, resumptions, rows, stage1, worlds

pytestmark = [pytest.mark.integration, pytest.mark.slow]
EVERY = TRAIN["checkpoint_every"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_at_slurm(tmp_path_factory.mktemp("slurm")) as desk:
        yield desk


@pytest.fixture(scope="module")
def undisturbed(desk: Desk) -> list[float]:
    """The curve of a run that knows nothing of SLURM or Ray."""
    run = desk.folder / "undisturbed"
    ranks.train({run: stage1(desk.store).model_dump(mode="json")})
    return curve(run)


def test_two_jobs_share_both_nodes(desk: Desk, undisturbed: list[float]) -> None:
    spec, runs = str(desk.folder / "stage1.yaml"), ("runs/first", "runs/second")
    jobs = [desk.submit(*ONE_EACH, spec, f"run={run}", fault="slow:0.5") for run in runs]
    for job, run in zip(jobs, runs, strict=True):
        job.wait_for("COMPLETED")
        np.testing.assert_allclose(curve(desk.folder / run), undisturbed, atol=1e-5)


def test_lost_nodes_and_a_cancelled_job(desk: Desk, undisturbed: list[float]) -> None:
    """An elastic job goes on with the node that is left, and stays away when it is cancelled; another one goes back."""
    spec = str(desk.folder / "stage1.yaml")
    slurm, run = desk.slurm, desk.folder / "runs/lost"
    range_of_workers = "resources.workers={min: 1, max: 2}"
    elastic = desk.submit(*ONE_EACH, "--no-kill", spec, "run=runs/lost", range_of_workers, fault="slow:0.5")
    wait(lambda: checkpoints(run) and len(rows(run)) >= 4, SECONDS, lambda: elastic.log)
    slurm.lose("n2")
    wait(lambda: resumptions(run), SECONDS, lambda: elastic.log)
    elastic.wait_for_rows(run, 5)
    assert worlds(run) == [2, 1]
    slurm.output("scancel", elastic.number)
    elastic.wait_for("CANCELLED")
    assert elastic.restarts == 0
    wait(lambda: not slurm.processes("n1"), SECONDS, lambda: str(slurm.processes("n1")))
    slurm.repair("n2")

    done = len(rows(run))
    job = desk.submit(*ONE_EACH, spec, "run=runs/lost", "resources.workers=2", fault="slow:0.5")
    wait(lambda: len(resumptions(run)) == 2, SECONDS, lambda: job.log)
    states = [state.name for state in (desk.folder / "runs/.slurm/tests").iterdir()]
    assert states == [f"{job.number}-0"], "what a killed launcher left is removed"
    assert resumptions(run)[-1] >= done - 2 * EVERY, "a checkpoint that was being written does not count"
    job.wait_for_rows(run, done + 1)
    slurm.lose("n2")
    job.wait_until_requeued()
    assert "[slurm] lost n2" in job.log
    slurm.repair("n2")
    job.skip_the_hold()
    job.wait_for("COMPLETED")
    assert worlds(run) == [2, 1, 2, 2]
    np.testing.assert_allclose(curve(run), undisturbed, atol=1e-5)
