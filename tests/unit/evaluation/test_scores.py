from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from e2llm_core.evaluation import scores

LABELS = ("a", "b", "c", "d")
answer_lists = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from((*LABELS, None, "invalid", "rage"))),
    min_size=1,
    max_size=60,
)
valid_lists = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=2, max_size=60)


def split(items):
    return [truth for truth, _ in items], [answer for _, answer in items]


def all_scores(truth, answer):
    return {name: scores.score(name, truth, answer, LABELS) for name in scores.METRICS}


@given(valid_lists)
def test_valid_answers_score_as_in_scikit_learn(items):
    truth, answer = split(items)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "balanced_accuracy": oracle.recall_score(
                truth, answer, labels=sorted(set(truth)), average="macro", zero_division=0
            ),
            "accuracy": oracle.accuracy_score(truth, answer),
            "cohen_kappa": oracle.cohen_kappa_score(truth, answer, labels=list(LABELS)),
            "weighted_f1": oracle.f1_score(truth, answer, average="weighted", zero_division=0),
        }
    if len(set(truth + answer)) == 1:
        expected["cohen_kappa"] = 0.0
    assert all_scores(truth, answer) == pytest.approx(expected)


@given(answer_lists, st.randoms())
def test_the_order_of_items_does_not_matter(items, random):
    shuffled = list(items)
    random.shuffle(shuffled)
    assert all_scores(*split(items)) == pytest.approx(all_scores(*split(shuffled)))


@given(answer_lists)
def test_renaming_labels_consistently_changes_nothing_but_ties(items):
    renamed = dict(zip(LABELS, ("w", "x", "y", "z"), strict=True))
    truth, answer = split(items)
    new_truth, new_answer = [renamed[name] for name in truth], [renamed.get(name) for name in answer]
    for name in scores.METRICS:
        assert scores.score(name, new_truth, new_answer, tuple(renamed.values())) == pytest.approx(
            scores.score(name, truth, answer, LABELS)
        )


@given(answer_lists)
def test_scores_stay_in_their_bounds(items):
    for name, value in all_scores(*split(items)).items():
        low, high = scores.METRIC_BOUNDS[name]
        assert low - 1e-9 <= value <= high + 1e-9


@given(answer_lists, st.data())
def test_invalid_never_scores_above_the_answer_it_replaces(items, data):
    truth, answer = split(items)
    place = data.draw(st.integers(0, len(items) - 1))
    silent = [*answer[:place], None, *answer[place + 1 :]]
    for name in ("balanced_accuracy", "accuracy"):
        assert scores.score(name, truth, silent, LABELS) <= scores.score(name, truth, answer, LABELS) + 1e-12


@given(answer_lists, st.data())
def test_silence_is_no_better_for_kappa_than_any_wrong_answer(items, data):
    truth, answer = split(items)
    place = data.draw(st.integers(0, len(items) - 1))
    wrong = data.draw(st.sampled_from([name for name in LABELS if name != truth[place]]))
    spoken = [*answer[:place], wrong, *answer[place + 1 :]]
    silent = [*answer[:place], None, *answer[place + 1 :]]
    assert scores.cohen_kappa(truth, silent, LABELS) <= scores.cohen_kappa(truth, spoken, LABELS) + 1e-12


@given(answer_lists)
def test_charging_never_scores_above_an_extra_category(items):
    truth, answer = split(items)
    extra = [name if name in LABELS else "?" for name in answer]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kappa = oracle.cohen_kappa_score(truth, extra, labels=[*LABELS, "?"])
        f1 = oracle.f1_score(truth, extra, labels=list(LABELS), average="weighted", zero_division=0)
    if not np.isnan(kappa):
        assert scores.cohen_kappa(truth, answer, LABELS) <= kappa + 1e-12
    assert scores.weighted_f1(truth, answer, LABELS) <= f1 + 1e-12


@pytest.mark.parametrize("bad", [None, "invalid", float("nan"), pd.NA, "Happy", "", 3])
def test_anything_outside_the_labels_is_invalid_and_wrong(bad):
    assert scores.invalid_rate(["a", bad], LABELS) == 0.5
    assert scores.accuracy(["a", "b"], ["a", bad], LABELS) == 0.5
    assert scores.balanced_accuracy(["a", "b"], ["a", bad], LABELS) == 0.5
    assert scores.confusion_counts(["a", "b"], ["a", bad], LABELS)[1, -1] == 1


def test_an_extra_predicted_word_makes_no_new_class():
    assert scores.balanced_accuracy(["a", "a", "b", "b"], ["a", "rage", "b", "b"], LABELS) == pytest.approx(0.75)


def test_balanced_accuracy_averages_over_labels_of_the_truth_only():
    assert scores.balanced_accuracy(["a", "a", "b"], ["a", "c", "b"], LABELS) == pytest.approx(0.75)


@pytest.mark.parametrize("name", scores.METRICS)
def test_perfect_and_hopeless(name):
    truth = ["a", "b", "c", "d"] * 3
    assert scores.score(name, truth, truth, LABELS) == pytest.approx(1.0)
    low = scores.score(name, truth, [None] * 12, LABELS)
    assert low <= 0.0 + 1e-12


def test_a_constant_answer_is_at_chance():
    truth = list(LABELS) * 5
    assert scores.balanced_accuracy(truth, ["a"] * 20, LABELS) == pytest.approx(0.25)
    assert scores.cohen_kappa(truth, ["a"] * 20, LABELS) == pytest.approx(0.0)


def test_one_label_throughout_has_kappa_zero():
    assert scores.cohen_kappa(["a", "a"], ["a", "a"], LABELS) == 0.0


def test_uniform_answers_reach_the_stated_chance_levels():
    generator = np.random.default_rng(0)
    truth = generator.choice(LABELS, size=60_000, p=[0.4, 0.3, 0.2, 0.1]).tolist()
    answer = generator.choice(LABELS, size=60_000).tolist()
    expected = scores.chance_levels(truth, LABELS)
    for name in scores.METRICS:
        assert scores.score(name, truth, answer, LABELS) == pytest.approx(expected[name], abs=0.01)


@pytest.mark.parametrize(
    ("truth", "answer", "labels", "words"),
    [
        (["a"], ["a", "b"], LABELS, "1 true labels but 2 answers"),
        (["e"], ["a"], LABELS, "outside the label set"),
        ([None], ["a"], LABELS, "outside the label set"),
        (["a"], ["a"], ("a", "a"), "repeat"),
    ],
)
def test_refusals(truth, answer, labels, words):
    with pytest.raises(ValueError, match=words):
        scores.confusion_counts(truth, answer, labels)


def test_no_answers_have_no_invalid_rate():
    with pytest.raises(ValueError, match="no answers"):
        scores.invalid_rate([], LABELS)
