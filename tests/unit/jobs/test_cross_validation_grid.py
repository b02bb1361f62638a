"""The runs that a cross-validation takes: what is shared, what is rewritten, what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cross_validation.config import CrossValidationPlan
from jobs.cross_validation.grid import Grid, grid_of, largest_resources
from jobs.cross_validation.places import holder, moved
from jobs.load import SpecErrors, load_spec
from jobs.run import identity
from jobs.spec import SPECS, steps
from storage.errors import InputError
from storage.splits import resolve_split
from tests.cross_validations import CROSS_VALIDATE, TRIALS, write_chain

FOLDER = "runs/all/cells"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("chain")
    write_chain(made)
    return made


@pytest.fixture
def grid(folder, monkeypatch):
    def grid(**changes) -> Grid:
        monkeypatch.chdir(folder)
        content = {key: value for key, value in (CROSS_VALIDATE | changes).items() if key not in ("kind", "run")}
        return grid_of(CrossValidationPlan.model_validate(content), FOLDER, steps(), lambda store: TRIALS)

    return grid


def of_name(grid: Grid, name: str):
    return [step for step in grid.steps.values() if step.name == name]


def test_there_is_a_cell_for_every_fold_seed_and_variant(grid):
    variants = [{"name": "plain"}, {"name": "fewer", "overrides": {"stage1": ["train.max_steps=2"]}}]
    found = grid(variants=variants)
    assert len(found.cells) == 4 * 2 * 2
    assert len({(cell.fold.name, cell.seed, cell.variant) for cell in found.cells}) == len(found.cells)
    assert str(found.cells[0]) == "fold 1 (s1), seed 0, plain"
    assert len(of_name(found, "stage1")) == len(of_name(found, "evaluate")) == 16


def test_each_cell_has_its_fold_its_seed_and_its_own_runs(grid):
    found = grid()
    for cell in found.cells:
        stage1, evaluate = (found.steps[key] for key in cell.steps)
        assert stage1.job.data.split == evaluate.job.data.split == cell.fold.split
        assert stage1.job.train.seed == evaluate.job.seed == cell.seed
        assert stage1.job.run == f"{FOLDER}/{stage1.key}"
        assert evaluate.job.model == f"{FOLDER}/{stage1.key}/model"
        assert evaluate.job.stages == {"tiny-llm": "runs/tiny-llm", "stage1": f"{FOLDER}/{stage1.key}"}
        assert (stage1.needs, evaluate.needs) == ((), (stage1.key,))


def test_what_a_variant_does_not_touch_is_shared(grid):
    variants = [{"name": "plain"}, {"name": "pairs", "overrides": {"evaluate": ["num_pairs=20"]}}]
    found = grid(variants=variants)
    assert len(of_name(found, "stage1")) == 8
    assert len(of_name(found, "evaluate")) == 16
    for plain, pairs in zip(found.cells[::2], found.cells[1::2], strict=True):
        assert plain.steps[0] == pairs.steps[0]
        assert plain.steps[1] != pairs.steps[1]


def test_a_change_at_the_beginning_changes_all_that_follows(grid):
    variants = [{"name": "plain"}, {"name": "wide", "overrides": {"stage1": ["model.temporal_dim=32"]}}]
    found = grid(variants=variants, seeds=[0])
    assert len(found.steps) == 16


def test_one_override_for_all_steps(grid):
    found = grid(variants=[{"name": "long", "overrides": {"all": ["data.windows.stride_seconds=0.5"]}}], seeds=[0])
    assert {step.job.data.windows.stride_seconds for step in found.steps.values()} == {0.5}


def test_the_command_line_of_a_step_gives_the_same_job(grid):
    found = grid(variants=[{"name": "wide", "overrides": {"stage1": ["model.temporal_dim=32"]}}])
    for step in found.steps.values():
        loaded = load_spec(Path(step.spec), step.overrides, SPECS)
        assert loaded.spec == step.job
        assert step.key == f"{step.name}-{identity(loaded.spec)[:12]}"


def test_a_name_with_a_dot_reaches_the_step(grid):
    models = ["model=null", "stages={}", "models={qwen3.8b: runs/stage1/model, b: elsewhere}"]
    found = grid(chain=[{"spec": "stage1.yaml"}, {"spec": "evaluate.yaml", "overrides": models}], seeds=[0])
    for step in of_name(found, "evaluate"):
        loaded = load_spec(Path(step.spec), step.overrides, SPECS)
        assert loaded.spec == step.job
        assert loaded.spec.models == {"qwen3.8b": f"{FOLDER}/{step.needs[0]}/model", "b": "elsewhere"}


def test_a_run_within_another_is_a_run_of_its_own():
    runs = ("runs/demo", "./runs/demo/s2", "runs/demo/s2-b")
    assert holder("runs/demo/s2/model", runs) == "./runs/demo/s2"
    assert holder("runs/demo/s2-b", runs) == "runs/demo/s2-b"
    assert holder("runs/demo/s3", runs) == "runs/demo"
    assert holder("runs/demonstration", runs) is None
    assert moved("runs/demo/s2/model", "./runs/demo/s2", "cells/s2-1") == "cells/s2-1/model"


def test_an_evaluation_asks_for_workers_where_a_language_model_speaks(grid, folder, monkeypatch):
    large = "resources={workers: 8, gpus_per_worker: 1}"
    chain = [{"spec": "stage1.yaml"}, {"spec": "evaluate.yaml", "overrides": [large]}]
    assert {step.resources.fewest_workers for step in grid(chain=chain).steps.values()} == {1}
    content = {"chain": chain, "folds": CROSS_VALIDATE["folds"]}
    largest = largest_resources(CrossValidationPlan.model_validate(content), steps())
    assert (largest.fewest_workers, largest.cpus_per_worker, largest.gpus_per_worker) == (1, 1, 0)
    monkeypatch.setattr("jobs.cross_validation.room.speaks", lambda model: Path(model) == folder / "published")
    (alone,) = of_name(
        grid(
            chain=[{"spec": "evaluate.yaml", "overrides": [large, "model=published", "stages={}"]}],
            seeds=[0],
            folds={"train": 2, "validation": 1, "test": 1},
        ),
        "evaluate",
    )
    assert (alone.resources.workers, alone.resources.gpus_per_worker) == (8, 1)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True), st.integers(1, 3), st.integers(1, 3))
def test_steps_are_shared_if_and_only_if_they_compute_the_same(folder, seeds, num_variants, draws):
    changes = [[], ["evaluate", "num_pairs=20"], ["stage1", "train.max_steps=2"]]
    variants = [
        {"name": f"v{number}", "overrides": {change[0]: change[1:]} if change else {}}
        for number, change in enumerate(changes[:num_variants])
    ]
    content = {
        "chain": CROSS_VALIDATE["chain"],
        "folds": {"train": 2, "validation": 1, "test": 1, "draws": draws},
        "seeds": seeds,
        "variants": variants,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = CrossValidationPlan.model_validate(content)
        found = grid_of(plan, FOLDER, steps(), lambda store: TRIALS)
    identities = {step.key: identity(step.job) for step in found.steps.values()}
    assert len(set(identities.values())) == len(identities)
    assert all(key.endswith(digest[:12]) for key, digest in identities.items())
    trained = {(cell.fold.split, cell.seed, cell.variant == "v2"): cell.steps[0] for cell in found.cells}
    assert len(set(trained.values())) == len(trained)


@given(st.integers(2, 4), st.booleans())
def test_every_subject_is_tested_once_in_every_seed_and_variant(folder, num_folds, one_out):
    folds = {"protocol": "k-fold-by-subject", "num_folds": num_folds, "validation": 1}
    folds = {"protocol": "leave-one-subject-out", "validation": 1} if one_out else folds
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan = CrossValidationPlan.model_validate({"chain": CROSS_VALIDATE["chain"], "folds": folds, "seeds": [0, 1]})
        found = grid_of(plan, FOLDER, steps(), lambda store: TRIALS)
    for seed in (0, 1):
        splits = [found.steps[cell.steps[-1]].job.data.split for cell in found.cells if cell.seed == seed]
        subjects = [name for split in splits for name in resolve_split(split, TRIALS).test.subjects]
        assert sorted(subjects) == ["s1", "s2", "s3", "s4"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"variants": [{"name": "a"}, {"name": "b", "overrides": {"stage1": ["train.micro_batch=2"]}}]},
            "variants: a and b compute the same results",
        ),
        (
            {"variants": [{"name": "b", "overrides": {"stage1": ["resources.workers=2"]}}]},
            "variants: b changes nothing",
        ),
        (
            {"variants": [{"name": "b", "overrides": {"stage1": ["train.seed=2"]}}]},
            "override 'train.seed=2' of stage1: cannot be set here: `seeds` determines it",
        ),
        (
            {"variants": [{"name": "b", "overrides": {"stage1": ["train={max_steps: 4, seed: 99}"]}}]},
            r"override 'train=\{max_steps: 4, seed: 99\}' of stage1: cannot be set here: `seeds` determines it",
        ),
        (
            {"chain": [{"spec": "stage1.yaml"}, {"spec": "evaluate.yaml", "overrides": ["data.split.train=2"]}]},
            "override 'data.split.train=2' of evaluate: cannot be set here: `folds` determines who is tested",
        ),
        (
            {"chain": [{"spec": "evaluate.yaml"}, {"spec": "stage1.yaml"}]},
            r"evaluate reads runs/stage1/model \(model\), which stage1 makes",
        ),
        (
            {"chain": [{"spec": "stage1.yaml"}]},
            "chain: has steps of kind stage1. End it with one step of kind evaluate",
        ),
        (
            {"chain": [{"spec": "stage1.yaml"}, {"spec": "stage1.yaml", "name": "again"}, {"spec": "evaluate.yaml"}]},
            "stage1 and again have the same run, runs/stage1",
        ),
        ({"folds": {"protocol": "leave-one-subject-out", "only": [5]}}, "folds.only: there is no fold 5"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(grid, changes, message):
    with pytest.raises(InputError, match=message):
        grid(**changes)


def test_a_wrong_setting_of_a_step_is_refused_as_in_its_own_spec(grid):
    with pytest.raises(SpecErrors, match=r"override 'train.max_step=3'.*max_steps"):
        grid(variants=[{"name": "b", "overrides": {"stage1": ["train.max_step=3"]}}])
    with pytest.raises(SpecErrors, match=r"kind: .*cross-validate"):
        grid(chain=[{"spec": "cross_validate.yaml"}])


def test_the_largest_step_says_what_the_job_needs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    variant = {"name": "wide", "overrides": {"stage1": ["resources.workers=3", "resources.gpus_per_worker=1"]}}
    content = {key: CROSS_VALIDATE[key] for key in ("chain", "folds")} | {"variants": [{"name": "plain"}, variant]}
    largest = largest_resources(CrossValidationPlan.model_validate(content), steps())
    assert (largest.workers, largest.gpus_per_worker) == (3, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "variants: a is given twice"),
        ({"chain": [{"spec": "evaluate.yaml"}, {"spec": "evaluate.yaml"}]}, "chain: evaluate is given twice"),
        ({"seeds": [1, 1]}, "seeds: 1 is given twice"),
        (
            {"variants": [{"name": "a", "overrides": {"stage2": ["x=1"]}}]},
            "variants: a names the step stage2, but the chain has all, stage1, evaluate",
        ),
    ],
)
def test_names_that_clash_are_refused_with_the_spec(folder, changes, message):
    path = write_chain(folder, **changes)
    try:
        with pytest.raises(SpecErrors, match=message):
            load_spec(path, [], SPECS)
    finally:
        write_chain(folder)
