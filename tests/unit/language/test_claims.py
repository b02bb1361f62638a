"""Claims survive the way into words and back, and are judged by the measurements."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2llm_core.claims.claims import Claim, statements_in, strongest
from e2llm_core.claims.measures import BURST_BANDS, Quantity
from storage.signal.bands import BANDS
from storage.signal.channels import REGIONS

QUANTITIES = tuple(Quantity("power", band, region) for band in BANDS for region in REGIONS) + tuple(
    Quantity("bursts", band, region) for band in BURST_BANDS for region in REGIONS
)
claims = st.builds(Claim, st.sampled_from(QUANTITIES), st.booleans())


@given(st.lists(claims, max_size=6))
def test_every_sentence_is_read_back_as_its_claim(made):
    text = " ".join(claim.sentence() for claim in made)
    found = statements_in(text)
    assert sorted(map(repr, found.claims)) == sorted(map(repr, made))
    assert found.unreadable == 0


@given(st.integers(0, 2**31), st.integers(1, 10))
def test_the_strongest_claims_all_hold_and_stand_in_a_fixed_order(seed, number):
    deviations = np.random.default_rng(seed).normal(size=len(QUANTITIES))
    made = strongest(QUANTITIES, deviations, number)
    places = [QUANTITIES.index(claim.quantity) for claim in made]
    assert [claim.above for claim in made] == (deviations[places] > 0).tolist()
    assert places == sorted(places)
    left_out = np.delete(np.abs(deviations), places)
    assert left_out.max() <= np.abs(deviations[places]).min()


READABLE = "Beta power over the left frontal region is above the session average"


@pytest.mark.parametrize(
    ("text", "claims", "unreadable"),
    [
        (f"<think>{READABLE}. This points to happy.</think>\n\nhappy", 1, 0),
        (f"{READABLE} and gamma is quiet.", 1, 1),
        (f"{READABLE}, theta power over the central region is below the session average.", 2, 0),
        ("Betta power over the left moon region is above the session average.", 1, 0),
        ("Beta power over the left frontal region is high.", 0, 1),
        ("Beta activity over the left frontal region comes in bursts.", 0, 1),
        ("<think>Beta power over the lef", 0, 1),
        ("It is bursty! Alpha? No;\nThe occipital one.", 0, 3),
        ("This points to happy. There is sad in both. The person seems calm.", 0, 0),
        ("", 0, 0),
    ],
)
def test_a_sentence_about_the_signal_is_a_claim_or_unreadable(text, claims, unreadable):
    found = statements_in(text)
    assert (len(found.claims), found.unreadable) == (claims, unreadable)
    assert len(found) == claims + unreadable
