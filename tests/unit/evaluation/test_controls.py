from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.evaluation.references import controls
from e2llm_core.evaluation.scores import METRICS, balanced_accuracy, score
from e2llm_core.tasks.epc import compared
from e2llm_core.tasks.pairs import OPTIONS


def by_subject(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    held_out = sorted(table["subject"].unique())[-2:]
    mask = table["subject"].isin(held_out)
    return table[~mask], table[mask]


def test_the_clip_order_is_the_published_one(trials):
    one = trials[trials["subject"] == "01"]
    assert one["label"].value_counts().to_dict() == {
        "neutral": 8,
        "disgust": 12,
        "fear": 12,
        "sad": 12,
        "happy": 12,
        "anger": 12,
        "surprise": 12,
    }
    assert (one.groupby("session")["label"].nunique() == 5).all()


def test_session_only_on_seed_vii_scores_what_the_order_implies(trials, names):
    train, test = by_subject(trials)
    answers = controls.session_only(train, test)
    low, high = controls.session_only_range(trials)
    assert (low, high) == (pytest.approx(0.2), pytest.approx(5 / 21))
    value = balanced_accuracy(test["label"], answers, names)
    assert value == pytest.approx(high)
    assert 0.20 <= value <= 0.2381
    expected = controls.expected_session_only(trials)
    for metric in METRICS:
        assert score(metric, test["label"], answers, names) == pytest.approx(expected[metric])


def test_session_only_reads_nothing_but_the_session(trials):
    train, test = by_subject(trials)
    answers = controls.session_only(train, test[["session"]])
    assert pd.Series(answers).groupby(test["session"].to_numpy()).nunique().max() == 1


def test_no_other_label_per_session_would_do_better(trials, names):
    train, test = by_subject(trials)
    best = balanced_accuracy(test["label"], controls.session_only(train, test), names)
    generator = np.random.default_rng(0)
    for _ in range(200):
        choice = dict(zip(range(1, 5), generator.choice(names, 4), strict=True))
        other = balanced_accuracy(test["label"], test["session"].map(choice), names)
        assert other <= best + 1e-12


def test_session_position_on_seed_vii_is_a_ceiling(trials, names):
    train, test = by_subject(trials)
    answers = controls.session_position(train, test)
    assert balanced_accuracy(test["label"], answers, names) == 1.0
    assert controls.expected_session_position(trials) == dict.fromkeys(
        ("balanced_accuracy", "accuracy", "cohen_kappa", "weighted_f1"), 1.0
    )


def test_session_position_fails_where_every_subject_has_an_order_of_their_own(trials, names):
    generator = np.random.default_rng(0)
    wide = pd.concat([trials.assign(subject=trials["subject"] + tag) for tag in "abcd"], ignore_index=True)
    shuffled = wide.copy()
    for _, rows in shuffled.groupby("subject").groups.items():
        shuffled.loc[rows, "label"] = shuffled.loc[rows, "label"].to_numpy()[generator.permutation(len(rows))]
    expected = controls.expected_session_position(shuffled)
    assert expected["balanced_accuracy"] == pytest.approx(1 / 7, abs=0.05)
    train, test = by_subject(shuffled)
    assert balanced_accuracy(test["label"], controls.session_position(train, test), names) == pytest.approx(
        expected["balanced_accuracy"], abs=0.12
    )


def test_a_position_that_training_never_saw_is_answered_by_the_session(trials):
    train, test = by_subject(trials)
    cut = train[train["position"] <= 10]
    answers = controls.session_position(cut, test)
    late = (test["position"] > 10).to_numpy()
    assert (answers[late] == controls.session_only(cut, test)[late]).all()


def test_an_unknown_session_gets_the_most_frequent_label(trials):
    train, test = by_subject(trials)
    answers = controls.session_only(train[train["session"] == 1], test[test["session"] == 2])
    assert set(answers) == {"anger"}


def test_windows_and_trials_give_the_same_session_control(trials, names):
    train, test = by_subject(pd.concat([trials] * 3))
    value = balanced_accuracy(test["label"], controls.session_only(train, test), names)
    assert value == pytest.approx(controls.expected_session_only(trials)["balanced_accuracy"])


def test_pairs_session_only_is_at_one_half(pairs):
    train, test = by_subject(pairs)
    value = balanced_accuracy(test["label"], controls.session_only(train, test), ("same", "different"))
    assert value == pytest.approx(0.5)
    assert controls.expected_session_only(pairs)["balanced_accuracy"] == pytest.approx(0.5)
    assert controls.expected_session_only(pairs)["cohen_kappa"] == pytest.approx(0.0)


def test_pairs_session_position_is_a_ceiling(trials, pairs):
    train, _ = by_subject(trials)
    _, test = by_subject(pairs)
    answers = controls.answers_by_position(compared, train, test)
    assert balanced_accuracy(test["label"], answers, OPTIONS) == 1.0
    assert controls.expected_by_position(compared, OPTIONS, (), trials, pairs)["balanced_accuracy"] == 1.0


tables = st.lists(st.tuples(st.integers(1, 3), st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=40).map(
    lambda rows: pd.DataFrame(rows, columns=["session", "label", "position"])
)


@settings(max_examples=60, deadline=None)
@given(tables, st.integers(0, 1000))
def test_session_controls_do_not_depend_on_the_order_of_rows(table, seed):
    shuffled = table.sample(frac=1, random_state=seed)
    assert (controls.session_only(table, table) == controls.session_only(shuffled, table)).all()
    assert (controls.session_position(table, table) == controls.session_position(shuffled, table)).all()


@settings(max_examples=60, deadline=None)
@given(tables)
def test_the_best_label_per_session_reaches_the_upper_end_of_the_range(table):
    low, high = controls.session_only_range(table)
    assert low <= high + 1e-12
    assert controls.expected_session_only(table)["balanced_accuracy"] == pytest.approx(high)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: controls.session_only(t.drop(columns="label"), t), "label"),
        (lambda t: controls.session_only(t.iloc[:0], t), "empty"),
        (lambda t: controls.session_position(t.drop(columns="position"), t), "position"),
        (lambda t: controls.expected_session_position(t[t["subject"] == "01"]), "two subjects"),
        (lambda t: controls.answers_by_position(compared, t, t.drop(columns="segments")), "segments"),
    ],
)
def test_refusals(trials, call, words):
    with pytest.raises(ValueError, match=words):
        call(trials)


def test_the_nearest_trial_of_a_new_subject_is_the_same_place_of_others(trials, names):
    train, test = by_subject(trials)
    answers = controls.nearest_trial(train, test)
    assert (answers == test["label"]).all()
    expected = controls.expected_nearest_trial(trials)
    assert expected == {metric: 1.0 for metric in METRICS}
    rng, sessions = np.random.default_rng(0), trials.groupby(["subject", "session"])["label"]
    shuffled = trials.assign(label=sessions.transform(lambda labels: rng.permutation(labels.to_numpy())))
    train, test = by_subject(shuffled)
    measured = balanced_accuracy(test["label"], controls.nearest_trial(train, test), names)
    assert measured == pytest.approx(controls.expected_nearest_trial(shuffled)["balanced_accuracy"], abs=0.12)
    assert measured < 0.45


def test_the_nearest_trial_of_a_known_subject_is_a_neighbour_in_time(trials, names):
    one = trials[trials["subject"] == "01"]
    tested = one["position"] % 5 == 2
    answers = controls.nearest_trial(trials[~trials["position"].isin(one.loc[tested, "position"])], one[tested])
    before = one.set_index(["session", "position"])["label"]
    expected = [
        before[session, position - 1] for session, position in one.loc[tested, ["session", "position"]].to_numpy()
    ]
    assert answers.tolist() == expected, "of two neighbours, the earlier one"


def test_the_nearest_trial_backs_off_where_the_session_is_new(trials):
    train = trials[trials["session"] != 4]
    test = trials[trials["session"] == 4]
    assert (controls.nearest_trial(train, test) == controls.session_only(train, test)).all()


def test_without_an_order_the_nearest_trial_is_any_of_the_session(trials, names):
    """The mean over random orders of each session."""
    one, rng = trials[trials["subject"] == "01"], np.random.default_rng(0)
    tested = (one["trial"] % 4 == 0).to_numpy()
    expected = controls.expected_without_order(one[~tested], one[tested])
    scores = []
    for _ in range(150):
        position = np.concatenate([rng.permutation(20) for _ in range(4)])
        mixed = one.assign(position=position)
        answers = controls.nearest_trial(mixed[~tested], mixed[tested])
        scores.append(balanced_accuracy(mixed.loc[tested, "label"], answers, names))
    assert np.mean(scores) == pytest.approx(expected["balanced_accuracy"], abs=0.03)
