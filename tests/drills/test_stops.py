"""`ray job stop` at many random moments of every kind of job; logs go to runs/drills/stop-*.log."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cluster.start import local
from cluster.start.local import ClusterInfo
from storage.corpus import CORPUS, Corpus
from storage.features import FEATURES, Features
from storage.store import open_store
from tests.kills import samples
from tests.stops import StoppableJob, curve, wait_until_nothing_runs
from tests.tiny_jobs import CHAIN, ROOT, TRAIN, TinyJobs, finish, submit

pytestmark = [pytest.mark.integration, pytest.mark.slow]
STOPS = int(os.environ.get("DRILL_FAULTS", 10))
STEPS = {"max_steps": 400, "checkpoint_every": 50, "validate_every": 400}
LONGEST_SECONDS = 20.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterInfo]:
    state = tmp_path_factory.mktemp("state") / "cluster"
    try:
        yield local.up(state, num_cpus=2, root=ROOT)
    finally:
        local.down(state)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyJobs, TinyJobs]:
    """What is stopped, and what is not."""
    return tuple(TinyJobs(tmp_path_factory.mktemp(name)) for name in ("stopped", "undisturbed"))  # type: ignore[return-value]


def changes(kind: str) -> dict[str, object]:
    return {"train": TRAIN | STEPS} if "stage" in kind or kind == "tiny-llm" else {}


def results(kind: str, jobs: TinyJobs) -> object:
    """What a job of a kind has computed."""
    run: Path = jobs.run(kind)
    match kind:
        case "ingest":
            return {name: array.tobytes() for name, array in samples(open_store(jobs.folder / "store.zarr")).items()}
        case "features":
            features = Features.open(run / FEATURES)
            return features.read(range(features.manifest.num_windows)).tobytes()
        case "corpus":
            corpus = Corpus.open(run / CORPUS)
            return corpus.rows(np.arange(corpus.manifest.num_rows))
        case "evaluate":
            return pd.read_parquet(run / "predictions.parquet").to_json(double_precision=4)
        case "score":
            rows = pd.read_parquet(run / "scores").sort_values(["recording_id", "start"], ignore_index=True)
            return rows.to_json(double_precision=4)
    return curve(run)


@pytest.mark.parametrize("kind", CHAIN)
def test_stops(kind: str, cluster: ClusterInfo, jobs: tuple[TinyJobs, TinyJobs]) -> None:
    stopped, undisturbed = jobs
    specs = [one.write(kind, **changes(kind)) for one in jobs]
    finish(submit(cluster, "--", specs[1]))
    rng, log, run = random.Random(f"{kind} drill"), list[str](), stopped.run(kind)
    for _ in range(STOPS):
        moment, started = rng.uniform(0, LONGEST_SECONDS), time.monotonic()
        job = StoppableJob(cluster, specs[0])
        job.wait(lambda: time.monotonic() > started + moment)  # noqa: B023
        asked = time.monotonic()
        state = job.stop()
        log.append(f"after {moment:.1f} s: {state}, {time.monotonic() - asked:.1f} s later")
        assert state in ("stopped", "succeeded"), job.output
        assert (run / "DONE.json").exists() == (state == "succeeded")
        wait_until_nothing_runs(cluster, stopped.folder)
        if state == "succeeded":
            break
    finish(submit(cluster, "--", specs[0]))
    assert results(kind, stopped) == results(kind, undisturbed)
    folder = ROOT / "runs/drills"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"stop-{kind}.log").write_text("\n".join([*log, "at the end: as undisturbed"]) + "\n")
