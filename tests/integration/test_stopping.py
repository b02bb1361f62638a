"""`ray job stop` at some moment: nothing stays behind, and the same submit finishes. Drills stop every kind of job."""

import random
import time

import pytest

from cluster import local
from storage.store import open_store
from tests import torchrun
from tests.stops import StoppableJob, curve, wait_until_nothing_runs
from tests.tiny_jobs import ROOT, TinyJobs, finish, submit
from tests.training_faults import make_store, stage1

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]
LONGEST_SECONDS = 8.0
MANY_STEPS = {"max_steps": 150, "checkpoint_every": 1000, "validate_every": 1000}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    directory = tmp_path_factory.mktemp("state")
    try:
        yield local.up(directory, num_cpus=2, root=ROOT)
    finally:
        local.down(directory)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    return TinyJobs(tmp_path_factory.mktemp("jobs"), workers=1)


def test_a_stopped_ingest_leaves_nothing_behind_and_finishes_when_it_is_submitted_again(cluster, jobs):
    """At a random moment, from its start on; a quick job may be over by then."""
    moment = random.Random(1).uniform(0, LONGEST_SECONDS)
    spec, run, place = jobs.write("ingest"), jobs.run("ingest"), jobs.folder / "store.zarr"
    job = StoppableJob(cluster, spec)
    job.wait((run / "run.json").exists)
    until = time.monotonic() + moment
    job.wait(lambda: time.monotonic() > until)
    state = job.stop()
    assert state in ("stopped", "succeeded"), job.output
    assert (run / "DONE.json").exists() == (state == "succeeded")
    wait_until_nothing_runs(cluster, jobs.folder)

    finish(submit(cluster, "--", spec))
    assert (run / "DONE.json").exists()
    assert len(open_store(place).recordings) == 20
    assert not [*run.rglob("*.partial*"), *place.rglob("*.partial*")]


def test_a_stop_loses_no_step_and_does_not_change_the_curve(cluster, jobs):
    """Between checkpoints, and longer after the signal than Ray waits by itself."""
    make_store(jobs.folder / "noise")
    plan = stage1(jobs.folder / "noise", **MANY_STEPS).model_dump(mode="json")
    undisturbed, run = jobs.run("undisturbed"), jobs.run("stopped")
    torchrun.train({undisturbed: plan})
    stopped = jobs.write("stage1", "stopped", **plan, resources={"workers": 2, "cpus_per_worker": 0.5})
    job = StoppableJob(cluster, stopped)
    job.wait(lambda: (run / "metrics.jsonl").exists() and len(curve(run)) >= 5)
    assert job.stop() == "stopped"
    last = curve(run)[-1]["step"]
    assert last < MANY_STEPS["max_steps"]
    assert [path.parent.name for path in run.glob("checkpoints/*/COMPLETE")] == [f"step-{last:06d}"]
    assert "stopped with a checkpoint, start the job again to go on" in job.output
    wait_until_nothing_runs(cluster, jobs.folder)

    finish(submit(cluster, "--", stopped))
    assert f"resumed at step {last}" in (run / "progress.log").read_text()
    assert curve(run) == curve(undisturbed)
