"""A metric is any function of answers; what it is computed from is resampled by subject."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from e2llm_core.evaluation import predictions as tables
from e2llm_core.evaluation.metrics import CLOSED_SET, AnswerMetric, Answers
from e2llm_core.evaluation.scores import METRICS, score
from e2llm_core.evaluation.summary import Provenance, rows_for, subject_scores_for

ORDERS = tuple(" < ".join(order) for order in itertools.permutations("abc"))
KEYS = {"task": "sorting", "model": "e2llm", "condition": "eeg", "readout": "generation"}
PROVENANCE = Provenance(split="test", split_digest="0", seed=2)


def mean_tau(truth, answer, labels) -> float:
    """Mean Kendall's tau between true and answered orders; an invalid answer is the reverse of the truth."""
    taus = [-1.0 if given is None else tau(true, given) for true, given in zip(truth, answer, strict=True)]
    return float(np.mean(taus))


def tau(*orders: str) -> float:
    return stats.kendalltau(*([order.split(" < ").index(name) for name in "abc"] for order in orders)).statistic


TAU = AnswerMetric("kendall_tau", (-1.0, 1.0), mean_tau, expected=0.0)


def answered(subjects: int, items: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    number = np.arange(subjects * items)
    table = pd.DataFrame({"item_id": number.astype(str), "subject": number // items, "session": "1"})
    table["label"] = rng.choice(ORDERS, len(number))
    given = [truth if rng.random() < 0.4 else rng.choice([*ORDERS, "none"]) for truth in table["label"]]
    return tables.prediction_rows(table.assign(segments=[[]] * len(number)), **KEYS, labels=ORDERS, answers=given)


def test_a_rank_correlation_is_reported_with_its_interval_and_chance():
    rows = answered(10, 2)
    found = {row.metric: row for row in rows_for(rows, **KEYS, provenance=PROVENANCE, metrics=(*CLOSED_SET, TAU))}
    assert list(found) == [*METRICS, "kendall_tau"]
    row = found["kendall_tau"]
    assert row.value == pytest.approx(mean_tau(rows["truth"], rows["answer"], ORDERS))
    assert row.ci_low < row.value < row.ci_high
    assert (row.chance, row.n, row.n_subjects, row.ci_method) == (0.0, 20, 10, "subject_bootstrap")
    each = subject_scores_for(rows, **KEYS, metrics=(TAU,))
    for one in each:
        part = rows[rows["subject"].astype(str) == one.subject]
        assert one.value == pytest.approx(mean_tau(part["truth"], part["answer"], ORDERS))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(METRICS))
def test_a_function_of_answers_is_resampled_as_a_function_of_counts_is(seed, name):
    """Balanced accuracy and the like, computed both ways: the same value, subjects and resamples."""
    answers = Answers(answered(4, 5, seed))
    (fast,) = [metric for metric in CLOSED_SET if metric.name == name]
    slow = AnswerMetric(name, fast.bounds, lambda truth, answer, labels: score(name, truth, answer, labels))
    draws = np.random.default_rng(seed).multinomial(4, np.full(4, 0.25), size=10)
    one, other = fast.score(answers), slow.score(answers)
    assert one.pooled == pytest.approx(other.pooled)
    np.testing.assert_allclose(one.by_subject, other.by_subject)
    np.testing.assert_allclose(one.resampled(draws), other.resampled(draws))
