"""Dialogues and the corpus: what is asked names every option, what is answered is one of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e2llm_core.claims.claims import statements_in
from e2llm_core.tasks import dialogues
from e2llm_core.tasks.corpus import corpus_dialogue
from storage.labels import SEED_VII

LABELS = SEED_VII.names


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 100))
def test_a_corpus_dialogue_is_a_function_of_its_number_and_seed(number, seed):
    assert corpus_dialogue(number, LABELS, seed) == corpus_dialogue(number, LABELS, seed)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_the_corpus_shows_no_eeg_and_answers_with_an_option(number):
    dialogue = corpus_dialogue(number, LABELS, 0)
    assert dialogues.SEGMENT not in dialogue.user
    allowed = {"IED": LABELS, "EPC": (dialogues.SAME, dialogues.DIFFERENT)}
    if dialogue.task in allowed:
        assert dialogue.answer in allowed[dialogue.task]


def test_the_corpus_ties_no_claim_to_a_label():
    counts = {label: 0 for label in LABELS}
    for number in range(3000):
        dialogue = corpus_dialogue(number, LABELS, 0)
        if dialogue.task == "describe" and "Gamma power over the right temporal region is above" in dialogue.answer:
            counts[next(label for label in LABELS if f"points to {label}" in dialogue.answer)] += 1
    assert max(counts.values()) <= 0.5 * sum(counts.values())


@pytest.mark.parametrize("wording", range(3))
def test_the_question_names_every_option_and_holds_one_segment(wording):
    question = dialogues.ask_emotion(LABELS, wording=wording)
    assert question.count(dialogues.SEGMENT) == 1
    assert all(label in question for label in LABELS)


@pytest.mark.parametrize("wording", range(2))
def test_the_pair_question_holds_two_segments(wording):
    assert dialogues.ask_pair(wording=wording).count(dialogues.SEGMENT) == 2


def test_half_of_the_emotion_dialogues_think_and_their_claims_are_readable():
    rng = np.random.default_rng(0)
    claims = statements_in("Alpha power over the occipital region is above the session average.").claims
    made = [dialogues.emotion(LABELS, claims, "sad", rng) for _ in range(400)]
    thinking = [one for one in made if one.thinking is not None]
    assert 0.4 < len(thinking) / len(made) < 0.6
    assert all(statements_in(one.thinking).claims == claims and "points to sad" in one.thinking for one in thinking)
    assert {one.answer for one in made} == {"sad"}


def test_a_pair_is_the_same_exactly_when_the_labels_are():
    rng = np.random.default_rng(0)
    assert dialogues.pair("sad", "sad", rng).answer == dialogues.SAME
    assert dialogues.pair("sad", "fear", rng).answer == dialogues.DIFFERENT
