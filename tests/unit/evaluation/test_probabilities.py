"""Scores of probabilities: known cases by hand, bounds, and resamples that are what they say."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.evaluation.predictions import most_probable
from e2llm_core.evaluation.probabilities import (
    PROBABILITY_METRICS,
    Judged,
    has_probabilities,
    probability_rows,
    probability_subject_scores,
    reliability,
    risk_coverage,
)
from e2llm_core.evaluation.summary import Provenance
from e2llm_core.model.calibration import tempered

METRICS = {metric.name: metric for metric in PROBABILITY_METRICS}
PROVENANCE = Provenance(split="by-subject", split_digest="0", seed=1)


def drawn(seed: int, items: int = 40, options: int = 3, subjects: int = 4) -> Judged:
    rng = np.random.default_rng(seed)
    made = rng.dirichlet(np.full(options, 0.7), size=items)
    subject = np.concatenate([np.arange(subjects), rng.integers(subjects, size=items - subjects)])
    return Judged(made, rng.integers(options, size=items), subject)


def two(confidence: list[float], right: list[bool]) -> Judged:
    """One subject, two options, the first always the more probable."""
    made = np.array([[share, 1 - share] for share in confidence])
    return Judged(made, np.where(right, 0, 1), np.zeros(len(right), dtype=np.int64))


def test_a_calibration_error_by_hand():
    """Bins of 0.6 and 0.9: gaps of 0.1 over 2 of 5 items, and of 0.9 - 2/3 over 3."""
    judged = two([0.61, 0.59, 0.9, 0.9, 0.9], [True, False, True, True, False])
    apart = METRICS["ece"].value(judged)
    assert apart == pytest.approx((abs(0.61 - 1) + abs(0.59 - 0) + 3 * abs(0.9 - 2 / 3)) / 5)
    together = two([0.61, 0.62, 0.9, 0.9, 0.9], [True, False, True, True, False])
    assert METRICS["ece"].value(together) == pytest.approx((abs(1.23 - 1) + 3 * abs(0.9 - 2 / 3)) / 5)


def test_an_edge_belongs_to_the_bin_below():
    sums = reliability(two([1 / 3 + 1 / 3, 1.0], [True, True]))[0]
    assert sums[9, 0] == 1
    assert sums[14, 0] == 1


@given(st.lists(st.integers(8, 15), min_size=1, max_size=6))
def test_perfectly_calibrated_answers_have_no_calibration_error(parts):
    """In 15 answers of confidence k/15, k are right."""
    confidence = [k / 15 for k in parts for _ in range(15)]
    right = [place < k for k in parts for place in range(15)]
    assert METRICS["ece"].value(two(confidence, right)) == pytest.approx(0, abs=1e-12)


def test_proper_scores_by_hand():
    judged = two([0.8, 0.6], [True, False])
    assert METRICS["nll"].value(judged) == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert METRICS["brier"].value(judged) == pytest.approx((2 * 0.04 + 2 * 0.36) / 2)


def test_risk_at_each_coverage_by_hand():
    judged = two([0.9, 0.8, 0.8, 0.6], [True, False, True, False])
    coverage, risk = risk_coverage(judged)
    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert risk == pytest.approx([0, 1 / 3, 1 / 2])
    assert METRICS["aurc"].value(judged) == pytest.approx((0 + 1 / 3 + 1 / 3 + 1 / 2) / 4)


@given(st.integers(0, 2000))
def test_an_area_lies_between_that_of_the_best_and_the_worst_order(seed):
    judged = drawn(seed)
    wrong = np.sort(judged.wrong)
    best, worst = (float((order.cumsum() / np.arange(1, len(order) + 1)).mean()) for order in (wrong, wrong[::-1]))
    assert best - 1e-12 <= METRICS["aurc"].value(judged) <= worst + 1e-12


@settings(max_examples=25)
@given(st.integers(0, 2000), st.sampled_from(sorted(METRICS)))
def test_a_resample_is_the_score_of_the_subjects_as_often_as_they_were_drawn(seed, name):
    judged = drawn(seed)
    draws = np.random.default_rng(seed).multinomial(4, np.full(4, 0.25), size=5)
    for times, value in zip(draws, METRICS[name].prepare(judged)(draws), strict=True):
        again = np.repeat(np.arange(len(judged.truth)), times[judged.subject])
        repeated = Judged(judged.probabilities[again], judged.truth[again], np.zeros(len(again), dtype=np.int64))
        assert value == pytest.approx(METRICS[name].value(repeated))
        low, high = METRICS[name].bounds
        assert low <= value <= high


@given(st.integers(0, 2000), st.floats(0.2, 5))
def test_a_temperature_is_undone_and_leaves_accuracy_and_order_of_options(seed, temperature):
    judged = drawn(seed)
    there = Judged(tempered(-np.log(judged.probabilities), temperature), judged.truth, judged.subject)
    np.testing.assert_array_equal(there.wrong, judged.wrong)
    np.testing.assert_allclose(there.at_temperature(1 / temperature).probabilities, judged.probabilities, atol=1e-9)


def test_an_interval_of_the_calibration_error_makes_up_for_noise(trials, names):
    """Of few items with true probabilities, the score is above 0, and its resamples above the score."""
    more = pd.concat([trials, trials.assign(subject="x" + trials["subject"], item_id="x" + trials["item_id"])])
    few = more[more["clip"] % 4 == 0].reset_index(drop=True)
    rng = np.random.default_rng(0)
    made = rng.dirichlet(np.ones(7), size=len(few))
    truth = (rng.random((len(few), 1)) > made.cumsum(axis=1)).sum(axis=1).clip(max=6)
    items = few.assign(label=[names[number] for number in truth])
    rows = most_probable(items, made, task="any", model="e2llm", labels=names, seed=0)
    row = next(row for row in probability_rows(rows, PROVENANCE) if row.metric == "ece")
    assert row.ci_method == "subject_bootstrap"
    judged = Judged.of(rows)
    draws = rng.multinomial(12, np.full(12, 1 / 12), size=2000)
    plain, corrected = METRICS["ece"].prepare(judged)(draws), METRICS["ece"].resampled(judged)(draws)
    assert plain.mean() > row.value > corrected.mean()
    assert row.value - corrected.mean() == pytest.approx(plain.mean() - row.value, rel=0.2)
    assert row.ci_low < np.quantile(plain, 0.025)
    for name in ("nll", "brier", "aurc"):
        np.testing.assert_array_equal(METRICS[name].resampled(judged)(draws), METRICS[name].prepare(judged)(draws))


def test_each_subject_has_scores_of_its_own(trials, names):
    rng = np.random.default_rng(0)
    rows = most_probable(
        trials, rng.dirichlet(np.ones(7), size=len(trials)), task="any", model="e2llm", labels=names, seed=0
    )
    found = probability_subject_scores(rows)
    assert len(found) == 4 * 6
    for one in found:
        own = Judged.of(rows[rows["subject"] == one.subject])
        assert one.value == pytest.approx(METRICS[one.metric].value(own))
        assert one.n == 80


def test_rows_say_the_temperature_the_interval_and_chance(trials, names):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(7), size=len(trials))
    rows = most_probable(trials, probabilities, task="any", model="e2llm", labels=names, seed=0)
    assert has_probabilities(rows)
    found = {row.metric: row for row in probability_rows(rows, PROVENANCE, temperature=1.5)}
    assert list(found) == ["ece", "nll", "brier", "aurc"]
    for row in found.values():
        assert row.ci_low <= row.value <= row.ci_high
        assert (row.temperature, row.n, row.n_subjects, row.ci_method) == (1.5, 480, 6, "t_subjects")
    assert [row.chance for row in found.values()] == [None, math.log(7), 1 - 1 / 7, 1 - 1 / 7]
    equal = most_probable(trials, np.full((480, 7), 1 / 7), task="any", model="e2llm", labels=names, seed=0)
    by_name = {row.metric: row for row in probability_rows(equal, PROVENANCE)}
    assert by_name["nll"].value == pytest.approx(by_name["nll"].chance)
    assert by_name["brier"].value == pytest.approx(by_name["brier"].chance)
    assert by_name["nll"].temperature is None
    assert not has_probabilities(rows.assign(probabilities=pd.Series([None] * len(rows), dtype=object)))
