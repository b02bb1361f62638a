"""The specs that come with the repository are valid, executable, and fail for nothing but absent data."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pydantic import TypeAdapter

from e2llm_core.evaluation.config import EvaluationPlan
from e2llm_core.stages.stage1.plan import Stage1Plan
from e2llm_core.stages.stage2.plan import Stage2Plan
from e2llm_core.stages.stage3.plan import Stage3Plan
from jobs.__main__ import main
from jobs.load import load_spec
from jobs.spec import SPECS, FeaturesSpec
from storage.signal import SEED_CHANNELS
from storage.splits import SplitConfig, resolve_split
from storage.twin import TwinConfig, twin_digest

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted((ROOT / "jobs").rglob("*.yaml"))
REAL = ("ingest", "tiny-llm", "stage1", "features", "corpus", "stage2", "stage3", "evaluate", "score", "cross_validate")


def test_there_is_one_for_every_kind():
    assert {path.stem for path in (ROOT / "jobs").glob("*.yaml")} == set(REAL)
    assert {kind_of(path) for path in (ROOT / "jobs" / "demo").glob("*.yaml")} == set(SPECS) - {"tiny-llm", "corpus"}


def kind_of(path):
    """The kind that a file is named for: `ingest_fresh.yaml` is an ingest."""
    return next(kind for kind in SPECS if path.stem.replace("_", "-").startswith(kind))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT / "jobs")))
def test_it_is_valid_and_executable(path):
    loaded = load_spec(path, [], SPECS)
    lines = loaded.text.splitlines()
    assert lines[0] == "#!/usr/bin/env -S python -m jobs"
    launch = str(path.relative_to(ROOT))
    assert any(f"{before}{launch}" in loaded.text for before in ("#   ray job submit ", "#   ./"))
    assert os.access(path, os.X_OK)
    assert loaded.spec.model_dump(mode="json")["kind"] == kind_of(path)


@pytest.mark.parametrize("folder", [ROOT / "jobs", *sorted({path.parent for path in SHIPPED} - {ROOT / "jobs"})])
def test_all_stages_of_a_set_see_the_same_data(folder):
    """Another window, channel or split in one stage would be a silent leak or a refusal hours later."""
    specs = [load_spec(path, [], SPECS).spec for path in sorted(folder.glob("*.yaml"))]
    staged = [spec for spec in specs if isinstance(spec, Stage1Plan | Stage2Plan | Stage3Plan | EvaluationPlan)]
    assert len({(spec.data.store, spec.data.windows, spec.data.split) for spec in staged}) == bool(staged)
    cached = [spec for spec in specs if isinstance(spec, FeaturesSpec)]
    assert all((spec.store, spec.windows) == (staged[0].data.store, staged[0].data.windows) for spec in cached)


def test_the_twins_variants_differ_in_what_their_names_say_alone():
    folder = ROOT / "jobs" / "examples" / "twin"
    names = ("fresh", "permuted", "null")
    fresh, permuted, null = (load_spec(folder / f"ingest_{name}.yaml", [], SPECS).spec.twin for name in names)
    demo = load_spec(ROOT / "jobs" / "demo" / "ingest.yaml", [], SPECS).spec.twin
    assert fresh.model_copy(update={"fresh": None}) == demo == TwinConfig()
    assert permuted.model_copy(update={"permutation": None}) == fresh
    assert null.model_copy(update={"effect": demo.effect}) == fresh


def test_the_page_on_the_twin_names_the_subjects_of_the_demo():
    page = (ROOT / "docs" / "twin.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(split:.*?)```", page, re.DOTALL)
    data = load_spec(ROOT / "jobs" / "demo" / "stage1.yaml", [], SPECS).spec.data.model_dump(mode="json")
    given = TypeAdapter(SplitConfig).validate_python(yaml.safe_load(block)["split"])
    trials = pd.DataFrame({"subject": [f"{number:02d}" for number in range(1, 41)], "session": "1", "clip": 1})
    trials = trials.assign(recording_id=trials["subject"], label="sad", start=0, stop=1)
    demo = resolve_split(TypeAdapter(SplitConfig).validate_python(data["split"]), trials[:20])
    split = resolve_split(given, trials)
    assert (split.train, split.validation, split.reserved) == (demo.train, demo.validation, demo.reserved)
    assert split.test.subjects == tuple(trials["subject"][20:])
    fresh = load_spec(ROOT / "jobs" / "examples" / "twin" / "ingest_fresh.yaml", [], SPECS).spec.twin.fresh_twin
    assert f"it begins with `{twin_digest(fresh)[:12]}`" in page


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
        ("corpus", "model.start: ROOT/runs/seed-vii/stage2/model: no model here."),
        ("score", "data/seed-vii.zarr: no EEG store here."),
        ("cross_validate", "data/seed-vii.zarr: no EEG store here."),
    ],
)
def test_without_data_it_says_what_is_absent(root, capsys, name, place):
    with pytest.raises(SystemExit) as ended:
        main([str(ROOT / "jobs" / f"{name}.yaml")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert place in line.replace(str(root), "ROOT")
    assert list(root.iterdir()) == []
