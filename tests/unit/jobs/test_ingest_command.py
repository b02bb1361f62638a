"""``e2llm ingest --dry-run`` and ``e2llm verify --source``: what would be stored, and what is stored otherwise."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import cluster.batch.ingest
from cluster.batch.ingest import rehearse_ingest
from cluster.resources import Resources
from jobs.cli import app
from jobs.ingest import ingest_plan
from storage.ingest import ingest_recording
from storage.store import create_store
from tests.eeg_files import EdfFile

PAUSED = [*range(10), *range(13, 23)]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two recordings, one with a pause, and one that is no EDF."""
    monkeypatch.setenv("E2LLM_ROOT", str(tmp_path))
    (tmp_path / "data").mkdir()
    signals = np.random.default_rng(0).normal(0, 200, (3, 2000)).astype(np.int32)
    notes = [(8.0, 4.0, b"rest"), (14.0, 2.0, b"task")]
    for name, onsets in (("s1", None), ("s2", PAUSED)):
        file = EdfFile(signals, ("Cz", "Oz", "ECG"), onsets=onsets, notes=notes)
        file.write(tmp_path / "data" / f"{name}.edf")
    content = {
        "kind": "ingest",
        "run": "run",
        "dataset": "d",
        "store": "st",
        "signal": {"sfreq_hz": 100},
        "source": {
            "format": "files",
            "root": "data",
            "pattern": r"(?P<subject>s\d)\.edf",
            "labels": {"name": "two", "names": ["rest", "task"]},
            "labels_from": {"kind": "annotations", "label_of": {"rest": "rest", "task": "task"}, "lasts": "duration"},
        },
    }
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def e2llm(*words: object) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, list(map(str, words)))
    return result.exit_code, result.output.splitlines()


def test_a_dry_run_says_what_would_be_stored_and_writes_nothing(spec: Path) -> None:
    code, lines = e2llm("ingest", spec, "--dry-run")
    assert code == 0
    assert any("s1.edf -> sub-s1_ses-1_run-1: 2 channels, 20.0 s, 2 trials" in line for line in lines)
    assert "[ingest]   trials cut where the signal is interrupted: rest at 8.000 s: 2.000 of 4.000 s" in lines
    assert lines[-1] == (
        "[ingest] 2 recordings, 4 trials (rest 2, task 2), 0.7 minutes, 1 breaks, 2 channels dropped; 0 refused"
    )
    assert not (spec.parent / "st").exists()
    (spec.parent / "data" / "s3.edf").write_bytes(b"no EDF")
    code, lines = e2llm("ingest", spec, "--dry-run")
    assert code == 2
    assert any("refused" in line and "s3.edf" in line for line in lines[:-1])
    assert lines[-1].endswith("; 1 refused")


def test_a_dry_run_wants_the_spec_of_an_ingest(tmp_path: Path) -> None:
    (tmp_path / "score.yaml").write_text("kind: score\nrun: r\nstore: s\nmodel: m\n")
    code, lines = e2llm("ingest", tmp_path / "score.yaml", "--dry-run")
    assert (code, lines[-1].split(": ", 2)[2]) == (2, "is not an ingest spec. Name one with `kind: ingest`.")


def test_a_store_that_is_not_what_its_source_says(spec: Path) -> None:
    plan = ingest_plan(spec, [])
    assert rehearse_ingest(plan) == 0
    store = create_store(plan.store, dataset="d", label_set=plan.source.label_set)
    for ref in plan.source.list_recordings():
        ingest_recording(store, plan.source, ref, plan.signal)
    assert e2llm("verify", plan.store, "--source", spec)[0] == 0
    name = "sub-s2_ses-1_run-1"
    info = store.recordings[name]
    joined = info.model_copy(update={"breaks": (), "onsets_seconds": (), "trials": info.trials[:1]})
    signal = np.random.default_rng(1).normal(0, 20, (2, info.n_times))
    store.write_recording(joined, signal)
    code, lines = e2llm("verify", plan.store, "--source", spec)
    assert code == 1
    differs = [line for line in lines if line.startswith(f"differs: {name}: ")]
    assert differs[0] == f"differs: {name}: breaks at samples: (), the source gives (1000,)"
    assert "CZ: 2,000 samples are off" in differs[2] or "samples are off" in differs[2]
    assert lines[-1].endswith("1 of 2 recordings differ from the source")


def test_an_ingest_of_unchanged_recordings_ends_with_the_same_account(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def here(plan: object, token: str, refs: list, *_: object) -> list:
        return [(ref, cluster.batch.ingest._ingest_one(plan, token, ref)) for ref in refs]

    monkeypatch.setattr(cluster.batch.ingest, "_outcomes", here)
    plan, ends = ingest_plan(spec, []), []
    for _ in range(2):
        cluster.batch.ingest.ingest(plan, Resources(), spec.parent / "run")
        lines = capsys.readouterr().out.splitlines()
        ends.append([line for line in lines if ": " in line and "eta" not in line])
    assert ends[0] == ends[1]
    assert "[ingest] in the store: 2 recordings, 4 trials (rest 2, task 2), 0.7 minutes, 1 breaks" in ends[1][-1]
    assert e2llm("info", plan.store)[1][-1].split(",")[-1].strip() in ends[1][-1]
