"""The specs that come with the repository are valid, executable, and fail for nothing but absent data."""

import os
from pathlib import Path

import pytest

from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.stages.stage1.plan import Stage1Plan
from e2llm_core.stages.stage2.plan import Stage2Plan
from e2llm_core.stages.stage3.plan import Stage3Plan
from jobs.__main__ import main
from jobs.load import load_spec
from jobs.spec import SPECS, FeaturesSpec
from storage.signal import SEED_CHANNELS

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted((ROOT / "jobs").rglob("*.yaml"))
REAL = ("ingest", "stage1", "features", "stage2", "stage3", "evaluate", "score")


def test_there_is_one_for_every_kind():
    assert {path.stem for path in (ROOT / "jobs").glob("*.yaml")} == set(REAL)
    assert {path.stem for path in (ROOT / "jobs" / "demo").glob("*.yaml")} == set(SPECS)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT / "jobs")))
def test_it_is_valid_and_executable(path):
    loaded = load_spec(path, [], SPECS)
    lines = loaded.text.splitlines()
    assert lines[0] == "#!/usr/bin/env -S python -m jobs"
    launch = str(path.relative_to(ROOT))
    assert any(f"{before}{launch}" in loaded.text for before in ("#   ray job submit ", "#   ./"))
    assert os.access(path, os.X_OK)
    assert loaded.spec.model_dump(mode="json")["kind"] == path.stem


@pytest.mark.parametrize("folder", [ROOT / "jobs", *sorted({path.parent for path in SHIPPED} - {ROOT / "jobs"})])
def test_all_stages_of_a_set_see_the_same_data(folder):
    """Another window, channel or split in one stage would be a silent leak or a refusal hours later."""
    specs = [load_spec(path, [], SPECS).spec for path in sorted(folder.glob("*.yaml"))]
    staged = [spec for spec in specs if isinstance(spec, Stage1Plan | Stage2Plan | Stage3Plan | EvaluationPlan)]
    assert len({(spec.data.store, spec.data.windows, spec.data.split) for spec in staged}) == 1
    cached = [spec for spec in specs if isinstance(spec, FeaturesSpec)]
    assert all((spec.store, spec.windows) == (staged[0].data.store, staged[0].data.windows) for spec in cached)


def test_the_real_size_is_eegpt_large_on_its_own_channels():
    spec = load_spec(ROOT / "jobs" / "stage1.yaml", [], SPECS).spec
    assert isinstance(spec, Stage1Plan)
    assert (spec.model.dim, spec.model.depth, spec.model.num_heads, spec.model.n_summary) == (512, 8, 8, 4)
    assert spec.data.windows.channels == tuple(c for c in SEED_CHANNELS if c not in ("PO5", "PO6", "CB1", "CB2"))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("ingest", "data/SEED-VII: no EEG_preprocessed/*.mat."),
        ("stage1", "model.weights: ROOT/data/eegpt_mcae_58chs_4s_large4E.safetensors: no EEGPT checkpoint here."),
        ("features", "model: ROOT/runs/seed-vii/stage1/model: no model here."),
        ("stage2", "model.tower: ROOT/runs/seed-vii/stage1/model: no model here."),
        ("stage3", "model.start: ROOT/runs/seed-vii/stage2/model: no model here."),
        ("evaluate", "stages.stage1: ROOT/runs/seed-vii/stage1: no finished run here."),
        ("score", "data/seed-vii.zarr: no EEG store here."),
    ],
)
def test_without_data_it_says_what_is_absent(root, capsys, name, place):
    with pytest.raises(SystemExit) as ended:
        main([str(ROOT / "jobs" / f"{name}.yaml")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert place in line.replace(str(root), "ROOT")
    assert list(root.iterdir()) == []
