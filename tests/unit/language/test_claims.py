"""Claims survive the way into words and back, and are judged by the measurements."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2llm_core.claims.claims import Claim, statements_in, strongest
from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.measures import QuantityScaler, SignalMeasures
from e2llm_core.claims.table import CLAIM_KINDS, quantities_in
from storage.errors import InputError
from storage.signal.channels import REGIONS
from tests.extending import load

QUANTITIES = quantities_in(REGIONS)
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


def test_the_table_says_what_was_always_said():
    claims = [Claim(Quantity(kind, "beta", "left frontal"), above) for kind in CLAIM_KINDS for above in (True, False)]
    assert [(claim.sentence(), claim.keywords()) for claim in claims] == [
        ("Beta power over the left frontal region is above the session average.", "beta left frontal above"),
        ("Beta power over the left frontal region is below the session average.", "beta left frontal below"),
        ("Beta activity over the left frontal region bursts more than average.", "beta left frontal bursts more"),
        ("Beta activity over the left frontal region bursts less than average.", "beta left frontal bursts less"),
    ]


EDGE = load("e2llm_core/claims/edge.py").EDGE


@pytest.fixture
def with_a_new_kind(monkeypatch) -> None:
    monkeypatch.setitem(CLAIM_KINDS, EDGE.name, EDGE)


def test_a_new_kind_of_claim_is_one_row(with_a_new_kind):
    """It is measured, said, noted and read back, and sentences that merely mention it are unreadable."""
    channels, seconds = ("O1", "O2", "CZ"), np.arange(512) / 256
    measures = SignalMeasures(channels, 256.0, 512)
    assert measures.names[-len(measures.regions) :] == ("edge alpha central", "edge alpha occipital")
    slow, fast = (np.tile(np.sin(2 * np.pi * hz * seconds), (1, 3, 1)) for hz in (9.0, 13.0))
    difference = (measures(fast) - measures(slow))[0]
    made = [Claim(quantity, bool(difference[place] > 0)) for place, quantity in enumerate(measures.quantities)]
    assert made[-1].sentence() == "The Alpha rhythm over the occipital region is faster than usual."
    assert made[-1].keywords() == "alpha occipital fast"
    found = statements_in(f"{made[-1].sentence()} {READABLE}. A rhythm.")
    assert [claim.quantity.kind for claim in found.claims] == ["power", "edge"]
    assert (found.claims[1], found.unreadable) == (made[-1], 1)


def test_quantities_of_another_version_are_refused_by_name(with_a_new_kind):
    known = tuple(quantity.name for quantity in quantities_in(("central",)))
    spread = QuantityScaler(("power alpha central", "tone alpha central"), np.ones(2, np.float32))
    with pytest.raises(
        InputError, match=r"probe\.json: lacks the quantities: power delta central, .*edge alpha central"
    ):
        spread.of(known, "probe.json")
    with pytest.raises(InputError, match=r"not measured here: tone alpha central\. Run stage 1"):
        spread.of(known, "probe.json")


@given(st.permutations(range(5)))
def test_the_order_in_a_file_does_not_matter(order):
    names, std = tuple("abcde"), np.arange(1, 6, dtype=np.float32)
    shuffled = QuantityScaler(tuple(names[place] for place in order), std[list(order)])
    np.testing.assert_array_equal(shuffled.of(names, "").std, std)
