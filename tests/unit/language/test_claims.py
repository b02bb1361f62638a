"""Claims survive the way into words and back, and are judged by the measurements."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2llm_core.language.claims import Claim, claims_in, share_that_holds, strongest
from e2llm_core.language.measures import BURST_BANDS, Quantity
from storage.signal.bands import BANDS
from storage.signal.channels import REGIONS

QUANTITIES = tuple(Quantity("power", band, region) for band in BANDS for region in REGIONS) + tuple(
    Quantity("bursts", band, region) for band in BURST_BANDS for region in REGIONS
)
claims = st.builds(Claim, st.sampled_from(QUANTITIES), st.booleans())


@given(st.lists(claims, max_size=6))
def test_every_sentence_is_read_back_as_its_claim(made):
    text = " ".join(claim.sentence() for claim in made)
    assert sorted(map(repr, claims_in(text))) == sorted(map(repr, made))


@given(st.lists(claims, min_size=1, max_size=6), st.integers(0, 2**31))
def test_a_claim_holds_or_its_opposite_does(made, seed):
    deviations = np.random.default_rng(seed).normal(size=len(QUANTITIES))
    share = share_that_holds(made, QUANTITIES, deviations)
    opposite = share_that_holds([Claim(c.quantity, not c.above) for c in made], QUANTITIES, deviations)
    assert share is not None
    assert opposite is not None
    assert share + opposite == pytest.approx(1.0)


@given(st.integers(0, 2**31), st.integers(1, 10))
def test_the_strongest_claims_all_hold_and_stand_in_a_fixed_order(seed, number):
    deviations = np.random.default_rng(seed).normal(size=len(QUANTITIES))
    made = strongest(QUANTITIES, deviations, number)
    assert share_that_holds(made, QUANTITIES, deviations) == 1.0
    places = [QUANTITIES.index(claim.quantity) for claim in made]
    assert places == sorted(places)
    left_out = np.delete(np.abs(deviations), places)
    assert left_out.max() <= np.abs(deviations[places]).min()


def test_a_claim_about_nothing_that_exists_is_false():
    claim = Claim(Quantity("power", "alpha", "occipital"), True)
    assert share_that_holds([claim], (Quantity("power", "beta", "occipital"),), np.ones(1)) == 0.0


def test_a_text_without_claims_has_no_share():
    assert claims_in("The person seems happy.") == []
    assert share_that_holds([], QUANTITIES, np.ones(len(QUANTITIES))) is None
