"""Controls that something is fitted for."""

import itertools

import numpy as np
import pandas as pd
import pytest

from e2llm_core.evaluation.metrics import Answers, TableMetric
from e2llm_core.evaluation.predictions import prediction_rows
from e2llm_core.evaluation.references.decoding import classes_of
from e2llm_core.evaluation.references.permuted import expected_within_sessions, permuted_labels
from e2llm_core.evaluation.scores import METRIC_BOUNDS, METRICS


def windows_of(trials: pd.DataFrame, each: int = 3) -> pd.DataFrame:
    return trials.loc[trials.index.repeat(each)].reset_index(drop=True)


def test_permuted_labels_stay_in_their_session_and_with_their_trial(trials):
    windows = windows_of(trials)
    rows = windows["subject"].isin(["01", "02"]).to_numpy()
    labels = permuted_labels(windows, rows, seed=0)
    assert np.array_equal(labels[~rows], windows.loc[~rows, "label"])
    assert (labels[rows] != windows.loc[rows, "label"]).mean() > 0.5
    made = windows.assign(permuted=labels)
    assert (made.groupby(["subject", "session", "trial"])["permuted"].nunique() == 1).all()
    for _, part in made.groupby(["subject", "session"]):
        assert sorted(part["permuted"]) == sorted(part["label"])
    assert np.array_equal(permuted_labels(windows, rows, seed=0), labels)
    assert not np.array_equal(permuted_labels(windows, rows, seed=1), labels)


def test_the_expected_score_is_the_mean_over_all_orders_of_the_labels():
    labels = ["a", "b"]
    table = pd.DataFrame({"subject": ["1"] * 5, "session": [1, 1, 1, 2, 2], "label": ["a", "a", "b", "b", "a"]})
    table = table.assign(item_id=[str(n) for n in range(5)], segments=[[{"trial": n}] for n in range(5)])
    answers = ["a", "a", "b", "b", "b"]

    def rows(truth):
        settings = {"task": "any", "model": "any", "condition": "eeg", "labels": labels, "answers": answers}
        return prediction_rows(table.assign(label=truth), **settings)

    orders = [[*first, *second] for first in set(itertools.permutations("aab")) for second in ("ba", "ab")]
    expected = expected_within_sessions(rows(table["label"]))
    for name in METRICS:
        metric = TableMetric(name, METRIC_BOUNDS[name])
        scores = [metric.score(Answers(rows(order))).pooled for order in orders]
        assert expected[name] == pytest.approx(np.mean(scores)), name


def test_orders_are_of_trials_where_these_have_unlike_numbers_of_windows():
    labels, sizes = ["a", "b", "c"], [1, 2, 3, 6]
    table = pd.DataFrame({"subject": "1", "session": 1, "trial": range(4), "label": list("aabc")})
    table = table.loc[table.index.repeat(sizes)].reset_index(drop=True)
    segments = [[{"trial": trial}] for trial in table["trial"]]
    table = table.assign(item_id=[str(n) for n in range(12)], segments=segments)
    answers = list("abbabcccccca")

    def rows(truth):
        settings = {"task": "any", "model": "any", "condition": "eeg", "labels": labels, "answers": answers}
        return prediction_rows(table.assign(label=truth), **settings)

    orders = [np.repeat(order, sizes) for order in set(itertools.permutations("aabc"))]
    expected = expected_within_sessions(rows(table["label"]))
    assert expected == expected_within_sessions(rows(table["label"]))
    for name in METRICS:
        metric = TableMetric(name, METRIC_BOUNDS[name])
        scores = [metric.score(Answers(rows(order))).pooled for order in orders]
        assert expected[name] == pytest.approx(np.mean(scores), abs=4 * np.std(scores) / 1000**0.5), name


def test_answers_that_know_the_session_alone_score_what_is_expected(trials):
    held_out = windows_of(trials)
    rng = np.random.default_rng(0)
    answers = [rng.choice(sorted(part)) for part in held_out.groupby("session")["label"].unique()[held_out["session"]]]
    held_out["item_id"] = [str(n) for n in range(len(held_out))]
    settings = {"task": "any", "model": "any", "condition": "eeg", "labels": sorted(set(held_out["label"]))}
    rows = prediction_rows(held_out, **settings, answers=answers)
    measured = TableMetric("balanced_accuracy", (0.0, 1.0)).score(Answers(rows)).pooled
    assert measured == pytest.approx(expected_within_sessions(rows)["balanced_accuracy"], abs=0.04)
    assert expected_within_sessions(rows)["balanced_accuracy"] > 1 / 7 + 0.03


def test_positions_are_quarters_of_their_own_session(trials):
    found = classes_of(trials, windows_of(trials, 2), "position")
    assert pd.Series(found).value_counts().tolist() == [len(trials) // 2] * 4
    first = trials["position"].to_numpy().repeat(2) <= 5
    assert set(found[first]) == {"first quarter"}
    assert set(classes_of(trials, trials, "session")) == {"1", "2", "3", "4"}
