"""What is wrong with a cell is said before anything runs, by name."""

import shutil

import numpy as np
import pytest
import yaml

from jobs.__main__ import main
from jobs.cross_validation.results import cell_scores
from storage.errors import InputError
from tests.cross_validations import CROSS_VALIDATE, STAGE1, write_chain

BY_CLIP = {
    "protocol": "custom",
    "train": {"clips": [1]},
    "test": {"clips": [2]},
    "disjoint_on": ["clip"],
}


@pytest.fixture
def chain(root, make_store):
    make_store(root / "store.zarr")
    write_chain(root)


def text(**changes) -> str:
    return yaml.safe_dump(CROSS_VALIDATE | changes)


def test_a_class_that_a_fold_does_not_train(chain, refused):
    line = refused(text(folds=BY_CLIP))
    assert line.startswith("fold custom: no training trial has the label task. Use another protocol")


def test_a_class_that_stage_1_does_not_fit(root, refused, make_store):
    write_chain(root)
    store = make_store(root / "store.zarr", labels=("rest", "task"))
    info = store.recordings["s1"]
    trials = tuple(trial.model_copy(update={"label": "rest"}) for trial in info.trials)
    store.write_recording(info.model_copy(update={"trials": trials}), np.zeros((3, info.n_times)))
    sides = {"train": ["s1", "s2"], "validation": [], "test": ["s3"], "reserved": 1}
    line = refused(text(folds=sides))
    assert "no training trial that stage 1 fits has the label task" in line


def test_one_subject_cannot_be_left_out(root, refused, make_store):
    write_chain(root)
    make_store(root / "store.zarr")
    for name in ("s2", "s3"):
        shutil.rmtree(root / "store.zarr" / "recordings" / name)
    line = refused(text())
    assert line.startswith("folds.protocol: leave-one-subject-out with 1 subject (s1)")


def test_a_cell_that_another_version_evaluated(tmp_path):
    (tmp_path / "summary.json").write_text('{"notice": "", "results": [{"prompt": "first-wording"}]}')
    with pytest.raises(InputError, match=r"summary\.json: is of another version\. Evaluate the model again"):
        cell_scores(None, 1, str(tmp_path))


def test_a_fold_that_does_not_exist(chain, refused):
    folds = {"protocol": "leave-one-subject-out", "only": [4], "validation": 1}
    assert refused(text(folds=folds)) == "folds.only: there is no fold 4. The protocol has 1, 2, 3."


def test_a_fold_that_cannot_be_made(chain, refused):
    folds = {"protocol": "k-fold-by-subject", "num_folds": 3, "validation": 2}
    assert refused(text(folds=folds)).startswith("fold 1: split.validation: asks for 2 of 2 subjects")


def test_an_input_from_outside_of_the_chain_that_is_missing(chain, refused):
    line = refused(text())
    assert line.startswith(
        "evaluate of fold 1 (s1), seed 0, as-is: stages.tiny-llm: ROOT/runs/tiny-llm: no finished run"
    )


def test_a_folder_of_runs_above_the_store_hides_nothing(chain, root, refused):
    said = refused(text(cells=str(root)))
    assert "tiny-llm: no finished run" in said


def test_variants_with_one_name(chain, refused):
    assert "variants: a is given twice" in refused(text(variants=[{"name": "a"}, {"name": "a"}]))


def test_check_lists_the_cells_and_their_runs(chain, root, capsys):
    write_chain(root, chain=[{"spec": "stage1.yaml"}, {"spec": "evaluate.yaml", "overrides": ["stages={}"]}])
    main(["cross_validate.yaml", "--check"])
    said = capsys.readouterr().out
    assert "6 cells: 3 folds x 2 seeds x 1 variants" in said
    assert [line.split()[1:9:2] for line in said.splitlines() if "stage1" in line] == [["stage1", "stage1", "6", "0"]]
    assert STAGE1["run"] not in said
    assert not (root / "runs").exists()
