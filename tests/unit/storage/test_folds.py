"""Whole protocols: which folds they have, and what each tests."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from storage.datasets import seed_vii
from storage.errors import InputError
from storage.splits import FoldsConfig, folds_of, resolve_split

CONFIG = TypeAdapter(FoldsConfig)


def trials(subjects: int, sessions: int = 2, clips: int = 4) -> pd.DataFrame:
    """Subjects by sessions, each of which shows clips of its own."""
    rows = [
        {"subject": f"s{s:02d}", "session": str(d), "clip": clips * d + c + 1, "recording_id": f"{s}-{d}", "start": c}
        for s in range(subjects)
        for d in range(sessions)
        for c in range(clips)
    ]
    table = pd.DataFrame(rows).assign(trial=1)
    table["stop"] = table["start"] + 1
    table["label"] = [seed_vii.CLIP_LABELS[clip - 1] for clip in table["clip"]]
    return table


def folds(table: pd.DataFrame, **content):
    return folds_of(CONFIG.validate_python(content), table)


def sides_tested(table: pd.DataFrame, found) -> list[tuple[str, ...]]:
    return [resolve_split(fold.split, table).test.subjects for fold in found]


@given(st.integers(3, 12), st.integers(2, 6), st.integers(0, 5), st.booleans())
def test_folds_by_subject_partition_the_subjects(subjects, num_folds, seed, one_out):
    table = trials(subjects)
    protocol = "leave-one-subject-out" if one_out else "k-fold-by-subject"
    more = {} if one_out else {"num_folds": min(num_folds, subjects)}
    found = folds(table, protocol=protocol, validation=0, seed=seed, **more)
    sides = [name for side in sides_tested(table, found) for name in side]
    assert sorted(sides) == sorted(table["subject"].unique())
    assert len({fold.name for fold in found}) == len(found) == (subjects if one_out else more["num_folds"])


def test_official_folds_partition_the_clips():
    table = trials(3, sessions=4, clips=20)
    found = folds(table, protocol="official-folds")
    clips = [clip for fold in found for clip in resolve_split(fold.split, table).test.clips]
    assert [fold.name for fold in found] == ["1", "2", "3", "4"]
    assert sorted(clips) == sorted(table["clip"].unique())


def test_every_session_is_held_out_in_turn():
    table = trials(2, sessions=3)
    found = folds(table, protocol="held-out-session")
    assert [resolve_split(fold.split, table).test.sessions for fold in found] == [("0",), ("1",), ("2",)]
    assert [fold.name for fold in folds(table, protocol="held-out-session", only=["1"])] == ["session 1"]


def test_a_draw_is_a_fold_and_draws_differ():
    table = trials(12)
    once = folds(table, train=6, validation=2, test=4, seed=3)
    found = folds(table, train=6, validation=2, test=4, seed=3, draws=3)
    assert [fold.name for fold in found] == ["draw 3", "draw 4", "draw 5"]
    assert once == found[:1]
    assert len({tuple(sorted(side)) for side in sides_tested(table, found)}) == 3


def test_sides_of_ones_own_are_one_fold():
    table = trials(3)
    sides = {"train": {"subjects": ["s00", "s01"]}, "test": {"subjects": ["s02"]}, "disjoint_on": ["subject"]}
    (fold,) = folds(table, protocol="custom", **sides)
    assert resolve_split(fold.split, table).test.subjects == ("s02",)
    (one,) = folds(table, train=["s00"], validation=["s01"], test=["s02"])
    assert resolve_split(one.split, table).validation.subjects == ("s01",)


def test_some_folds_alone():
    assert sides_tested(trials(5), folds(trials(5), protocol="leave-one-subject-out", only=[4, 2], validation=1)) == [
        ("s03",),
        ("s01",),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"protocol": "leave-one-subject-out", "only": [6]}, r"^folds.only: there is no fold 6. The protocol has 1, 2"),
        ({"protocol": "k-fold-by-subject", "only": [9]}, r"there is no fold 9. The protocol has 1, 2, 3, 4, 5\."),
        ({"protocol": "official-folds", "only": [5]}, r"there is no fold 5. The protocol has 1, 2, 3, 4\."),
        ({"protocol": "held-out-session", "only": ["x"]}, r"there is no fold x. The protocol has 0, 1\."),
        ({"protocol": "k-fold-by-subject", "only": [2, 2]}, r"fold 2 is given twice"),
    ],
)
def test_a_fold_that_does_not_exist_is_refused_by_name(content, message):
    with pytest.raises(InputError, match=message):
        folds(trials(5), **content)


def test_one_subject_or_session_cannot_be_left_out():
    with pytest.raises(
        InputError, match=r"^folds.protocol: leave-one-subject-out with 1 subject \(s00\)\. Use official"
    ):
        folds(trials(1), protocol="leave-one-subject-out")
    with pytest.raises(InputError, match=r"held-out-session with 1 session \(0\)"):
        folds(trials(3, sessions=1), protocol="held-out-session")


def test_named_subjects_are_not_drawn_again():
    with pytest.raises(ValidationError, match="2 draws of named subjects"):
        CONFIG.validate_python({"train": ["a"], "validation": ["b"], "test": ["c"], "draws": 2})


def test_subjects_are_all_named_or_all_drawn():
    for content in ({"train": ["a"], "test": ["c"]}, {"train": 2, "validation": ["b"], "test": 1}):
        with pytest.raises(ValidationError, match="must all be numbers or all be lists of subjects"):
            CONFIG.validate_python(content)
