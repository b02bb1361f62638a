from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from e2llm_core.evaluation.intervals import bootstrap_interval, subject_interval, t_interval

values = st.lists(st.floats(0, 1), min_size=2, max_size=9)


@given(values)
def test_a_t_interval_contains_its_mean_and_agrees_with_scipy(sample):
    interval = t_interval(sample)
    assert interval.low <= np.mean(sample) + 1e-12
    assert interval.high >= np.mean(sample) - 1e-12
    error = stats.sem(sample)
    if error > 1e-9:
        expected = stats.t.interval(0.95, len(sample) - 1, loc=np.mean(sample), scale=error)
        assert (interval.low, interval.high) == pytest.approx(expected)


@given(values, st.randoms())
def test_the_order_of_subjects_does_not_matter_to_t(sample, random):
    shuffled = list(sample)
    random.shuffle(shuffled)
    one, other = t_interval(sample), t_interval(shuffled)
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


@given(values, st.floats(0.5, 0.9), st.floats(0.01, 0.09))
def test_more_coverage_is_wider(sample, level, more):
    narrow, wide = t_interval(sample, level=level), t_interval(sample, level=level + more)
    assert wide.low <= narrow.low + 1e-12
    assert wide.high >= narrow.high - 1e-12


@given(values, st.floats(0, 1))
def test_bounds_clip_and_the_centre_is_inside(sample, centre):
    interval = t_interval(sample, centre=centre, bounds=(0, 1))
    assert 0 <= interval.low <= centre <= interval.high <= 1


@given(st.lists(st.floats(0, 1), min_size=10, max_size=25), st.integers(0, 99))
def test_a_bootstrap_interval_lies_within_the_values_and_is_seeded(sample, seed):
    first = subject_interval(sample, seed=seed, n_resamples=200)
    assert first == subject_interval(sample, seed=seed, n_resamples=200)
    assert min(sample) - 1e-9 <= first.low <= first.high <= max(sample) + 1e-9
    assert first.method == "subject_bootstrap"


@pytest.mark.parametrize(
    ("n_subjects", "method"), [(1, "none"), (2, "t_subjects"), (9, "t_subjects"), (10, "subject_bootstrap")]
)
def test_the_number_of_subjects_chooses_the_method(n_subjects, method):
    interval = subject_interval(np.linspace(0.2, 0.8, n_subjects), n_resamples=100)
    assert interval.method == method
    assert math.isnan(interval.low) == (method == "none")


def test_both_methods_cover_at_about_the_stated_rate():
    generator = np.random.default_rng(0)
    for n_subjects, least in ((5, 0.92), (15, 0.92)):
        hits = 0
        for repeat in range(300):
            interval = subject_interval(generator.normal(0.5, 0.1, n_subjects), n_resamples=300, seed=repeat)
            hits += interval.low <= 0.5 <= interval.high
        assert least <= hits / 300 <= 0.985


@pytest.mark.parametrize("n_subjects", [10, 20, 60])
def test_a_bootstrap_is_about_as_wide_as_t(n_subjects):
    """Plain percentiles are 18 % narrower at ten subjects."""
    sample = stats.norm.ppf((np.arange(n_subjects) + 0.5) / n_subjects)
    wide, found = t_interval(sample), subject_interval(sample, n_resamples=20_000)
    assert found.high - found.low == pytest.approx(wide.high - wide.low, rel=0.06)


def test_a_bootstrap_draws_as_many_subjects_as_there_are():
    seen = []
    bootstrap_interval(lambda draws: seen.append(draws) or draws[:, 0].astype(float), 12, n_resamples=50)
    assert (seen[0].sum(axis=1) == 12).all()


@pytest.mark.parametrize("sample", [[], [0.5], [0.5, math.nan], [[0.1, 0.2]]])
def test_a_t_interval_refuses_what_it_cannot_use(sample):
    with pytest.raises(ValueError, match=r"two subjects|finite"):
        t_interval(sample)


def test_no_subjects_are_refused():
    with pytest.raises(ValueError, match="no subjects"):
        subject_interval([])


def test_an_interval_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        t_interval([0.1, 0.2]).low = 0.0
