"""Jobs on a real SLURM of two nodes: pre-empted, in an array, refused. Drills lose nodes and cancel."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests import ranks
from tests.slurm_daemons import wait
from tests.slurm_desk import ONE_EACH, SECONDS, Desk, desk_at_slurm
from tests.training_faults import checkpoints, curve, resumptions, rows, stage1

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk_at_slurm(tmp_path_factory.mktemp("slurm")) as desk:
        yield desk


@pytest.fixture
def spec(desk: Desk) -> str:
    return str(desk.folder / "stage1.yaml")


def test_a_stage_over_two_nodes_is_pre_empted_and_finishes_with_the_same_curve(desk: Desk, spec: str) -> None:
    """It is the third of an array; the undisturbed run knows nothing of SLURM or Ray."""
    job = desk.submit(*ONE_EACH, "--array=3", spec, "run=runs/warned-{task}", fault="hold:5")
    run, undisturbed = desk.folder / "runs/warned-3", desk.folder / "runs/undisturbed"
    job.wait_for_rows(run, 4)
    desk.slurm.output("scancel", "--signal=USR1", "--batch", job.number)
    wait(lambda: (run / "stop").read_text() == "stop", SECONDS, lambda: job.log)
    desk.mark.with_suffix(".go").touch()
    job.wait_until_requeued()
    last = rows(run)[-1]["step"]
    assert last == 5
    assert checkpoints(run)[-1] == f"step-{last:06d}", "a warning loses no step"
    job.skip_the_hold()
    ranks.train({undisturbed: stage1(desk.store).model_dump(mode="json")})
    job.wait_for("COMPLETED")
    assert resumptions(run) == [last]
    assert "resources.workers=2" in job.log
    np.testing.assert_allclose(curve(run), curve(undisturbed), atol=1e-5)


def test_a_refusal_is_one_line_and_status_2(desk: Desk, spec: str) -> None:
    """Of what only the job itself can know; the submission's own refusals are unit tests."""
    job = desk.submit("--nodes=1", spec, "resources.cpus_per_worker=64")
    job.wait_for("FAILED")
    assert job.exit_status == 2, job.log
    (line,) = [line for line in job.log.splitlines() if line.startswith("error:")]
    assert "resources: one worker asks for 64 CPUs and 0 GPUs; n1 has 2 CPUs" in line
    assert "Traceback" not in job.log
