"""Nothing is tested that a model has seen: neither its trials nor, where the split says so, its people or clips."""

import json

import pytest

from e2llm_core.stages.probe import CONTENT, Origin
from storage.splits import Side
from storage.windows import WindowConfig

SPEC = "kind: evaluate\nrun: runs/evaluation\nmodel: tuned\ndata: {{store: store.zarr, split: {split}}}\n"
BY_SUBJECT = "{train: [s1], validation: [], test: [s2]}"
BY_CLIP = "{protocol: custom, train: {clips: [1]}, test: {clips: [2]}, disjoint_on: [clip]}"
BY_TRIAL = "{protocol: custom, train: {clips: [1]}, test: {clips: [2]}, disjoint_on: []}"
END = "that ROOT/tuned was trained or selected on. Use the split of its spec.yaml."


@pytest.fixture
def tested(root, refused, make_store, make_model):
    """The one line on testing by a split what a model saw of some sides."""
    store = make_store(root / "store.zarr")
    make_model(root / "tuned")

    def tested(split: str, *sides: Side, digest: str = store.digest) -> str:
        origin = Origin(store_digest=digest, windows=WindowConfig(), sides=sides).model_dump(mode="json")
        (root / "tuned" / CONTENT).write_text(json.dumps({"origin": origin}))
        return refused(SPEC.format(split=split) + "twin: no-twin\n")

    return tested


UNSEEN = "twin: ROOT/no-twin: no twin.json here. Name the folder of the twin, or leave it out."


@pytest.mark.parametrize(
    ("split", "sides", "what"),
    [
        (BY_SUBJECT, [Side(subjects=("s1", "s2"))], "subjects s2"),
        (BY_SUBJECT, [Side(subjects=("s1",)), Side(subjects=("s2",), clips=(1,))], "subjects s2"),
        (BY_CLIP, [Side(subjects=("s1",), clips=(1, 2))], "clips 2"),
        (BY_TRIAL, [Side(subjects=("s1", "s3"), clips=(2,))], "2 trials"),
    ],
)
def test_what_was_seen_is_not_tested(tested, split, sides, what):
    assert tested(split, *sides) == f"data.split: tests on {what} {END}"


@pytest.mark.parametrize(
    ("split", "side"),
    [
        (BY_SUBJECT, Side(subjects=("s1", "s3"))),
        (BY_CLIP, Side(subjects=("s1", "s2", "s3"), clips=(1,))),
        (BY_CLIP, Side(subjects=("s1",), sessions=("1",), clips=(1,))),
        (BY_TRIAL, Side(subjects=("s1",), clips=(1,))),
    ],
)
def test_what_was_not_seen_may_be_tested(tested, split, side):
    assert tested(split, side) == UNSEEN


def test_names_mean_nothing_in_another_store(tested):
    assert tested(BY_SUBJECT, Side(subjects=("s2",)), digest="0" * 64) == UNSEEN


def test_a_model_that_does_not_say_what_it_saw(root, refused, make_store, make_model):
    make_store(root / "store.zarr")
    folder = make_model(root / "tuned")
    (folder / CONTENT).write_text(json.dumps({"origin": {"subjects": ["s1"]}}))
    line = refused(SPEC.format(split=BY_SUBJECT))
    assert line.endswith("probe.json: does not say which trials the model has seen. Train its stages again.")


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (
            "{protocol: k-fold, fold: 1}",
            "data.split.protocol: unknown protocol 'k-fold'; one of by-subject, ",
        ),
        ("{protocol: official-folds, fold: 9}", "data.split.fold: expected an integer >= 1 and <= 4, got 9"),
        ("{protocol: held-out-session, tests: [a]}", "data.split.test: required key is missing"),
        ("{trian: 3}", "data.split.trian: unknown key; did you mean 'train'?"),
        (
            "{protocol: by-subject, fold: 3}",
            "data.split.fold: unknown key; known keys: left_out, reserved, seed",
        ),
        ("{protocol: leave-one-subject-out}", "data.split: give either subject or fold"),
    ],
)
def test_splits_that_are_none(root, capsys, split, expected):
    from jobs.__main__ import main

    (root / "job.yaml").write_text(SPEC.format(split=split))
    with pytest.raises(SystemExit):
        main(["job.yaml"])
    assert capsys.readouterr().err.splitlines()[0].startswith(f"error: job.yaml:4: {expected}")
