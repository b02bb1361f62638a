"""Coefficients of agreement, on the worked examples of those who defined them and on cases counted by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from e2llm_core.evaluation.rating.agreement import kappa, krippendorff_alpha

NAN = math.nan
BINARY = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]], float)
"""Krippendorff 2011, example A."""
GAPS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
"""The same, examples C and D: four observers, twelve units, gaps."""
FLEISS = [
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
]
"""How many of 14 raters put each of ten subjects into each of five categories; its kappa is 0.210."""


def test_krippendorffs_binary_example() -> None:
    assert krippendorff_alpha(BINARY, "nominal") == pytest.approx(0.095, abs=5e-4)


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorffs_example_with_gaps(level, alpha: float) -> None:
    assert krippendorff_alpha(GAPS, level) == pytest.approx(alpha, abs=5e-4)


def test_an_ordinal_case_by_hand() -> None:
    """Ranks 1, 2, 3 with the pairs 1-1, 3-3 and 1-2.

    Coincidences: 1-1 twice, 3-3 twice, 1-2 and 2-1 once; of six ratings three are 1, one is 2, two are 3. Distances:
    1 to 2 is (3 + 1 - 4/2)^2 = 4, 1 to 3 is (6 - 5/2)^2 = 12.25, 2 to 3 is (3 - 3/2)^2 = 2.25. Observed 2 x 4 = 8,
    expected 2 x (3 x 1 x 4 + 3 x 2 x 12.25 + 1 x 2 x 2.25) = 180: alpha = 1 - 5 x 8 / 180.
    """
    assert krippendorff_alpha(np.array([[1, 3, 1], [1, 3, 2]], float), "ordinal") == pytest.approx(1 - 40 / 180)


def test_cohens_kappa_by_hand() -> None:
    """20 and 15 of 50 agreed: 0.7 observed; yes by 25 and 30, so 0.5 expected (Cohen's formula)."""
    first = [1] * 25 + [0] * 25
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert kappa(np.array([first, second], float)) == pytest.approx(0.4)


def test_fleiss_kappa_on_the_worked_example() -> None:
    units = [np.repeat(np.arange(5), counts) for counts in FLEISS]
    assert kappa(np.stack(units, axis=1).astype(float)) == pytest.approx(0.210, abs=5e-4)


def test_what_only_some_rated_is_left_out_of_kappa() -> None:
    whole = np.array([[1, 0, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0]], float)
    gap = np.concatenate([whole, [[1], [NAN], [0]]], axis=1)
    assert kappa(gap) == kappa(whole)


@pytest.mark.parametrize("ratings", [[[1, 0, 1]], [[1, NAN], [NAN, 0]], [[1, 1], [1, 1]]])
def test_without_two_raters_or_two_values_there_is_none(ratings: list) -> None:
    assert math.isnan(kappa(np.array(ratings, float)))
    assert math.isnan(krippendorff_alpha(np.array(ratings, float), "ordinal"))


@given(arrays(float, st.tuples(st.integers(2, 5), st.integers(2, 8)), elements=st.sampled_from([1.0, 2.0, 3.0])))
def test_agreement_does_not_depend_on_who_is_who(ratings: np.ndarray) -> None:
    for level in ("nominal", "ordinal", "interval"):
        alpha = krippendorff_alpha(ratings, level)
        assert krippendorff_alpha(ratings[::-1, ::-1], level) == pytest.approx(alpha, nan_ok=True)
        assert math.isnan(alpha) or alpha <= 1 + 1e-12
    assert kappa(ratings[::-1]) == pytest.approx(kappa(ratings), nan_ok=True)
