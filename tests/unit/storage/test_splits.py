from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from storage.datasets.seed_vii import CLIP_LABELS, fold_of, session_of
from storage.errors import InputError
from storage.splits import AXES, BySubject, Side, Split, SplitConfig, resolve_split

ROLES = (["01", "02"], ["02", "01"])
DIGEST = "fb7c34af5f5608f7"
SCHEMA: TypeAdapter[Any] = TypeAdapter(SplitConfig)


def trials(num_subjects: int, clips: tuple[int, ...] = (1, 2)) -> pd.DataFrame:
    """One recording per subject, one session."""
    rows = [
        (f"r{subject:02d}", f"{subject:02d}", "1", place, place, clip, 100 * place, 100 * place + 100, "ab"[clip % 2])
        for subject in range(1, num_subjects + 1)
        for place, clip in enumerate(clips)
    ]
    names = ["recording_id", "subject", "session", "trial", "position", "clip", "start", "stop", "label"]
    return pd.DataFrame(rows, columns=names)


def seed_vii(num_subjects: int = 6) -> pd.DataFrame:
    """SEED-VII's table: one recording per subject and session."""
    table = trials(num_subjects, tuple(range(1, 81)))
    session = table["clip"].map(session_of).astype(str)
    label = table["clip"].map(lambda clip: CLIP_LABELS[clip - 1])
    return table.assign(session=session, label=label, recording_id=table["subject"] + "-" + session)


def resolve(config: dict, table: pd.DataFrame) -> Split:
    return resolve_split(SCHEMA.validate_python(config), table)


def rows_of(split: Split, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {name: table[side.holds(table)] for name, side in split.sides.items()}


def assert_as_declared(split: Split, table: pd.DataFrame) -> None:
    """No trial is on two sides, and no value of a declared axis; what is said to be shared is."""
    sides = rows_of(split, table)
    for one, other in combinations(sides, 2):
        assert not set(sides[one].index) & set(sides[other].index)
        for axis in split.disjoint_on:
            assert not set(sides[one][AXES[axis]]) & set(sides[other][AXES[axis]])
    seen = pd.concat([rows for name, rows in sides.items() if name != "test"])
    for axis, column in AXES.items():
        assert (axis in split.shared) == bool(set(seen[column]) & set(sides["test"][column]))
    assert all(len(rows) for rows in sides.values())


@given(st.data(), st.integers(2, 30), st.integers(0, 100))
def test_roles_are_disjoint_and_as_large_as_asked(data: st.DataObject, subjects: int, seed: int) -> None:
    train = data.draw(st.integers(1, subjects - 1))
    test = data.draw(st.integers(1, subjects - train))
    validation = data.draw(st.integers(0, subjects - train - test))
    reserved = data.draw(st.integers(0, train - 1))
    config = BySubject(train=train, validation=validation, test=test, reserved=reserved, seed=seed)
    table = trials(subjects)
    split = resolve_split(config, table)
    used = [subject for side in split.sides.values() for subject in side.subjects]
    assert len(set(used)) == len(used) == train + validation + test
    assert (len(split.train.subjects), len(split.test.subjects)) == (train, test)
    assert (split.validation is None) == (validation == 0)
    assert len(split.reserved) == reserved
    assert set(split.reserved) | set(split.fitted_by_stage1.subjects) == set(split.train.subjects)
    assert not set(split.reserved) & set(split.fitted_by_stage1.subjects)
    assert_as_declared(split, table)
    shuffled = table.sample(frac=1, random_state=seed)
    assert resolve_split(config, shuffled).digest == split.digest


@given(st.integers(17, 40), st.integers(0, 2**32))
def test_by_subject_draws_as_it_always_did(subjects: int, seed: int) -> None:
    """The demo's numbers hang on who is drawn: a seeded permutation of the sorted names, cut in this order."""
    names = [f"{subject:02d}" for subject in range(1, subjects + 1)]
    order = [names[place] for place in np.random.default_rng(seed).permutation(subjects)]
    split = resolve({"train": 9, "validation": 3, "test": 5, "reserved": 2, "seed": seed}, trials(subjects))
    cuts = [tuple(order[start:stop]) for start, stop in pairwise((0, 9, 12, 17))]
    assert [side.subjects for side in split.sides.values()] == cuts
    assert split.reserved == cuts[0][-2:]


def test_the_demo_s_subjects() -> None:
    split = resolve({"train": 12, "validation": 3, "test": 5, "reserved": 3, "seed": 0}, trials(20))
    assert split.test.subjects == ("18", "15", "10", "02", "16")


def test_digest_is_frozen_and_depends_on_who_is_where() -> None:
    config = {"train": ["01", "02"], "validation": [], "test": ["03"]}
    assert resolve(config, trials(3)).digest == DIGEST
    assert resolve(config | {"train": ["01", "03"], "test": ["02"]}, trials(3)).digest != DIGEST
    drawn = [resolve({"seed": seed}, trials(20)).digest for seed in range(5)]
    assert len(set(drawn)) == 5
    assert Split.model_validate_json(resolve(config, trials(3)).model_dump_json()).digest == DIGEST


def test_shared_axes_are_told() -> None:
    config = {"train": ["01"], "validation": [], "test": ["02"]}
    split = resolve(config, trials(2))
    assert split.shared == ("session", "clip")
    assert split.disjoint_on == ("subject", "recording")
    assert resolve(config, trials(2).assign(clip=[1, 2, 3, 4])).shared == ("session",)


@settings(max_examples=30)
@given(st.integers(2, 12), st.integers(0, 2), st.integers(2, 12), st.integers(0, 50))
def test_folds_test_every_subject_once(subjects: int, validation: int, num_folds: int, seed: int) -> None:
    table = trials(subjects)
    shared = {"protocol": "k-fold-by-subject", "num_folds": num_folds, "validation": validation, "seed": seed}
    if num_folds > subjects:
        with pytest.raises(InputError, match="Use at most one per subject"):
            resolve(shared | {"fold": 1}, table)
        return
    if validation >= subjects - -(-subjects // num_folds):
        with pytest.raises(InputError, match=r"split\.validation"):
            resolve(shared | {"fold": 1}, table)
        return
    splits = [resolve(shared | {"fold": fold}, table) for fold in range(1, num_folds + 1)]
    tested = [subject for split in splits for subject in split.test.subjects]
    assert sorted(tested) == sorted(table["subject"].unique())
    sizes = [len(split.test.subjects) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    for fold, split in enumerate(splits, 1):
        assert split.fold == fold
        assert len(split.validation.subjects if split.validation else ()) == validation
        assert_as_declared(split, table)
    assert len({split.digest for split in splits}) == num_folds


def test_one_subject_left_out_by_name_or_by_number() -> None:
    table = trials(5)
    config = {"protocol": "leave-one-subject-out", "validation": 1, "reserved": 1, "seed": 3}
    for fold, name in enumerate(sorted(table["subject"].unique()), 1):
        split = resolve(config | {"fold": fold}, table)
        assert split.test.subjects == (name,)
        assert (split.fold, len(split.train.subjects), len(split.reserved)) == (fold, 3, 1)
        assert_as_declared(split, table)
        named = resolve(config | {"subject": name}, table)
        assert named.sides == split.sides


@pytest.mark.parametrize("fold", [1, 2, 3, 4])
def test_official_folds_are_seed_vii_s(fold: int) -> None:
    table = seed_vii()
    split = resolve({"protocol": "official-folds", "fold": fold}, table)
    test = rows_of(split, table)["test"]
    assert {fold_of(clip) for clip in test["clip"]} == {fold}
    assert (test.groupby(["subject", "session"]).size() == 5).all()
    assert len(test) == 6 * 20
    assert split.validation is not None
    labels = [CLIP_LABELS[clip - 1] for clip in split.validation.clips or ()]
    assert sorted(labels) == sorted(set(CLIP_LABELS)), "seven clips: one of each emotion"
    assert split.disjoint_on == ("clip",)
    assert split.shared == ("subject", "session", "recording")
    assert_as_declared(split, table)
    assert len(pd.concat(rows_of(split, table).values())) == len(table), "every trial is on one side"
    one = resolve({"protocol": "official-folds", "fold": fold, "subjects": ["03"]}, table)
    assert {rows["subject"].unique().tolist()[0] for rows in rows_of(one, table).values()} == {"03"}


def test_a_held_out_session_says_which_labels_were_never_trained() -> None:
    table = seed_vii()
    split = resolve({"protocol": "held-out-session", "test": ["4"], "validation": 1}, table)
    assert rows_of(split, table)["test"]["session"].unique().tolist() == ["4"]
    assert_as_declared(split, table)
    assert split.shared == ("subject",)
    assert split.labels_missing_in_train == ()
    lone = resolve({"protocol": "held-out-session", "test": ["4"], "validation": ["1", "3"]}, table)
    assert lone.train.sessions == ("2",)
    assert lone.labels_missing_in_train == ("disgust", "happy")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 30))
def test_neither_person_nor_clip_was_seen(seed: int, test_clips: int, validation_clips: int) -> None:
    table = seed_vii()
    config = {"protocol": "subject-and-clip", "train": 3, "validation": 1, "test": 2, "seed": seed}
    split = resolve(config | {"test_clips": test_clips, "validation_clips": validation_clips}, table)
    assert_as_declared(split, table)
    assert split.disjoint_on == ("subject", "clip", "recording")
    assert split.shared == ("session",)
    sides = rows_of(split, table)
    assert (len(sides["test"]), len(sides["validation"])) == (2 * test_clips, validation_clips)
    assert len(sides["train"]) == 3 * (80 - test_clips - validation_clips)
    per_label = sides["test"].drop_duplicates("clip")["label"].value_counts()
    if test_clips >= 7:
        assert len(per_label) == 7
        assert per_label.max() - per_label.min() <= (1 if test_clips <= 56 else 12)


def test_custom_sides() -> None:
    table = seed_vii(3)
    config = {
        "protocol": "custom",
        "train": {"sessions": ["1", "2"]},
        "validation": {"subjects": ["01"], "sessions": ["3"]},
        "test": {"sessions": ["4"]},
        "disjoint_on": ["session"],
    }
    split = resolve(config, table)
    assert_as_declared(split, table)
    assert split.validation == Side(subjects=("01",), sessions=("3",))
    assert split.shared == ("subject",)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"disjoint_on": ["subject"]}, "train and test share subject 01, 02, 03 but are declared disjoint on it"),
        ({"test": {"sessions": ["2"]}}, "trial 20 of subject 01, session 2 is on the sides train and test"),
        ({"test": {"sessions": ["9"]}}, r"split\.test: no session 9 in the store\. It has: 1, 2, 3, 4\."),
        ({"test": {"subjects": ["77"]}}, r"split\.test: no subject 77"),
        ({"test": {"clips": [0]}}, r"split\.test: no clip 0"),
        ({"test": {"sessions": ["4"], "clips": [1]}}, "the test side has no trial"),
        ({"reserved": 3}, "3 of 3 training subjects"),
    ],
)
def test_custom_sides_are_checked(changes: dict, problem: str) -> None:
    config = {"protocol": "custom", "train": {"sessions": ["1", "2"]}, "test": {"sessions": ["4"]}, "disjoint_on": []}
    with pytest.raises(InputError, match=problem) as caught:
        resolve(config | changes, seed_vii(3))
    assert "\n" not in str(caught.value)


def test_trials_of_two_sides_that_overlap_in_one_recording_are_refused() -> None:
    table = trials(1, (1, 2, 3, 4))
    config = {"protocol": "custom", "train": {"clips": [1, 2]}, "test": {"clips": [3, 4]}, "disjoint_on": ["clip"]}
    resolve(config, table)
    longer = table.assign(stop=table["stop"].where(table["clip"] != 1, 250))
    with pytest.raises(InputError, match="two sides overlap in recording r01 at sample 200"):
        resolve(config, longer)
    same_side = table.assign(stop=table["stop"].where(table["clip"] != 1, 200))
    resolve(config, same_side)
    elsewhere = longer.assign(recording_id=longer["recording_id"] + longer["clip"].astype(str))
    resolve(config, elsewhere)
    hidden = table.assign(start=[100, 100, 500, 300], stop=[900, 120, 600, 400])
    with pytest.raises(InputError, match="two sides overlap"):
        resolve(config, hidden)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"train": 3, "validation": 1, "test": 1}, "asks for 5 subjects, but the store has 4"),
        ({"train": 0, "validation": 1, "test": 1}, "train and test need at least one subject"),
        ({"train": 2, "validation": 1, "test": 0}, "train and test need at least one subject"),
        ({"train": 2, "validation": 1, "test": 1, "reserved": 2}, "split.reserved: reserves 2 of 2 training"),
        ({"train": ("01",), "validation": ("09",), "test": ("02",)}, "no subject 09 in the store. It has: 01"),
        ({"train": ("01", "02"), "validation": (), "test": ("02",)}, "subject 02 has two roles"),
        ({"train": ("01", "01"), "validation": (), "test": ("02",)}, "subject 01 has two roles"),
        ({"train": (), "validation": (), "test": ("02",)}, "train and test need at least one subject"),
        ({"protocol": "official-folds", "fold": 1}, "clip 1 with label b is not one of its clips"),
        ({"protocol": "leave-one-subject-out", "fold": 5}, "asks for subject 5 of 4"),
        ({"protocol": "leave-one-subject-out", "subject": "9"}, r"split\.test: no subject 9"),
        ({"protocol": "leave-one-subject-out", "fold": 1, "validation": 3}, "3 of 3 subjects that are not tested"),
        ({"protocol": "held-out-session", "test": ["1"]}, "the train side has no trial"),
        ({"protocol": "held-out-session", "test": ["7"]}, "no session 7"),
        (
            {"protocol": "subject-and-clip", "train": 2, "validation": 1, "test": 1, "test_clips": 2},
            r"split\.test_clips: asks for 2 of 2 clips",
        ),
        (
            {
                "protocol": "subject-and-clip",
                "train": 2,
                "validation": 1,
                "test": 1,
                "test_clips": 1,
                "validation_clips": 0,
            },
            "there are 1 validation subjects but 0 validation clips",
        ),
    ],
)
def test_refusals(config: dict, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        resolve(config, trials(4))


@pytest.mark.parametrize(
    "config",
    [
        {"train": ("01",), "test": 2},
        {"train": -1},
        {"train": True},
        {"trian": 3},
        {"seed": -1},
        {"protocol": "k-fold"},
        {"protocol": "k-fold-by-subject"},
        {"protocol": "k-fold-by-subject", "num_folds": 3, "fold": 4},
        {"protocol": "leave-one-subject-out"},
        {"protocol": "leave-one-subject-out", "subject": "1", "fold": 1},
        {"protocol": "official-folds", "fold": 5},
        {"protocol": "held-out-session", "test": []},
        {"protocol": "custom", "train": {}, "test": {}, "disjoint_on": ["person"]},
        7,
    ],
)
def test_bad_configs(config: object) -> None:
    with pytest.raises(ValidationError):
        SCHEMA.validate_python(config)


def test_a_config_survives_its_own_json() -> None:
    config = SCHEMA.validate_python({"protocol": "held-out-session", "test": ["4"]})
    assert SCHEMA.validate_json(SCHEMA.dump_json(config)) == config
    assert SCHEMA.validate_python({}) == BySubject()


def test_digest_does_not_depend_on_the_order_of_names() -> None:
    one = resolve({"train": ["01", "02", "04"], "validation": [], "test": ["03", "05"]}, trials(5))
    two = resolve({"train": ["04", "01", "02"], "validation": [], "test": ["05", "03"]}, trials(5))
    assert one.digest == two.digest
    first, second = Side(subjects=("1",), clips=(1, 2)), Side(subjects=("1",), clips=(2, 1))
    assert one.model_copy(update={"test": first}).digest == one.model_copy(update={"test": second}).digest
    kept = [resolve({"train": names, "validation": [], "test": ["03"], "reserved": 1}, trials(3)) for names in ROLES]
    assert kept[0].digest != kept[1].digest, "another subject is reserved"


def test_clips_that_name_no_stimulus_cannot_keep_sides_apart() -> None:
    table = trials(4, (1, 2, 3, 4))
    counted = table.assign(label=["ab"[(place + place // 4) % 2] for place in range(len(table))])
    config = {"protocol": "custom", "train": {"clips": [1, 2]}, "test": {"clips": [3, 4]}, "disjoint_on": ["clip"]}
    both = {"protocol": "subject-and-clip", "train": 2, "validation": 0, "test": 2, "test_clips": 1}
    for spec in (config, both | {"validation_clips": 0}):
        resolve(spec, table)
        resolve(spec, table.assign(label=table["label"].where(table.index % 3 > 0)))
        with pytest.raises(InputError, match=r"do not identify stimuli \(clip 1 has the labels a, b\)") as caught:
            resolve(spec, counted)
        assert "\n" not in str(caught.value)
    resolve(config | {"disjoint_on": []}, counted)
    resolve({"train": 2, "validation": 0, "test": 2}, counted)


def test_a_label_that_is_left_out_is_on_the_test_side_alone():
    table = seed_vii()
    plain = {"train": 3, "validation": 1, "test": 2, "reserved": 1, "seed": 0}
    split, whole = resolve(plain | {"left_out": ["fear"]}, table), resolve(plain, table)
    for name, rows in rows_of(split, table).items():
        assert ("fear" in set(rows["label"])) == (name == "test")
        kept = rows_of(whole, table)[name]
        assert rows.index.tolist() == kept.index[(kept["label"] != "fear") | (name == "test")].tolist()
    assert split.labels_missing_in_train == ("fear",)
    assert "fear" not in set(table[split.fitted_by_stage1.holds(table)]["label"])
    assert split.digest != whole.digest
    assert Split.model_validate_json(split.model_dump_json()) == split


def test_a_split_without_a_label_left_out_is_written_as_before():
    split = resolve({"train": 3, "validation": 1, "test": 2}, seed_vii())
    assert set(split.train.model_dump()) == {"subjects", "sessions", "clips"}


def test_a_label_that_the_store_does_not_have_cannot_be_left_out():
    with pytest.raises(InputError, match=r"split.left_out: no trial of the label envy in the store\. It has: "):
        resolve({"train": 3, "validation": 1, "test": 2, "left_out": ["envy"]}, seed_vii())
