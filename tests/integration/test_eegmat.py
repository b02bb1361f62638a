"""Real EEG through the whole chain, with a few steps of training; what comes before stage 3 is trained without Ray."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from cluster import local
from cluster.local import ClusterInfo
from e2llm_core.evaluation.summary import ResultRow
from jobs.load import load_spec
from jobs.run import run
from jobs.spec import SPECS as JOBS
from storage.signal.channels import REGIONS, region_of
from storage.store import open_store
from tests import ranks

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
SPECS = REPOSITORY / "jobs" / "examples" / "eegmat"
FEW_STEPS = ("train.global_batch=8", "train.micro_batch=4", "train.validate_every=3", "train.checkpoint_every=2")
EARLY = {
    "tiny-llm": (*FEW_STEPS, "train.max_steps=4", "model.hidden_size=32", "model.layers=1", "model.intermediate=64"),
    "stage1": (*FEW_STEPS, "train.max_steps=3", "model.dim=16", "model.depth=1", "model.num_heads=2",
               "model.temporal_dim=32", "model.temporal_depth=1", "model.temporal_heads=2"),
    "stage2": (*FEW_STEPS, "train.max_steps=3"),
}  # fmt: skip
OURS = re.compile(r"\[[A-Za-z][\w -]*\] |ships ")
STAGE3 = (*FEW_STEPS, "train.max_steps=3", "train.lora.r=2")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[ClusterInfo]:
    state = tmp_path_factory.mktemp("state") / "cluster"
    try:
        yield local.up(state, num_cpus=1, root=REPOSITORY)
    finally:
        local.down(state)


def run_job(cluster: ClusterInfo, root: Path, kind: str, *overrides: str) -> str:
    """Output of a job, started as `ray job submit` starts it."""
    environment = cluster.env() | {"E2LLM_ROOT": str(root), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jobs", str(SPECS / f"{kind}.yaml"), "resources.workers=1", *overrides]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{kind}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    foreign = [line for line in done.stdout.splitlines() if not OURS.match(line)]
    assert not foreign, "what a user sees is ours"
    assert not done.stderr
    return done.stdout


@contextmanager
def without_ray(root: Path) -> Iterator[None]:
    """While the block runs, jobs train in a process of their own, and all else of them is as it is."""

    def train(spec, folder, resources):
        ranks.train({folder: spec.model_dump(mode="json", exclude={"kind", "run", "resources"})}, workers=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2LLM_ROOT", str(root))
        patch.setattr("cluster.session.ray_session", lambda *arguments, **settings: nullcontext())
        patch.setattr("cluster.training.train", train)
        yield


@pytest.fixture(scope="module")
def root(cluster, shared_data, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("eegmat")
    run_job(cluster, root, "ingest", f"source.root={shared_data / 'eegmat'}")
    with without_ray(root):
        for kind, overrides in EARLY.items():
            run(load_spec(SPECS / f"{kind}.yaml", overrides, JOBS), local=True)
    run_job(cluster, root, "stage3", *STAGE3)
    run_job(cluster, root, "evaluate")
    return root


def test_the_store_holds_19_electrodes_and_one_balanced_minute_per_class(root):
    store = open_store(root / "runs/eegmat/store.zarr")
    assert {len(info.channels) for info in store.recordings.values()} == {19}
    channels = next(iter(store.recordings.values())).channels
    assert {"T7", "T8", "P7", "P8", "CZ"} <= set(channels)
    assert {region_of(name) for name in channels} <= set(REGIONS)
    minutes = (store.trials["stop"] - store.trials["start"]) / (256 * 60)
    assert (minutes == 1).all()
    assert (
        store.trials.groupby(["subject", "session"])["label"].agg(list).tolist() == [["rest", "mental_arithmetic"]] * 5
    )


def test_every_job_is_marked_done_and_a_second_run_does_nothing(cluster, root):
    folders = ["ingest", "tiny-llm", "stage1", "stage2", "stage3", "evaluation"]
    runs = root / "runs/eegmat"
    assert all((runs / name / "DONE.json").exists() for name in folders)
    before = (runs / "stage3/DONE.json").read_bytes()
    assert "already done" in run_job(cluster, root, "stage3", *STAGE3)
    assert (runs / "stage3/DONE.json").read_bytes() == before


def test_the_summary_follows_its_schema_and_names_the_held_out_subject(root):
    folder = root / "runs/eegmat/evaluation"
    summary = json.loads((folder / "summary.json").read_text())
    rows = [ResultRow.model_validate(row) for row in summary["results"]]
    assert {"e2llm", "de_svm", "probe", "session_position"} <= {row.model for row in rows}
    assert {row.n_subjects for row in rows} == {1}
    assert {row.adaptation for row in rows} == {"transductive-unlabelled"}
    assert summary["environment"]["split"]["test"] == {"subjects": ["29"]}
    assert "synthetic" not in summary["notice"]
    position = [row for row in rows if row.model == "session_position" and row.metric == "balanced_accuracy"]
    assert [row.value for row in position] == [1.0]  # rest always comes first
    report = (folder / "report.html").read_text()
    assert summary["notice"] in report
    assert "mental_arithmetic" in report
