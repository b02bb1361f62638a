"""Runs and models in a bucket: nodes share nothing else, workers are killed, disks are lost (docs/cloud.md)."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from cluster.batch.scoring import score
from cluster.resources import Resources
from e2llm_core.inference.config import ScoringPlan
from jobs.__main__ import main
from storage.places.location import locate
from tests import ranks
from tests.tiny_llm import save_tiny_llm
from tests.training_faults import (
    PATIENCE_SECONDS,
    SPEC,
    STEPS,
    TRAIN,
    TwoNodes,
    checkpoints,
    curve,
    make_store,
    resumptions,
    s3_process,
    stage1,
    text,
    wait,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]
STORE, STAGE1, LLM = "s3://eeg/store", "s3://eeg/runs/stage1", "s3://eeg/runs/tiny-llm"
SECRET = "a-secret-that-is-told-nowhere"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the disks of the launcher and of each node."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[psutil.Process]:
    with s3_process("eeg") as (server, environment), pytest.MonkeyPatch.context() as patch:
        given = {"E2LLM_S3_STALLED_SECONDS": "1", "E2LLM_S3_PATIENCE_SECONDS": "60", "AWS_SECRET_ACCESS_KEY": SECRET}
        for name, value in (environment | given | {"E2LLM_SCRATCH": str(scratch / "launcher")}).items():
            patch.setenv(name, value)
        make_store(STORE)
        yield server


@pytest.fixture(scope="module")
def nodes(server: psutil.Process, scratch: Path) -> Iterator[TwoNodes]:
    nodes = TwoNodes(scratch)
    try:
        yield nodes
    finally:
        nodes.shutdown()


@pytest.fixture(scope="module")
def trained(nodes: TwoNodes, server: psutil.Process, scratch: Path) -> str:
    """Stage 1 in a bucket: its workers were killed, all disks were lost, and the server was silent for a while."""
    with nodes.training(STAGE1, stage1(STORE), "slow:0.1,hold:10", max_failures=0) as ended:
        wait(lambda: checkpoints(STAGE1), ended)
        nodes.kill_workers()
        assert ended.exception(timeout=PATIENCE_SECONDS) is not None
    shutil.rmtree(scratch)
    with nodes.training(STAGE1, stage1(STORE), "hold:2") as ended:
        wait(lambda: resumptions(STAGE1), ended)
        server.suspend()
        nodes.let_go()
        time.sleep(3)
        server.resume()
    ended.result()
    return STAGE1


def test_what_happened_shows_in_nothing_but_the_log(trained: str, scratch: Path, tmp_path: Path):
    undisturbed = tmp_path / "run"
    ranks.train({undisturbed: stage1(STORE).model_dump(mode="json")})
    np.testing.assert_allclose(curve(trained), curve(undisturbed), atol=1e-5)
    (resumed,) = resumptions(trained)
    assert resumed % TRAIN["checkpoint_every"] == 0
    files = locate(trained).files()
    assert {key.removeprefix("model/") for key in files if key.startswith("model/")} == {
        path.relative_to(undisturbed / "model").as_posix()
        for path in (undisturbed / "model").rglob("*")
        if path.is_file()
    }
    assert checkpoints(trained) == checkpoints(undisturbed) == ["step-000009", "step-000012"]
    kept = {key.split("/")[1].split(".")[0] for key in files if key.startswith("checkpoints/")}
    assert kept == {"step-000009", "step-000012"}, "old checkpoints are removed"
    assert not [path for path in scratch.rglob("node-[0-9]*")], "nothing of it is left on the nodes"


def test_models_are_read_from_the_bucket(nodes: TwoNodes, trained: str, tmp_path: Path):
    llm = save_tiny_llm(tmp_path / "llm", ("rest", "task"))
    for path in llm.iterdir():
        locate(LLM).write(f"model/{path.name}", path.read_bytes())
    plan = {
        "data": stage1(STORE).data.model_dump(mode="json"),
        "model": {"tower": f"{trained}/model", "llm": f"{LLM}/model"},
        "train": {**TRAIN, "max_steps": 2},
    }
    run = "s3://eeg/runs/stage2"
    ranks.train({run: plan}, workers=1)
    source = json.loads(text(run, "model/config.json"))["llm_source"]
    assert (source["kind"], source["name"]) == ("url", f"{LLM}/model")
    with nodes.connected():
        scores = score(ScoringPlan(store=STORE, model=f"{run}/model"), "s3://eeg/runs/score", Resources())
    found = [pd.read_parquet(tmp_path / key) for key in fetched(scores, tmp_path)]
    assert sum(map(len, found)) == len(found[0]) > 0
    assert found[0][["p_rest", "p_task"]].sum(axis=1).to_numpy() == pytest.approx(1.0)


def fetched(place: str, folder: Path) -> list[str]:
    files = list(locate(place).files())
    for key in files:
        (folder / key).write_bytes(locate(place).read(key))
    return files


def job(run: str, folder: Path, **settings: object) -> Path:
    spec = folder / "spec.yaml"
    content = {"kind": "tiny-llm", "run": run, **SPEC, "train": {**TRAIN, "validate_every": STEPS, **settings}}
    spec.write_text(yaml.safe_dump({**content, "resources": {"cpus_per_worker": 0.5}}))
    return spec


def test_a_job_stops_goes_on_and_is_done(server: psutil.Process, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = "s3://eeg/runs/job"
    spec = job(run, tmp_path)
    with ranks.instead_of_ray(stop_after=5), pytest.raises(SystemExit) as ended:
        main([str(spec)])
    assert ended.value.code == os.EX_TEMPFAIL
    stopped = capsys.readouterr()
    assert "start the job again" in stopped.err
    assert checkpoints(run)[-1] == "step-000005"

    with ranks.instead_of_ray():
        main([str(spec)])
    finished = capsys.readouterr()
    assert f"] {STEPS}/{STEPS}" in finished.out, "progress is shown"
    assert resumptions(run) == [5]
    assert len(curve(run)) == STEPS

    main([str(spec)])
    assert capsys.readouterr().out == f"[tiny-llm] already done: {run}\n"
    with pytest.raises(SystemExit, match="2"):
        main([str(job(run, tmp_path, max_steps=STEPS + 1))])
    assert "holds a finished run of a different spec" in capsys.readouterr().err
    main_watch(run)
    assert f"step {STEPS} of {STEPS}" in capsys.readouterr().out

    digests = json.loads(text(run, "environment.json"))["digests"]
    assert digests["run"] == json.loads(text(run, "DONE.json"))["digest"]
    told = [*stopped, *finished, *(locate(run).read(key).decode(errors="replace") for key in locate(run).files())]
    assert not [one for one in told if SECRET in one]


def main_watch(run: str) -> None:
    from jobs.watch import watch_run

    watch_run(run, once=True)


@pytest.mark.parametrize("run", ["s3://nowhere/runs/x"])
def test_a_bucket_that_is_not_there_is_refused_before_any_work(server, tmp_path, capsys, monkeypatch, run):
    monkeypatch.setattr("cluster.session.ray_session", None)
    with pytest.raises(SystemExit, match="2"):
        main([str(job(run, tmp_path))])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {run}: a request to the object store failed (status 404 NoSuchBucket)")
