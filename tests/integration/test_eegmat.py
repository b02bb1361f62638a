"""Real EEG through the whole chain, with a few steps of training, which need no Ray; the other jobs join a cluster."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.ray_log import RAY_LOG
from cluster.start.local import ClusterInfo
from e2llm_core.evaluation.summary import ResultRow
from jobs.cli import app
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
STAGES = {
    "stage1": (*FEW_STEPS, "train.max_steps=3", "model.dim=16", "model.depth=1", "model.num_heads=2",
               "model.temporal_dim=32", "model.temporal_depth=1", "model.temporal_heads=2"),
    "stage2": (*FEW_STEPS, "train.max_steps=3"),
    "stage3": (*FEW_STEPS, "train.max_steps=3", "train.lora.r=2"),
}  # fmt: skip


SCORE = """\
kind: score
run: runs/eegmat/scores
store: runs/eegmat/store.zarr
model: runs/eegmat/stage3/model
split: {train: ["00", "01", "06"], validation: ["27"], test: ["29"]}
side: test
resources: {workers: 1}
"""
OURS = re.compile(r"\[[A-Za-z][\w -]*\] |ships ")
"""How a line begins that this project prints."""


def run_job(kind: str, *overrides: str) -> None:
    """Train in processes of their own, without Ray."""
    run(load_spec(SPECS / f"{kind}.yaml", overrides, JOBS), local=True)


def run_on(cluster: ClusterInfo, root: Path, spec: Path, *overrides: str) -> None:
    """Run a job on a cluster as `ray job submit` does; all that its user sees is ours."""
    environment = cluster.env() | {"E2LLM_ROOT": str(root), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "jobs", str(spec), *overrides]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{spec.name}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert [line for line in done.stdout.splitlines() if not OURS.match(line)] == []
    assert done.stderr == ""


@pytest.fixture(scope="module")
def root(one_cluster, shared_data, tmp_path_factory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("eegmat")
    score = root / "score.yaml"
    score.write_text(SCORE)
    with ranks.instead_of_ray(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2LLM_ROOT", str(root))
        run_on(one_cluster, root, SPECS / "ingest.yaml", f"source.root={shared_data / 'eegmat'}", "resources.workers=1")
        for kind, overrides in STAGES.items():
            run_job(kind, *overrides)
        run_on(one_cluster, root, SPECS / "evaluate.yaml")
        run_on(one_cluster, root, score)
        yield root


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


def test_every_job_is_marked_done_and_a_second_run_does_nothing(root, capsys):
    runs = root / "runs/eegmat"
    assert all((runs / name / "DONE.json").exists() for name in ("ingest", *STAGES, "evaluation"))
    before = (runs / "stage3/DONE.json").read_bytes()
    run_job("stage3", *STAGES["stage3"])
    assert "already done" in capsys.readouterr().out
    assert (runs / "stage3/DONE.json").read_bytes() == before


def test_a_published_table_of_a_finished_run_comes_out_again(root, tmp_path):
    page = tmp_path / "results.md"
    comment = (
        "specs: [jobs/examples/eegmat/evaluate.yaml]\nwhere: {metric: accuracy}\n"
        "rows: [model, condition, readout, prompt]"
    )
    page.write_text(f"# Results\n\n<!-- table: eegmat\n{comment}\n-->\n")
    assert CliRunner().invoke(app, ["reproduce", f"{page}#eegmat", "--write"]).exit_code == 0
    assert CliRunner().invoke(app, ["reproduce", f"{page}#eegmat"]).exit_code == 0
    page.write_text(re.sub(r"\b1\.000\b", "0.999", page.read_text(), count=1))
    assert CliRunner().invoke(app, ["reproduce", f"{page}#eegmat"]).exit_code == 1


def test_kept_answers_go_when_the_run_is_done(root):
    assert not list((root / "runs/eegmat/evaluation").glob("answers*"))
    assert list((root / "runs/eegmat/scores/scores").glob("*.parquet"))


def test_what_ray_says_is_in_a_log_beside_the_run(root):
    assert all((root / "runs/eegmat" / name / RAY_LOG).is_file() for name in ("ingest", "evaluation", "scores"))


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
