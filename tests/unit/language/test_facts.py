"""What is claimed of a window and listed of it, and the text corpus that says it in words."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.claims import Claim
from e2llm_core.claims.table import quantities_of
from e2llm_core.tasks.corpus.dialogues import CORPUS_FORMS, corpus_dialogue
from e2llm_core.tasks.corpus.labels import drawn_labels
from e2llm_core.tasks.dialogue import SEGMENT
from e2llm_core.tasks.facts import ClaimChoice
from storage.labels import SEED_VII
from storage.signal.channels import SEED_CHANNELS

QUANTITIES = quantities_of(SEED_CHANNELS)
LABELS = SEED_VII.names
CHOICE = ClaimChoice(number=3, reliability=0)

seeds = st.integers(0, 10_000)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-4, 4), min_size=len(QUANTITIES), max_size=len(QUANTITIES)))
def test_claims_hold_are_clear_and_no_larger_deviation_is_left_out(values):
    deviations = np.array(values)
    claims = CHOICE.claims(QUANTITIES, deviations)
    places = [QUANTITIES.index(claim.quantity) for claim in claims]
    assert len(claims) == min(CHOICE.number, int((np.abs(deviations) >= CHOICE.smallest).sum()))
    assert (np.diff(np.abs(deviations[places])) <= 0).all()
    assert all(claim.above == (deviations[place] > 0) for claim, place in zip(claims, places, strict=True))
    left = np.delete(np.abs(deviations), places)
    assert len(claims) < CHOICE.number or np.abs(deviations[places]).min() >= left.max()


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_by_default_the_three_largest_reliable_deviations_are_claimed(seed):
    rng = np.random.default_rng(seed)
    deviations, reliability = rng.normal(0, 2, len(QUANTITIES)), rng.uniform(size=len(QUANTITIES))
    allowed = (reliability >= 0.5) & (np.abs(deviations) >= CHOICE.smallest)
    lasting = np.where(allowed, np.abs(deviations) * reliability, 0)
    places = [place for place in np.argsort(-lasting)[:3] if allowed[place]]
    expected = tuple(Claim(QUANTITIES[place], bool(deviations[place] > 0)) for place in places)
    assert ClaimChoice().claims(QUANTITIES, deviations, None, reliability) == expected


def test_what_speaks_for_the_label_is_claimed_before_what_does_not():
    deviations, towards = np.zeros(len(QUANTITIES)), np.zeros(len(QUANTITIES))
    deviations[:4] = [1.0, -1.0, 1.0, 1.2]
    towards[:4] = [1.0, -1.0, -1.0, 0.0]
    claims = CHOICE.model_copy(update={"relevance": 1.0}).claims(QUANTITIES, deviations, towards)
    assert claims == (Claim(QUANTITIES[0], True), Claim(QUANTITIES[1], False), Claim(QUANTITIES[3], True))
    assert len(CHOICE.claims(QUANTITIES, np.full(len(QUANTITIES), 2.0), number=1)) == 1


def test_a_label_set_of_the_corpus_has_at_least_two_names_and_no_name_twice():
    sets = [drawn_labels(np.random.default_rng(seed)) for seed in range(500)]
    assert all(len(set(names)) == len(names) >= 2 for names in sets)
    assert set(LABELS) in [set(names) for names in sets]
    assert len(set(sets)) > 200


def test_every_form_of_the_corpus_is_read_in_the_words_of_any_label_set():
    found = [corpus_dialogue(number, None, 0, tuple(CORPUS_FORMS)) for number in range(400)]
    assert {dialogue.task for dialogue in found} == set(CORPUS_FORMS)
    assert not any(SEGMENT in dialogue.user for dialogue in found)
