"""`ray job stop` at some moment: nothing stays behind, and the same submit finishes. Drills stop every kind of job."""

import random
import time

import pytest

from cluster import local
from storage.features import COMPLETE, FEATURES
from storage.store import open_store
from tests.stops import StoppableJob, curve, wait_until_nothing_runs
from tests.tiny_jobs import ROOT, TRAIN, TinyJobs, finish, submit

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]
KINDS = ("ingest", "stage1", "features")
LONGEST_SECONDS = 8.0
MANY_STEPS = {"max_steps": 150, "checkpoint_every": 1000}


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_job_leaves_nothing_behind_and_finishes_when_it_is_submitted_again(kind, cluster, jobs):
    """At a random moment, from its start on; a quick job may be over by then."""
    moment = random.Random(f"{kind} 1").uniform(0, LONGEST_SECONDS)
    spec, run = jobs.write(kind), jobs.run(kind)
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
    assert not list(run.rglob("*.partial*"))
    wait_until_nothing_runs(cluster, jobs.folder)


def test_what_the_jobs_made_is_whole(cluster, jobs):
    store = open_store(jobs.folder / "store.zarr")
    assert len(store.recordings) == 20
    assert not list((jobs.folder / "store.zarr").rglob("*.partial*"))
    assert (jobs.run("features") / FEATURES / COMPLETE).exists()
    steps = [row["step"] for row in curve(jobs.run("stage1")) if row["split"] == "train"]
    assert steps == list(range(1, len(steps) + 1))


def test_a_stop_loses_no_step_and_does_not_change_the_curve(cluster, jobs):
    """Between checkpoints, and longer after the signal than Ray waits by itself."""
    changes = {"train": {**TRAIN, **MANY_STEPS}, "resources": {"workers": 2, "cpus_per_worker": 0.5}}
    undisturbed, stopped = (jobs.write("tiny-llm", name, **changes) for name in ("undisturbed", "stopped"))
    finish(submit(cluster, "--", undisturbed))
    run = jobs.run("stopped")
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
    assert curve(run) == curve(jobs.run("undisturbed"))
