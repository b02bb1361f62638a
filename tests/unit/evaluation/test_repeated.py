"""Several seeds and folds: each subject's mean over its runs carries the interval, the spread over seeds is beside."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.evaluation.faithfulness.metrics import CHECKS
from e2llm_core.evaluation.intervals import t_interval
from e2llm_core.evaluation.predictions import most_probable
from e2llm_core.evaluation.probabilities import probability_rows, probability_subject_scores
from e2llm_core.evaluation.repeated import SCORE_COLUMNS, SET, repeated_rows, run_scores
from e2llm_core.evaluation.report.verdicts import AtNull, judge
from e2llm_core.evaluation.summary import Provenance, Summary, rows_for, subject_scores_for
from storage.errors import InputError
from tests.unit.evaluation.test_summary import WHICH, answered

NUMBER = dict(zip(SET, ("IED", "e2llm", "eeg", "likelihood", None, "balanced_accuracy"), strict=True))


def scores(values: dict[tuple[str, int, int | None], float], **changes) -> pd.DataFrame:
    """A table of `run_scores`, from values by subject, seed and fold."""
    rows = [
        {**NUMBER, "subject": subject, "seed": seed, "fold": fold, "value": value, "n": 10, "chance": 1 / 7}
        | {"split": "leave-one-subject-out", "split_digest": f"fold {fold}", "adaptation": "none"}
        | changes
        for (subject, seed, fold), value in values.items()
    ]
    table = pd.DataFrame(rows)[list(SCORE_COLUMNS)]
    return table.assign(fold=table["fold"].astype("Int64"))


def test_a_known_case_by_hand():
    """Leave one subject out, two seeds."""
    table = scores(
        {("a", 0, 1): 0.2, ("a", 1, 1): 0.4, ("b", 0, 2): 0.5, ("b", 1, 2): 0.7, ("c", 0, 3): 0.6, ("c", 1, 3): 0.6}
    )
    (row,) = repeated_rows(table)
    expected = t_interval([0.3, 0.6, 0.6])
    assert row.value == pytest.approx(0.5)
    assert (row.ci_low, row.ci_high) == pytest.approx((max(expected.low, 0), min(expected.high, 1)))
    assert (row.seed_min, row.seed_max) == pytest.approx((1.3 / 3, 1.7 / 3))
    assert row.seed_sd == pytest.approx(np.std([1.3 / 3, 1.7 / 3], ddof=1))
    assert (row.n_subjects, row.n_seeds, row.n_folds, row.n_runs, row.n_items) == (3, 2, 3, 6, 30)
    assert row.ci_method == "t_subjects"
    assert row.chance == pytest.approx(1 / 7)


def test_subjects_of_several_folds_have_their_mean():
    """Official folds: everybody is tested in each."""
    table = scores({("a", 0, 1): 0.2, ("a", 0, 2): 0.4, ("b", 0, 1): 0.6, ("b", 0, 2): 1.0})
    (row,) = repeated_rows(table)
    assert row.value == pytest.approx((0.3 + 0.8) / 2)
    assert (row.n_subjects, row.n_folds, row.n_seeds) == (2, 2, 1)
    assert (row.seed_min, row.seed_max, row.seed_sd) == (None, None, None)


@pytest.mark.parametrize("metric", [name for name, check in CHECKS.items() if check.drawn])
def test_seeds_may_draw_windows_of_different_subjects(metric):
    """Flips and uses are measured on a hundred windows; of twenty people, one may have none."""
    table = scores({("a", 0, None): 0.2, ("b", 0, None): 0.4, ("a", 1, None): 0.6}, metric=metric)
    (row,) = repeated_rows(table)
    assert row.value == pytest.approx((0.4 + 0.4) / 2)
    assert (row.n_subjects, row.n_seeds) == (2, 2)
    assert (row.seed_min, row.seed_max) == pytest.approx((0.3, 0.6))


def test_what_is_measured_on_drawn_windows_says_so():
    assert {name for name, check in CHECKS.items() if check.drawn} == {
        name for name in CHECKS if name.startswith(("flip_", "use_"))
    }


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=12))
def test_a_seed_that_is_run_again_changes_no_interval(values):
    once = scores({(str(n), 0, None): value for n, value in enumerate(values)})
    twice = pd.concat([once, once.assign(seed=1)])
    (one,), (two,) = repeated_rows(once), repeated_rows(twice)
    assert (one.value, one.ci_low, one.ci_high) == pytest.approx((two.value, two.ci_low, two.ci_high))
    assert two.seed_sd == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({("b", 0, None): 0.5}, r"seed 0 occurs twice"),
        ({("c", 1, None): 0.5}, r"seeds 0 and 1 did not test the same subjects and folds: a, b, c differ"),
        ({("a", 1, 2): 0.5, ("b", 1, 2): 0.5}, r"did not test the same subjects and folds"),
    ],
)
def test_runs_that_do_not_fit_are_refused(changed, words):
    first = scores({("a", 0, None): 0.2, ("b", 0, None): 0.4})
    with pytest.raises(InputError, match=words):
        repeated_rows(pd.concat([first, scores(changed)]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": "by-subject"}, "different protocols of the split: by-subject, leave-one-subject-out"),
        ({"adaptation": "causal"}, "different adaptation rules: causal, none"),
        ({"split_digest": "other"}, "runs have different splits"),
    ],
)
def test_another_protocol_is_refused(changes, words):
    values = {("a", 0, None): 0.2, ("b", 0, None): 0.4}
    other = scores({(subject, 1, fold): value for (subject, _, fold), value in values.items()}, **changes)
    with pytest.raises(InputError, match=words):
        repeated_rows(pd.concat([scores(values), other]))


def test_summaries_give_the_scores_of_their_subjects_with_seed_and_fold(trials, names):
    summaries = []
    for seed in (0, 1):
        table = answered(trials, names, seed=seed)
        provenance = Provenance(split="by-subject", split_digest="0", seed=seed, fold=4)
        summaries.append(
            Summary(
                notice="",
                results=rows_for(table, **WHICH, provenance=provenance),
                per_subject=subject_scores_for(table, **WHICH),
            )
        )
    table = run_scores(summaries)
    assert tuple(table.columns) == SCORE_COLUMNS
    assert len(table) == 2 * 6 * 4
    assert set(table["fold"]) == {4}
    rows = repeated_rows(table)
    assert [row.metric for row in rows] == ["balanced_accuracy", "accuracy", "cohen_kappa", "weighted_f1"]
    mean = np.mean([row.value for one in summaries for row in one.per_subject if row.metric == "balanced_accuracy"])
    assert rows[0].value == pytest.approx(mean)
    assert run_scores([]).empty


def test_wordings_are_summed_up_by_themselves(trials, names):
    summaries = []
    for seed in (0, 1):
        provenance, results, subjects = Provenance(split="by-subject", split_digest="0", seed=seed), [], []
        for model, prompt, right in (("e2llm", "primary", 0.5), ("e2llm", "seen", 0.9), ("de_svm", None, 0.1)):
            keys = {**WHICH, "model": model, "prompt": prompt}
            table = answered(trials, names, right=right, seed=seed, **keys)
            results += rows_for(table, **keys, provenance=provenance, n_resamples=50)
            subjects += subject_scores_for(table, **keys)
        summaries.append(Summary(notice="", results=results, per_subject=subjects))
    rows = [row for row in repeated_rows(run_scores(summaries)) if row.metric == "balanced_accuracy"]
    assert [(row.model, row.prompt) for row in rows] == [("e2llm", "primary"), ("e2llm", "seen"), ("de_svm", None)]
    assert rows[2].value < rows[0].value < rows[1].value


def test_probabilities_are_summed_up_over_seeds(trials, names):
    summaries = []
    for seed in (0, 1):
        given = np.random.default_rng(seed).dirichlet(np.ones(7), size=len(trials))
        table = most_probable(trials, given, task="IED", model="e2llm", labels=names, seed=seed)
        provenance = Provenance(split="by-subject", split_digest="0", seed=seed)
        rows, scores = probability_rows(table, provenance), probability_subject_scores(table)
        summaries.append(Summary(notice="", results=rows, per_subject=scores))
    rows = {row.metric: row for row in repeated_rows(run_scores(summaries))}
    assert list(rows) == ["ece", "nll", "brier", "aurc"]
    assert rows["ece"].chance is None
    assert rows["nll"].chance == pytest.approx(np.log(7))
    for row in rows.values():
        assert row.seed_min <= row.value <= row.seed_max
        assert 0 <= row.ci_low <= row.value <= row.ci_high


def test_a_control_over_seeds_is_judged_with_its_margin():
    at_chance = scores({(str(n), seed, None): 1 / 7 + 0.01 * (-1) ** n for n in range(8) for seed in (0, 1)})
    verdict = judge(repeated_rows(at_chance)[0])
    assert verdict.at_null is AtNull.YES
    assert verdict.margin == 0.05
    assert "expected 0.143 ± 0.05" in verdict.words
